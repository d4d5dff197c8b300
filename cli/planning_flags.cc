// Flags that `profile` and `plan` share.
// SPDX-License-Identifier: Apache-2.0
#include "cli/planning_flags.h"

#include <absl/strings/numbers.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <utility>

#include "cli/size_format.h"
#include "core/checked.h"
#include "core/mapped_file.h"
#include "profiler/placement_choice.h"
#include "scheduler/kv_pages.h"
#include "scheduler/request.h"

namespace thermocline {
namespace {

absl::StatusOr<std::string> Sha256OfFile(const std::string& path) {
  TC_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  return Sha256Hex(file.bytes());
}

}  // namespace

void AddPlanningFlags(CLI::App& command, PlanningFlags& flags) {
  command.add_option("--gpu-memory", flags.gpu_memory,
                     "memory that the plan may use, such as 24GiB; all that the device has");
  command
      .add_option("--device", flags.device,
                  "auto (the CUDA device), cuda, host (the emulated accelerator) or none")
      ->capture_default_str();
  command
      .add_option("--objective", flags.objective,
                  "latency, impact as in the PowerInfer paper, or layers: the first ones whole, no neuron "
                  "chosen")
      ->capture_default_str();
  command.add_option("--hardware", flags.hardware,
                     "hardware.json of the machine to plan for, instead of this one's");
  command
      .add_option("--plan-context", flags.context, "tokens of keys and values a slot; 0: the model's context")
      ->capture_default_str();
  command.add_option("--slots", flags.slots, "sequences at a time")->capture_default_str();
  command.add_option("--batch-tokens", flags.batch_tokens, "tokens of a decode step")->capture_default_str();
  command.add_option("--time-limit", flags.time_limit_seconds, "seconds for the solver")
      ->capture_default_str();
}

absl::StatusOr<int64_t> ParseSize(const std::string& text) {
  constexpr std::array<std::pair<const char*, int64_t>, 10> kUnits = {
      {{"", 1},
       {"B", 1},
       {"KiB", int64_t{1} << 10},
       {"MiB", int64_t{1} << 20},
       {"GiB", int64_t{1} << 30},
       {"TiB", int64_t{1} << 40},
       {"kB", 1000},
       {"MB", 1000 * 1000},
       {"GB", 1000 * 1000 * 1000},
       {"TB", int64_t{1000} * 1000 * 1000 * 1000}}};
  const auto unit_begin =
      std::ranges::find_if_not(text, [](unsigned char c) { return std::isdigit(c) || c == '.'; });
  const std::string number(text.begin(), unit_begin), unit(unit_begin, text.end());
  const auto found = std::ranges::find_if(kUnits, [&](const auto& entry) { return unit == entry.first; });
  double value = 0;
  if (number.empty() || !absl::SimpleAtod(number, &value) || found == kUnits.end()) {
    return InvalidArgument("'{}' is not a size such as 512MiB or 24GiB", text);
  }
  const double bytes = value * static_cast<double>(found->second);
  constexpr double kMostBytes = 1e15;
  if (bytes < 1 || bytes > kMostBytes) {
    return InvalidArgument("'{}' is {:.0f} bytes, allowed are 1 to 10^15", text, bytes);
  }
  return static_cast<int64_t>(bytes);
}

absl::StatusOr<PlanningOptions> ReadPlanningFlags(const PlanningFlags& flags) {
  PlanningOptions options;
  if (!flags.gpu_memory.empty()) {
    const auto bytes = ParseSize(flags.gpu_memory);
    if (!bytes.ok()) return FieldError("--gpu-memory", MessageOf(bytes.status()));
    options.budget_bytes = *bytes;
  }
  const auto objective = ParseObjective(flags.objective);
  if (!objective.ok()) return FieldError("--objective", MessageOf(objective.status()));
  options.objective = *objective;
  constexpr std::array<const char*, 4> kDevices = {"auto", "cuda", "host", "none"};
  if (std::ranges::find(kDevices, flags.device) == kDevices.end()) {
    return FieldError("--device",
                      fmt::format("'{}' is unknown; known are auto, cuda, host, none", flags.device));
  }
  const auto kv_type = ParseKvType(flags.kv_type);
  if (!kv_type.ok()) return FieldError("--kv-type", MessageOf(kv_type.status()));
  options.kv_type = *kv_type;
  if (flags.slots < 1) return FieldError("--slots", fmt::format("is {}, at least 1 is needed", flags.slots));
  if (flags.batch_tokens < 1 || flags.batch_tokens > 4096) {
    return FieldError("--batch-tokens", fmt::format("is {}, allowed are 1 to 4096", flags.batch_tokens));
  }
  if (!(flags.time_limit_seconds > 0 && flags.time_limit_seconds <= 86400)) {
    return FieldError("--time-limit",
                      fmt::format("is {} s, allowed are above 0 to 86400", flags.time_limit_seconds));
  }
  options.context_tokens = flags.context;
  options.slots = flags.slots;
  options.batch_tokens = flags.batch_tokens;
  options.time_limit_seconds = flags.time_limit_seconds;
  return options;
}

absl::StatusOr<DeviceKind> ChooseDevice(const PlanningFlags& flags, const HardwareProfile& hardware) {
  if (flags.device == "none") return DeviceKind::kCpu;
  if (flags.device == "host") return DeviceKind::kHost;
  const bool has_cuda = std::ranges::find(hardware.accelerators, DeviceKind::kCuda,
                                          &AcceleratorProfile::kind) != hardware.accelerators.end();
  if (has_cuda) return DeviceKind::kCuda;
  if (flags.device == "cuda")
    return FailedPrecondition("--device cuda: the hardware profile has no CUDA device");
  if (flags.gpu_memory.empty()) {
    fmt::print(stderr,
               "thermocline: no CUDA device: everything is planned for the CPU (--gpu-memory plans for a GPU "
               "that is not here)\n");
    return DeviceKind::kCpu;
  }
  fmt::print(
      stderr,
      "thermocline: no CUDA device: planned for the published figures of an RTX 4090, not for a measured GPU "
      "(--hardware takes another machine's measurements, --device host the emulated accelerator)\n");
  return DeviceKind::kCuda;
}

ModelIdentity IdentityOf(const ActivationProfile& profile) {
  return {.sha256 = profile.model_sha256,
          .n_layers = std::ssize(profile.layers),
          .d_model = profile.d_model,
          .d_ff = profile.d_ff};
}

absl::StatusOr<std::optional<PredictorSet>> PredictorsOf(const ProfileDirectory& directory,
                                                         const ActivationProfile& profile) {
  std::error_code ignored;
  if (!std::filesystem::exists(directory.predictors(), ignored)) return std::nullopt;
  return ReadPredictors(directory.predictors(), IdentityOf(profile));
}

absl::StatusOr<SolvedPlan> SolveFor(const ActivationProfile& profile, const std::string& profile_path,
                                    const HardwareProfile& hardware, const PlanningFlags& flags,
                                    const PredictorSet* predictors) {
  TC_ASSIGN_OR_RETURN(PlanningOptions options, ReadPlanningFlags(flags));
  if (predictors != nullptr) {
    for (const LayerPredictor& layer : predictors->layers)
      options.predictor_bytes.push_back(layer.SizeBytes(profile.d_model, profile.d_ff));
  }
  TC_ASSIGN_OR_RETURN(options.device, ChooseDevice(flags, hardware));
  TC_ASSIGN_OR_RETURN(const std::string sha256, Sha256OfFile(profile_path));
  SolvedPlan solved;
  TC_ASSIGN_OR_RETURN(solved.problem, BuildPlacementProblem(profile, sha256, hardware, options));
  TC_ASSIGN_OR_RETURN(solved.plan, ChoosePlacement(solved.problem));
  return solved;
}

nlohmann::ordered_json PlanJson(const Plan& plan) {
  nlohmann::ordered_json devices = nlohmann::ordered_json::array();
  for (const PlanDevice& device : plan.devices) {
    devices.push_back({{"name", device.name},
                       {"budget_bytes", device.budget_bytes},
                       {"used_bytes", device.used_bytes()},
                       {"attention_bytes", device.attention_bytes},
                       {"kv_cache_bytes", device.kv_cache_bytes},
                       {"predictor_bytes", device.predictor_bytes},
                       {"head_bytes", device.head_bytes},
                       {"scratch_bytes", device.scratch_bytes},
                       {"neuron_bytes", device.neuron_bytes}});
  }
  nlohmann::ordered_json alternatives = nlohmann::ordered_json::array();
  for (const PlanAlternative& alternative : plan.alternatives) {
    alternatives.push_back({{"name", alternative.name},
                            {"hot_neurons", alternative.hot_neurons},
                            {"held_out_coverage", alternative.prediction.held_out_coverage},
                            {"predicted_tokens_per_second", alternative.prediction.tokens_per_second}});
  }
  return {{"objective", NameOf(plan.objective)},
          {"budget_bytes", plan.accelerator_budget()},
          {"gpu_bytes", plan.accelerator_bytes()},
          {"hot_neurons", plan.hot_neurons()},
          {"coverage", plan.prediction.coverage},
          {"held_out_coverage", plan.prediction.held_out_coverage},
          {"predicted_tokens_per_second", plan.prediction.tokens_per_second},
          {"binding", plan.prediction.binding},
          {"gap", plan.prediction.gap},
          {"by_layer", !plan.prediction.by_layer.empty()},
          {"by_layer_reason", plan.prediction.by_layer.empty()
                                  ? nlohmann::ordered_json()
                                  : nlohmann::ordered_json(plan.prediction.by_layer)},
          {"whole_layers", plan.whole_layers()},
          {"devices", devices},
          {"alternatives", alternatives}};
}

void PrintPlan(const Plan& plan) {
  fmt::print("\n{:22} {:>12} {:>12} {:>10} {:>12}\n", "plan", "hot neurons", "on GPU", "coverage",
             "tokens/s");
  const bool by_layer = !plan.prediction.by_layer.empty();
  fmt::print("{:22} {:>12} {:>12} {:>9.1f}% {:>12.1f}\n", by_layer ? "whole layers" : "solver",
             plan.hot_neurons(), FormatBytes(plan.accelerator_bytes()),
             100 * plan.prediction.held_out_coverage, plan.prediction.tokens_per_second);
  for (const PlanAlternative& alternative : plan.alternatives) {
    fmt::print("{:22} {:>12} {:>12} {:>9.1f}% {:>12.1f}\n", alternative.name, alternative.hot_neurons, "",
               100 * alternative.prediction.held_out_coverage, alternative.prediction.tokens_per_second);
  }
  for (const PlanDevice& device : plan.devices) {
    if (device.kind == DeviceKind::kCpu) continue;
    fmt::print(
        "\n{}: {} of {} used; attention {}, KV cache {}, predictors {}, head {}, scratch {}, neurons {}\n",
        device.name, FormatBytes(device.used_bytes()), FormatBytes(device.budget_bytes),
        FormatBytes(device.attention_bytes), FormatBytes(device.kv_cache_bytes),
        FormatBytes(device.predictor_bytes), FormatBytes(device.head_bytes),
        FormatBytes(device.scratch_bytes), FormatBytes(device.neuron_bytes));
  }
  fmt::print(
      "binding: {}; optimality gap {:.2f} %; coverage is of activations on held-out text, speeds are "
      "predicted\n",
      plan.prediction.binding, 100 * plan.prediction.gap);
  if (by_layer) fmt::print("{}\n", plan.prediction.by_layer);
}

}  // namespace thermocline
