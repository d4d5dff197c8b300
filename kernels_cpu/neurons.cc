// Bytes and sums of counted reads.
// SPDX-License-Identifier: Apache-2.0
#include "kernels_cpu/neurons.h"

namespace thermocline {
namespace {

int64_t RowsBytes(ElementType type, int64_t cols, int64_t rows) {
  const ElementTypeInfo& info = InfoOf(type);
  return rows * (cols / info.block_elements * info.block_bytes);
}

}  // namespace

int64_t NeuronReads::Bytes(const BundleView& bundles) const {
  return RowsBytes(bundles.gate_type, bundles.d_model, gate_rows) +
         RowsBytes(bundles.up_type, bundles.d_model, up_rows) +
         RowsBytes(bundles.down_type, bundles.d_model, down_rows);
}

NeuronReads& NeuronReads::operator+=(const NeuronReads& other) {
  gate_rows += other.gate_rows;
  up_rows += other.up_rows;
  down_rows += other.down_rows;
  return *this;
}

}  // namespace thermocline
