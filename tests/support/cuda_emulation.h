// CUDA's kernel language as plain C++: each thread of a block is a fibre, all fibres share one host thread.
// SPDX-License-Identifier: Apache-2.0
//
// Kernels see what they see on a device: indices, shared memory, barriers, warp exchanges, atomics. One
// kernel runs at a time in the process, its blocks one after another in a shuffled order, and a thread runs
// until it must wait; which thread goes on is drawn from a seed. So what misses a barrier or relies on the
// order of blocks gives a wrong result, and the same one each time. Found and reported by RunKernel: a
// barrier or a warp exchange that some thread does not take part in, different exchanges met by the lanes of
// a warp, a mask that is not the full warp's, and a write past the dynamic shared memory. Static shared
// memory above 48 KiB is left to ptxas, which refuses it.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <type_traits>

#define TC_CUDA_EMULATION 1

#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)
// One object a kernel: blocks run one after another and so each has it alone. Like a device's, it holds at
// first what earlier blocks left.
#define __shared__ static

namespace thermocline::cuda_emulation {

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr dim3(unsigned the_x = 1, unsigned the_y = 1, unsigned the_z = 1)  // NOLINT: as CUDA's
      : x(the_x), y(the_y), z(the_z) {}
};

#define TC_EMULATED_VECTOR(Type, Element, size2, size4)                  \
  struct alignas(size2) Type##2 {                                        \
    Element x, y;                                                        \
  };                                                                     \
  struct alignas(size4) Type##4 {                                        \
    Element x, y, z, w;                                                  \
  };                                                                     \
  inline Type##2 make_##Type##2(Element x, Element y) { return {x, y}; } \
  inline Type##4 make_##Type##4(Element x, Element y, Element z, Element w) { return {x, y, z, w}; }
TC_EMULATED_VECTOR(char, signed char, 2, 4)
TC_EMULATED_VECTOR(uchar, unsigned char, 2, 4)
TC_EMULATED_VECTOR(short, short, 4, 8)
TC_EMULATED_VECTOR(ushort, unsigned short, 4, 8)
TC_EMULATED_VECTOR(int, int, 8, 16)
TC_EMULATED_VECTOR(uint, unsigned, 8, 16)
TC_EMULATED_VECTOR(float, float, 8, 16)
#undef TC_EMULATED_VECTOR

// Of the running thread.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
std::byte* EmulatedDynamicShared();
inline constexpr int warpSize = 32;

struct KernelLaunch {
  std::string name;
  dim3 grid;
  dim3 block;
  size_t dynamic_shared_bytes = 0;
  uint32_t seed = 0;
  std::function<void()> body;  // one thread
};

// Runs a kernel to its end. Empty, or what it did wrong; then it has been given up where it stood.
std::string RunKernel(const KernelLaunch& launch);

// Waits for all threads of the block; the sum of their votes.
int BlockBarrier(int vote);

// Waits for all 32 lanes of the warp; what each posted, by lane, until the next exchange.
enum class WarpOperation : uint8_t { kSync, kShuffle, kVote };
const uint64_t* ExchangeInWarp(WarpOperation operation, unsigned mask, uint64_t posted);

inline int EmulatedLane() {
  return static_cast<int>((threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % warpSize);
}

inline void __syncthreads() { BlockBarrier(0); }
inline int __syncthreads_count(int predicate) { return BlockBarrier(predicate != 0); }
inline int __syncthreads_or(int predicate) { return BlockBarrier(predicate != 0) != 0; }
inline int __syncthreads_and(int predicate) { return BlockBarrier(predicate == 0) == 0; }
inline void __syncwarp(unsigned mask = 0xFFFFFFFFu) { ExchangeInWarp(WarpOperation::kSync, mask, 0); }
inline void __threadfence() {}
inline void __threadfence_block() {}

template <typename T>
uint64_t ToWord(T value) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(uint64_t));
  uint64_t word = 0;
  std::memcpy(&word, &value, sizeof(T));
  return word;
}

