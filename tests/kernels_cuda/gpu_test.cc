// What a Gpu promises: memory to the byte, streams and events, graphs, and errors as statuses.
// SPDX-License-Identifier: Apache-2.0
#include "kernels_cuda/gpu.h"

#include <gmock/gmock.h>

#include <string>
#include <thread>
#include <vector>

#include "kernels_cuda/device_info.h"
#include "tests/kernels_cuda/gpu_fixture.h"

namespace thermocline {
namespace {

using testing::HasSubstr;

std::string Message(const absl::Status& status) { return std::string(MessageOf(status)); }

class GpuDeviceTest : public GpuTest {
 protected:
  MatrixView<float> Numbers(const std::vector<float>& values) {
    const DeviceArray<float> array = Upload(values);
    return {array.data, 1, array.size, array.size};
  }
  absl::Status Add(MatrixView<const float> y, MatrixView<float> x) { return AddOn(stream(), y, x); }
  absl::Status AddOn(GpuStream on, MatrixView<const float> y, MatrixView<float> x) {
    return gpu().kernels().add(y, x, on);
  }
  GpuOwned<GpuEvent> Event(bool timed = false) {
    auto event = gpu().CreateEvent(timed);
    EXPECT_TRUE(event.ok()) << event.status();
    return *std::move(event);
  }
};
INSTANTIATE_TEST_SUITE_P(All, GpuDeviceTest, EveryGpu(), GpuName);

TEST_P(GpuDeviceTest, KnowsItsDevice) {
  EXPECT_FALSE(gpu().info().name.empty());
  EXPECT_GE(gpu().info().compute_major, 7);
  EXPECT_GT(gpu().info().memory_bytes, kGpuWorkspaceBytes);
  EXPECT_NE(gpu().compute(), gpu().transfer());
}

TEST_P(GpuDeviceTest, CountsMemoryToTheByte) {
  EXPECT_EQ(gpu().allocated_bytes(), kGpuWorkspaceBytes);
  const auto before = gpu().memory_info();
  ASSERT_TRUE(before.ok()) << before.status();
  constexpr int64_t kLarge = (int64_t{64} << 20) + 1;
  {
    auto a = gpu().Allocate("a", kLarge);
    auto b = gpu().Allocate("b", 1);
    auto pinned = gpu().AllocatePinned("pinned", 1000);
    ASSERT_TRUE(a.ok() && b.ok() && pinned.ok());
    EXPECT_EQ(a->get().size_bytes, kLarge);
    EXPECT_EQ(gpu().allocated_bytes(), kGpuWorkspaceBytes + kLarge + 1);
    for (const DeviceBlock& block : {a->get(), b->get()})
      EXPECT_EQ(reinterpret_cast<uintptr_t>(block.data) % 256, 0u);
    const auto during = gpu().memory_info();
    ASSERT_TRUE(during.ok()) << during.status();
    EXPECT_EQ(during->total_bytes, before->total_bytes);
    const int64_t taken = before->free_bytes - during->free_bytes;
    EXPECT_GE(taken, kLarge + 1);
    EXPECT_TRUE(!emulated() || taken == kLarge + 511 + 512) << taken;
    GpuOwned<DeviceBlock> moved = *std::move(a);
    *b = std::move(moved);
    EXPECT_EQ(b->get().size_bytes, kLarge);
    EXPECT_EQ(gpu().allocated_bytes(), kGpuWorkspaceBytes + kLarge + 1);
  }
  EXPECT_EQ(gpu().allocated_bytes(), kGpuWorkspaceBytes);
}

TEST_P(GpuDeviceTest, TooMuchMemoryIsResourceExhaustedAndHarmless) {
  const int64_t too_much = gpu().info().memory_bytes + 1;
  const absl::Status refused = gpu().Allocate("hot neurons", too_much).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(Message(refused), HasSubstr("hot neurons: " + std::to_string(too_much) + " bytes"));
  EXPECT_EQ(gpu().Allocate("nothing", 0).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(gpu().AllocatePinned("nothing", -1).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(gpu().allocated_bytes(), kGpuWorkspaceBytes);
  EXPECT_EQ(Download(Upload(std::vector<int>{1, 2, 3})), (std::vector<int>{1, 2, 3}));
}

TEST_P(GpuDeviceTest, CopiesAndFillsInStreamOrder) {
  const auto pinned = gpu().AllocatePinned("pinned", 4);
  ASSERT_TRUE(pinned.ok());
  std::byte* const host = pinned->get().data;
  std::byte* const device = AllocateBytes(4);
  ASSERT_TRUE(gpu().Fill(device, 0x11, 4, stream()).ok());
  ASSERT_TRUE(gpu().Fill(device + 1, 0x22, 2, stream()).ok());
  ASSERT_TRUE(gpu().CopyToHost(host, device, 4, stream()).ok());
  ASSERT_TRUE(gpu().Fill(device, 0x33, 4, stream()).ok());
  ASSERT_TRUE(gpu().Synchronize(stream()).ok());
  EXPECT_EQ(std::vector<std::byte>(host, host + 4),
            (std::vector<std::byte>{std::byte{0x11}, std::byte{0x22}, std::byte{0x22}, std::byte{0x11}}));
}

TEST_P(GpuDeviceTest, StreamsWaitForEvents) {
  const auto x = Numbers({1, 2, 3}), y = Numbers({10, 20, 30});
  const auto ready = Event(), done = Event();
  ASSERT_TRUE(gpu().Record(ready.get(), stream()).ok());
  ASSERT_TRUE(gpu().Wait(gpu().transfer(), ready.get()).ok());
  ASSERT_TRUE(AddOn(gpu().transfer(), y, x).ok());
  ASSERT_TRUE(gpu().Record(done.get(), gpu().transfer()).ok());
  ASSERT_TRUE(gpu().Wait(stream(), done.get()).ok());
  ASSERT_TRUE(Add(x, y).ok());
  EXPECT_EQ(Download(y), (std::vector<float>{21, 42, 63}));
  EXPECT_TRUE(gpu().Synchronize(done.get()).ok());
}

TEST_P(GpuDeviceTest, TimedEventsMeasure) {
  const auto x = Numbers({1, 2, 3}), y = Numbers({10, 20, 30});
  const auto begin = Event(true), end = Event(true), untimed = Event(false);
  ASSERT_TRUE(gpu().Record(begin.get(), stream()).ok());
  ASSERT_TRUE(Add(y, x).ok());
  ASSERT_TRUE(gpu().Record(end.get(), stream()).ok());
  ASSERT_TRUE(gpu().Record(untimed.get(), stream()).ok());
  ASSERT_TRUE(gpu().Synchronize(untimed.get()).ok());
  const auto seconds = gpu().SecondsBetween(begin.get(), end.get());
  ASSERT_TRUE(seconds.ok()) << seconds.status();
  EXPECT_GT(*seconds, 0);
  EXPECT_EQ(gpu().SecondsBetween(begin.get(), untimed.get()).status().code(), absl::StatusCode::kInternal);
}

TEST_P(GpuDeviceTest, GraphsReplayWhatBothStreamsDid) {
  const auto x = Numbers({1, 2, 3}), y = Numbers({1, 1, 1}), z = Numbers({0, 0, 0});
  const auto fork = Event(), join = Event();
  ASSERT_TRUE(gpu().Synchronize(stream()).ok());
  ASSERT_TRUE(gpu().BeginCapture(stream()).ok());
  ASSERT_TRUE(Add(y, x).ok());
  ASSERT_TRUE(gpu().Record(fork.get(), stream()).ok());
  ASSERT_TRUE(gpu().Wait(gpu().transfer(), fork.get()).ok());
  ASSERT_TRUE(AddOn(gpu().transfer(), x, z).ok());
  ASSERT_TRUE(gpu().Record(join.get(), gpu().transfer()).ok());
  ASSERT_TRUE(gpu().Wait(stream(), join.get()).ok());
  ASSERT_TRUE(Add(z, y).ok());
  const auto graph = gpu().EndCapture(stream());
  ASSERT_TRUE(graph.ok()) << graph.status();
  EXPECT_EQ(Download(x), (std::vector<float>{1, 2, 3})) << "capturing runs nothing";
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(gpu().Launch(graph->get(), stream()).ok());
  // x: 2 3 4, z: 2 3 4, y: 3 4 5; then x: 5 7 9, z: 7 10 13, y: 10 14 18.
  EXPECT_EQ(Download(x), (std::vector<float>{5, 7, 9}));
  EXPECT_EQ(Download(z), (std::vector<float>{7, 10, 13}));
  EXPECT_EQ(Download(y), (std::vector<float>{10, 14, 18}));
}

TEST_P(GpuDeviceTest, WaitingWhileCapturingIsAnErrorThatEndsWithTheCapture) {
  const auto x = Numbers({1, 2, 3}), y = Numbers({1, 1, 1});
  ASSERT_TRUE(gpu().Synchronize(stream()).ok());
  ASSERT_TRUE(gpu().BeginCapture(stream()).ok());
  EXPECT_EQ(gpu().Synchronize(stream()).code(), absl::StatusCode::kInternal);
  const absl::Status spoilt = gpu().EndCapture(stream()).status();
  EXPECT_EQ(spoilt.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(Message(spoilt), HasSubstr("cudaStreamEndCapture"));
  ASSERT_TRUE(Add(y, x).ok());
  EXPECT_EQ(Download(x), (std::vector<float>{2, 3, 4}));
}

TEST_P(GpuDeviceTest, AnyThreadMayCall) {
  const auto x = Numbers({1, 2, 3}), y = Numbers({1, 1, 1});
  std::thread([&] {
    EXPECT_TRUE(Add(y, x).ok());
    EXPECT_EQ(Download(x), (std::vector<float>{2, 3, 4}));
  }).join();
}

// Faults only come on demand from the emulated device.
class GpuFaultTest : public GpuDeviceTest {};
INSTANTIATE_TEST_SUITE_P(All, GpuFaultTest, testing::Values(GpuKind::kEmulated), GpuName);

TEST_P(GpuFaultTest, MemoryThatTheDriverRefusesIsResourceExhaustedOnce) {
  faults()->FailCall("cudaMalloc", 1, EmulatedError::kMemoryAllocation);
  EXPECT_EQ(gpu().Allocate("a", 1).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(gpu().Allocate("a", 1).ok());
}

TEST_P(GpuFaultTest, AKernelThatDoesNotStartNamesItself) {
  const auto x = Numbers({1, 2, 3});
  faults()->FailCall("cudaLaunchKernel", 1, EmulatedError::kUnknown);
  const absl::Status failed = Add(x, x);
  EXPECT_EQ(failed.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(Message(failed), HasSubstr("ForEachElement"));
  EXPECT_THAT(Message(failed), HasSubstr("cudaErrorUnknown"));
  EXPECT_TRUE(Add(x, x).ok());
  EXPECT_EQ(Download(x), (std::vector<float>{2, 4, 6}));
}

TEST_P(GpuFaultTest, ALostDeviceIsUnavailableInEveryCallAndClosesQuietly) {
  const auto x = Numbers({1, 2, 3});
  const auto event = Event(true);
  const auto pinned = gpu().AllocatePinned("pinned", 4);
  ASSERT_TRUE(gpu().Synchronize(stream()).ok());
  ASSERT_TRUE(gpu().BeginCapture(stream()).ok());
  const auto graph = gpu().EndCapture(stream());
  ASSERT_TRUE(graph.ok());
  for (const EmulatedError error :
       {EmulatedError::kIllegalAddress, EmulatedError::kLaunchFailure, EmulatedError::kEccUncorrectable}) {
    const auto lost_faults = std::make_shared<EmulatedFaults>();
    auto lost = OpenEmulatedGpu({.faults = lost_faults});
    ASSERT_TRUE(lost.ok());
    lost_faults->FailCall("cudaStreamSynchronize", 1, error);
    EXPECT_EQ((*lost)->Synchronize((*lost)->compute()).code(), absl::StatusCode::kUnavailable);
    EXPECT_EQ((*lost)->memory_info().status().code(), absl::StatusCode::kUnavailable);
  }
  faults()->LoseDevice(EmulatedError::kIllegalAddress);
  std::byte* const data = reinterpret_cast<std::byte*>(x.data);
  for (const absl::Status& status :
       {Add(x, x), gpu().Allocate("a", 1).status(), gpu().AllocatePinned("a", 1).status(),
        gpu().memory_info().status(), gpu().CopyToDevice(data, pinned->get().data, 4, stream()),
        gpu().CopyToHost(pinned->get().data, data, 4, stream()), gpu().Fill(data, 0, 4, stream()),
        gpu().Synchronize(stream()), gpu().CreateEvent(false).status(), gpu().Record(event.get(), stream()),
        gpu().Wait(stream(), event.get()), gpu().Synchronize(event.get()),
        gpu().SecondsBetween(event.get(), event.get()).status(), gpu().BeginCapture(stream()),
        gpu().EndCapture(stream()).status(), gpu().Launch(graph->get(), stream())}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
    EXPECT_THAT(Message(status), HasSubstr("cudaErrorIllegalAddress"));
  }
}

TEST(OpenEmulatedGpu, RefusesWhatCannotWork) {
  const absl::Status old = OpenEmulatedGpu({.compute_major = 7, .compute_minor = 0}).status();
  EXPECT_EQ(old.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Message(old), HasSubstr("7.0, needed is 7.5"));
  EXPECT_EQ(OpenEmulatedGpu({.total_memory_bytes = kGpuWorkspaceBytes - 1}).status().code(),
            absl::StatusCode::kResourceExhausted);
  for (const char* function : {"cudaStreamCreateWithFlags", "cudaMalloc", "cublasCreate"}) {
    const auto faults = std::make_shared<EmulatedFaults>();
    faults->FailCall(function, 1, EmulatedError::kIllegalAddress);
    EXPECT_EQ(OpenEmulatedGpu({.faults = faults}).status().code(), absl::StatusCode::kUnavailable)
        << function;
  }
}

TEST(OpenGpu, AnswersAsTheListOfDevices) {
  const auto devices = ListCudaDevices();
  if (!devices.ok()) {
    EXPECT_EQ(OpenGpu(0).status(), devices.status());
    return;
  }
  EXPECT_EQ(OpenGpu(-1).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(OpenGpu(static_cast<int>(devices->size())).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(IsGpuType, NamesFiveTypes) {
  std::vector<ElementType> types;
  for (const ElementTypeInfo& info : AllElementTypes()) {
    if (IsGpuType(info.type)) types.push_back(info.type);
  }
  EXPECT_EQ(types, (std::vector<ElementType>{ElementType::kF32, ElementType::kF16, ElementType::kBF16,
                                             ElementType::kQ4_0, ElementType::kQ8_0}));
}

}  // namespace
}  // namespace thermocline
