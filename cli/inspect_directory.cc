// What a profile directory holds.
// SPDX-License-Identifier: Apache-2.0
#include "cli/inspect_directory.h"

#include <algorithm>
#include <array>
#include <filesystem>

#include "cli/planning_flags.h"
#include "cli/predictor_flags.h"
#include "cli/profile_thresholds.h"
#include "cli/size_format.h"
#include "core/mapped_file.h"
#include "profiler/hardware.h"

namespace thermocline {
namespace {

using nlohmann::ordered_json;

bool IsThere(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

ordered_json Describe(const ActivationProfile& profile) {
  const CorpusPosition& corpus = profile.corpus;
  ordered_json json = {{"architecture", profile.architecture},
                       {"activation", profile.activation},
                       {"threshold", profile.threshold},
                       {"n_layers", profile.layers.size()},
                       {"d_model", profile.d_model},
                       {"d_ff", profile.d_ff},
                       {"tokens", profile.profiled_tokens},
                       {"held_out_tokens", profile.held_out_tokens},
                       {"corpus", nullptr},
                       {"corpus_share", nullptr}};
  if (!corpus.file.empty()) {
    json["corpus"] = corpus.file;
    json["corpus_share"] = static_cast<double>(corpus.consumed_bytes) /
                           static_cast<double>(std::max<int64_t>(1, corpus.size_bytes));
  }
  return json;
}

ordered_json Describe(const PredictorSet& predictors) {
  ordered_json layers = ordered_json::array();
  for (const LayerPredictor& layer : predictors.layers)
    layers.push_back(PredictorJson(layer, predictors.model));
  return {{"target_recall", predictors.target_recall},
          {"fast_recall", predictors.fast_recall},
          {"bytes", PredictorBytes(predictors)},
          {"layers", layers}};
}

ordered_json Describe(const HardwareProfile& hardware) {
  ordered_json accelerators = ordered_json::array();
  for (const AcceleratorProfile& accelerator : hardware.accelerators) {
    accelerators.push_back({{"name", accelerator.name},
                            {"memory_bytes", accelerator.memory_bytes},
                            {"emulated", accelerator.emulated}});
  }
  return {{"cpu", hardware.cpu},
          {"isa", hardware.isa},
          {"threads", hardware.threads},
          {"memory_bytes", hardware.memory_bytes},
          {"accelerators", accelerators}};
}

void PrintLayers(const ordered_json& layers) {
  fmt::print("  {:>5} {:>9} {:>7} {:>10} {:>8} {:>10} {:>8} {:>12}\n", "layer", "predictor", "hidden", "size",
             "recall", "precision", "marked", "fast recall");
  for (size_t l = 0; l < layers.size(); ++l) {
    const ordered_json& layer = layers[l];
    fmt::print("  {:>5} {:>9} {:>7} {:>10} {:>7.1f}% {:>9.1f}% {:>7.1f}% {:>11.1f}%\n", l,
               layer["kind"].get<std::string>(), layer["hidden"].get<int64_t>(),
               FormatBytes(layer["bytes"].get<int64_t>()), 100 * layer["recall"].get<double>(),
               100 * layer["precision"].get<double>(), 100 * layer["marked"].get<double>(),
               100 * layer["fast"]["recall"].get<double>());
  }
}

}  // namespace

bool IsProfileDirectory(const std::string& path) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(path, ignored) || IsThere(path + "/config.json")) return false;
  const ProfileDirectory directory(path);
  const std::array files = {directory.profile(),    directory.predictors(), directory.hardware(),
                            directory.thresholds(), directory.plan(),       directory.report()};
  return std::ranges::any_of(files, IsThere);
}

absl::StatusOr<ordered_json> DescribeProfileDirectory(const std::string& path) {
  const ProfileDirectory directory(path);
  TC_ASSIGN_OR_RETURN(const ActivationProfile profile, ReadProfile(directory.profile()));
  ordered_json json = {{"directory", path},
                       {"model_sha256", profile.model_sha256},
                       {"profile", Describe(profile)},
                       {"predictors", nullptr},
                       {"thresholds", nullptr},
                       {"plan", nullptr},
                       {"hardware", nullptr},
                       {"report", IsThere(directory.report())}};
  TC_ASSIGN_OR_RETURN(const std::optional<PredictorSet> predictors, PredictorsOf(directory, profile));
  if (predictors) json["predictors"] = Describe(*predictors);
  if (IsThere(directory.thresholds())) {
    TC_ASSIGN_OR_RETURN(const ThresholdSet thresholds,
                        ReadThresholds(directory.thresholds(), IdentityOf(profile)));
    json["thresholds"] = ThresholdsJson(thresholds);
  }
  if (IsThere(directory.plan())) {
    TC_ASSIGN_OR_RETURN(const Plan plan, ReadPlan(directory.plan(), IdentityOf(profile)));
    TC_ASSIGN_OR_RETURN(const MappedFile profile_file, MappedFile::Open(directory.profile()));
    json["plan"] = PlanJson(plan);
    json["plan"]["of_this_profile"] = plan.profile_sha256 == Sha256Hex(profile_file.bytes());
  }
  if (IsThere(directory.hardware())) {
    TC_ASSIGN_OR_RETURN(const HardwareProfile hardware, ReadHardware(directory.hardware()));
    json["hardware"] = Describe(hardware);
  }
  return json;
}

void PrintProfileDirectory(const ordered_json& json) {
  const auto text = [](const ordered_json& value) {
    return value.is_string() ? value.get<std::string>() : value.dump();
  };
  fmt::print("{:15} {}\n{:15} {}\n", "directory", text(json["directory"]), "model_sha256",
             text(json["model_sha256"]));
  for (const char* part : {"profile", "predictors", "plan", "hardware"}) {
    fmt::print("\n{}{}\n", part, json[part].is_null() ? ": none" : "");
    if (json[part].is_null()) continue;
    for (const auto& [key, value] : json[part].items())
      if (!value.is_structured()) fmt::print("  {:28} {}\n", key, text(value));
  }
  if (!json["predictors"].is_null()) {
    fmt::print("\n");
    PrintLayers(json["predictors"]["layers"]);
  }
  if (!json["thresholds"].is_null()) PrintThresholds(json["thresholds"]);
  fmt::print("\nreport: {}\n", json["report"].get<bool>() ? "report.html" : "none");
}

}  // namespace thermocline
