// SourceRows: the rows of one planned tensor as the new file has them, read from the source.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/buffer.h"
#include "core/status.h"
#include "kernels_cpu/kernel_table.h"
#include "model/checkpoint.h"
#include "model/conversion_plan.h"

namespace thermocline {

class SourceRows {
 public:
  // Borrows from the source and from `tensor`. Ternary weights are expanded here, a tensor at a time; all
  // else is read row by row.
  static absl::StatusOr<SourceRows> Open(const Checkpoint& source, const ModelConfig& target,
                                         const PlannedTensor& tensor, const KernelTable& kernels);

  // Row `row` of the target in F32. Any thread may call. out: (tensor.cols()).
  void Read(int64_t row, std::span<float> out) const;

  // The row's bytes where the source has them quantised in the target's type; else null.
  const std::byte* Bytes(int64_t row) const;

 private:
  explicit SourceRows(const PlannedTensor& tensor, const KernelTable& kernels)
      : tensor_(&tensor), kernels_(&kernels) {}

  const PlannedTensor* tensor_;
  const KernelTable* kernels_;
  std::vector<float> vector_;    // (cols), of tensors of one dimension
  WeightView matrix_;            // of the others
  AlignedBuffer storage_;        // of expanded matrices
  std::vector<int64_t> places_;  // the source's row of each; empty: the same
};

}  // namespace thermocline
