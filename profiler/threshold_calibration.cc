// From passes to histograms, from histograms and judged candidates to thresholds.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/threshold_calibration.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <utility>

#include "profiler/threshold_allocation.h"
#include "scheduler/distribution.h"

namespace thermocline {
namespace {

// In the order of ThresholdSite: weights of a layer that are left out with an input. kCats leaves nothing out
// of the gate's own product, and with a gate out of those behind it.
std::array<int64_t, kThresholdSites> SizesOf(const ModelConfig& config, ThresholdMethod method) {
  const int64_t q_width = config.n_heads * config.d_head, kv_width = config.n_kv_heads * config.d_head;
  const int64_t matrix = config.d_model * config.d_ff, inner = config.gated ? 2 : 1;
  const int64_t query_key_value = config.d_model * (q_width + 2 * kv_width),
                output = q_width * config.d_model;
  if (method == ThresholdMethod::kCats) return {query_key_value, output, matrix, 0, inner * matrix};
  return {query_key_value, output, inner * matrix, matrix, 0};
}

class HistogramObserver final : public InputObserver {
 public:
  HistogramObserver(const CpuContext& context,
                    std::vector<std::array<MagnitudeHistogram, kThresholdSites>>& histograms)
      : context_(context), histograms_(histograms) {}

  // Leading tokens of the next pass.
  void SkipTokens(int64_t count) { skipped_tokens_ = count; }

  void OnInput(int64_t layer, ThresholdSite site, MatrixView<const float> values) override {
    const int64_t first = std::min(skipped_tokens_, values.rows), count = values.rows - first;
    const int64_t parts = std::min(kParts, count);
    context_.team->ParallelFor(parts, 1, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p) {
        parts_[static_cast<size_t>(p)] = MagnitudeHistogram();
        for (int64_t t = first + count * p / parts; t < first + count * (p + 1) / parts; ++t)
          parts_[static_cast<size_t>(p)].Add(values.row(t));
      }
    });
    for (int64_t p = 0; p < parts; ++p)
      histograms_[static_cast<size_t>(layer)][static_cast<size_t>(site)].Merge(
          parts_[static_cast<size_t>(p)]);
  }

 private:
  static constexpr int64_t kParts = 8;

  const CpuContext context_;
  std::vector<std::array<MagnitudeHistogram, kThresholdSites>>& histograms_;
  std::array<MagnitudeHistogram, kParts> parts_;
  int64_t skipped_tokens_ = 0;
};

// The observer sees the passes of this scope only.
class ObserverScope {
 public:
  ObserverScope(Transformer& transformer, InputObserver& observer) : transformer_(transformer) {
    transformer_.SetInputObserver(&observer);
  }
  ~ObserverScope() { transformer_.SetInputObserver(nullptr); }
  ObserverScope(const ObserverScope&) = delete;
  ObserverScope& operator=(const ObserverScope&) = delete;

 private:
  Transformer& transformer_;
};

// Mean over all rows but the first of |a - b|^2 / |b|^2.
double RelativeError(MatrixView<const float> a, MatrixView<const float> b) {
  double sum = 0;
  for (int64_t t = 1; t < a.rows; ++t) {
    double difference = 0, size = 0;
    for (int64_t c = 0; c < a.cols; ++c) {
      const auto left = static_cast<double>(a.row_data(t)[c]), right = static_cast<double>(b.row_data(t)[c]);
      difference += (left - right) * (left - right);
      size += right * right;
    }
    if (size > 0) sum += difference / size;
  }
  return sum / static_cast<double>(a.rows - 1);
}

}  // namespace

ThresholdCalibration::ThresholdCalibration(Transformer& transformer, const CalibrationOptions& options)
    : transformer_(transformer),
      options_(options),
      histograms_(static_cast<size_t>(transformer.config().n_layers)) {}

absl::StatusOr<ThresholdCalibration> ThresholdCalibration::Create(Transformer& transformer,
                                                                  const CalibrationOptions& options) {
  if (!(options.target > 0 && options.target <= kMostShare))
    return InvalidArgument("is {}, allowed are above 0 and at most {}", options.target, kMostShare);
  return ThresholdCalibration(transformer, options);
}

