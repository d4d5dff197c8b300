// What launchers check of their arguments before they launch.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "core/matrix.h"
#include "core/status.h"
#include "kernels_cuda/gpu_kernels.h"

namespace thermocline {

// Most rows or columns of a matrix, and most blocks along the first dimension of a grid.
inline constexpr int64_t kMostGpuRows = (int64_t{1} << 31) - 1;
// Most tokens of a step, and most blocks along the other dimensions.
inline constexpr int64_t kMostGpuTokens = 65535;

bool IsAligned(const void* address, int64_t bytes);

// Whether each row of the view starts at a multiple of 16 bytes and is whole groups of four floats.
bool IsFloat4View(MatrixView<const float> view);

// InvalidArgument where the view has no address, a size outside [1, kMostGpuRows], or rows that overlap.
template <typename T>
absl::Status CheckView(std::string_view name, const MatrixView<T>& view) {
  if (view.data == nullptr || !IsAligned(view.data, alignof(T)))
    return InvalidArgument("{} lies at address {}", name, fmt::ptr(view.data));
  if (view.rows < 1 || view.rows > kMostGpuRows || view.cols < 1 || view.cols > kMostGpuRows) {
    return InvalidArgument("{} is {} x {}, allowed are 1 to {} each", name, view.rows, view.cols,
                           kMostGpuRows);
  }
  if (view.rows > 1 && view.stride < view.cols)
    return InvalidArgument("{}: rows of {} stand {} apart", name, view.cols, view.stride);
  return absl::OkStatus();
}

// The same, and where its shape is not (rows, cols).
template <typename T>
absl::Status CheckView(std::string_view name, const MatrixView<T>& view, int64_t rows, int64_t cols) {
  if (view.rows != rows || view.cols != cols)
    return InvalidArgument("{} is {} x {}, needed is {} x {}", name, view.rows, view.cols, rows, cols);
  return CheckView(name, view);
}

absl::Status CheckVector(std::string_view name, const void* data, int64_t alignment);

// `floats` floats that start at a multiple of 16 bytes.
absl::Status CheckScratch(std::string_view operation, std::span<const float> scratch, int64_t floats);

// Types of the GPU, whole blocks, rows that do not overlap and stand at multiples of their fields' bytes.
absl::Status CheckWeights(std::string_view name, const WeightView& w);

absl::Status CheckStep(std::string_view operation, const GpuStepView& step);
absl::Status CheckKvPages(std::string_view operation, const GpuKvPages& cache);

}  // namespace thermocline
