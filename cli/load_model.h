// From flags to a model that can decode.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>
#include <string>

#include "core/status.h"
#include "core/thread_team.h"
#include "kernels_cpu/parallel.h"
#include "model/checkpoint.h"
#include "model/plan.h"
#include "model/weights.h"
#include "predictor/predictor_set.h"
#include "scheduler/transformer.h"

namespace thermocline {

// The threads that the CPU's operators run on.
struct TeamFlags {
  int threads = 0;  // 0: all usable CPUs
  std::string kind = "spin";
  std::string numa = "distribute";
};

struct ModelFlags {
  std::string path;
  TeamFlags team;
  int64_t context = 0;     // tokens; 0: the model's, at most kDefaultContext
  std::string activation;  // empty: what the file says
  std::string isa;         // empty: the best that this CPU runs
  std::string kv_type = "f16";
  bool no_pack = false;
};

// How a model is decoded.
struct ExecutionFlags {
  std::string mode = "auto";
  std::string profile;  // directory; empty: MODEL.thermocline where that exists
  std::string device = "auto";
  std::string gpu_memory;  // empty: what the plan was made for
  bool keep_host_copy = false;
  bool finds_thresholds = false;  // mode threshold finds thresholds of its own, whatever the profile holds
  std::string objective;  // of a plan that is made anew; empty: the profile's plan, or one for least latency
};

// Keys and values of many requests at once, which `serve` takes and other commands do not.
struct KvCacheFlags {
  bool shared = false;  // false: of one context
  int64_t tokens = 0;   // 0: as many as make sense (AddCapacityFlags)
};

// A model's own context can be so long that its cache alone would not fit; this much is taken unless
// --context asks for more.
inline constexpr int64_t kDefaultContext = 8192;

// --threads, --team, --numa.
void AddTeamFlags(CLI::App& command, TeamFlags& flags);
// MODEL, --context, --activation, --isa, --kv-type, --no-pack, and the team's.
void AddModelFlags(CLI::App& command, ModelFlags& flags);
void AddKvTypeFlag(CLI::App& command, std::string& kv_type);
// --mode, --profile, --device, --gpu-memory, --keep-host-copy.
void AddExecutionFlags(CLI::App& command, ExecutionFlags& flags);

struct LoadedModel {
  Checkpoint checkpoint;
  std::unique_ptr<ThreadTeam> team;
  CpuContext cpu;
  ElementType kv_type = ElementType::kF16;
  ModelWeights weights;
  std::optional<Plan> plan;                // that the runner uses
  std::optional<PredictorSet> predictors;  // that the runner uses
  std::optional<ThresholdSet> thresholds;  // the same
  std::unique_ptr<Transformer> runner;

  // Whether an emulated accelerator takes part.
  bool emulated() const;
};

// Opens, lays out and prepares the model, and says once on standard error which mode and devices were chosen.
// opened: of the same flags, from a model that was loaded before, to spare reading the file for its hash.
absl::StatusOr<std::unique_ptr<LoadedModel>> LoadModel(const ModelFlags& flags,
                                                       const ExecutionFlags& execution,
                                                       const KvCacheFlags& cache = {},
                                                       std::optional<Checkpoint> opened = std::nullopt);
// The same, dense on the CPU alone, whatever profile there is.
absl::StatusOr<std::unique_ptr<LoadedModel>> LoadDenseModel(const ModelFlags& flags);

// Of --threads or, for 0, of every CPU this process may use. What memory the calling thread and the team take
// from here on lies as --numa says.
absl::StatusOr<std::unique_ptr<ThreadTeam>> CreateTeam(const TeamFlags& flags);

// The file's or folder's name, without the folders above it.
std::string FileNameOf(const std::string& model_path);
// MODEL.thermocline, beside the model.
std::string DefaultProfileDirectory(const std::string& model_path);
ModelIdentity IdentityOf(const Checkpoint& checkpoint, std::string sha256);

}  // namespace thermocline
