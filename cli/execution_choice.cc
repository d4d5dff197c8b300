// Which mode, predictors and plan.
// SPDX-License-Identifier: Apache-2.0
#include "cli/execution_choice.h"

#include <algorithm>
#include <array>
#include <filesystem>

#include "cli/planning_flags.h"
#include "kernels_cuda/device_info.h"
#include "scheduler/gpu_device.h"
#include "scheduler/request.h"

namespace thermocline {
namespace {

constexpr std::array<std::string_view, 5> kModes = {"auto", "dense", "exact", "predicted", "threshold"};

bool Exists(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

class Chooser {
 public:
  Chooser(const ModelFlags& model, const ExecutionFlags& flags, const Checkpoint& checkpoint,
          int64_t context_tokens)
      : flags_(flags),
        checkpoint_(checkpoint),
        context_tokens_(context_tokens),
        kv_type_(model.kv_type),
        directory_(flags.profile.empty() ? DefaultProfileDirectory(model.path) : flags.profile) {}

  absl::StatusOr<ExecutionChoice> Choose() {
    const bool has_profile = Exists(directory_.path);
    if (!has_profile && !flags_.profile.empty())
      return FieldError("--profile", fmt::format("{}: no such directory", directory_.path));
    ExecutionChoice choice;
    TC_RETURN_IF_ERROR(ChooseMode(has_profile, choice));
    const bool by_threshold = choice.mode == NeuronMode::kThreshold;
    if (by_threshold && flags_.device != "auto" && flags_.device != "none")
      return FieldError("--device",
                        fmt::format("is {}, mode threshold runs on the CPU alone", flags_.device));
    if (has_profile) {
      TC_ASSIGN_OR_RETURN(choice.plan, ChoosePlan(choice.predictors ? &*choice.predictors : nullptr));
    } else if (flags_.device == "host" || flags_.device == "cuda") {
      return FieldError("--device",
                        fmt::format("{} needs a plan: {} does not exist; thermocline profile makes it",
                                    flags_.device, directory_.path));
    }
    if (by_threshold && choice.plan && choice.plan->devices.size() > 1) {
      return FieldError("--mode", fmt::format("is threshold, which runs on the CPU alone; the plan has '{}': "
                                              "--device none leaves it aside",
                                              choice.plan->devices[1].name));
    }
    return choice;
  }

 private:
  // Of the weight files, read once.
  const ModelIdentity& identity() {
    if (!identity_) identity_ = IdentityOf(checkpoint_, checkpoint_.Sha256());
    return *identity_;
  }

  // Whether a CUDA device is there and its kernels compute the model.
  absl::Status CheckCuda() const {
    TC_RETURN_IF_ERROR(GpuDevice::CheckSupported(checkpoint_.config));
    return ListCudaDevices().status();
  }

  absl::Status ChooseMode(bool has_profile, ExecutionChoice& choice) {
    const bool has_predictors = has_profile && Exists(directory_.predictors());
    const Activation activation = checkpoint_.config.activation;
    std::string mode = flags_.mode;
    choice.why = "as asked for";
    if (mode == "auto") {
      if (has_predictors && checkpoint_.config.has_silent_neurons()) {
        mode = "predicted";
        choice.why = "auto: the profile holds predictors";
      } else if (checkpoint_.config.has_silent_neurons()) {
        mode = "exact";
        choice.why = fmt::format("auto: {} has true zeros, there are no predictors", NameOf(activation));
      } else {
        mode = "dense";
        choice.why = HasTrueZeros(activation) ? fmt::format("auto: {} norms the whole hidden layer",
                                                            checkpoint_.config.architecture)
                                              : fmt::format("auto: {} has no true zeros", NameOf(activation));
      }
    }
    if (mode == "dense") return absl::OkStatus();
    if (mode == "threshold") {
      choice.mode = NeuronMode::kThreshold;
      TC_ASSIGN_OR_RETURN(choice.thresholds, Thresholds(has_profile));
      return absl::OkStatus();
    }
    if (!checkpoint_.config.has_silent_neurons()) {
      return FieldError(
          "--mode", fmt::format("is {}, which leaves silent neurons out; with {} none is ever silent", mode,
                                NameOf(activation)));
    }
    choice.mode = mode == "exact" ? NeuronMode::kExact : NeuronMode::kPredicted;
    if (choice.mode == NeuronMode::kExact) return absl::OkStatus();
    if (!has_predictors) {
      return FieldError("--mode", fmt::format("is predicted, {} does not exist; thermocline profile makes it",
                                              directory_.predictors()));
    }
    TC_ASSIGN_OR_RETURN(choice.predictors, ReadPredictors(directory_.predictors(), identity()));
    return absl::OkStatus();
  }

  // The profile's, or of a mode that is to find its own such that leave nothing out yet.
  absl::StatusOr<ThresholdSet> Thresholds(bool has_profile) {
    if (flags_.finds_thresholds) {
      return ThresholdSet{
          .model = identity(),
          .method = ThresholdMethod::kUniform,
          .layers = std::vector<LayerThresholds>(static_cast<size_t>(checkpoint_.config.n_layers))};
    }
    if (!has_profile || !Exists(directory_.thresholds())) {
      return FieldError("--mode", fmt::format("is threshold, {} does not exist; thermocline profile "
                                              "--thresholds makes it",
                                              directory_.thresholds()));
    }
    return ReadThresholds(directory_.thresholds(), identity());
  }

  absl::StatusOr<std::optional<Plan>> ChoosePlan(const PredictorSet* predictors) {
    if (flags_.device == "none") return std::nullopt;
    std::optional<Plan> kept;
    if (Exists(directory_.plan())) {
      TC_ASSIGN_OR_RETURN(kept, ReadPlan(directory_.plan(), identity()));
    }
    const bool has_accelerator = kept && kept->devices.size() > 1;
    const absl::Status cuda = CheckCuda();
    if (flags_.device == "auto") {
      if (!has_accelerator) return std::nullopt;
      if (kept->devices[1].kind == DeviceKind::kCuda && cuda.ok()) return kept;
      if (kept->devices[1].kind == DeviceKind::kCuda && absl::IsUnimplemented(cuda)) {
        fmt::print(stderr, "thermocline: the plan is for '{}': {}\n", kept->devices[1].name, MessageOf(cuda));
        return std::nullopt;
      }
      fmt::print(stderr,
                 "thermocline: the plan is for '{}', which is not here: everything runs on the CPU{}\n",
                 kept->devices[1].name,
                 kept->devices[1].kind == DeviceKind::kHost ? " (--device host emulates it)" : "");
      return std::nullopt;
    }
    if (flags_.device == "cuda" && !cuda.ok())
      return FieldError("--device", fmt::format("is cuda, which cannot be used: {}", MessageOf(cuda)));
    const DeviceKind kind = flags_.device == "cuda" ? DeviceKind::kCuda : DeviceKind::kHost;
    if (!has_accelerator || kept->devices[1].kind != kind || !flags_.objective.empty())
      return Solve(predictors);
    if (flags_.gpu_memory.empty()) return kept;
    TC_ASSIGN_OR_RETURN(const int64_t budget, ParseSize(flags_.gpu_memory));
    if (kept->accelerator_budget() == budget) return kept;
    return Solve(predictors);
  }

  // A plan for the device asked for, with what was measured when the profile was made.
  absl::StatusOr<std::optional<Plan>> Solve(const PredictorSet* predictors) const {
    TC_ASSIGN_OR_RETURN(const ActivationProfile profile, ReadProfile(directory_.profile()));
    TC_ASSIGN_OR_RETURN(const HardwareProfile hardware, ReadHardware(directory_.hardware()));
    TC_ASSIGN_OR_RETURN(SolvedPlan solved,
                        SolveFor(profile, directory_.profile(), hardware,
                                 {.gpu_memory = flags_.gpu_memory,
                                  .device = flags_.device,
                                  .objective = flags_.objective.empty() ? "latency" : flags_.objective,
                                  .context = context_tokens_,
                                  .kv_type = kv_type_},
                                 predictors));
    const std::string& by_layer = solved.plan.prediction.by_layer;
    fmt::print(stderr, "thermocline: planned for '{}' with {} bytes: {}\n", solved.plan.devices[1].name,
               solved.plan.accelerator_budget(),
               by_layer.empty() ? fmt::format("{} hot neurons", solved.plan.hot_neurons())
                                : fmt::format("{} whole layers", solved.plan.whole_layers()));
    return std::optional(std::move(solved.plan));
  }

  const ExecutionFlags& flags_;
  const Checkpoint& checkpoint_;
  const int64_t context_tokens_;
  const std::string& kv_type_;
  const ProfileDirectory directory_;
  std::optional<ModelIdentity> identity_;
};

}  // namespace

absl::Status CheckExecutionFlags(const ExecutionFlags& flags) {
  if (std::ranges::find(kModes, flags.mode) == kModes.end()) {
    return FieldError("--mode",
                      fmt::format("'{}' is unknown; known are {}", flags.mode, fmt::join(kModes, ", ")));
  }
  TC_RETURN_IF_ERROR(ReadPlanningFlags({.gpu_memory = flags.gpu_memory, .device = flags.device}).status());
  if (flags.gpu_memory.empty() || flags.device == "host" || flags.device == "cuda") return absl::OkStatus();
  return FieldError("--gpu-memory", "is for --device cuda and --device host");
}

absl::StatusOr<ExecutionChoice> ChooseExecution(const ModelFlags& model, const ExecutionFlags& flags,
                                                const Checkpoint& checkpoint, int64_t context_tokens) {
  return Chooser(model, flags, checkpoint, context_tokens).Choose();
}

}  // namespace thermocline
