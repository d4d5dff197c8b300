// From passes to histograms, from histograms and judged candidates to thresholds.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/threshold_calibration.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "profiler/threshold_allocation.h"

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
  if (std::min(tokens.size(), most) > sample_.size())
    sample_.assign(tokens.begin(), tokens.begin() + static_cast<ptrdiff_t>(std::min(tokens.size(), most)));
  return absl::OkStatus();
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

absl::Status ThresholdCalibration::AllocateAll(const std::function<bool(int64_t layer)>& go_on,
                                               std::vector<LayerThresholds>& layers) {
  const auto sizes = SizesOf(transformer_.config(), options_.method);
  const int64_t n_tokens = std::ssize(sample_), d_model = transformer_.config().d_model;
  TC_ASSIGN_OR_RETURN(Matrix<float> before, Matrix<float>::Create(n_tokens, d_model));
  TC_ASSIGN_OR_RETURN(Matrix<float> behind, Matrix<float>::Create(n_tokens, d_model));
  TC_ASSIGN_OR_RETURN(Matrix<float> candidate, Matrix<float>::Create(n_tokens, d_model));
  TC_RETURN_IF_ERROR(transformer_.EmbedTokens(sample_, before.view()));
  for (size_t l = 0; l < histograms_.size(); ++l) {
    const auto layer = static_cast<int64_t>(l);
    if (!go_on(layer)) return Cancelled("interrupted");
    transformer_.RunLayer(layer, nullptr, before.view(), behind.view());
    const auto error = [&](std::span<const double> shares) {
      const LayerThresholds thresholds = AtShares(l, shares);
      transformer_.RunLayer(layer, &thresholds, before.view(), candidate.view());
      return RelativeError(candidate.view(), behind.view());
    };
    const std::vector<double> shares = AllocateGreedily(sizes, options_.target, options_.steps, error);
    layers.push_back(AtShares(l, shares));
    layers.back().error = error(shares);
    std::swap(before, behind);
  }
  return absl::OkStatus();
}

absl::StatusOr<ThresholdSet> ThresholdCalibration::Find(const ModelIdentity& model,
                                                        const std::function<bool(int64_t layer)>& go_on) {
  if (sample_.size() < 2) return InvalidArgument("thresholds need a text of at least two tokens");
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
