// The result of `thermocline bench`, as JSON and as a table for people.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "cli/bench_measure.h"
#include "cli/load_model.h"
#include "core/cpu_info.h"
#include "profiler/crossover.h"

namespace thermocline {

struct BenchResult {
  const LoadedModel* model = nullptr;
  CpuInfo cpu;
  std::string gpu;                // names of the CUDA devices that take part; empty: none
  std::string profile_sha256;     // of profile.pb; empty: no profile is in use
  std::string predictors_sha256;  // of predictor.safetensors; empty: no predictors are in use
  std::string thresholds_sha256;  // of thresholds.json; empty: the profile's thresholds are not in use
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

// Results of one model with several plans, one after the other.
class BenchRuns {
 public:
  // plan: its name; empty: the only run.
  void Add(const std::string& plan, const BenchResult& result);
  // The only run's object, or {schema, version, plans: {NAME: object}}, where the modes of a plan hold what
  // they are faster than the dense split (`layers`) of the same memory, if that was measured before them.
  nlohmann::ordered_json Json() const { return json_; }
  void PrintComparison() const;  // nothing for an only run

 private:
  nlohmann::ordered_json json_;
};

}  // namespace thermocline
