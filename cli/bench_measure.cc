// Repetitions of prefill and decoding.
// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_measure.h"

#include <algorithm>
#include <cmath>

#include "core/timer.h"

namespace thermocline {
namespace {

// The value that `share` of the values are at most (nearest rank).
double Quantile(std::vector<double> values, double share) {
  const auto rank = static_cast<size_t>(std::ceil(share * static_cast<double>(values.size())));
  const auto nth = values.begin() + static_cast<ptrdiff_t>(std::max<size_t>(rank, 1) - 1);
  std::ranges::nth_element(values, nth);
  return *nth;
}

class Bench {
 public:
  Bench(Transformer& runner, const ReadBandwidthProbe& reads, const BenchOptions& options)
      : runner_(runner), reads_(reads), options_(options), logits_(static_cast<size_t>(runner.n_vocab())) {
    for (const NeuronMode mode : options.modes) figures_.modes.push_back({.mode = mode});
    sums_.resize(options.modes.size());
  }

  absl::StatusOr<BenchFigures> Run() {
    TC_RETURN_IF_ERROR(WarmUp());
    for (int repetition = 0; repetition < options_.repetitions; ++repetition)
      TC_RETURN_IF_ERROR(Repeat(static_cast<size_t>(repetition)));
    Finish();
    return figures_;
  }

 private:
  // Over the counted repetitions of a mode.
  struct Sums {
    double seconds = 0;                      // of the last repetition
    std::vector<double> read_gb_per_second;  // around each
    std::vector<double> inter_token_ms;
    StepFigures steps;
    uint64_t hand_overs = 0;
  };

  int64_t prompt_tokens() const { return static_cast<int64_t>(options_.prompt.size()); }

  absl::Status Prefill() {
    const std::span<const TokenId> prompt = options_.prompt;
    for (int64_t position = 0; position < prompt_tokens(); position += runner_.max_step_tokens()) {
      const int64_t count = std::min(runner_.max_step_tokens(), prompt_tokens() - position);
      TC_RETURN_IF_ERROR(runner_.Forward(
          {.tokens = prompt.subspan(static_cast<size_t>(position), static_cast<size_t>(count)),
           .first_position = position,
           .kind = StepKind::kPrefill},
          logits_));
    }
    return absl::OkStatus();
  }

  absl::Status DecodeToken(NeuronMode mode, size_t index) {
    StepInput step{.tokens = {&continuation_[index], 1},
                   .first_position = prompt_tokens() + static_cast<int64_t>(index)};
    if (mode == NeuronMode::kDense) step.kind = StepKind::kDenseDecode;
    if (mode == NeuronMode::kPredicted) step.quality = options_.quality;
    if (mode == NeuronMode::kThreshold) step.quality = Quality::kBalanced;
    return runner_.Forward(step, logits_);
  }

  // Finds the tokens to decode, and lets every mode touch its weights once.
  absl::Status WarmUp() {
    TC_RETURN_IF_ERROR(Prefill());
    for (size_t i = 0; i < static_cast<size_t>(options_.decode_tokens); ++i) {
      continuation_.push_back(static_cast<TokenId>(std::ranges::max_element(logits_) - logits_.begin()));
      TC_RETURN_IF_ERROR(DecodeToken(NeuronMode::kDense, i));
    }
    for (const NeuronMode mode : options_.modes) TC_RETURN_IF_ERROR(DecodeToken(mode, 0));
    return absl::OkStatus();
  }

  absl::Status Repeat(size_t repetition) {
    const Stopwatch prefill;
    TC_RETURN_IF_ERROR(Prefill());
    const double prefill_seconds = prefill.Seconds();
    figures_.prefill_tokens_per_second.values.push_back(static_cast<double>(prompt_tokens()) /
                                                        prefill_seconds);
    figures_.prefill_gflop_per_second.values.push_back(PrefillOperations(runner_.config(), prompt_tokens()) *
                                                       1e-9 / prefill_seconds);
    figures_.first_token_ms.values.push_back(prefill_seconds * 1e3);
    const size_t n_modes = options_.modes.size();
    double before = ReadGbPerSecond();
    for (size_t turn = 0; turn < n_modes; ++turn) {
      const size_t m = (repetition + turn) % n_modes;
      TC_RETURN_IF_ERROR(Decode(m));
      const double after = ReadGbPerSecond();
      sums_[m].read_gb_per_second.push_back((before + after) / 2);
      before = after;
    }
    const auto dense =
        static_cast<size_t>(std::ranges::find(options_.modes, NeuronMode::kDense) - options_.modes.begin());
    for (size_t m = 0; m < n_modes; ++m)
      figures_.modes[m].speedup.values.push_back(sums_[dense].seconds / sums_[m].seconds);
    return absl::OkStatus();
  }

  // The machine may be shared, so that its peak changes from second to second.
  double ReadGbPerSecond() {
    const Samples samples = reads_.Measure();
    std::vector<double>& all = figures_.read_gb_per_second.values;
    all.insert(all.end(), samples.values.begin(), samples.values.end());
    return samples.median();
  }

