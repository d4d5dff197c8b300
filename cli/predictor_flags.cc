// Flags of predictor training, and predictors as JSON and as a table.
// SPDX-License-Identifier: Apache-2.0
#include "cli/predictor_flags.h"

#include <algorithm>
#include <cmath>

#include "cli/planning_flags.h"
#include "cli/size_format.h"
#include "scheduler/request.h"

namespace thermocline {
namespace {

nlohmann::ordered_json FiguresJson(const PredictorFigures& figures, double threshold) {
  return {{"threshold", threshold},
          {"recall", figures.recall},
          {"precision", figures.precision},
          {"marked", figures.marked}};
}

// Twice the misses, but never all of them; in millionths, so that 0.95 gives 0.9.
double FastRecall(double recall) { return std::round(std::max(2 * recall - 1, recall / 2) * 1e6) / 1e6; }

}  // namespace

void AddPredictorFlags(CLI::App& command, PredictorFlags& flags) {
  command.add_option(
      "--predictor", flags.kind,
      "mlp (trained), sign (signs of input and gate), auto (per layer whichever costs less) or "
      "none; auto where the activation has true zeros, else none");
  command
      .add_option("--predictor-recall", flags.recall,
                  "share of active neurons that predictors must mark; quality fast may miss twice as many")
      ->capture_default_str();
  command
      .add_option("--predictor-budget", flags.budget,
                  "most that all predictors may weigh, as a share of the model's weights")
      ->capture_default_str();
  command
      .add_option("--predictor-tokens", flags.tokens,
                  "tokens of the corpus that train predictors; a quarter as many held-out ones judge them")
      ->capture_default_str();
  command
      .add_option("--predictor-memory", flags.memory,
                  "samples that take more wait in a file in the profile directory")
      ->capture_default_str();
  command.add_option("--seed", flags.seed, "of predictor training")->capture_default_str();
}

absl::Status CheckPredictorFlags(const PredictorFlags& flags) {
  if (!flags.kind.empty() && flags.kind != "none" && !ParsePredictorChoice(flags.kind).ok()) {
    return FieldError("--predictor",
                      fmt::format("'{}' is unknown; known are mlp, sign, auto, none", flags.kind));
  }
  constexpr double kLeastRecall = 0.01;
  if (!(flags.recall >= kLeastRecall && flags.recall < 1)) {
    return FieldError("--predictor-recall",
                      fmt::format("is {}, allowed are {} and above, below 1", flags.recall, kLeastRecall));
  }
  if (!(flags.budget > 0 && flags.budget <= 1)) {
    return FieldError("--predictor-budget", fmt::format("is {}, allowed are above 0 to 1", flags.budget));
  }
  constexpr int64_t kLeastTokens = 16, kMostTokens = int64_t{1} << 32;
  if (flags.tokens < kLeastTokens || flags.tokens > kMostTokens) {
    return FieldError("--predictor-tokens",
                      fmt::format("is {}, allowed are {} to {}", flags.tokens, kLeastTokens, kMostTokens));
  }
  const auto memory = ParseSize(flags.memory);
  if (!memory.ok()) return FieldError("--predictor-memory", MessageOf(memory.status()));
  return absl::OkStatus();
}

std::optional<PredictorChoice> ChoiceOf(const PredictorFlags& flags, bool has_true_zeros) {
  if (flags.kind == "none" || (flags.kind.empty() && !has_true_zeros)) return std::nullopt;
  return flags.kind.empty() ? PredictorChoice::kAuto : *ParsePredictorChoice(flags.kind);
}

TrainingOptions TrainingOptionsOf(const PredictorFlags& flags, PredictorChoice choice, int64_t weight_bytes) {
  return {.choice = choice,
          .target_recall = flags.recall,
          .fast_recall = FastRecall(flags.recall),
          .most_bytes = static_cast<int64_t>(flags.budget * static_cast<double>(weight_bytes)),
          .seed = flags.seed};
}

nlohmann::ordered_json PredictorJson(const LayerPredictor& layer, const ModelIdentity& model) {
  return {{"kind", NameOf(layer.kind)},
          {"hidden", layer.hidden},
          {"recall", layer.balanced.recall},
          {"precision", layer.balanced.precision},
          {"marked", layer.balanced.marked},
          {"bytes", layer.SizeBytes(model.d_model, model.d_ff)},
          {"balanced", FiguresJson(layer.balanced, layer.balanced_threshold)},
          {"fast", FiguresJson(layer.fast, layer.fast_threshold)}};
}

int64_t PredictorBytes(const PredictorSet& predictors) {
  int64_t bytes = 0;
  for (const LayerPredictor& layer : predictors.layers)
    bytes += layer.SizeBytes(predictors.model.d_model, predictors.model.d_ff);
  return bytes;
}

void PrintPredictors(const PredictorSet& predictors) {
  fmt::print("\n{:>5} {:>9} {:>7} {:>10} {:>8} {:>10} {:>8} {:>12} {:>12}\n", "layer", "predictor", "hidden",
             "size", "recall", "precision", "marked", "fast recall", "fast marked");
  for (size_t l = 0; l < predictors.layers.size(); ++l) {
    const LayerPredictor& layer = predictors.layers[l];
    fmt::print("{:>5} {:>9} {:>7} {:>10} {:>7.1f}% {:>9.1f}% {:>7.1f}% {:>11.1f}% {:>11.1f}%\n", l,
               NameOf(layer.kind), layer.hidden,
               FormatBytes(layer.SizeBytes(predictors.model.d_model, predictors.model.d_ff)),
               100 * layer.balanced.recall, 100 * layer.balanced.precision, 100 * layer.balanced.marked,
               100 * layer.fast.recall, 100 * layer.fast.marked);
  }
  fmt::print("predictors: {} for a recall of {:.1f} % (fast {:.1f} %), judged on held-out tokens\n",
             FormatBytes(PredictorBytes(predictors)), 100 * predictors.target_recall,
             100 * predictors.fast_recall);
}

}  // namespace thermocline
