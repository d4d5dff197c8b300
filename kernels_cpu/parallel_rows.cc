// Row by row: LayerNorm, biases, scales, soft caps.
// SPDX-License-Identifier: Apache-2.0
#include "kernels_cpu/parallel_rows.h"

#include <algorithm>

namespace thermocline {
namespace {

constexpr int64_t kPieceElements = 32 * 1024;

// Calls work(row) for every row of x.
template <typename Work>
void ForEachRow(const CpuContext& context, MatrixView<float> x, const Work& work) {
  const int64_t grain = std::max<int64_t>(1, kPieceElements / std::max<int64_t>(1, x.cols));
  context.team->ParallelFor(x.rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) work(t);
  });
}

}  // namespace

void LayerNorm(const CpuContext& context, MatrixView<const float> x, std::span<const float> weight,
               std::span<const float> bias, float epsilon, MatrixView<float> out) {
  ForEachRow(context, out,
             [&](int64_t t) { context.kernels->layer_norm(x.row(t), weight, bias, epsilon, out.row(t)); });
}

void AddBias(const CpuContext& context, std::span<const float> bias, MatrixView<float> x) {
  if (bias.empty()) return;
  ForEachRow(context, x, [&](int64_t t) { context.kernels->add(bias, x.row(t)); });
}

void Scale(const CpuContext& context, float factor, MatrixView<float> x) {
  if (factor == 1.0f) return;
  ForEachRow(context, x, [&](int64_t t) {
    for (float& value : x.row(t)) value *= factor;
  });
}

void SoftCap(const CpuContext& context, float cap, MatrixView<float> x) {
  if (cap == 0) return;
  ForEachRow(context, x, [&](int64_t t) { context.kernels->soft_cap(cap, x.row(t)); });
}

}  // namespace thermocline
