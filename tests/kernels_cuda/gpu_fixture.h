// Runs tests of the GPU on an emulated device and, where the machine has one, on a CUDA device.
// SPDX-License-Identifier: Apache-2.0
//
//   class RopeTest : public GpuTest {};
//   INSTANTIATE_TEST_SUITE_P(All, RopeTest, EveryGpu(), GpuName);
//   TEST_P(RopeTest, ...) {
//     const DeviceMatrix x = Upload(host.view());             // rows as far apart as on the host
//     const DeviceMatrix out = Poisoned<float>(rows, cols);   // all bytes 0xFF: NaN
//     ASSERT_TRUE(gpu().kernels().rope(..., stream()).ok());
//     const std::vector<float> result = Download(out.view()); // rows packed; waits for the stream
//   }
// At the end of each test every allocation's guard bytes are checked.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/matrix.h"
#include "kernels_cuda/gpu.h"
#include "kernels_cuda/gpu_kernels.h"
#include "tests/support/emulated_gpu.h"

namespace thermocline {

// The address of the device memory of one DeviceArray, DeviceMatrix or DeviceWeights, which GpuTest owns to
// the end of the test.
template <typename T>
struct DeviceArray {
  T* data = nullptr;
  int64_t size = 0;
  std::span<T> span() const { return {data, static_cast<size_t>(size)}; }
};

template <typename T>
class DeviceMatrix {
 public:
  DeviceMatrix(T* data, int64_t rows, int64_t cols, int64_t stride) : view_{data, rows, cols, stride} {}
  MatrixView<T> view() const { return view_; }
  T* data() const { return view_.data; }

 private:
  MatrixView<T> view_;
};

enum class GpuKind { kEmulated, kCuda };

class GpuTest : public testing::TestWithParam<GpuKind> {
 protected:
  void SetUp() override;
  // Every guard must stand, and no kernel have misbehaved.
  void TearDown() override;

  Gpu& gpu() { return *gpu_; }
  GpuStream stream() { return gpu_->compute(); }
  // Of the emulated device; nullptr on a CUDA device.
  EmulatedFaults* faults() { return faults_.get(); }
  bool emulated() const { return GetParam() == GpuKind::kEmulated; }

  // Device memory of bytes 0xFF, which are NaN in every type of floats. It begins `offset` bytes (of at most
  // 255) past a multiple of 256.
  std::byte* AllocateBytes(int64_t size_bytes, int64_t offset = 0);
  void UploadBytes(std::byte* target, const std::byte* source, int64_t size_bytes);
  void DownloadBytes(std::byte* target, const std::byte* source, int64_t size_bytes);

  template <typename T>
  DeviceArray<T> PoisonedArray(int64_t size) {
    return {reinterpret_cast<T*>(AllocateBytes(size * Bytes<T>())), size};
  }
  template <typename T>
  DeviceArray<T> Upload(const std::vector<T>& values, int64_t offset = 0) {
    const auto size = static_cast<int64_t>(values.size());
    const DeviceArray<T> array = {reinterpret_cast<T*>(AllocateBytes(size * Bytes<T>(), offset)), size};
    UploadBytes(reinterpret_cast<std::byte*>(array.data), reinterpret_cast<const std::byte*>(values.data()),
                size * Bytes<T>());
    return array;
  }
  template <typename T>
  std::vector<T> Download(const DeviceArray<T>& array) {
    std::vector<T> values(static_cast<size_t>(array.size));
    DownloadBytes(reinterpret_cast<std::byte*>(values.data()), reinterpret_cast<const std::byte*>(array.data),
                  array.size * Bytes<T>());
    return values;
  }

  // Bytes between rows stay 0xFF, and the matrix ends with its last row.
  template <typename T>
  DeviceMatrix<T> Poisoned(int64_t rows, int64_t cols, int64_t gap = 0, int64_t offset = 0) {
    const int64_t stride = cols + gap;
    std::byte* const data = AllocateBytes(((rows - 1) * stride + cols) * Bytes<T>(), offset);
    return {reinterpret_cast<T*>(data), rows, cols, stride};
  }
  template <typename T>
  DeviceMatrix<std::remove_const_t<T>> Upload(MatrixView<T> host, int64_t offset = 0) {
    const auto device =
        Poisoned<std::remove_const_t<T>>(host.rows, host.cols, host.stride - host.cols, offset);
    for (int64_t r = 0; r < host.rows; ++r) {
      UploadBytes(reinterpret_cast<std::byte*>(device.view().row_data(r)),
                  reinterpret_cast<const std::byte*>(host.row_data(r)), host.cols * Bytes<T>());
    }
    return device;
  }
  // Rows packed.
  template <typename T>
  std::vector<std::remove_const_t<T>> Download(MatrixView<T> device) {
    std::vector<std::remove_const_t<T>> values(static_cast<size_t>(device.rows * device.cols));
    for (int64_t r = 0; r < device.rows; ++r) {
      DownloadBytes(reinterpret_cast<std::byte*>(values.data() + r * device.cols),
                    reinterpret_cast<const std::byte*>(device.row_data(r)), device.cols * Bytes<T>());
    }
    return values;
  }
  // Weights as they lie, with what is between their rows; `offset` as of AllocateBytes.
  WeightView Upload(const WeightView& host, int64_t offset = 0);

 private:
  template <typename T>
  static constexpr int64_t Bytes() {
    return static_cast<int64_t>(sizeof(T));
  }
  struct Allocation {
    GpuOwned<DeviceBlock> block;
    int64_t begin;
    int64_t end;
  };

  std::shared_ptr<EmulatedFaults> faults_;
  std::unique_ptr<Gpu> gpu_;
  std::vector<Allocation> allocations_;
};

// The emulated device, and device 0 where the machine has a usable one.
testing::internal::ParamGenerator<GpuKind> EveryGpu();
std::string GpuName(const testing::TestParamInfo<GpuKind>& info);

}  // namespace thermocline
