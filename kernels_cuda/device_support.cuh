// What several kernels share: loads of four floats and reductions of a warp and of a block, in a fixed order.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels_cuda/backend.h"

namespace thermocline::TC_GPU_NAMESPACE {

// row[begin..begin + 4), zeros from `end` on. kVector: row is aligned to 16 bytes, begin to 4 elements, and
// end - begin is no less than 4 or not positive.
template <bool kVector>
__device__ __forceinline__ float4 Load4(const float* row, int64_t begin, int64_t end) {
  float4 value = {0.0f, 0.0f, 0.0f, 0.0f};
  if (kVector) {
    if (begin < end) value = *reinterpret_cast<const float4*>(row + begin);
  } else {
    if (begin < end) value.x = row[begin];
    if (begin + 1 < end) value.y = row[begin + 1];
    if (begin + 2 < end) value.z = row[begin + 2];
    if (begin + 3 < end) value.w = row[begin + 3];
  }
  return value;
}

// Stores what lies below `end`.
template <bool kVector>
__device__ __forceinline__ void Store4(float4 value, int64_t begin, int64_t end, float* row) {
  if (kVector) {
    if (begin < end) *reinterpret_cast<float4*>(row + begin) = value;
  } else {
    if (begin < end) row[begin] = value.x;
    if (begin + 1 < end) row[begin + 1] = value.y;
    if (begin + 2 < end) row[begin + 2] = value.z;
    if (begin + 3 < end) row[begin + 3] = value.w;
  }
}

// sum += factor * value.
__device__ __forceinline__ void AddScaled(float factor, const float4& value, float4& sum) {
  sum.x += factor * value.x;
  sum.y += factor * value.y;
  sum.z += factor * value.z;
  sum.w += factor * value.w;
}

__device__ __forceinline__ void AddTo(const float4& value, float4& sum) {
  sum.x += value.x;
  sum.y += value.y;
  sum.z += value.z;
  sum.w += value.w;
}

// The sum of all lanes, in all lanes.
__device__ __forceinline__ float WarpSum(float value) {
#pragma unroll
  for (int mask = kWarpLanes / 2; mask > 0; mask /= 2) value += __shfl_xor_sync(kFullWarp, value, mask);
  return value;
}

__device__ __forceinline__ float WarpMax(float value) {
#pragma unroll
  for (int mask = kWarpLanes / 2; mask > 0; mask /= 2)
    value = fmaxf(value, __shfl_xor_sync(kFullWarp, value, mask));
  return value;
}

// The sum over the block's threads, in all threads: lanes, then warps in order. All threads call; `shared` is
// free again after the block's next barrier.
template <int kThreads>
__device__ __forceinline__ float BlockSum(float value, float (&shared)[kThreads / kWarpLanes]) {
  value = WarpSum(value);
  if (threadIdx.x % kWarpLanes == 0) shared[threadIdx.x / kWarpLanes] = value;
  __syncthreads();
  float sum = 0.0f;
#pragma unroll
  for (int warp = 0; warp < kThreads / kWarpLanes; ++warp) sum += shared[warp];
  return sum;
}

template <int kThreads>
__device__ __forceinline__ float BlockMax(float value, float (&shared)[kThreads / kWarpLanes]) {
  value = WarpMax(value);
  if (threadIdx.x % kWarpLanes == 0) shared[threadIdx.x / kWarpLanes] = value;
  __syncthreads();
  float maximum = shared[0];
#pragma unroll
  for (int warp = 1; warp < kThreads / kWarpLanes; ++warp) maximum = fmaxf(maximum, shared[warp]);
  return maximum;
}

}  // namespace thermocline::TC_GPU_NAMESPACE
