// Counting of a corpus, window by window.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/activation_counter.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <span>

#include "model/printable.h"
#include "profiler/corpus.h"

namespace thermocline {
namespace {

// The largest float that is not above `threshold`: floats are above the one exactly when above the other.
float LargestFloatUpTo(double threshold) {
  if (threshold >= std::numeric_limits<float>::max()) return std::numeric_limits<float>::max();
  const auto nearest = static_cast<float>(threshold);
  return static_cast<double>(nearest) <= threshold ? nearest : std::nextafter(nearest, 0.0f);
}

// Counts what passes, and keeps samples of it where there is room for them.
class CountingObserver final : public FeedForwardObserver {
 public:
  CountingObserver(const Transformer& transformer, double threshold, ActivationSamples* samples)
      : counter_(transformer.config(), transformer.context(), threshold),
        activation_(transformer.config().activation),
        threshold_(LargestFloatUpTo(threshold)),
        samples_(samples) {}

  void OnGate(int64_t layer, MatrixView<const float> input, MatrixView<const float> gate) override {
    counter_.OnGate(layer, input, gate);
    const int64_t skipped = std::min(skipped_tokens_, gate.rows);
    if (samples_ == nullptr || skipped == gate.rows || !status_.ok()) return;
    status_ = samples_->Append(part_, layer, input.Rows(skipped, input.rows - skipped),
                               gate.Rows(skipped, gate.rows - skipped), activation_, threshold_);
  }

  // Before a window that goes to `part` of the samples.
  void Start(SamplePart part) {
    counter_.Clear();
    part_ = part;
  }
  void SkipTokens(int64_t count) {
    counter_.SkipTokens(count);
    skipped_tokens_ = count;
  }
  const ActivationCounter& counter() const { return counter_; }
  const absl::Status& status() const { return status_; }  // of the samples

 private:
  ActivationCounter counter_;
  const ActivationFunction activation_;
  const float threshold_;
  ActivationSamples* const samples_;
  SamplePart part_ = SamplePart::kTraining;
  int64_t skipped_tokens_ = 0;
  absl::Status status_;
};

// The observer sees the passes of this scope only.
class ObserverScope {
 public:
  ObserverScope(Transformer& transformer, FeedForwardObserver& observer) : transformer_(transformer) {
    transformer_.SetFeedForwardObserver(&observer);
  }
  ~ObserverScope() { transformer_.SetFeedForwardObserver(nullptr); }
  ObserverScope(const ObserverScope&) = delete;
  ObserverScope& operator=(const ObserverScope&) = delete;

 private:
  Transformer& transformer_;
};

absl::Status CheckOptions(const CountingOptions& options, int64_t window_tokens, int64_t context_length) {
  if (window_tokens < 2 || window_tokens > context_length) {
    return InvalidArgument("window_tokens is {}, allowed are 2 to {}", window_tokens, context_length);
  }
  if (options.held_out_every < 0 || options.held_out_every == 1) {
    return InvalidArgument("held_out_every is {}, allowed are 0 and from 2 on", options.held_out_every);
  }
  if (options.max_tokens < 0) {
    return InvalidArgument("max_tokens is {}, allowed are 0 and above", options.max_tokens);
  }
  if (options.ranks < 1 || options.rank < 0 || options.rank >= options.ranks) {
    return InvalidArgument("rank is {} of {}", options.rank, options.ranks);
  }
  return absl::OkStatus();
}

absl::Status CheckProfile(const ActivationProfile& profile, const ModelConfig& config) {
  if (!(profile.threshold >= 0) || !std::isfinite(profile.threshold)) {
    return InvalidArgument("threshold is {}, it must be finite and not negative", profile.threshold);
  }
  if (profile.activation != NameOf(config.activation)) {
    return FailedPrecondition("the profile counts activation '{}', the model has '{}'",
                              Printable(profile.activation), NameOf(config.activation));
  }
  const ModelIdentity model{.sha256 = profile.model_sha256,
                            .n_layers = config.n_layers,
                            .d_model = config.d_model,
                            .d_ff = config.d_ff};
  return CheckBelongs(profile, model, "the profile");
}

// Going on with other windows or another share would not give what one run gives.
absl::Status CheckSameCut(const CorpusPosition& position, int64_t window_tokens, int64_t held_out_every) {
  if (position.file.empty()) return absl::OkStatus();
  if (position.window_tokens != window_tokens) {
    return FailedPrecondition("the profile was counted in windows of {} tokens, asked for are {}",
                              position.window_tokens, window_tokens);
  }
  if (position.held_out_every != held_out_every) {
    return FailedPrecondition("the profile holds out every {}. window, asked for is every {}.",
                              position.held_out_every, held_out_every);
  }
  return absl::OkStatus();
}

void AddCounts(const NeuronCounts& more, NeuronCounts& counts) {
  for (size_t i = 0; i < counts.active.size(); ++i) {
    counts.active[i] += more.active[i];
    counts.magnitude_sum[i] += more.magnitude_sum[i];
  }
}

// Of this rank's windows, so that every rank has some of both parts.
SamplePart PartOf(int64_t window, const CountingOptions& options) {
  constexpr int64_t kHeldOutEvery = 10;
  const int64_t every = options.held_out_every > 0 ? options.held_out_every : kHeldOutEvery;
  return window / options.ranks % every == 1 ? SamplePart::kHeldOut : SamplePart::kTraining;
}

// Runs windows through the model and adds their counts to a profile.
class WindowCounter {
 public:
  WindowCounter(Transformer& transformer, std::optional<TokenId> bos, ActivationProfile& profile,
                ActivationSamples* samples)
      : transformer_(transformer),
        bos_(bos),
        profile_(profile),
        observer_(transformer, profile.threshold, samples),
        logits_(static_cast<size_t>(transformer.n_vocab())) {}