absl::Status ThresholdCalibration::AddText(std::span<const TokenId> tokens, int64_t uncounted) {
  HistogramObserver observer(transformer_.context(), histograms_);
  const ObserverScope scope(transformer_, observer);
  std::vector<float> logits(static_cast<size_t>(transformer_.n_vocab()));
  const auto step = static_cast<size_t>(transformer_.max_step_tokens());
  observer.SkipTokens(uncounted);
  for (size_t first = 0; first < tokens.size(); first += step) {
    TC_RETURN_IF_ERROR(
        transformer_.Forward({.tokens = tokens.subspan(first, std::min(step, tokens.size() - first)),
                              .first_position = static_cast<int64_t>(first),
                              .kind = StepKind::kPrefill},
                             logits));
    observer.SkipTokens(0);
  }
  if (!std::ranges::all_of(logits, [](float logit) { return std::isfinite(logit); }))
    return InvalidArgument("the model's output is not finite");
  tokens_ += std::ssize(tokens) - uncounted;
  const size_t most = std::min(static_cast<size_t>(options_.sample_tokens), step);
  AddSample(tokens.first(std::min(tokens.size(), most)));
  return absl::OkStatus();
}

void ThresholdCalibration::AddSample(std::span<const TokenId> tokens) {
  if (tokens.size() < 2) return;
  if (std::ssize(samples_) < options_.samples) {
    samples_.emplace_back(tokens.begin(), tokens.end());
    return;
  }
  const auto shortest = std::ranges::min_element(samples_, {}, &std::vector<TokenId>::size);
  if (shortest != samples_.end() && shortest->size() < tokens.size())
    shortest->assign(tokens.begin(), tokens.end());
}

LayerThresholds ThresholdCalibration::AtShares(size_t layer, std::span<const double> shares) const {
  LayerThresholds thresholds;
  for (size_t site = 0; site < shares.size(); ++site) {
    if (shares[site] == 0) continue;
    const MagnitudeHistogram& histogram = histograms_[layer][site];
    const float magnitude = histogram.Quantile(shares[site]);
    thresholds.sites[site] = {.magnitude = magnitude, .share = histogram.ShareBelow(magnitude)};
  }
  std::array<double, kThresholdSites> seen;
  for (size_t site = 0; site < seen.size(); ++site) seen[site] = thresholds.sites[site].share;
  thresholds.skipped = SkippedShare(SizesOf(transformer_.config(), options_.method), seen);
  return thresholds;
}

// A sample's way through the model, dense and with a layer's thresholds.
class ThresholdCalibration::Judge {
 public:
  static absl::StatusOr<std::unique_ptr<Judge>> Create(Transformer& transformer,
                                                       std::span<const TokenId> sample) {
    std::unique_ptr<Judge> judge(new Judge(transformer));
    const auto n_tokens = static_cast<int64_t>(sample.size());
    const int64_t d_model = transformer.config().d_model;
    for (int64_t l = 0; l <= transformer.config().n_layers; ++l) {
      TC_ASSIGN_OR_RETURN(Matrix<float> residual, Matrix<float>::Create(n_tokens, d_model));
      judge->residuals_.push_back(std::move(residual));
    }
    TC_ASSIGN_OR_RETURN(judge->candidate_, Matrix<float>::Create(n_tokens, d_model));
    TC_ASSIGN_OR_RETURN(judge->dense_logits_, Matrix<float>::Create(n_tokens, transformer.n_vocab()));
    TC_ASSIGN_OR_RETURN(judge->logits_, Matrix<float>::Create(n_tokens, transformer.n_vocab()));
    TC_RETURN_IF_ERROR(transformer.EmbedTokens(sample, judge->residuals_.front().view()));
    for (size_t l = 0; l + 1 < judge->residuals_.size(); ++l)
      transformer.RunLayer(static_cast<int64_t>(l), nullptr, judge->residuals_[l].view(),
                           judge->residuals_[l + 1].view());
    transformer.RunHead(judge->residuals_.back().view(), judge->dense_logits_.view());
    return judge;
  }

  // Of the layer's output.
  double Error(size_t layer, const LayerThresholds& thresholds) {
    transformer_.RunLayer(static_cast<int64_t>(layer), &thresholds, residuals_[layer].view(),
                          candidate_.view());
    return RelativeError(candidate_.view(), residuals_[layer + 1].view());
  }

