// Search, training and calibration of the predictors of all layers.
// SPDX-License-Identifier: Apache-2.0
#include "predictor/train_predictors.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "predictor/calibration.h"
#include "predictor/predictor_trainer.h"

namespace thermocline {
namespace {

constexpr int64_t kSearchPasses = 100'000;   // tokens of a short training
constexpr int64_t kFinalPasses = 1'000'000;  // of the training that is kept
constexpr int64_t kSearchScoredTokens = 2048;
constexpr int64_t kFinalScoredTokens = 8192;  // of each half
constexpr double kSearchShare = 0.4;          // of the arithmetic allowed and, roughly, of the time
constexpr double kTriedSizes = 6;             // of a layer, as planned for
constexpr double kPositiveWeight = 4;
constexpr int64_t kBlockElements = 32;  // of Q8_0, whose rows are whole blocks
constexpr int64_t kScoredForSign = 4096;

struct LayerCounts {
  double sparsity = 0;
  double gini = 0;
};

// Counts of one layer's training tokens, measured as the profile measures them.
LayerCounts Measure(const LayerSamples& samples, int64_t d_ff) {
  std::vector<uint64_t> counts = CountActiveNeurons(samples.active, d_ff);
  std::ranges::sort(counts);
  double total = 0, weighted = 0;
  const auto n = static_cast<double>(d_ff);
  for (size_t i = 0; i < counts.size(); ++i) {
    total += static_cast<double>(counts[i]);
    weighted += (2 * static_cast<double>(i) + 1 - n) * static_cast<double>(counts[i]);
  }
  if (total == 0) return {.sparsity = 1, .gini = 0};
  return {.sparsity = 1 - total / (n * static_cast<double>(samples.tokens())),
          .gini = weighted / (n * total)};
}

// The run of all steps over all layers.
class Run {
 public:
  Run(const CpuContext& context, const ActivationSamples& samples, std::span<const LayerTraining> layers,
      const TrainingOptions& options, const std::function<bool(const TrainingProgress&)>& go_on)
      : context_(context), samples_(samples), layers_(layers), options_(options), go_on_(go_on) {}

  absl::StatusOr<std::vector<LayerPredictor>> Train() {
    TC_RETURN_IF_ERROR(CalibrateSigns());
    for (size_t l = 0; l < layers_.size(); ++l) sizing_.push_back(Sizing(l));
    TC_ASSIGN_OR_RETURN(const std::vector<SizedLayer> sized,
                        SizePredictors(sizing_, options_.most_bytes, [&](size_t layer, int64_t hidden) {
                          return TryHidden(layer, hidden);
                        }));
    int64_t total_bytes = 0;
    for (const SizedLayer& layer : sized) total_bytes += layer.bytes;
    std::vector<LayerPredictor> predictors;
    for (size_t l = 0; l < layers_.size(); ++l) {
      if (sized[l].kind == PredictorKind::kSign) {
        predictors.push_back(std::move(*signs_[l]));
        continue;
      }
      TC_ASSIGN_OR_RETURN(LayerPredictor trained, TrainLayer(l, sized[l].hidden));
      // The search knew the cost of a short training only.
      const int64_t sign_bytes = PredictorBytes(0, samples_.d_model(), samples_.d_ff());
      if (signs_[l] && total_bytes - sized[l].bytes + sign_bytes <= options_.most_bytes &&
          Cost(l, *signs_[l]) <= Cost(l, trained)) {
        total_bytes += sign_bytes - sized[l].bytes;
        trained = std::move(*signs_[l]);
      }
      predictors.push_back(std::move(trained));
    }
    return predictors;
  }

 private:
  absl::Status CalibrateSigns() {
    signs_.resize(layers_.size());
    if (options_.choice == PredictorChoice::kMlp) return absl::OkStatus();
    for (size_t l = 0; l < layers_.size(); ++l) {
      LayerPredictor predictor{.kind = PredictorKind::kSign};
      TC_RETURN_IF_ERROR(SetThresholds(
          l, kScoredForSign, [&] { return GoOn(l, "sign", 0); }, predictor));
      signs_[l] = std::move(predictor);
    }
    return absl::OkStatus();
  }

  SizingLayer Sizing(size_t layer) const {
    const LayerCounts counts = Measure(Samples(SamplePart::kTraining, layer), samples_.d_ff());
    SizingLayer sizing{
        .d_model = samples_.d_model(),
        .d_ff = samples_.d_ff(),
        .sparsity = counts.sparsity,
        .gini = counts.gini,
        .bytes = layers_[layer].bytes,
        .mlp = options_.choice != PredictorChoice::kSign && samples_.d_model() % kBlockElements == 0};
    if (signs_[layer]) sizing.sign_cost = Cost(layer, *signs_[layer]);
    return sizing;
  }

