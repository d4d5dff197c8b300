// The emulated CUDA runtime: late work, events, captured graphs, memory limits, faults.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "tests/kernels_cuda/emulation_test_support.h"

namespace thermocline {
namespace {

using testing::HasSubstr;

__global__ void Set(int* target, int value) { *target = value; }
__global__ void AddTo(int* target, const int* source) { *target += *source; }
__global__ void Double(int* target) { *target *= 2; }
__global__ void WriteAt(char* target, int offset) { target[offset] = 1; }

class RuntimeEmulationTest : public EmulationTest {
 protected:
  int* Zero() {
    int* const value = Device<int>(1);
    EXPECT_EQ(cudaMemsetAsync(value, 0, sizeof(int), stream()), cudaSuccess);
    EXPECT_EQ(Synchronize(), cudaSuccess);
    return value;
  }
  cudaError_t ToPinned(int* target, const int* source, cudaStream_t on) {
    return cudaMemcpyAsync(target, source, sizeof(int), cudaMemcpyDeviceToHost, on);
  }
};

TEST_F(RuntimeEmulationTest, WorkRunsWhenTheHostWaits) {
  int *const value = Zero(), *const host = Pinned<int>(1);
  *host = -1;
  ASSERT_EQ(Launch(Set, 1, 1, 0, value, 7), cudaSuccess);
  ASSERT_EQ(ToPinned(host, value, stream()), cudaSuccess);
  EXPECT_EQ(*host, -1);
  ASSERT_EQ(cudaStreamSynchronize(other()), cudaSuccess);
  EXPECT_EQ(*host, -1);
  ASSERT_EQ(Synchronize(), cudaSuccess);
  EXPECT_EQ(*host, 7);
}

TEST_F(RuntimeEmulationTest, PinnedMemoryIsReadLateAndPageableMemoryAtOnce) {
  int *const value = Zero(), *const pinned = Pinned<int>(1);
  int pageable = 1;
  *pinned = 1;
  for (int* source : {&pageable, pinned}) {
    ASSERT_EQ(cudaMemcpyAsync(value, source, sizeof(int), cudaMemcpyHostToDevice, stream()), cudaSuccess);
    *source = 2;
    EXPECT_EQ(Values(value, 1)[0], source == pinned ? 2 : 1);
  }
}

TEST_F(RuntimeEmulationTest, AStreamWaitsForAnotherOnlyThroughAnEvent) {
  for (const bool waits : {true, false}) {
    int *const value = Zero(), *const host = Pinned<int>(1);
    const cudaEvent_t event = Event(cudaEventDisableTiming);
    ASSERT_EQ(LaunchOn(other(), Set, 1, 1, 0, value, 7), cudaSuccess);
    ASSERT_EQ(cudaEventRecord(event, other()), cudaSuccess);
    ASSERT_EQ(LaunchOn(other(), Set, 1, 1, 0, value, 8), cudaSuccess);
    ASSERT_EQ(waits ? cudaStreamWaitEvent(stream(), event) : cudaSuccess, cudaSuccess);
    ASSERT_EQ(ToPinned(host, value, stream()), cudaSuccess);
    ASSERT_EQ(Synchronize(), cudaSuccess);
    EXPECT_EQ(*host, waits ? 7 : 0);
    ASSERT_EQ(cudaStreamSynchronize(other()), cudaSuccess);
  }
}

TEST_F(RuntimeEmulationTest, WaitingForAnEventRunsWhatCameBeforeItAndCountsTime) {
  int* const value = Zero();
  const cudaEvent_t begin = Event(), end = Event();
  ASSERT_EQ(cudaEventRecord(begin, stream()), cudaSuccess);
  for (const int i : {1, 2, 3}) ASSERT_EQ(Launch(Set, 1, 1, 0, value, i), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(end, stream()), cudaSuccess);
  ASSERT_EQ(Launch(Set, 1, 1, 0, value, 4), cudaSuccess);
  float millis = 0;
  EXPECT_EQ(cudaEventElapsedTime(&millis, begin, end), cudaErrorNotReady);
  ASSERT_EQ(cudaEventSynchronize(end), cudaSuccess);
  ASSERT_EQ(cudaEventElapsedTime(&millis, begin, end), cudaSuccess);
  EXPECT_FLOAT_EQ(millis, 3e-3f);
  EXPECT_EQ(cudaEventElapsedTime(&millis, begin, Event(cudaEventDisableTiming)),
            cudaErrorInvalidResourceHandle);
}

class CaptureEmulationTest : public RuntimeEmulationTest {
 protected:
  ~CaptureEmulationTest() override {
    if (exec_ != nullptr) cudaGraphExecDestroy(exec_);
  }
  void Begin() { ASSERT_EQ(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeThreadLocal), cudaSuccess); }
  cudaError_t End() {
    cudaGraph_t graph = nullptr;
    const cudaError_t error = cudaStreamEndCapture(stream(), &graph);
    EXPECT_EQ(graph != nullptr, error == cudaSuccess);
    if (graph == nullptr) return error;
    EXPECT_EQ(cudaGraphInstantiate(&exec_, graph), cudaSuccess);
    EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
    return error;
  }
  cudaGraphExec_t exec_ = nullptr;
};

TEST_F(CaptureEmulationTest, AGraphReplaysWithCopiedArgumentsOnMemoryAsItIsThen) {
  int *const sum = Zero(), *const source = Zero();
  Begin();
  {
    int* argument = source;  // gone before the graph runs
    ASSERT_EQ(Launch(AddTo, 1, 1, 0, sum, argument), cudaSuccess);
    argument = nullptr;
  }
  ASSERT_EQ(End(), cudaSuccess);
  ASSERT_EQ(Synchronize(), cudaSuccess);
  EXPECT_EQ(Values(sum, 1)[0], 0) << "capturing runs nothing";
  int expected = 0;
  for (const int value : {3, 4, 5}) {
    expected += value;
    ASSERT_EQ(Launch(Set, 1, 1, 0, source, value), cudaSuccess);
    ASSERT_EQ(cudaGraphLaunch(exec_, stream()), cudaSuccess);
    EXPECT_EQ(Values(sum, 1)[0], expected);
  }
}

TEST_F(CaptureEmulationTest, AnotherStreamJoinsThroughEvents) {
  int *const value = Zero(), *const beside = Zero();
  const cudaEvent_t fork = Event(cudaEventDisableTiming), join = Event(cudaEventDisableTiming);
  Begin();
  ASSERT_EQ(Launch(Set, 1, 1, 0, value, 5), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(fork, stream()), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(other(), fork), cudaSuccess);
  ASSERT_EQ(LaunchOn(other(), AddTo, 1, 1, 0, beside, value), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(join, other()), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(stream(), join), cudaSuccess);
  ASSERT_EQ(Launch(Double, 1, 1, 0, beside), cudaSuccess);
  ASSERT_EQ(End(), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(other()), cudaSuccess) << "no longer part of a capture";
  for (const int expected : {10, 30, 70}) {
    ASSERT_EQ(cudaGraphLaunch(exec_, stream()), cudaSuccess);
    EXPECT_EQ(Values(beside, 1)[0], expected);
  }
}

TEST_F(CaptureEmulationTest, AMissingWaitInAGraphShows) {
  int *const value = Zero(), *const result = Zero();
  const cudaEvent_t fork = Event(), join = Event();
  Begin();
  ASSERT_EQ(cudaEventRecord(fork, stream()), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(other(), fork), cudaSuccess);
  ASSERT_EQ(LaunchOn(other(), Double, 1, 1, 0, value), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(join, other()), cudaSuccess);
  ASSERT_EQ(Launch(AddTo, 1, 1, 0, result, value), cudaSuccess);  // should wait for the product
  ASSERT_EQ(cudaStreamWaitEvent(stream(), join), cudaSuccess);
  ASSERT_EQ(End(), cudaSuccess);
  int n_late = 0;
  for (int i = 0; i < 16; ++i) {
    ASSERT_EQ(Launch(Set, 1, 1, 0, value, 1), cudaSuccess);
    ASSERT_EQ(Launch(Set, 1, 1, 0, result, 0), cudaSuccess);
    ASSERT_EQ(cudaGraphLaunch(exec_, stream()), cudaSuccess);
    n_late += Values(result, 1)[0] == 1;
  }
  EXPECT_GT(n_late, 0);
  EXPECT_LT(n_late, 16);
}

TEST_F(CaptureEmulationTest, WhatCudaRefusesWhileCapturingSpoilsTheCapture) {
  int* const value = Zero();
  int pageable = 1;
  const cudaEvent_t outside = Event(), inside = Event();
  ASSERT_EQ(cudaEventRecord(outside, other()), cudaSuccess);
  void* memory = nullptr;
  const std::vector<std::pair<std::function<cudaError_t()>, cudaError_t>> refused = {
      {[&] { return Synchronize(); }, cudaErrorStreamCaptureUnsupported},
      {[&] { return cudaEventSynchronize(inside); }, cudaErrorCapturedEvent},
      {[&] { return cudaStreamWaitEvent(stream(), outside); }, cudaErrorStreamCaptureIsolation},
      {[&] { return cudaMalloc(&memory, 16); }, cudaErrorStreamCaptureUnsupported},
      {[&] { return cudaMemcpyAsync(value, &pageable, 4, cudaMemcpyHostToDevice, stream()); },
       cudaErrorStreamCaptureUnsupported}};
  for (size_t i = 0; i < refused.size(); ++i) {
    Begin();
    ASSERT_EQ(cudaEventRecord(inside, stream()), cudaSuccess);
    EXPECT_EQ(refused[i].first(), refused[i].second) << i;
    EXPECT_EQ(Launch(Set, 1, 1, 0, value, 1), cudaErrorStreamCaptureInvalidated) << i;
    EXPECT_EQ(End(), cudaErrorStreamCaptureInvalidated) << i;
    EXPECT_EQ(Synchronize(), cudaSuccess) << i;
    EXPECT_EQ(cudaEventSynchronize(inside), cudaErrorCapturedEvent) << i;
  }
}

TEST_F(CaptureEmulationTest, EveryBranchMustBeJoinedByTheStreamThatBegan) {
  int* const value = Zero();
  const cudaEvent_t fork = Event();
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(End(), cudaErrorInvalidValue);
  Begin();
  ASSERT_EQ(cudaEventRecord(fork, stream()), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(other(), fork), cudaSuccess);
  ASSERT_EQ(LaunchOn(other(), Set, 1, 1, 0, value, 1), cudaSuccess);
  EXPECT_EQ(cudaStreamEndCapture(other(), &graph), cudaErrorStreamCaptureUnmatched);
  EXPECT_EQ(End(), cudaErrorStreamCaptureUnjoined);
}

TEST_F(CaptureEmulationTest, BelongsToItsThread) {
  Begin();
  const int device = [] {
    int current = -1;
    EXPECT_EQ(cudaGetDevice(&current), cudaSuccess);
    return current;
  }();
  std::thread([&] {
    ASSERT_EQ(cudaSetDevice(device), cudaSuccess);
    void* memory = nullptr;
    EXPECT_EQ(cudaMalloc(&memory, 16), cudaSuccess);
    EXPECT_EQ(cudaFree(memory), cudaSuccess);
    cudaGraph_t graph = nullptr;
    EXPECT_EQ(cudaStreamEndCapture(stream(), &graph), cudaErrorStreamCaptureWrongThread);
  }).join();
  EXPECT_EQ(End(), cudaSuccess);
}

TEST_F(RuntimeEmulationTest, MemoryIsLimitedAndCountedInGranules) {
  Open({.total_memory_bytes = 4096, .granule_bytes = 1024});
  size_t free_bytes = 0, total_bytes = 0;
  void *a = nullptr, *b = nullptr;
  ASSERT_EQ(cudaMalloc(&a, 1), cudaSuccess);
  ASSERT_EQ(cudaMalloc(&b, 2048), cudaSuccess);
  ASSERT_EQ(cudaMemGetInfo(&free_bytes, &total_bytes), cudaSuccess);
  EXPECT_EQ(free_bytes, 1024u);
  EXPECT_EQ(total_bytes, 4096u);
  void* c = nullptr;
  EXPECT_EQ(cudaMalloc(&c, 1025), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaMalloc(&c, SIZE_MAX), cudaErrorMemoryAllocation);
  ASSERT_EQ(cudaFree(a), cudaSuccess);
  ASSERT_EQ(cudaFree(b), cudaSuccess);
  ASSERT_EQ(cudaMemGetInfo(&free_bytes, &total_bytes), cudaSuccess);
  EXPECT_EQ(free_bytes, 4096u);
}

TEST_F(RuntimeEmulationTest, CopiesOutsideOfAllocationsAreRefused) {
  int *const value = Zero(), *const host = Pinned<int>(2);
  EXPECT_EQ(cudaMemcpyAsync(value, host, 8, cudaMemcpyHostToDevice, stream()), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpyAsync(host, value + 1, 4, cudaMemcpyDeviceToHost, stream()), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpyAsync(host, host + 1, 4, cudaMemcpyDeviceToHost, stream()), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemsetAsync(value, 0, 5, stream()), cudaErrorInvalidValue);
}

TEST_F(RuntimeEmulationTest, WritesPastAnAllocationAreFound) {
  void* memory = nullptr;
  ASSERT_EQ(cudaMalloc(&memory, 100), cudaSuccess);
#if defined(__SANITIZE_ADDRESS__)
  const auto run = [&] {
    EXPECT_EQ(Launch(WriteAt, 1, 1, 0, static_cast<char*>(memory), 100), cudaSuccess);
    return Synchronize();
  };
  EXPECT_DEATH(run(), "heap-buffer-overflow");
  EXPECT_EQ(cudaFree(memory), cudaSuccess);
#else
  ASSERT_EQ(Launch(WriteAt, 1, 1, 0, static_cast<char*>(memory), 100), cudaSuccess);
  EXPECT_EQ(cudaFree(memory), cudaSuccess);
  EXPECT_THAT(faults().misuse(), HasSubstr("past the end of an allocation of 100 bytes"));
#endif
}

TEST_F(RuntimeEmulationTest, TheHostMayNotFollowADevicesAddress) {
#if defined(__SANITIZE_ADDRESS__)
  const volatile int* const value = Zero();
  EXPECT_DEATH(*value, "use-after-poison");
#else
  GTEST_SKIP() << "only AddressSanitizer sees it";
#endif
}

TEST_F(RuntimeEmulationTest, APlannedCallFailsAndNoOther) {
  int* const value = Zero();
  faults().FailCall("cudaLaunchKernel", 2, EmulatedError::kUnknown);
  EXPECT_EQ(Launch(Set, 1, 1, 0, value, 1), cudaSuccess);
  EXPECT_EQ(Launch(Set, 1, 1, 0, value, 2), cudaErrorUnknown);
  EXPECT_EQ(cudaGetLastError(), cudaErrorUnknown);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  EXPECT_EQ(Launch(AddTo, 1, 1, 0, value, value), cudaSuccess);
  EXPECT_EQ(Values(value, 1)[0], 2);
  EXPECT_EQ(faults().calls("cudaLaunchKernel"), 3);
}

TEST_F(RuntimeEmulationTest, ALostDeviceAnswersNothingButItsError) {
  int* const value = Zero();
  const cudaEvent_t event = Event();
  ASSERT_EQ(Launch(Set, 1, 1, 0, value, 1), cudaSuccess);
  faults().LoseDevice(EmulatedError::kIllegalAddress);
  void* memory = nullptr;
  EXPECT_EQ(cudaMalloc(&memory, 1), cudaErrorIllegalAddress);
  EXPECT_EQ(Launch(Set, 1, 1, 0, value, 1), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaEventRecord(event, stream()), cudaErrorIllegalAddress);
  EXPECT_EQ(Synchronize(), cudaErrorIllegalAddress);
  Open({});
  faults().FailCall("cudaStreamSynchronize", 1, EmulatedError::kEccUncorrectable);
  EXPECT_EQ(Synchronize(), cudaErrorECCUncorrectable);
  EXPECT_EQ(Synchronize(), cudaErrorECCUncorrectable);
}

TEST_F(RuntimeEmulationTest, StreamsAndEventsBelongToADevice) {
  const cudaStream_t before = stream();
  int* const value = Zero();
  int mine = -1;
  ASSERT_EQ(cudaGetDevice(&mine), cudaSuccess);
  ASSERT_EQ(cudaSetDevice(cuda_emulation::AddEmulatedDevice({})), cudaSuccess);
  EXPECT_EQ(LaunchOn(before, Set, 1, 1, 0, value, 1), cudaErrorInvalidResourceHandle);
  ASSERT_EQ(cudaSetDevice(mine), cudaSuccess);
  EXPECT_EQ(LaunchOn(before, Set, 1, 1, 0, value, 1), cudaSuccess);
  EXPECT_EQ(cudaSetDevice(1 << 20), cudaErrorInvalidDevice);
}

}  // namespace
}  // namespace thermocline
