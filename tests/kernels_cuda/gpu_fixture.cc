// Devices that tests run on, and their guarded memory.
// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels_cuda/gpu_fixture.h"

#include <algorithm>

#include "kernels_cuda/device_info.h"

namespace thermocline {
namespace {

// A CUDA device does not notice small overruns, so its allocations have guards here. The emulated one guards
// its own, and with AddressSanitizer it sees over-reads only where the allocation ends with the data.
constexpr int64_t kGuardBytes = 256;
constexpr int kPoison = 0xFF;

}  // namespace

void GpuTest::SetUp() {
  if (emulated()) {
    faults_ = std::make_shared<EmulatedFaults>();
    auto opened = OpenEmulatedGpu({.faults = faults_});
    ASSERT_TRUE(opened.ok()) << opened.status();
    gpu_ = *std::move(opened);
  } else {
    auto opened = OpenGpu(0);
    ASSERT_TRUE(opened.ok()) << opened.status();
    gpu_ = *std::move(opened);
  }
}

void GpuTest::TearDown() {
  for (const Allocation& allocation : allocations_) {
    for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, allocation.begin},
                                     {allocation.end, allocation.block.get().size_bytes}}) {
      if (begin == end || HasFailure()) continue;
      std::vector<std::byte> guard(static_cast<size_t>(end - begin));
      DownloadBytes(guard.data(), allocation.block.get().data + begin, end - begin);
      EXPECT_TRUE(
          std::all_of(guard.begin(), guard.end(), [](std::byte b) { return b == std::byte{kPoison}; }))
          << "something was written outside of an allocation's bytes " << allocation.begin << " to "
          << allocation.end;
    }
  }
  allocations_.clear();
  gpu_.reset();
  EXPECT_EQ(faults_ == nullptr ? "" : faults_->misuse(), "");
}

std::byte* GpuTest::AllocateBytes(int64_t size_bytes, int64_t offset) {
  const int64_t end = offset + size_bytes, all = std::max<int64_t>(end + (emulated() ? 0 : kGuardBytes), 1);
  auto block = gpu_->Allocate("test", all);
  EXPECT_TRUE(block.ok()) << block.status();
  std::byte* const data = block->get().data;
  const absl::Status filled = gpu_->Fill(data, kPoison, all, stream());
  EXPECT_TRUE(filled.ok()) << filled;
  allocations_.push_back({*std::move(block), offset, end});
  return data + offset;
}

void GpuTest::UploadBytes(std::byte* target, const std::byte* source, int64_t size_bytes) {
  const absl::Status copied = gpu_->CopyToDevice(target, source, size_bytes, stream());
  EXPECT_TRUE(copied.ok()) << copied;
}

void GpuTest::DownloadBytes(std::byte* target, const std::byte* source, int64_t size_bytes) {
  const absl::Status copied = gpu_->CopyToHost(target, source, size_bytes, stream());
  EXPECT_TRUE(copied.ok()) << copied;
  const absl::Status done = gpu_->Synchronize(stream());
  EXPECT_TRUE(done.ok()) << done;
}

WeightView GpuTest::Upload(const WeightView& host, int64_t offset) {
  const int64_t bytes = (host.rows - 1) * host.row_stride_bytes + *RowBytes(host.type, host.cols);
  std::byte* const data = AllocateBytes(bytes, offset);
  UploadBytes(data, host.data, bytes);
  return {data, host.type, host.rows, host.cols, host.row_stride_bytes};
}

testing::internal::ParamGenerator<GpuKind> EveryGpu() {
  const auto devices = ListCudaDevices();
  std::vector<GpuKind> kinds = {GpuKind::kEmulated};
  if (devices.ok() && !devices->empty()) kinds.push_back(GpuKind::kCuda);
  return testing::ValuesIn(kinds);
}

std::string GpuName(const testing::TestParamInfo<GpuKind>& info) {
  return info.param == GpuKind::kEmulated ? "Emulated" : "Cuda";
}

}  // namespace thermocline