  absl::Status Decode(size_t m) {
    Sums& sums = sums_[m];
    runner_.ResetExecutionStats();
    std::vector<double> inter_token_ms;
    inter_token_ms.reserve(continuation_.size());
    const Stopwatch all;
    for (size_t i = 0; i < continuation_.size(); ++i) {
      const Stopwatch one;
      TC_RETURN_IF_ERROR(DecodeToken(options_.modes[m], i));
      inter_token_ms.push_back(one.Milliseconds());
      sums.steps += runner_.last_step();
    }
    sums.seconds = all.Seconds();
    const ExecutionStats& stats = runner_.execution_stats();
    sums.hand_overs += stats.hand_overs;
    sums.inter_token_ms.insert(sums.inter_token_ms.end(), inter_token_ms.begin(), inter_token_ms.end());
    ModeFigures& figures = figures_.modes[m];
    figures.inter_token_ms_p50_each.values.push_back(Quantile(inter_token_ms, 0.5));
    figures.inter_token_ms_p99_each.values.push_back(Quantile(inter_token_ms, 0.99));
    figures.decode_tokens_per_second.values.push_back(static_cast<double>(continuation_.size()) /
                                                      sums.seconds);
    figures.overlap_ratio.values.push_back(stats.overlap_ratio());
    figures.hand_over_micros.values.push_back(stats.mean_hand_over_micros());
    return absl::OkStatus();
  }

  void Finish() {
    const int64_t tokens = options_.decode_tokens * options_.repetitions;
    int64_t dense_bytes = 0;
    for (size_t m = 0; m < sums_.size(); ++m) {
      const Sums& sums = sums_[m];
      ModeFigures& figures = figures_.modes[m];
      figures.inter_token_ms_p50 = Quantile(sums.inter_token_ms, 0.5);
      figures.inter_token_ms_p99 = Quantile(sums.inter_token_ms, 0.99);
      figures.bytes_per_token = sums.steps.bytes / tokens;
      figures.neuron_bytes_per_token = sums.steps.neuron_bytes / tokens;
      for (size_t r = 0; r < sums.read_gb_per_second.size(); ++r) {
        const double gb_per_second =
            figures.decode_tokens_per_second.values[r] * static_cast<double>(figures.bytes_per_token) * 1e-9;
        figures.gb_per_second.values.push_back(gb_per_second);
        figures.share_of_peak.values.push_back(gb_per_second / sums.read_gb_per_second[r]);
      }
      if (figures.mode == NeuronMode::kDense) dense_bytes = figures.bytes_per_token;
      const auto neurons = static_cast<double>(sums.steps.neurons);
      figures.marked_share = static_cast<double>(sums.steps.marked_neurons) / neurons;
      figures.active_share = static_cast<double>(sums.steps.active_neurons) / neurons;
      figures.hand_overs_per_token = static_cast<double>(sums.hand_overs) / static_cast<double>(tokens);
    }
    for (ModeFigures& figures : figures_.modes) {
      figures.speedup_bound = static_cast<double>(dense_bytes) / static_cast<double>(figures.bytes_per_token);
    }
  }

  Transformer& runner_;
  const ReadBandwidthProbe& reads_;
  const BenchOptions& options_;
  std::vector<float> logits_;          // (n_vocab)
  std::vector<TokenId> continuation_;  // (decode_tokens)
  std::vector<Sums> sums_;             // (modes)
  BenchFigures figures_;
};

}  // namespace

double PrefillOperations(const ModelConfig& config, int64_t n_tokens) {
  const auto of = [](int64_t a, int64_t b) { return static_cast<double>(a) * static_cast<double>(b); };
  const int64_t query_width = config.n_heads * config.d_head, key_width = config.n_kv_heads * config.d_head;
  const double layer_weights = of(config.d_model, 2 * query_width + 2 * key_width) +
                               of(config.d_model, (config.gated ? 3 : 2) * config.d_ff);
  double operations =
      2 * static_cast<double>(config.n_layers) * layer_weights * static_cast<double>(n_tokens) +
      2 * of(config.d_model, config.n_vocab);
  for (int64_t layer = 0; layer < config.n_layers; ++layer) {
    const int64_t seen = config.window.On(layer) ? std::min(config.window.tokens, n_tokens) : n_tokens;
    // The first `seen` tokens see 1, 2, ... positions, the others `seen` each.
    const double pairs = of(seen, seen + 1) / 2 + of(n_tokens - seen, seen);
    operations += 4 * static_cast<double>(query_width) * pairs;  // queries by keys, weights by values
  }
  return operations;
}

absl::StatusOr<BenchFigures> MeasureModes(Transformer& runner, const ReadBandwidthProbe& reads,
                                          const BenchOptions& options) {
  TC_CHECK(std::ranges::find(options.modes, NeuronMode::kDense) != options.modes.end());
  TC_CHECK(!options.prompt.empty() && options.decode_tokens > 0 && options.repetitions > 0);
  return Bench(runner, reads, options).Run();
}

}  // namespace thermocline
