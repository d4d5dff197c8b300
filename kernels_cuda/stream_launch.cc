// The plan of launches that stream rows.
// SPDX-License-Identifier: Apache-2.0
#include "kernels_cuda/stream_launch.h"

#include <algorithm>

#include "kernels_cuda/gpu_kernels.h"

namespace thermocline::TC_GPU_NAMESPACE {
namespace {

constexpr int64_t kLeastWarps = 4;  // for which an input may be in the way of rings

absl::StatusOr<int> Attribute(cudaDeviceAttr attribute, int device) {
  int value = 0;
  if (const cudaError_t error = cudaDeviceGetAttribute(&value, attribute, device); error != cudaSuccess)
    return CudaError("cudaDeviceGetAttribute", error);
  return value;
}

}  // namespace

absl::StatusOr<StreamLaunch> PlanStreams(GpuStream stream, int64_t cols, int64_t n_tokens, bool aligned,
                                         int64_t ring_bytes, int64_t other_bytes) {
  const int device = StreamOf(stream).device;
  StreamLaunch plan;
  TC_ASSIGN_OR_RETURN(plan.blocks, Attribute(cudaDevAttrMultiProcessorCount, device));
  TC_ASSIGN_OR_RETURN(const int shared_bytes, Attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  const int64_t room = shared_bytes - other_bytes;
  const int64_t input_bytes = (cols + 255) / 256 * 256 * static_cast<int64_t>(sizeof(float));
  if (aligned && n_tokens == 1 && input_bytes + kLeastWarps * ring_bytes <= room)
    plan.input_bytes = static_cast<int>(input_bytes);
  plan.warps = static_cast<int>(std::clamp<int64_t>(
      (room - plan.input_bytes) / ring_bytes, 1, StreamWarpsFor(aligned ? n_tokens : kGpuMostSparseTokens)));
  plan.shared_bytes = static_cast<size_t>(plan.input_bytes + plan.warps * ring_bytes + other_bytes);
  return plan;
}

}  // namespace thermocline::TC_GPU_NAMESPACE