  // The predicted cost after a short training, on the calibration half alone.
  absl::StatusOr<double> TryHidden(size_t layer, int64_t hidden) {
    const auto go_on = [&](double) {
      return GoOn(layer, "size search",
                  kSearchShare * static_cast<double>(layer) / static_cast<double>(layers_.size()));
    };
    // As many passes for every size of the layer: at the same arithmetic large ones would look bad for being
    // trained less.
    const double flops =
        options_.most_flops * kSearchShare / static_cast<double>(layers_.size()) / kTriedSizes;
    const int64_t passes = std::min(kSearchPasses, Affordable(flops, BaselineHidden(sizing_[layer])));
    TC_ASSIGN_OR_RETURN(LayerPredictor predictor, Fit(layer, hidden, passes, go_on));
    const HeldOutHalves halves = Halve(Samples(SamplePart::kHeldOut, layer));
    TC_ASSIGN_OR_RETURN(const ScoreHistogram scores,
                        ScoreSamples(context_, predictor, layers_[layer].gate, halves.calibration,
                                     kSearchScoredTokens, [&] { return go_on(0); }));
    predictor.balanced = scores.FiguresAt(scores.ThresholdFor(WithReserve(options_.target_recall)));
    return Cost(layer, predictor);
  }

  absl::StatusOr<LayerPredictor> TrainLayer(size_t layer, int64_t hidden) {
    const auto go_on = [&](double share_done) {
      const double layers_done =
          (static_cast<double>(layer) + share_done) / static_cast<double>(layers_.size());
      return GoOn(layer, "training", kSearchShare + (1 - kSearchShare) * layers_done);
    };
    const double flops = options_.most_flops * (1 - kSearchShare) / static_cast<double>(layers_.size());
    const int64_t passes = std::min(kFinalPasses, Affordable(flops, hidden));
    TC_ASSIGN_OR_RETURN(LayerPredictor predictor, Fit(layer, hidden, passes, go_on));
    TC_RETURN_IF_ERROR(SetThresholds(
        layer, kFinalScoredTokens, [&] { return go_on(1); }, predictor));
    return predictor;
  }

  // Tokens that pass through training for that much arithmetic.
  int64_t Affordable(double flops, int64_t hidden) const {
    const double pass_flops =
        FlopsOfTokenPass({.d_model = samples_.d_model(), .hidden = hidden, .d_ff = samples_.d_ff()});
    return static_cast<int64_t>(std::min(1e18, flops / pass_flops));
  }

  absl::StatusOr<LayerPredictor> Fit(size_t layer, int64_t hidden, int64_t passes,
                                     const std::function<bool(double)>& go_on) {
    TC_ASSIGN_OR_RETURN(const Mlp mlp,
                        FitMlp(context_, samples_.d_ff(), Samples(SamplePart::kTraining, layer),
                               Halve(Samples(SamplePart::kHeldOut, layer)).calibration,
                               {.hidden = hidden,
                                .token_passes = passes,
                                .positive_weight = kPositiveWeight,
                                .seed = options_.seed + static_cast<uint64_t>(layer)},
                               go_on));
    return Quantize(mlp);
  }

  absl::Status SetThresholds(size_t layer, int64_t most_tokens, const std::function<bool()>& go_on,
                             LayerPredictor& predictor) {
    const HeldOutHalves halves = Halve(Samples(SamplePart::kHeldOut, layer));
    const WeightView& gate = layers_[layer].gate;
    TC_ASSIGN_OR_RETURN(const ScoreHistogram calibration,
                        ScoreSamples(context_, predictor, gate, halves.calibration, most_tokens, go_on));
    TC_ASSIGN_OR_RETURN(const ScoreHistogram judgement,
                        ScoreSamples(context_, predictor, gate, halves.judgement, most_tokens, go_on));
    Calibrate(calibration, judgement, options_.target_recall, options_.fast_recall, samples_.d_model(),
              predictor);
    return absl::OkStatus();
  }

  double Cost(size_t layer, const LayerPredictor& predictor) const {
    return PredictedCost(predictor.balanced, predictor.SizeBytes(samples_.d_model(), samples_.d_ff()),
                         samples_.d_ff(), layers_[layer].bytes);
  }
  LayerSamples Samples(SamplePart part, size_t layer) const {
    return samples_.Layer(part, static_cast<int64_t>(layer));
  }
  // The search comes back to layers when it shrinks; what is reported never does.
  bool GoOn(size_t layer, std::string_view step, double share_done) {
    share_done_ = std::max(share_done_, share_done);
    return go_on_({.layer = static_cast<int64_t>(layer),
                   .n_layers = static_cast<int64_t>(layers_.size()),
                   .step = step,
                   .share_done = share_done_});
  }

