// Neuron-aware bandwidth: sparse feed-forward layers over bundles that are all read once a sample.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/neuron_probe.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "profiler/probe_samples.h"
#include "profiler/synthetic_layers.h"

namespace thermocline {

absl::StatusOr<Samples> MeasureNeuronBandwidth(const CpuContext& context, const NeuronProbeOptions& options) {
  const NeuronShape& shape = options.shape;
  if (!(shape.active_share > 0 && shape.active_share <= 1)) {
    return InvalidArgument("neuron probe: an active share of {}, allowed are above 0 and at most 1",
                           shape.active_share);
  }
  if (options.repetitions < 1)
    return InvalidArgument("neuron probe: {} repetitions, allowed are from 1", options.repetitions);
  TC_ASSIGN_OR_RETURN(SyntheticLayers layers, SyntheticLayers::Create(context,
                                                                      {.d_model = shape.d_model,
                                                                       .d_ff = shape.d_ff,
                                                                       .gate_type = shape.weight_type,
                                                                       .up_type = shape.weight_type,
                                                                       .down_type = shape.weight_type},
                                                                      options.working_set_bytes));
  const auto wanted = static_cast<int64_t>(std::round(shape.active_share * static_cast<double>(shape.d_ff)));
  const int64_t per_token = std::clamp<int64_t>(wanted, 1, shape.d_ff);
  std::mt19937_64 random(1);
  std::vector<std::vector<std::vector<uint32_t>>> marks;  // (layers), (tokens), ascending neurons
  for (size_t l = 0; l < layers.n_layers(); ++l) marks.push_back(DealNeurons(shape.d_ff, per_token, random));
  const auto run = [&] {
    int64_t bytes = 0;
    for (size_t token = 0; token < marks[0].size(); ++token)
      for (size_t l = 0; l < layers.n_layers(); ++l) bytes += layers.RunSparse(l, marks[l][token]);
    return bytes;
  };
  return SampleBandwidth(options.repetitions, run(), run);
}

}  // namespace thermocline