  // Mean KL divergence from the dense model's next tokens where this layer alone leaves something out.
  double Divergence(size_t layer, const LayerThresholds& thresholds) {
    transformer_.RunLayer(static_cast<int64_t>(layer), &thresholds, residuals_[layer].view(),
                          candidate_.view());
    for (size_t l = layer + 1; l + 1 < residuals_.size(); ++l)
      transformer_.RunLayer(static_cast<int64_t>(l), nullptr, candidate_.view(), candidate_.view());
    transformer_.RunHead(candidate_.view(), logits_.view());
    double sum = 0;
    for (int64_t t = 1; t < logits_.rows(); ++t)
      sum += CompareDistributions(dense_logits_.row(t), logits_.row(t)).kl_divergence;
    return sum / static_cast<double>(logits_.rows() - 1);
  }

 private:
  explicit Judge(Transformer& transformer) : transformer_(transformer) {}

  Transformer& transformer_;
  std::vector<Matrix<float>> residuals_;  // (n_layers + 1), of (n_tokens, d_model): the dense model's
  Matrix<float> candidate_;               // (n_tokens, d_model)
  Matrix<float> dense_logits_, logits_;   // (n_tokens, n_vocab)
};

absl::Status ThresholdCalibration::AllocateAll(const std::function<bool(int64_t layer)>& go_on,
                                               std::vector<LayerThresholds>& layers) {
  const auto sizes = SizesOf(transformer_.config(), options_.method);
  std::vector<std::unique_ptr<Judge>> judges;
  for (const std::vector<TokenId>& sample : samples_) {
    TC_ASSIGN_OR_RETURN(judges.emplace_back(), Judge::Create(transformer_, sample));
  }
  // Means over the samples.
  const auto mean = [&](double (Judge::*figure)(size_t, const LayerThresholds&), size_t layer,
                        std::span<const double> shares) {
    const LayerThresholds thresholds = AtShares(layer, shares);
    double sum = 0;
    for (const auto& judge : judges) sum += (judge.get()->*figure)(layer, thresholds);
    return sum / static_cast<double>(judges.size());
  };
  const auto steps = static_cast<size_t>(options_.steps);
  std::vector<std::vector<AllocationStep>> ways;
  std::vector<std::vector<double>> costs;
  for (size_t l = 0; l < histograms_.size(); ++l) {
    if (!go_on(static_cast<int64_t>(l))) return Cancelled("interrupted");
    const auto& way = ways.emplace_back(
        AllocateGreedily(sizes, options_.target / options_.steps, options_.steps * 2,
                         [&](std::span<const double> shares) { return mean(&Judge::Error, l, shares); }));
    // What an error of this layer becomes behind the others.
    const AllocationStep& usual = way[std::min(steps, way.size() - 1)];
    const double weight = mean(&Judge::Divergence, l, usual.shares) / std::max(usual.error, 1e-30);
    std::vector<double>& cost = costs.emplace_back();
    for (const AllocationStep& step : way) cost.push_back(weight * step.error);
  }
  const std::vector<size_t> taken = SpreadSteps(costs, steps * ways.size());
  for (size_t l = 0; l < ways.size(); ++l) {
    layers.push_back(AtShares(l, ways[l][taken[l]].shares));
    layers.back().error = ways[l][taken[l]].error;
  }
  return absl::OkStatus();
}

absl::StatusOr<ThresholdSet> ThresholdCalibration::Find(const ModelIdentity& model,
                                                        const std::function<bool(int64_t layer)>& go_on) {
  if (samples_.empty()) return InvalidArgument("thresholds need a text of at least two tokens");
  ThresholdSet thresholds{
      .model = model, .method = options_.method, .target = options_.target, .tokens = tokens_};
  if (options_.method == ThresholdMethod::kTeal) {
    TC_RETURN_IF_ERROR(AllocateAll(go_on, thresholds.layers));
    return thresholds;
  }
  const auto sizes = SizesOf(transformer_.config(), options_.method);
  std::array<double, kThresholdSites> shares = {};
  for (size_t site = 0; site < shares.size(); ++site) {
    const bool is_gate = site == static_cast<size_t>(ThresholdSite::kGate);
    if (sizes[site] > 0 && is_gate == (options_.method == ThresholdMethod::kCats))
      shares[site] = options_.target;
  }
  for (size_t l = 0; l < histograms_.size(); ++l) thresholds.layers.push_back(AtShares(l, shares));
  return thresholds;
}

}  // namespace thermocline
