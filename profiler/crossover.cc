// Dense and sparse layers timed in turn.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/crossover.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "core/timer.h"

namespace thermocline {
namespace {

using Marks = std::vector<std::vector<std::vector<uint32_t>>>;  // (layers), (tokens), ascending neurons

absl::Status CheckOptions(const CrossoverOptions& options) {
  if (options.repetitions < 1)
    return InvalidArgument("crossover: {} repetitions, allowed are from 1", options.repetitions);
  double last = -1;
  for (const double sparsity : options.sparsities) {
    if (!(sparsity >= 0 && sparsity < 1 && sparsity > last))
      return InvalidArgument("crossover: a sparsity of {}, allowed are 0 to below 1, ascending", sparsity);
    last = sparsity;
  }
  return absl::OkStatus();
}

// Both return the microseconds of one layer and token.

double TimeDense(SyntheticLayers& layers) {
  const Stopwatch watch;
  for (size_t l = 0; l < layers.n_layers(); ++l) layers.RunDense(l);
  return watch.Seconds() * 1e6 / static_cast<double>(layers.n_layers());
}

double TimeSparse(SyntheticLayers& layers, const Marks& marks) {
  const size_t n_tokens = marks[0].size();
  const Stopwatch watch;
  for (size_t token = 0; token < n_tokens; ++token)
    for (size_t l = 0; l < layers.n_layers(); ++l) layers.RunSparse(l, marks[l][token]);
  return watch.Seconds() * 1e6 / static_cast<double>(n_tokens * layers.n_layers());
}

}  // namespace

std::optional<double> Crossover::wins_from() const {
  std::optional<double> from;
  for (auto row = rows.rbegin(); row != rows.rend() && row->speedup.median() > 1; ++row) from = row->sparsity;
  return from;
}

absl::StatusOr<Crossover> MeasureCrossover(const CpuContext& context, const CrossoverOptions& options) {
  TC_RETURN_IF_ERROR(CheckOptions(options));
  TC_ASSIGN_OR_RETURN(SyntheticLayers layers,
                      SyntheticLayers::Create(context, options.shape, options.working_set_bytes));
  std::mt19937_64 random(1);
  Crossover crossover;
  std::vector<Marks> marks;  // (rows)
  const int64_t d_ff = options.shape.d_ff;
  for (const double sparsity : options.sparsities) {
    const auto wanted = static_cast<int64_t>(std::round((1 - sparsity) * static_cast<double>(d_ff)));
    const int64_t neurons = std::max<int64_t>(1, wanted);
    Marks& of_row = marks.emplace_back();
    for (size_t l = 0; l < layers.n_layers(); ++l) of_row.push_back(DealNeurons(d_ff, neurons, random));
    const int64_t sparse_bytes = layers.RunSparse(0, of_row[0][0]);
    crossover.rows.push_back(
        {.sparsity = sparsity,
         .neurons = neurons,
         .speedup_bound = static_cast<double>(layers.layer_bytes()) / static_cast<double>(sparse_bytes)});
  }
  TimeDense(layers);  // wakes threads and fills page tables
  for (int repetition = 0; repetition < options.repetitions; ++repetition) {
    for (size_t r = 0; r < crossover.rows.size(); ++r) {
      CrossoverRow& row = crossover.rows[r];
      const double dense = TimeDense(layers), sparse = TimeSparse(layers, marks[r]);
      row.dense_micros.values.push_back(dense);
      row.sparse_micros.values.push_back(sparse);
      row.speedup.values.push_back(dense / sparse);
    }
  }
  return crossover;
}

}  // namespace thermocline