  // `text` is not empty and fits the context together with a BOS.
  absl::Status Count(std::span<const TokenId> text, bool held_out, SamplePart part) {
    tokens_.clear();
    if (bos_) tokens_.push_back(*bos_);
    tokens_.insert(tokens_.end(), text.begin(), text.end());
    TC_RETURN_IF_ERROR(Run(part));
    for (size_t l = 0; l < profile_.layers.size(); ++l) {
      LayerActivations& layer = profile_.layers[l];
      AddCounts(observer_.counter().layers()[l], held_out ? layer.held_out : layer.profiled);
    }
    (held_out ? profile_.held_out_tokens : profile_.profiled_tokens) += static_cast<int64_t>(text.size());
    return absl::OkStatus();
  }

 private:
  absl::Status Run(SamplePart part) {
    const ObserverScope scope(transformer_, observer_);
    const auto step = static_cast<size_t>(transformer_.max_step_tokens());
    observer_.Start(part);
    observer_.SkipTokens(bos_ ? 1 : 0);
    for (size_t first = 0; first < tokens_.size(); first += step) {
      const auto block = std::span(tokens_).subspan(first, std::min(step, tokens_.size() - first));
      TC_RETURN_IF_ERROR(transformer_.Forward(
          {.tokens = block, .first_position = static_cast<int64_t>(first), .kind = StepKind::kPrefill},
          logits_));
      observer_.SkipTokens(0);
    }
    // The last token sees all others, so that a value that is no number anywhere shows here.
    if (std::ranges::all_of(logits_, [](float logit) { return std::isfinite(logit); }))
      return observer_.status();
    return InvalidArgument("the model's output is not finite");
  }

  Transformer& transformer_;
  const std::optional<TokenId> bos_;
  ActivationProfile& profile_;
  CountingObserver observer_;
  std::vector<TokenId> tokens_;
  std::vector<float> logits_;  // (n_vocab)
};

}  // namespace

ActivationCounter::ActivationCounter(const ModelConfig& config, const CpuContext& context, double threshold)
    : context_(context),
      activation_(config.activation_function()),
      threshold_(LargestFloatUpTo(threshold)),
      layers_(static_cast<size_t>(config.n_layers)) {
  for (NeuronCounts& layer : layers_) {
    layer.active.resize(static_cast<size_t>(config.d_ff));
    layer.magnitude_sum.resize(static_cast<size_t>(config.d_ff));
  }
}

void ActivationCounter::OnGate(int64_t layer, MatrixView<const float> /*input*/,
                               MatrixView<const float> gate) {
  NeuronCounts& counts = layers_[static_cast<size_t>(layer)];
  const int64_t skipped = std::min(skipped_tokens_, gate.rows);
  CountActive(context_, activation_, threshold_, gate.Rows(skipped, gate.rows - skipped), counts.active,
              counts.magnitude_sum);
}

void ActivationCounter::Clear() {
  for (NeuronCounts& layer : layers_) {
    std::ranges::fill(layer.active, 0);
    std::ranges::fill(layer.magnitude_sum, 0.0);
  }
}

absl::Status CountActivations(Transformer& transformer, const Tokenizer& tokenizer, const std::string& corpus,
                              const CountingOptions& options, ActivationProfile& profile,
                              const std::function<bool(const CountingProgress&)>& go_on) {
  const int64_t window_tokens =
      options.window_tokens != 0 ? options.window_tokens : transformer.context_length();
  const std::optional<TokenId> bos = tokenizer.adds_bos() ? tokenizer.bos() : std::nullopt;
  TC_RETURN_IF_ERROR(CheckOptions(options, window_tokens, transformer.context_length()));
  TC_RETURN_IF_ERROR(CheckProfile(profile, transformer.config()));
  TC_RETURN_IF_ERROR(CheckSameCut(profile.corpus, window_tokens, options.held_out_every));
  TC_ASSIGN_OR_RETURN(const std::unique_ptr<Corpus> windows,
                      Corpus::Open(corpus, tokenizer, window_tokens - (bos ? 1 : 0), profile.corpus));

  WindowCounter counter(transformer, bos, profile, options.samples);
  int64_t tokens_of_all_ranks = 0;
  CountingProgress progress{.corpus_bytes = windows->position().size_bytes};
  while (options.max_tokens == 0 || tokens_of_all_ranks < options.max_tokens) {
    const int64_t number = windows->position().windows;
    TC_ASSIGN_OR_RETURN(const std::span<const TokenId> text, windows->NextWindow());
    const bool is_mine = number % options.ranks == options.rank;
    if (is_mine && !text.empty()) {
      const bool held_out = options.held_out_every > 0 && number % options.held_out_every == 1;
      if (const absl::Status status = counter.Count(text, held_out, PartOf(number, options)); !status.ok()) {
        return absl::Status(status.code(),
                            fmt::format("{}: window {}: {}", corpus, number, MessageOf(status)));
      }
      progress.tokens += static_cast<int64_t>(text.size());
    }
    profile.corpus = windows->position();
    profile.corpus.window_tokens = window_tokens;
    profile.corpus.held_out_every = options.held_out_every;
    if (text.empty()) break;
    tokens_of_all_ranks += static_cast<int64_t>(text.size());
    progress.consumed_bytes = windows->read_bytes();
    if (is_mine && !go_on(progress)) break;
  }
  if (profile.corpus.windows == 0) return InvalidArgument("{}: the corpus has no token to count", corpus);
  return absl::OkStatus();
}

}  // namespace thermocline
