// The emulated kernel language: indices, barriers, exchanges, atomics, shared memory, and what misuse shows.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <numeric>
#include <vector>

#include "tests/kernels_cuda/emulation_test_support.h"
#include "tests/support/cuda_emulation/cuda_bf16.h"
#include "tests/support/cuda_emulation/cuda_fp16.h"

namespace thermocline {
namespace {

using testing::HasSubstr;

constexpr unsigned kFull = 0xFFFFFFFFu;

__global__ void CountVisits(int* visits) {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  atomicAdd(&visits[block * blockDim.x * blockDim.y * blockDim.z + thread], 1);
}

TEST_F(EmulationTest, EveryThreadOfEveryBlockRunsOnce) {
  constexpr size_t kCount = 3 * 4 * 2 * 5 * 3 * 2;
  int* const visits = Device<int>(kCount);
  ASSERT_EQ(cudaMemsetAsync(visits, 0, kCount * sizeof(int), stream()), cudaSuccess);
  ASSERT_EQ(Launch(CountVisits, dim3(3, 4, 2), dim3(5, 3, 2), 0, visits), cudaSuccess);
  EXPECT_EQ(Values(visits, kCount), std::vector<int>(kCount, 1));
}

__global__ void NoteOrder(unsigned* order, unsigned* count) { order[atomicAdd(count, 1)] = blockIdx.x; }

TEST_F(EmulationTest, BlocksRunInAnOrderThatNothingMayRelyOn) {
  constexpr size_t kBlocks = 100;
  unsigned *const order = Device<unsigned>(kBlocks), *const count = Device<unsigned>(1);
  ASSERT_EQ(cudaMemsetAsync(count, 0, sizeof(unsigned), stream()), cudaSuccess);
  ASSERT_EQ(Launch(NoteOrder, kBlocks, 1, 0, order, count), cudaSuccess);
  std::vector<unsigned> seen = Values(order, kBlocks);
  EXPECT_FALSE(std::is_sorted(seen.begin(), seen.end()));
  std::sort(seen.begin(), seen.end());
  std::vector<unsigned> all(kBlocks);
  std::iota(all.begin(), all.end(), 0u);
  EXPECT_EQ(seen, all);
}

// Each round, thread i takes what its successor has; without a barrier that may be new or old.
__global__ void Rotate(int* values, int rounds, bool with_barriers) {
  __shared__ int shared[256];
  const unsigned n = blockDim.x;
  shared[threadIdx.x] = values[threadIdx.x];
  for (int i = 0; i < rounds; ++i) {
    if (with_barriers) __syncthreads();
    const int next = shared[(threadIdx.x + 1) % n];
    if (with_barriers) __syncthreads();
    shared[threadIdx.x] = next;
  }
  values[threadIdx.x] = shared[threadIdx.x];
}

TEST_F(EmulationTest, BarriersOrderWhatThreadsShareAndMissingOnesShow) {
  for (const int n : {1, 31, 32, 33, 100, 256}) {
    for (const bool with_barriers : {true, false}) {
      if (n == 1 && !with_barriers) continue;
      std::vector<int> values(static_cast<size_t>(n));
      std::iota(values.begin(), values.end(), 0);
      int* const device = Device<int>(values.size());
      ASSERT_EQ(cudaMemcpyAsync(device, values.data(), values.size() * sizeof(int), cudaMemcpyHostToDevice,
                                stream()),
                cudaSuccess);
      ASSERT_EQ(Launch(Rotate, 1, n, 0, device, 3, with_barriers), cudaSuccess);
      std::rotate(values.begin(), values.begin() + 3 % n, values.end());
      EXPECT_EQ(Values(device, values.size()) == values, with_barriers) << n;
    }
  }
}

__global__ void CountOdd(int* results) {
  const int odd = static_cast<int>(threadIdx.x) % 2;
  const int count = __syncthreads_count(odd), any = __syncthreads_or(odd), all = __syncthreads_and(odd);
  results[threadIdx.x] = count * 100 + any * 10 + all;
}

TEST_F(EmulationTest, BarriersCountVotes) {
  int* const results = Device<int>(70);
  ASSERT_EQ(Launch(CountOdd, 1, 70, 0, results), cudaSuccess);
  EXPECT_EQ(Values(results, 70), std::vector<int>(70, 3510));
}

constexpr int kExchanges = 8;

__global__ void ExchangeAll(double* results) {
  const int lane = static_cast<int>(threadIdx.x) % warpSize;
  const double own = 1000.0 * (threadIdx.x / warpSize) + lane;
  double* const mine = results + threadIdx.x * kExchanges;
  mine[0] = __shfl_xor_sync(kFull, own, 5);
  mine[1] = __shfl_down_sync(kFull, own, 3);
  mine[2] = __shfl_up_sync(kFull, own, 3);
  mine[3] = __shfl_sync(kFull, own, 37);
  mine[4] = __shfl_down_sync(kFull, own, 3, 8);
  mine[5] = __shfl_sync(kFull, own, 2, 16);
  mine[6] = __shfl_xor_sync(kFull, own, 16, 16);
  mine[7] = __shfl_up_sync(kFull, own, 1, 4);
}

// By the CUDA programming guide's words: a lane whose source lies outside its group keeps its own value.
TEST_F(EmulationTest, ShufflesMoveValuesWithinGroupsOfLanes) {
  constexpr int kThreads = 64;
  double* const device = Device<double>(kThreads * kExchanges);
  ASSERT_EQ(Launch(ExchangeAll, 1, kThreads, 0, device), cudaSuccess);
  const std::vector<double> results = Values(device, kThreads * kExchanges);
  for (int t = 0; t < kThreads; ++t) {
    const int lane = t % 32;
    const std::vector<int> sources = {lane ^ 5,
                                      lane + 3 < 32 ? lane + 3 : lane,
                                      lane >= 3 ? lane - 3 : lane,
                                      5,
                                      lane % 8 < 5 ? lane + 3 : lane,
                                      lane < 16 ? 2 : 18,
                                      lane < 16 ? lane : lane - 16,
                                      lane % 4 == 0 ? lane : lane - 1};
    for (int i = 0; i < kExchanges; ++i) {
      EXPECT_EQ(results[static_cast<size_t>(t * kExchanges + i)],
                1000.0 * (t / 32) + sources[static_cast<size_t>(i)])
          << "thread " << t << ", exchange " << i;
    }
  }
}

__global__ void Vote(unsigned* ballots, int* any, int* all) {
  const unsigned lane = threadIdx.x % warpSize, warp = threadIdx.x / warpSize;
  ballots[threadIdx.x] = __ballot_sync(kFull, lane % 3 == warp);
  any[threadIdx.x] = __any_sync(kFull, lane == 7 && warp == 1);
  all[threadIdx.x] = __all_sync(kFull, lane != 7 || warp == 0);
}

TEST_F(EmulationTest, VotesCountEveryLane) {
  unsigned* const ballots = Device<unsigned>(64);
  int *const any = Device<int>(64), *const all = Device<int>(64);
  ASSERT_EQ(Launch(Vote, 1, 64, 0, ballots, any, all), cudaSuccess);
  for (size_t t = 0; t < 64; ++t) {
    EXPECT_EQ(Values(ballots, 64)[t], t < 32 ? 0x49249249u : 0x92492492u);
    EXPECT_EQ(Values(any, 64)[t], t < 32 ? 0 : 1);
    EXPECT_EQ(Values(all, 64)[t], t < 32 ? 1 : 0);
  }
}

__global__ void CountTogether(unsigned long long* sum, int* most, unsigned* bits) {
  atomicAdd(sum, threadIdx.x);
  atomicMax(most, static_cast<int>(threadIdx.x));
  atomicOr(bits, 1u << (threadIdx.x % 32));
}

TEST_F(EmulationTest, AtomicsLoseNothing) {
  auto* const sum = Device<unsigned long long>(1);
  int* const most = Device<int>(1);
  unsigned* const bits = Device<unsigned>(1);
  ASSERT_EQ(cudaMemsetAsync(sum, 0, sizeof(*sum), stream()), cudaSuccess);
  ASSERT_EQ(cudaMemsetAsync(most, 0, sizeof(*most), stream()), cudaSuccess);
  ASSERT_EQ(cudaMemsetAsync(bits, 0, sizeof(*bits), stream()), cudaSuccess);
  ASSERT_EQ(Launch(CountTogether, 7, 1024, 0, sum, most, bits), cudaSuccess);
  EXPECT_EQ(Values(sum, 1)[0], 7u * 1023 * 1024 / 2);
  EXPECT_EQ(Values(most, 1)[0], 1023);
  EXPECT_EQ(Values(bits, 1)[0], kFull);
}

__global__ void ReverseInDynamicShared(float* values, unsigned n) {
  auto* const shared = reinterpret_cast<float*>(EmulatedDynamicShared());
  shared[threadIdx.x] = values[blockIdx.x * blockDim.x + threadIdx.x];
  __syncthreads();
  values[blockIdx.x * blockDim.x + threadIdx.x] = shared[n - 1 - threadIdx.x];
}

TEST_F(EmulationTest, DynamicSharedMemoryBelongsToABlock) {
  float* const values = Device<float>(8);
  const std::vector<float> before = {1, 2, 3, 4, 5, 6, 7, 8};
  ASSERT_EQ(cudaMemcpyAsync(values, before.data(), 32, cudaMemcpyHostToDevice, stream()), cudaSuccess);
  ASSERT_EQ(Launch(ReverseInDynamicShared, 2, 4, 16, values, 4u), cudaSuccess);
  EXPECT_EQ(Values(values, 8), (std::vector<float>{4, 3, 2, 1, 8, 7, 6, 5}));
}

__global__ void WritePastDynamicShared() { EmulatedDynamicShared()[20] = std::byte{1}; }

TEST_F(EmulationTest, WritesPastDynamicSharedMemoryAreFound) {
  const auto run = [&] {
    EXPECT_EQ(Launch(WritePastDynamicShared, 1, 1, 20), cudaSuccess);
    return Synchronize();
  };
#if defined(__SANITIZE_ADDRESS__)
  EXPECT_DEATH(run(), "heap-buffer-overflow");
#else
  EXPECT_EQ(run(), cudaErrorLaunchFailure);
  EXPECT_THAT(faults().misuse(), HasSubstr("past its 20 bytes of dynamic shared memory"));
#endif
}

enum class Misuse { kBarrierOfSome, kExchangeOfSome, kReturned, kMixed, kMask };

__global__ void Misbehave(Misuse misuse, int* out) {
  switch (misuse) {
    case Misuse::kBarrierOfSome:
      if (threadIdx.x != 3) __syncthreads();
      break;
    case Misuse::kExchangeOfSome:
      if (threadIdx.x % 2 == 0) *out = __shfl_xor_sync(kFull, 1, 1);
      break;
    case Misuse::kReturned:
      if (threadIdx.x == 31) return;
      __syncwarp();
      break;
    case Misuse::kMixed:
      if (threadIdx.x % 2 == 0) {
        __syncwarp();
      } else {
        *out = __any_sync(kFull, 1);
      }
      break;
    case Misuse::kMask:
      if (threadIdx.x % 32 < 16) *out = __shfl_xor_sync(0xFFFFu, 1, 1);
      break;
  }
}

TEST_F(EmulationTest, MisuseIsFoundAndTheNextKernelRuns) {
  struct Case {
    Misuse misuse;
    unsigned threads;
    const char* message;
  };
  for (const Case& c : {Case{Misuse::kBarrierOfSome, 64, "63 wait at a barrier, 0 in warp exchanges, 1 have"},
                        Case{Misuse::kExchangeOfSome, 32, "16 in warp exchanges, 16 have returned"},
                        Case{Misuse::kReturned, 64, "31 in warp exchanges, 33 have returned"},
                        Case{Misuse::kReturned, 20, "an exchange in a warp of 20 lanes"},
                        Case{Misuse::kMixed, 32, "its warp's lanes are in different exchanges"},
                        Case{Misuse::kMask, 32, "a warp exchange with the mask 0x0000ffff"}}) {
    Open({});
    NameNextKernel("Misbehave");
    ASSERT_EQ(Launch(Misbehave, 1, c.threads, 0, c.misuse, Device<int>(1)), cudaSuccess);
    EXPECT_EQ(Synchronize(), cudaErrorLaunchFailure);
    EXPECT_THAT(faults().misuse(), HasSubstr(c.message));
    EXPECT_THAT(faults().misuse(), HasSubstr("Misbehave, block (0, 0, 0)"));
    EXPECT_EQ(Synchronize(), cudaErrorLaunchFailure) << "a device that failed stays so";
  }
  Open({});
  int* const results = Device<int>(70);
  ASSERT_EQ(Launch(CountOdd, 1, 70, 0, results), cudaSuccess);
  EXPECT_EQ(Values(results, 70), std::vector<int>(70, 3510));
  EXPECT_EQ(faults().misuse(), "");
}

__global__ void Nothing() {}

TEST_F(EmulationTest, LaunchesBeyondTheLimitsAreRefused) {
  struct Case {
    dim3 grid, block;
  };
  for (const Case& c : {Case{1, 1025}, Case{1, dim3(33, 32)}, Case{1, 0}, Case{0, 1}, Case{1, dim3(1, 1, 65)},
                        Case{dim3(1, 65536), 1}, Case{dim3(1, 1, 65536), 1}, Case{0x80000000u, 1}}) {
    EXPECT_EQ(Launch(Nothing, c.grid, c.block, 0), cudaErrorInvalidConfiguration);
  }
  EXPECT_EQ(Launch(Nothing, 1, 1024, 0), cudaSuccess);
}

TEST_F(EmulationTest, MuchDynamicSharedMemoryMustBeAskedForAndDependsOnTheDevice) {
  const auto* const kernel = reinterpret_cast<const void*>(&Nothing);
  constexpr int kSmall = 48 << 10, kTuring = 64 << 10, kHopper = 227 << 10;
  EXPECT_EQ(Launch(Nothing, 1, 1, kSmall), cudaSuccess);
  EXPECT_EQ(Launch(Nothing, 1, 1, kSmall + 1), cudaErrorInvalidValue);
  const auto ask = [&](int bytes) {
    return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  };
  EXPECT_EQ(ask(kHopper + 1), cudaErrorInvalidValue);
  EXPECT_EQ(ask(kHopper), cudaSuccess);
  EXPECT_EQ(Launch(Nothing, 1, 1, kHopper), cudaSuccess);
  Open({.compute_major = 7, .compute_minor = 5});
  EXPECT_EQ(ask(kTuring + 1), cudaErrorInvalidValue);
  EXPECT_EQ(ask(kTuring), cudaSuccess);
}

TEST(EmulatedIntrinsics, AnswerAsTheDevicesDo) {
  EXPECT_EQ(__dp4a(0x01FF027F, 0x0203FF80 - 0, 5), 1 * 2 + -1 * 3 + 2 * -1 + 127 * -128 + 5);
  EXPECT_EQ(__ffs(0), 0);
  EXPECT_EQ(__ffs(0x50), 5);
  EXPECT_EQ(__popc(0xF0F0u), 8);
  EXPECT_EQ(__half2float(__ushort_as_half(0x3C01)), 1.0f + 0x1p-10f);
  EXPECT_EQ(__half_as_ushort(__float2half(-2.0f)), 0xC000);
  EXPECT_EQ(__bfloat162float(__ushort_as_bfloat16(0x3F81)), 1.0f + 0x1p-7f);
  EXPECT_EQ(sizeof(float4), 16u);
  EXPECT_EQ(alignof(uint4), 16u);
}

}  // namespace
}  // namespace thermocline
