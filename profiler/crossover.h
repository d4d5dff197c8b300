// Crossover: from which sparsity on the neuron-aware feed-forward operator beats the dense ones.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/samples.h"
#include "core/status.h"
#include "kernels_cpu/parallel.h"
#include "profiler/synthetic_layers.h"

namespace thermocline {

struct CrossoverOptions {
  SyntheticShape shape;
  // Shares of neurons that no token marks, from 0 on and below 1, ascending.
  std::vector<double> sparsities = {0, 0.05, 0.10, 0.15, 0.25, 0.50, 0.75, 0.90, 0.95, 0.99};
  int64_t working_set_bytes = 0;  // of all layers; 0: UncachedWorkingSetBytes()
  int repetitions = 7;
};

struct CrossoverRow {
  double sparsity = 0;
  int64_t neurons = 0;       // computed, of a layer
  Samples dense_micros;      // of one layer and token
  Samples sparse_micros;     // the same
  Samples speedup;           // of each repetition: dense time / sparse time
  double speedup_bound = 0;  // bytes that dense reads / bytes that sparse reads
};

struct Crossover {
  std::vector<CrossoverRow> rows;
  // The least sparsity of the table from which on sparse was faster in every row, by the median.
  std::optional<double> wins_from() const;
};

// Times one token at a time through synthetic layers, dense and sparse in turn within each repetition. Marks
// are dealt as in the neuron probe. Selecting neurons is not part of it: what it costs depends on the
// predictor. InvalidArgument and ResourceExhausted as for SyntheticLayers, and for sparsities and repetitions
// out of range.
absl::StatusOr<Crossover> MeasureCrossover(const CpuContext& context, const CrossoverOptions& options);

}  // namespace thermocline
