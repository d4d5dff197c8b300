// Flags that `profile` and `plan` share: what to plan for.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/status.h"
#include "model/activation_profile.h"
#include "model/plan.h"
#include "predictor/predictor_set.h"
#include "profiler/planning.h"

namespace thermocline {

struct PlanningFlags {
  std::string gpu_memory;  // "24GiB"; empty: all that the device has
  std::string device = "auto";
  std::string objective = "latency";
  std::string hardware;  // file of another machine
  int64_t context = 0;   // tokens of one slot; 0: the model's
  int64_t slots = 1;
  std::string kv_type = "f16";
  int64_t batch_tokens = 1;
  double time_limit_seconds = 20;
};

void AddPlanningFlags(CLI::App& command, PlanningFlags& flags);

// FieldError naming the flag. The device is settled by ChooseDevice.
absl::StatusOr<PlanningOptions> ReadPlanningFlags(const PlanningFlags& flags);

// What --device means on the machine that `hardware` describes: auto is its CUDA device. Where there is none,
// a given --gpu-memory plans for the assumed device, said loudly on standard error, and none plans for the
// CPU alone.
absl::StatusOr<DeviceKind> ChooseDevice(const PlanningFlags& flags, const HardwareProfile& hardware);

// The object `plan` of the command line's contract.
nlohmann::ordered_json PlanJson(const Plan& plan);
void PrintPlan(const Plan& plan);

// "16MiB", "24GiB", "4096": a count of bytes with an optional unit of 1024 (KiB, MiB, GiB, TiB) or 1000 (kB,
// MB, GB, TB).
absl::StatusOr<int64_t> ParseSize(const std::string& text);

// The files of a profile directory.
struct ProfileDirectory {
  explicit ProfileDirectory(std::string the_path) : path(std::move(the_path)) {}
  std::string path;
  std::string profile() const { return path + "/profile.pb"; }
  std::string hardware() const { return path + "/hardware.json"; }
  std::string predictors() const { return path + "/predictor.safetensors"; }
  std::string thresholds() const { return path + "/thresholds.json"; }
  std::string plan() const { return path + "/plan.pb"; }
  std::string report() const { return path + "/report.html"; }
};

// The model that a profile was made for.
ModelIdentity IdentityOf(const ActivationProfile& profile);

// The directory's predictors; nothing where there are none, an error where they are not those of the
// profile's model or cannot be read.
absl::StatusOr<std::optional<PredictorSet>> PredictorsOf(const ProfileDirectory& directory,
                                                         const ActivationProfile& profile);

// Solves for the directory's profile and hardware. predictors: of the same model; null: none.
struct SolvedPlan {
  PlacementProblem problem;
  Plan plan;
};
absl::StatusOr<SolvedPlan> SolveFor(const ActivationProfile& profile, const std::string& profile_path,
                                    const HardwareProfile& hardware, const PlanningFlags& flags,
                                    const PredictorSet* predictors);

}  // namespace thermocline