  const CpuContext context_;
  const ActivationSamples& samples_;
  const std::span<const LayerTraining> layers_;
  const TrainingOptions options_;
  const std::function<bool(const TrainingProgress&)>& go_on_;
  double share_done_ = 0;
  std::vector<SizingLayer> sizing_;                   // by layer
  std::vector<std::optional<LayerPredictor>> signs_;  // by layer; empty where only an Mlp may be chosen
};

absl::Status CheckShapes(const ActivationSamples& samples, std::span<const LayerTraining> layers,
                         const ModelIdentity& model, PredictorChoice choice) {
  if (samples.n_layers() != model.n_layers || samples.d_model() != model.d_model ||
      samples.d_ff() != model.d_ff || static_cast<int64_t>(layers.size()) != model.n_layers) {
    return InvalidArgument(
        "samples of {} layers, d_model {}, d_ff {} and {} layers of weights do not go with a model of {} "
        "layers, d_model {}, d_ff {}",
        samples.n_layers(), samples.d_model(), samples.d_ff(), layers.size(), model.n_layers, model.d_model,
        model.d_ff);
  }
  for (size_t l = 0; l < layers.size(); ++l) {
    const WeightView& gate = layers[l].gate;
    if (gate.rows != model.d_ff || gate.cols != model.d_model) {
      return InvalidArgument("layer {}: the gate is {} x {}, the model's are {} x {}", l, gate.rows,
                             gate.cols, model.d_ff, model.d_model);
    }
    if (layers[l].bytes.gate <= 0 || layers[l].bytes.up_down <= 0)
      return InvalidArgument("layer {}: the bytes of a neuron's rows must be above 0", l);
  }
  if (choice == PredictorChoice::kMlp && model.d_model % kBlockElements != 0) {
    return InvalidArgument("d_model is {}, mlp predictors need a multiple of {}", model.d_model,
                           kBlockElements);
  }
  for (const SamplePart part : {SamplePart::kTraining, SamplePart::kHeldOut}) {
    if (samples.tokens(part) < 2) {
      return InvalidArgument("{} {} tokens were sampled, predictors need at least 2", samples.tokens(part),
                             part == SamplePart::kTraining ? "training" : "held-out");
    }
  }
  return absl::OkStatus();
}

}  // namespace

std::string_view NameOf(PredictorChoice choice) {
  switch (choice) {
    case PredictorChoice::kMlp:
      return "mlp";
    case PredictorChoice::kSign:
      return "sign";
    case PredictorChoice::kAuto:
      return "auto";
  }
  TC_CHECK(false);
}

absl::StatusOr<PredictorChoice> ParsePredictorChoice(std::string_view name) {
  for (const PredictorChoice choice :
       {PredictorChoice::kMlp, PredictorChoice::kSign, PredictorChoice::kAuto}) {
    if (name == NameOf(choice)) return choice;
  }
  return InvalidArgument("predictor '{}' is unknown; known are mlp, sign, auto", name);
}

absl::Status TrainingOptions::Validate() const {
  if (!(target_recall > 0 && target_recall < 1))
    return InvalidArgument("target_recall is {}, it must lie between 0 and 1", target_recall);
  if (!(fast_recall > 0 && fast_recall <= target_recall)) {
    return InvalidArgument("fast_recall is {}, it must be above 0 and at most target_recall, {}", fast_recall,
                           target_recall);
  }
  if (most_bytes < 1) return InvalidArgument("most_bytes is {}, it must be at least 1", most_bytes);
  if (!(most_flops > 0)) return InvalidArgument("most_flops is {}, it must be above 0", most_flops);
  return absl::OkStatus();
}

absl::StatusOr<PredictorSet> TrainPredictors(const CpuContext& context, const ActivationSamples& samples,
                                             std::span<const LayerTraining> layers,
                                             const ModelIdentity& model, const TrainingOptions& options,
                                             const std::function<bool(const TrainingProgress&)>& go_on) {
  TC_RETURN_IF_ERROR(options.Validate());
  TC_RETURN_IF_ERROR(CheckShapes(samples, layers, model, options.choice));
  Run run(context, samples, layers, options, go_on);
  TC_ASSIGN_OR_RETURN(std::vector<LayerPredictor> predictors, run.Train());
  return PredictorSet{.model = model,
                      .target_recall = options.target_recall,
                      .fast_recall = options.fast_recall,
                      .layers = std::move(predictors)};
}

}  // namespace thermocline
