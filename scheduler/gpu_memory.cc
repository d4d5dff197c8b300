// GpuArena and GpuUpload.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/gpu_memory.h"

#include <cstring>
#include <utility>

#include "core/checked.h"
#include "kernels_cuda/gpu_kernels.h"
#include "model/quantize.h"

namespace thermocline {
namespace {

constexpr int64_t kStagingBytes = int64_t{8} << 20;

}  // namespace

absl::StatusOr<GpuArena> GpuArena::Create(Gpu& gpu, std::string_view what, int64_t size_bytes) {
  GpuArena arena;
  arena.name_ = what;
  TC_ASSIGN_OR_RETURN(arena.block_, gpu.Allocate(what, size_bytes));
  return arena;
}

absl::StatusOr<std::byte*> GpuArena::Take(std::string_view what, int64_t size_bytes) {
  const DeviceBlock block = block_.get();
  const int64_t aligned = Aligned(size_bytes);
  if (aligned > block.size_bytes - used_bytes_) {
    return ResourceExhausted("{}: {} needs {} bytes, {} of {} are taken", name_, what, aligned, used_bytes_,
                             block.size_bytes);
  }
  std::byte* const data = block.data + used_bytes_;
  used_bytes_ += aligned;
  return data;
}

ElementType GpuTypeOf(ElementType file_type) { return IsGpuType(file_type) ? file_type : ElementType::kQ8_0; }

int64_t GpuMatrixBytes(const WeightView& weights) {
  return weights.rows * *RowBytes(GpuTypeOf(weights.type), weights.cols);
}

BundleView GpuBundleLayout(const BundleView& bundles, int64_t n_neurons) {
  BundleView layout = bundles;
  layout.data = nullptr;
  layout.n_neurons = n_neurons;
  layout.gate_type = GpuTypeOf(bundles.gate_type);
  layout.up_type = GpuTypeOf(bundles.up_type);
  layout.down_type = GpuTypeOf(bundles.down_type);
  layout.up_offset_bytes = *RowBytes(layout.gate_type, bundles.d_model);
  layout.down_offset_bytes =
      layout.up_offset_bytes + (bundles.gated ? *RowBytes(layout.up_type, bundles.d_model) : 0);
  layout.stride_bytes = static_cast<int64_t>(*CheckedAlignUp(
      static_cast<uint64_t>(layout.down_offset_bytes + *RowBytes(layout.down_type, bundles.d_model)),
      kBundleAlignment));
  return layout;
}

absl::StatusOr<GpuUpload> GpuUpload::Create(Gpu& gpu, const KernelTable& kernels) {
  GpuUpload upload(gpu, kernels);
  TC_ASSIGN_OR_RETURN(upload.staging_, gpu.AllocatePinned("staging of weights", kStagingBytes));
  return upload;
}

absl::Status GpuUpload::Bytes(std::byte* target, std::span<const std::byte> source) {
  for (size_t done = 0; done < source.size();) {
    const size_t count = std::min(source.size() - done, static_cast<size_t>(kStagingBytes));
    std::memcpy(staging_.get().data, source.data() + done, count);
    TC_RETURN_IF_ERROR(gpu_->CopyToDevice(target + done, staging_.get().data, static_cast<int64_t>(count),
                                          gpu_->transfer()));
    TC_RETURN_IF_ERROR(gpu_->Synchronize(gpu_->transfer()));
    done += count;
  }
  return absl::OkStatus();
}

absl::Status GpuUpload::Items(std::byte* target, int64_t count, int64_t item_bytes,
                              const std::function<void(int64_t, std::byte*)>& fill) {
  const int64_t at_once = kStagingBytes / item_bytes;
  if (at_once == 0)
    return ResourceExhausted("a row of {} bytes, at most {} can be copied", item_bytes, kStagingBytes);
  for (int64_t first = 0; first < count; first += at_once) {
    const int64_t n = std::min(at_once, count - first);
    for (int64_t i = 0; i < n; ++i) fill(first + i, staging_.get().data + i * item_bytes);
    TC_RETURN_IF_ERROR(gpu_->CopyToDevice(target + first * item_bytes, staging_.get().data, n * item_bytes,
                                          gpu_->transfer()));
    TC_RETURN_IF_ERROR(gpu_->Synchronize(gpu_->transfer()));
  }
  return absl::OkStatus();
}

void GpuUpload::ConvertRow(ElementType type, const std::byte* row, int64_t cols, std::byte* target) {
  if (IsGpuType(type)) {
    std::memcpy(target, row, static_cast<size_t>(*RowBytes(type, cols)));
    return;
  }
  row_.resize(static_cast<size_t>(cols));
  kernels_->dequantize(type, row, cols, row_.data());
  QuantizeQ8_0(row_, target);
}

absl::StatusOr<WeightView> GpuUpload::Rows(std::byte* target, const WeightView& weights,
                                           std::span<const uint32_t> rows) {
  WeightView copy = weights;
  copy.data = target;
  copy.type = GpuTypeOf(weights.type);
  copy.rows = rows.empty() ? weights.rows : static_cast<int64_t>(rows.size());
  copy.row_stride_bytes = *RowBytes(copy.type, weights.cols);
  TC_RETURN_IF_ERROR(Items(target, copy.rows, copy.row_stride_bytes, [&](int64_t i, std::byte* to) {
    const int64_t row = rows.empty() ? i : rows[static_cast<size_t>(i)];
    ConvertRow(weights.type, weights.row_data(row), weights.cols, to);
  }));
  return copy;
}

absl::StatusOr<BundleView> GpuUpload::Bundles(std::byte* target, const BundleView& bundles,
                                              std::span<const uint32_t> neurons) {
  BundleView copy = GpuBundleLayout(bundles, static_cast<int64_t>(neurons.size()));
  copy.data = target;
  TC_RETURN_IF_ERROR(Items(target, copy.n_neurons, copy.stride_bytes, [&](int64_t i, std::byte* to) {
    const std::byte* from = bundles.data + neurons[static_cast<size_t>(i)] * bundles.stride_bytes;
    ConvertRow(bundles.gate_type, from, bundles.d_model, to);
    if (bundles.gated)
      ConvertRow(bundles.up_type, from + bundles.up_offset_bytes, bundles.d_model, to + copy.up_offset_bytes);
    ConvertRow(bundles.down_type, from + bundles.down_offset_bytes, bundles.d_model,
               to + copy.down_offset_bytes);
  }));
  return copy;
}

}  // namespace thermocline
