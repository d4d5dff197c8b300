// From flags to a model that can decode.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "core/status.h"
#include "core/thread_team.h"
#include "kernels_cpu/parallel.h"
#include "model/checkpoint.h"
#include "model/weights.h"
#include "scheduler/transformer.h"

namespace thermocline {

struct ModelFlags {
  std::string path;
  int threads = 0;      // 0: all usable CPUs
  int64_t context = 0;  // tokens; 0: the model's, at most kDefaultContext
  std::string mode = "auto";
  std::string activation;  // empty: what the file says
};

// A model's own context can be so long that its cache alone would not fit; this much is taken unless
// --context asks for more.
inline constexpr int64_t kDefaultContext = 8192;

// MODEL, --threads, --context, --mode, --activation.
void AddModelFlags(CLI::App& command, ModelFlags& flags);

struct LoadedModel {
  Checkpoint checkpoint;
  std::unique_ptr<ThreadTeam> team;
  CpuContext cpu;
  ModelWeights weights;
  std::unique_ptr<Transformer> runner;
};

// Opens, lays out and prepares the model, and says once on standard error which mode was chosen.
absl::StatusOr<std::unique_ptr<LoadedModel>> LoadModel(const ModelFlags& flags);

// --threads or, for 0, every CPU this process may use.
absl::StatusOr<std::unique_ptr<ThreadTeam>> CreateTeam(int threads);

}  // namespace thermocline
