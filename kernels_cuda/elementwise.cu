// Addition and gated activation, element by element.
// SPDX-License-Identifier: Apache-2.0
//
// Both are bound by memory: an addition reads two floats and writes one, an activation reads one or two and
// writes one. Rows of both matrices that begin on 16 bytes are walked four floats at a time.
#include <algorithm>
#include <cstdint>

#include "kernels_cuda/launchers.h"

namespace thermocline::TC_GPU_NAMESPACE {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMostGridRows = 65535;  // of a grid along y

// Matrices of one shape, without what MatrixView's host side needs.
struct Shape {
  int64_t rows;
  int64_t cols;
};

bool Aligned16(const float* data, int64_t stride) {
  return reinterpret_cast<uintptr_t>(data) % sizeof(float4) == 0 && stride % 4 == 0;
}

struct AddOperation {
  const float* y;
  int64_t y_stride;
  float* x;
  int64_t x_stride;

  __device__ void One(int64_t row, int64_t column) const {
    x[row * x_stride + column] += y[row * y_stride + column];
  }
  __device__ void Four(int64_t row, int64_t column) const {
    float4* const target = reinterpret_cast<float4*>(x + row * x_stride + column);
    const float4 a = *target;
    const float4 b = *reinterpret_cast<const float4*>(y + row * y_stride + column);
    *target = make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
  }
};

template <GpuActivation kKind>
__device__ __forceinline__ float Activate(float x, float threshold) {
  if (kKind == GpuActivation::kRelu) return x < 0.0f ? 0.0f : x;
  if (kKind == GpuActivation::kSilu) return x / (1.0f + expf(-x));
  if (kKind == GpuActivation::kFatRelu) return x < threshold ? 0.0f : x;
  return x;
}

// A silent neuron stays silent whatever its up is.
__device__ __forceinline__ float Gated(float active, float up) { return active == 0.0f ? 0.0f : active * up; }

template <GpuActivation kKind, bool kGated>
struct ActivationOperation {
  float threshold;
  const float* gate;
  int64_t gate_stride;
  const float* up;
  int64_t up_stride;
  float* hidden;
  int64_t hidden_stride;

  __device__ void One(int64_t row, int64_t column) const {
    const float active = Activate<kKind>(gate[row * gate_stride + column], threshold);
    hidden[row * hidden_stride + column] = kGated ? Gated(active, up[row * up_stride + column]) : active;
  }
  __device__ void Four(int64_t row, int64_t column) const {
    float4 h = *reinterpret_cast<const float4*>(gate + row * gate_stride + column);
    float4 u = make_float4(1.0f, 1.0f, 1.0f, 1.0f);
    if (kGated) u = *reinterpret_cast<const float4*>(up + row * up_stride + column);
    h = make_float4(Activate<kKind>(h.x, threshold), Activate<kKind>(h.y, threshold),
                    Activate<kKind>(h.z, threshold), Activate<kKind>(h.w, threshold));
    if (kGated) h = make_float4(Gated(h.x, u.x), Gated(h.y, u.y), Gated(h.z, u.z), Gated(h.w, u.w));
    *reinterpret_cast<float4*>(hidden + row * hidden_stride + column) = h;
  }
};

// Every element once: blocks of a row lie along x of the grid, rows along y. kWide: fours, and what is left
// of each row singly.
template <bool kWide, typename Operation>
__global__ void __launch_bounds__(kThreads) ForEachElement(Operation operation, Shape shape) {
  const int64_t column = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * (kWide ? 4 : 1);
  for (int64_t row = blockIdx.y; row < shape.rows; row += gridDim.y) {
    if (kWide && column + 4 <= shape.cols) {
      operation.Four(row, column);
    } else {
      const int64_t end = min(column + (kWide ? 4 : 1), shape.cols);
      for (int64_t c = column; c < end; ++c) operation.One(row, c);
    }
  }
}

template <typename Operation>
absl::Status LaunchForEach(const Operation& operation, Shape shape, bool wide, GpuStream stream) {
  if (shape.rows == 0 || shape.cols == 0) return absl::OkStatus();
  const int64_t per_block = kThreads * (wide ? 4 : 1);
  const dim3 grid(static_cast<unsigned>((shape.cols + per_block - 1) / per_block),
                  static_cast<unsigned>(std::min(shape.rows, kMostGridRows)));
  if (wide) return TC_LAUNCH((ForEachElement<true, Operation>), grid, kThreads, 0, stream, operation, shape);
  return TC_LAUNCH((ForEachElement<false, Operation>), grid, kThreads, 0, stream, operation, shape);
}

template <GpuActivation kKind>
absl::Status LaunchActivation(float threshold, MatrixView<const float> gate, MatrixView<const float> up,
                              MatrixView<float> hidden, GpuStream stream) {
  const Shape shape = {gate.rows, gate.cols};
  const bool wide = Aligned16(gate.data, gate.stride) && Aligned16(hidden.data, hidden.stride);
  if (up.data == nullptr) {
    return LaunchForEach(ActivationOperation<kKind, false>{threshold, gate.data, gate.stride, nullptr, 0,
                                                           hidden.data, hidden.stride},
                         shape, wide, stream);
  }
  return LaunchForEach(ActivationOperation<kKind, true>{threshold, gate.data, gate.stride, up.data, up.stride,
                                                        hidden.data, hidden.stride},
                       shape, wide && Aligned16(up.data, up.stride), stream);
}

absl::Status CheckShape(std::string_view operation, std::string_view name, const Shape& found,
                        const Shape& wanted) {
  if (found.rows == wanted.rows && found.cols == wanted.cols) return absl::OkStatus();
  return InvalidArgument("{}: {} is ({}, {}), must be ({}, {})", operation, name, found.rows, found.cols,
                         wanted.rows, wanted.cols);
}

}  // namespace

absl::Status Add(MatrixView<const float> y, MatrixView<float> x, GpuStream stream) {
  TC_RETURN_IF_ERROR(CheckShape("add", "y", {y.rows, y.cols}, {x.rows, x.cols}));
  return LaunchForEach(AddOperation{y.data, y.stride, x.data, x.stride}, {x.rows, x.cols},
                       Aligned16(y.data, y.stride) && Aligned16(x.data, x.stride), stream);
}

absl::Status GatedActivation(GpuActivationFunction activation, MatrixView<const float> gate,
                             MatrixView<const float> up, MatrixView<float> hidden, GpuStream stream) {
  const Shape shape = {gate.rows, gate.cols};
  TC_RETURN_IF_ERROR(CheckShape("gated_activation", "hidden", {hidden.rows, hidden.cols}, shape));
  if (up.data != nullptr) TC_RETURN_IF_ERROR(CheckShape("gated_activation", "up", {up.rows, up.cols}, shape));
  switch (activation.kind) {
    case GpuActivation::kNone:
      return LaunchActivation<GpuActivation::kNone>(0, gate, up, hidden, stream);
    case GpuActivation::kRelu:
      return LaunchActivation<GpuActivation::kRelu>(0, gate, up, hidden, stream);
    case GpuActivation::kSilu:
      return LaunchActivation<GpuActivation::kSilu>(0, gate, up, hidden, stream);
    case GpuActivation::kFatRelu:
      return LaunchActivation<GpuActivation::kFatRelu>(activation.threshold, gate, up, hidden, stream);
  }
  return InvalidArgument("gated_activation: activation {} is none of the enumeration's",
                         static_cast<int>(activation.kind));
}

}  // namespace thermocline::TC_GPU_NAMESPACE
