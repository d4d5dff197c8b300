// Packing of neurons.
// SPDX-License-Identifier: Apache-2.0
#include "model/neuron_table.h"

#include <cstring>
#include <numeric>
#include <utility>

namespace thermocline {
namespace {

constexpr int64_t kBundlesAtOnce = 64;

std::vector<uint32_t> Count(size_t n) {
  std::vector<uint32_t> numbers(n);
  std::iota(numbers.begin(), numbers.end(), 0u);
  return numbers;
}

}  // namespace

absl::StatusOr<NeuronTable> PackNeurons(const CpuContext& context, const BundleView& layer,
                                        std::vector<uint32_t> neurons) {
  NeuronTable table{.neurons = std::move(neurons), .bundles = layer};
  table.bundles.n_neurons = static_cast<int64_t>(table.neurons.size());
  table.rows = Count(table.neurons.size());
  table.bundles.data = nullptr;
  if (table.empty()) return table;
  TC_ASSIGN_OR_RETURN(table.storage, AlignedBuffer::CreateToFill(table.size_bytes()));
  if (layer.gate_bias != nullptr) {
    for (const uint32_t neuron : table.neurons) table.gate_bias.push_back(layer.gate_bias[neuron]);
    table.bundles.gate_bias = table.gate_bias.data();  // which stays where it is when the table moves
  }
  std::byte* const target = table.storage.data();
  const int64_t stride = layer.stride_bytes;
  context.team->ParallelFor(table.bundles.n_neurons, kBundlesAtOnce, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t neuron = table.neurons[static_cast<size_t>(i)];
      std::memcpy(target + i * stride, layer.data + neuron * stride, static_cast<size_t>(stride));
    }
  });
  table.bundles.data = target;
  return table;
}

NeuronTable BorrowNeurons(const BundleView& layer, std::vector<uint32_t> neurons) {
  NeuronTable table{.neurons = std::move(neurons), .bundles = layer};
  table.rows = table.neurons;
  return table;
}

}  // namespace thermocline
