// The result of `thermocline bench`, as JSON and as a table for people.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <optional>

#include "cli/bench_measure.h"
#include "cli/load_model.h"
#include "core/cpu_info.h"
#include "profiler/crossover.h"

namespace thermocline {

struct BenchResult {
  const LoadedModel* model = nullptr;
  CpuInfo cpu;
  Samples read_gb_per_second;  // of as many threads as decode, the emulated accelerator's included
  int64_t prompt_tokens = 0;
  int64_t decode_tokens = 0;
  Quality quality = Quality::kBalanced;
  BenchFigures figures;
  SyntheticShape crossover_shape;
  std::optional<Crossover> crossover;
};

// The object of the command line's contract.
nlohmann::ordered_json BenchJson(const BenchResult& result);
void PrintBench(const BenchResult& result);

}  // namespace thermocline