// The value that lane `source` posted; the lane's own where `source` lies outside its group of `width` lanes.
template <typename T>
T ShuffleFrom(unsigned mask, T value, int source, bool inside) {
  const uint64_t* posted = ExchangeInWarp(WarpOperation::kShuffle, mask, ToWord(value));
  if (!inside) return value;
  T result;
  std::memcpy(&result, &posted[source], sizeof(T));
  return result;
}

template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = warpSize) {
  return ShuffleFrom(mask, value, (EmulatedLane() & ~(width - 1)) | (source & (width - 1)), true);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = warpSize) {
  const int lane = EmulatedLane(), source = lane ^ lane_mask;
  return ShuffleFrom(mask, value, source & (warpSize - 1), source <= (lane | (width - 1)));
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize) {
  const int lane = EmulatedLane(), source = lane + static_cast<int>(delta);
  return ShuffleFrom(mask, value, source & (warpSize - 1), source <= (lane | (width - 1)));
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize) {
  const int lane = EmulatedLane(), source = lane - static_cast<int>(delta);
  return ShuffleFrom(mask, value, source & (warpSize - 1), source >= (lane & ~(width - 1)));
}

inline unsigned __ballot_sync(unsigned mask, int predicate) {
  const uint64_t* posted = ExchangeInWarp(WarpOperation::kVote, mask, predicate != 0);
  unsigned votes = 0;
  for (int lane = 0; lane < warpSize; ++lane) votes |= static_cast<unsigned>(posted[lane]) << lane;
  return votes;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) == mask; }

// A thread runs until it waits, so nothing comes between the parts of an atomic operation.
template <typename T>
T atomicAdd(T* address, std::type_identity_t<T> value) {
  const T before = *address;
  *address = before + value;
  return before;
}
template <typename T>
T atomicMax(T* address, std::type_identity_t<T> value) {
  const T before = *address;
  *address = std::max(before, value);
  return before;
}
template <typename T>
T atomicMin(T* address, std::type_identity_t<T> value) {
  const T before = *address;
  *address = std::min(before, value);
  return before;
}
template <typename T>
T atomicOr(T* address, std::type_identity_t<T> value) {
  const T before = *address;
  *address = before | value;
  return before;
}
template <typename T>
T atomicExch(T* address, std::type_identity_t<T> value) {
  const T before = *address;
  *address = value;
  return before;
}
template <typename T>
T atomicCAS(T* address, std::type_identity_t<T> compare, std::type_identity_t<T> value) {
  const T before = *address;
  if (before == compare) *address = value;
  return before;
}

template <typename T>
T __ldg(const T* address) {
  return *address;
}
template <typename T>
T __ldcs(const T* address) {
  return *address;
}

inline int __popc(unsigned value) { return std::popcount(value); }
inline int __popcll(unsigned long long value) { return std::popcount(value); }
inline int __ffs(int value) { return __builtin_ffs(value); }
inline int __ffsll(long long value) { return __builtin_ffsll(value); }
inline int __clz(int value) { return std::countl_zero(static_cast<unsigned>(value)); }
inline float __int_as_float(int value) { return std::bit_cast<float>(value); }
inline int __float_as_int(float value) { return std::bit_cast<int>(value); }
inline float __uint_as_float(unsigned value) { return std::bit_cast<float>(value); }
inline unsigned __float_as_uint(float value) { return std::bit_cast<unsigned>(value); }

// Products, sums and quotients that nothing may be fused into.
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __expf(float a) { return std::exp(a); }
inline float rsqrtf(float a) { return 1.0f / std::sqrt(a); }

// Four products of signed bytes, added to `sum`.
inline int __dp4a(int a, int b, int sum) {
  for (int i = 0; i < 32; i += 8) sum += static_cast<int8_t>(a >> i) * static_cast<int8_t>(b >> i);
  return sum;
}

template <typename T>
T min(T a, std::type_identity_t<T> b) {
  return std::min<T>(a, b);
}
template <typename T>
T max(T a, std::type_identity_t<T> b) {
  return std::max<T>(a, b);
}

}  // namespace thermocline::cuda_emulation

using namespace thermocline::cuda_emulation;  // NOLINT: CUDA's names are global
