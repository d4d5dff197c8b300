// Expansion of weights to F32: whole matrices, and the rows of an embedding.
// SPDX-License-Identifier: Apache-2.0
//
// A thread expands four elements at a time and stores them as one float4 where the target allows it. Floor:
// the weights' bytes, read once, and 4 bytes an element written, which outweigh them.
#include <cuda_fp16.h>

#include <cmath>

#include "kernels_cuda/backend.h"
#include "kernels_cuda/device_support.cuh"
#include "kernels_cuda/launch_checks.h"
#include "kernels_cuda/launchers.h"

namespace thermocline::TC_GPU_NAMESPACE {
namespace {

constexpr int kThreads = 256;
constexpr int kQuadsOfThread = 4;  // in flight
constexpr int64_t kPiece = int64_t{4} * kThreads * kQuadsOfThread;

__device__ __forceinline__ float HalfAt(const uint16_t* address) {
  return __half2float(__ushort_as_half(*address));
}
__device__ __forceinline__ float BFloat16At(const uint16_t* address) {
  return __uint_as_float(static_cast<unsigned>(*address) << 16);
}

// Elements [begin, begin + 4) of a row, zeros from `cols` on. begin is a multiple of 4.
template <ElementType kType>
__device__ __forceinline__ float4 Expand4(const std::byte* row, int64_t begin, int64_t cols) {
  float4 result = {0.0f, 0.0f, 0.0f, 0.0f};
  if (begin >= cols) return result;
  if constexpr (kType == ElementType::kF32) {
    return Load4<false>(reinterpret_cast<const float*>(row), begin, cols);
  } else if constexpr (kType == ElementType::kF16 || kType == ElementType::kBF16) {
    constexpr auto kAt = kType == ElementType::kF16 ? HalfAt : BFloat16At;
    const auto* elements = reinterpret_cast<const uint16_t*>(row) + begin;
    const int64_t left = cols - begin;
    result.x = kAt(elements);
    if (left > 1) result.y = kAt(elements + 1);
    if (left > 2) result.z = kAt(elements + 2);
    if (left > 3) result.w = kAt(elements + 3);
  } else {  // blocks of 32: an F16 scale, then bytes, or bytes that hold elements i and i + 16 as nibbles
    constexpr bool kNibbles = kType == ElementType::kQ4_0;
    const auto* block = reinterpret_cast<const uint16_t*>(row) + begin / 32 * (kNibbles ? 9 : 17);
    const int at = static_cast<int>(begin % 32);
    const uint16_t* quants = block + 1 + (kNibbles ? at % 16 : at) / 2;
    unsigned word = quants[0] | static_cast<unsigned>(quants[1]) << 16;
    const float scale = HalfAt(block);
    if constexpr (kNibbles) {
      if (at >= 16) word >>= 4;
      result.x = scale * static_cast<float>(static_cast<int>(word & 15u) - 8);
      result.y = scale * static_cast<float>(static_cast<int>(word >> 8 & 15u) - 8);
      result.z = scale * static_cast<float>(static_cast<int>(word >> 16 & 15u) - 8);
      result.w = scale * static_cast<float>(static_cast<int>(word >> 24 & 15u) - 8);
    } else {
      result.x = scale * static_cast<float>(static_cast<int8_t>(word));
      result.y = scale * static_cast<float>(static_cast<int8_t>(word >> 8));
      result.z = scale * static_cast<float>(static_cast<int8_t>(word >> 16));
      result.w = scale * static_cast<float>(static_cast<int8_t>(word >> 24));
    }
  }
  return result;
}

// Row r of the target is row r of w, or with tokens row tokens[r], NaN where w has no such row. Block r *
// pieces + p expands piece p.
template <ElementType kType, bool kVector>
__global__ void __launch_bounds__(kThreads)
    ExpandRows(WeightView w, const int32_t* tokens, int64_t pieces, MatrixView<float> to) {
  const int64_t row = blockIdx.x / pieces;
  const int64_t begin = blockIdx.x % pieces * kPiece + 4 * static_cast<int64_t>(threadIdx.x);
  const int64_t source_row = tokens == nullptr ? row : tokens[row];
  float4 quads[kQuadsOfThread];
  if (source_row < 0 || source_row >= w.rows) {
#pragma unroll
    for (int q = 0; q < kQuadsOfThread; ++q) quads[q] = float4{NAN, NAN, NAN, NAN};
  } else {
    const std::byte* source = w.data + source_row * w.row_stride_bytes;
#pragma unroll
    for (int q = 0; q < kQuadsOfThread; ++q)
      quads[q] = Expand4<kType>(source, begin + q * (4 * kThreads), w.cols);
  }
#pragma unroll
  for (int q = 0; q < kQuadsOfThread; ++q)
    Store4<kVector>(quads[q], begin + q * (4 * kThreads), to.cols, to.data + row * to.stride);
}

template <ElementType kType>
absl::Status LaunchExpand(const WeightView& w, const int32_t* tokens, MatrixView<float> to,
                          GpuStream stream) {
  const int64_t pieces = (to.cols + kPiece - 1) / kPiece;
  if (to.rows > kMostGpuRows / pieces)
    return InvalidArgument("dequantize: {} x {} is more than one launch takes", to.rows, to.cols);
  const auto kernel = IsFloat4View(to) ? ExpandRows<kType, true> : ExpandRows<kType, false>;
  return Launch("ExpandRows", kernel, static_cast<unsigned>(to.rows * pieces), kThreads, 0, stream, w, tokens,
                pieces, to);
}

absl::Status Expand(const WeightView& w, const int32_t* tokens, MatrixView<float> to, GpuStream stream) {
  switch (w.type) {
    case ElementType::kF32:
      return LaunchExpand<ElementType::kF32>(w, tokens, to, stream);
    case ElementType::kF16:
      return LaunchExpand<ElementType::kF16>(w, tokens, to, stream);
    case ElementType::kBF16:
      return LaunchExpand<ElementType::kBF16>(w, tokens, to, stream);
    case ElementType::kQ8_0:
      return LaunchExpand<ElementType::kQ8_0>(w, tokens, to, stream);
    case ElementType::kQ4_0:
      return LaunchExpand<ElementType::kQ4_0>(w, tokens, to, stream);
    default:
      return Unimplemented("dequantize: no GPU kernel for {}", NameOf(w.type));
  }
}

}  // namespace

absl::Status Embed(const WeightView& embedding, const int32_t* tokens, MatrixView<float> out,
                   GpuStream stream) {
  TC_RETURN_IF_ERROR(CheckWeights("embed: embedding", embedding));
  TC_RETURN_IF_ERROR(CheckVector("embed: tokens", tokens, alignof(int32_t)));
  TC_RETURN_IF_ERROR(CheckView("embed: out", out, out.rows, embedding.cols));
  return Expand(embedding, tokens, out, stream);
}

absl::Status Dequantize(const WeightView& w, MatrixView<float> to, GpuStream stream) {
  TC_RETURN_IF_ERROR(CheckWeights("dequantize: weights", w));
  TC_RETURN_IF_ERROR(CheckView("dequantize: target", to, w.rows, w.cols));
  return Expand(w, nullptr, to, stream);
}

}  // namespace thermocline::TC_GPU_NAMESPACE
