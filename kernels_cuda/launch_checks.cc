// What launchers check of their arguments before they launch.
// SPDX-License-Identifier: Apache-2.0
#include "kernels_cuda/launch_checks.h"

namespace thermocline {

bool IsAligned(const void* address, int64_t bytes) {
  return reinterpret_cast<uintptr_t>(address) % static_cast<uintptr_t>(bytes) == 0;
}

bool IsFloat4View(MatrixView<const float> view) {
  return view.cols % 4 == 0 && IsAligned(view.data, 16) && (view.rows == 1 || view.stride % 4 == 0);
}

absl::Status CheckVector(std::string_view name, const void* data, int64_t alignment) {
  if (data == nullptr || !IsAligned(data, alignment))
    return InvalidArgument("{} lies at address {}", name, fmt::ptr(data));
  return absl::OkStatus();
}

absl::Status CheckScratch(std::string_view operation, std::span<const float> scratch, int64_t floats) {
  if (static_cast<int64_t>(scratch.size()) < floats)
    return InvalidArgument("{}: scratch of {} floats, needed are {}", operation, scratch.size(), floats);
  if (!IsAligned(scratch.data(), 16))
    return InvalidArgument("{}: scratch at address {} is not aligned to 16 bytes", operation,
                           fmt::ptr(scratch.data()));
  return absl::OkStatus();
}

absl::Status CheckWeights(std::string_view name, const WeightView& w) {
  if (!IsGpuType(w.type)) return Unimplemented("{}: no GPU kernel for {}", name, NameOf(w.type));
  if (w.rows < 1 || w.rows > kMostGpuRows || w.cols < 1 || w.cols > kMostGpuRows) {
    return InvalidArgument("{} is {} x {}, allowed are 1 to {} each", name, w.rows, w.cols, kMostGpuRows);
  }
  const absl::StatusOr<int64_t> row_bytes = RowBytes(w.type, w.cols);
  if (!row_bytes.ok()) return InvalidArgument("{}: {}", name, MessageOf(row_bytes.status()));
  if (w.rows > 1 && w.row_stride_bytes < *row_bytes)
    return InvalidArgument("{}: rows of {} bytes stand {} apart", name, *row_bytes, w.row_stride_bytes);
  const int64_t alignment = w.type == ElementType::kF32 ? 4 : 2;
  if (w.data == nullptr || !IsAligned(w.data, alignment) ||
      (w.rows > 1 && w.row_stride_bytes % alignment != 0)) {
    return InvalidArgument("{}: {} rows at address {}, {} bytes apart, needed are multiples of {}", name,
                           NameOf(w.type), fmt::ptr(w.data), w.row_stride_bytes, alignment);
  }
  return absl::OkStatus();
}

absl::Status CheckStep(std::string_view operation, const GpuStepView& step) {
  if (step.n_tokens < 1 || step.n_tokens > kMostGpuTokens)
    return InvalidArgument("{}: {} tokens, allowed are 1 to {}", operation, step.n_tokens, kMostGpuTokens);
  TC_RETURN_IF_ERROR(CheckVector(fmt::format("{}: positions", operation), step.positions, 4));
  TC_RETURN_IF_ERROR(CheckVector(fmt::format("{}: slices", operation), step.slices, 4));
  return CheckView(fmt::format("{}: page table", operation), step.pages);
}

absl::Status CheckKvPages(std::string_view operation, const GpuKvPages& cache) {
  if (cache.data == nullptr || !IsAligned(cache.data, 16))
    return InvalidArgument("{}: KV pages lie at address {}", operation, fmt::ptr(cache.data));
  if (cache.n_pages < 1 || cache.page_tokens < 1 || cache.n_kv_heads < 1 || cache.d_head < 1) {
    return InvalidArgument("{}: {} KV pages of {} positions, {} heads and d_head {}, allowed are 1 and above",
                           operation, cache.n_pages, cache.page_tokens, cache.n_kv_heads, cache.d_head);
  }
  return absl::OkStatus();
}

}  // namespace thermocline
