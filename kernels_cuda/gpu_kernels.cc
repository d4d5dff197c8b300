// What callers of the GPU's kernels ask before they launch: types and sizes of scratch.
// SPDX-License-Identifier: Apache-2.0
#include "kernels_cuda/gpu_kernels.h"

#include "kernels_cuda/attention_splits.h"
#include "kernels_cuda/sparse_ffn_layout.h"
#include "kernels_cuda/top_k_pieces.h"

namespace thermocline {

bool IsGpuType(ElementType type) {
  switch (type) {
    case ElementType::kF32:
    case ElementType::kF16:
    case ElementType::kBF16:
    case ElementType::kQ8_0:
    case ElementType::kQ4_0:
      return true;
    default:
      return false;
  }
}

int64_t GpuAttentionScratch(int64_t n_tokens, int64_t n_heads, int64_t d_head, int64_t most_positions) {
  const int64_t tokens = AttentionTokensOfLaunch(n_tokens, n_heads, most_positions);
  return tokens * n_heads * AttentionSplits(most_positions) * (AttentionPartialWidth(d_head) + 2);
}

int64_t GpuSparseFfnScratch(int64_t n_tokens, int64_t n_neurons, int64_t d_model) {
  return SparseFfnLayout(n_tokens, n_neurons, d_model).size;
}

int64_t GpuTopKScratch(int64_t rows, int64_t cols, int64_t k) {
  return rows * TopKPieces(cols) * k * 2;  // 64 bits each
}

}  // namespace thermocline
