// Probe of the bandwidth that the neuron-aware CPU operator reaches on the neurons it touches.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/samples.h"
#include "core/status.h"
#include "kernels_cpu/parallel.h"
#include "profiler/hardware.h"

namespace thermocline {

struct NeuronProbeOptions {
  NeuronShape shape;              // weight_type: F32, F16, BF16, Q8_0 or Q4_0
  int64_t working_set_bytes = 0;  // of all layers' bundles; 0: UncachedWorkingSetBytes()
  int repetitions = 5;
};

// GB (10^9 bytes) a second of touched rows: gate_i, up_i and down_i of each active neuron i.
//
// What runs: SparseFeedForward over gated synthetic layers (profiler/synthetic_layers.h), as many as make the
// working set, one token at a time. A token marks the active share of each layer's neurons, drawn at random,
// and no neuron is marked again before all others were, so that nothing comes from caches that the working
// set exceeds; a sample is as many tokens as mark every neuron. The time is that of whole layers, hand-overs
// to threads included; the bytes are those that the operator counts.
//
// InvalidArgument for a shape or type that cannot be probed, ResourceExhausted when the working set does not
// fit.
absl::StatusOr<Samples> MeasureNeuronBandwidth(const CpuContext& context, const NeuronProbeOptions& options);

}  // namespace thermocline
