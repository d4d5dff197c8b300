// Probe of the bandwidth that the neuron-aware CPU kernels reach on the neurons they touch.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/samples.h"
#include "core/status.h"
#include "kernels_cpu/parallel.h"
#include "profiler/hardware.h"

namespace thermocline {

struct NeuronProbeOptions {
  NeuronShape shape;              // weight_type: F32, F16, BF16 or Q8_0
  int64_t working_set_bytes = 0;  // of all layers' bundles; 0: UncachedWorkingSetBytes()
  int repetitions = 5;
};

// GB (10^9 bytes) a second of touched rows: gate_i, up_i and down_i of each active neuron i.
//
// What runs: gated feed-forward layers over neuron-major bundles (model/weights.h), as many as make the
// working set, one token at a time. A sample is n tokens, n the integer nearest to 1 / active_share; each
// marks an n-th of each layer's neurons, drawn at random, and no neuron is marked twice: a sample reads every
// bundle once, so nothing comes from caches that the working set exceeds. A layer is two operators: gate and
// up rows of the marked neurons (mat_mul) with relu(gate) * up, and the down rows (NeuronMajorDown, which
// finds the silent neurons by their zeros). The time is that of whole layers, hand-overs to threads included;
// the bytes are those of marked bundles without padding.
//
// InvalidArgument for a shape or type that cannot be probed, ResourceExhausted when the working set does not
// fit.
absl::StatusOr<Samples> MeasureNeuronBandwidth(const CpuContext& context, const NeuronProbeOptions& options);

}  // namespace thermocline
