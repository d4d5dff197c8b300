// NeuronTable: the neurons of one layer that live on one device, as bundles and an index back to the layer.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/buffer.h"
#include "core/status.h"
#include "kernels_cpu/parallel.h"

namespace thermocline {

// A table is packed, its bundles one after the other and no others between, or it looks at some of the rows
// of a whole layer's bundles.
struct NeuronTable {
  std::vector<uint32_t> neurons;  // the layer's number of each entry, ascending
  std::vector<uint32_t> rows;     // the row of `bundles` that holds each entry; packed: 0, 1, 2, ...
  BundleView bundles;
  AlignedBuffer storage;         // of a packed copy; empty when borrowed
  std::vector<float> gate_bias;  // the same of neurons that have one

  bool empty() const { return neurons.empty(); }
  bool packed() const { return bundles.n_neurons == static_cast<int64_t>(neurons.size()); }
  int64_t size_bytes() const {
    return static_cast<int64_t>(neurons.size()) * bundles.stride_bytes +
           static_cast<int64_t>(gate_bias.size() * sizeof(float));
  }
};

// Copies the bundles of `neurons` (ascending, below layer.n_neurons) side by side with the context's threads,
// which so touch the memory first. ResourceExhausted, naming the size, when there is no memory.
absl::StatusOr<NeuronTable> PackNeurons(const CpuContext& context, const BundleView& layer,
                                        std::vector<uint32_t> neurons);

// Looks at those rows of the layer's own bundles, which must outlive the table.
NeuronTable BorrowNeurons(const BundleView& layer, std::vector<uint32_t> neurons);

}  // namespace thermocline
