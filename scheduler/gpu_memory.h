// GpuArena and GpuUpload: a GPU device's one block of memory, and the way of weights into it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "core/matrix.h"
#include "core/status.h"
#include "kernels_cpu/parallel.h"
#include "kernels_cuda/gpu.h"
#include "model/weights.h"

namespace thermocline {

// One allocation, handed out from its beginning, never given back: what was planned to the byte is used to
// the byte.
class GpuArena {
 public:
  static constexpr int64_t kAlignment = 256;
  static constexpr int64_t Aligned(int64_t size_bytes) {
    return (size_bytes + kAlignment - 1) / kAlignment * kAlignment;
  }

  // The Gpu must outlive the arena.
  static absl::StatusOr<GpuArena> Create(Gpu& gpu, std::string_view what, int64_t size_bytes);

  // ResourceExhausted naming `what`, need and size.
  absl::StatusOr<std::byte*> Take(std::string_view what, int64_t size_bytes);
  template <typename T>
  absl::StatusOr<T*> TakeArray(std::string_view what, int64_t count) {
    TC_ASSIGN_OR_RETURN(std::byte * data, Take(what, count * static_cast<int64_t>(sizeof(T))));
    return reinterpret_cast<T*>(data);
  }
  int64_t used_bytes() const { return used_bytes_; }

 private:
  std::string name_;
  GpuOwned<DeviceBlock> block_;
  int64_t used_bytes_ = 0;
};

// What a weight of a file's type is kept as on a GPU: the same where its kernels know the type, else Q8_0.
ElementType GpuTypeOf(ElementType file_type);
// Of a matrix of these weights, its rows packed.
int64_t GpuMatrixBytes(const WeightView& weights);
// The same bundles as a GPU keeps them, without data: their layout, of n_neurons.
BundleView GpuBundleLayout(const BundleView& bundles, int64_t n_neurons);

// Copies weights into device memory through a page-locked buffer, as the types a GPU keeps them in. The
// calling thread waits for its copies.
class GpuUpload {
 public:
  // Both must outlive it.
  static absl::StatusOr<GpuUpload> Create(Gpu& gpu, const KernelTable& kernels);

  absl::Status Bytes(std::byte* target, std::span<const std::byte> source);
  template <typename T>
  absl::Status Array(T* target, std::span<const T> source) {
    return Bytes(reinterpret_cast<std::byte*>(target), std::as_bytes(source));
  }
  // Rows `rows` of the weights, or all where it is empty, packed. Returns the view of the device's copy.
  absl::StatusOr<WeightView> Rows(std::byte* target, const WeightView& weights,
                                  std::span<const uint32_t> rows = {});
  // The bundles of `neurons`; returns the view of the device's copy.
  absl::StatusOr<BundleView> Bundles(std::byte* target, const BundleView& bundles,
                                     std::span<const uint32_t> neurons);

 private:
  GpuUpload(Gpu& gpu, const KernelTable& kernels) : gpu_(&gpu), kernels_(&kernels) {}
  // fill(i, to): writes item i of item_bytes.
  absl::Status Items(std::byte* target, int64_t count, int64_t item_bytes,
                     const std::function<void(int64_t, std::byte*)>& fill);
  // One row as a GPU keeps it. scratch: (cols).
  void ConvertRow(ElementType type, const std::byte* row, int64_t cols, std::byte* target);

  Gpu* gpu_;
  const KernelTable* kernels_;
  GpuOwned<HostBlock> staging_;
  std::vector<float> row_;
};

}  // namespace thermocline
