// Rounds activations to 8 bits, block by block; every instruction set gives the same bits.
// SPDX-License-Identifier: Apache-2.0
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels_cpu/quantize_activations.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
// Per-target headers follow it.
#include "kernels_cpu/targets-inl.h"
#include "kernels_cpu/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace thermocline {
namespace HWY_NAMESPACE {
namespace {

// Below this a block counts as zeros: the reciprocal of its scale would not be finite.
constexpr float kSmallestPeak = 0x1p-100f;

HWY_INLINE void QuantizeBlock(const float* HWY_RESTRICT x, int8_t* HWY_RESTRICT values,
                              ActivationBlock& block) {
  const F32Tag f32;
  const I32Tag i32;
  constexpr int kVectors = static_cast<int>(kActivationBlock / kLanes);
  F32 peak = hn::Zero(f32), strange = hn::Zero(f32);
  for (int k = 0; k < kVectors; ++k) {
    const F32 v = hn::LoadU(f32, x + k * kLanes);
    peak = hn::Max(peak, hn::Abs(v));
    strange = hn::Add(strange, hn::Mul(v, hn::Zero(f32)));  // NaN for infinities and NaN, else 0
  }
  HWY_ALIGN float lanes[2 * kLanes];
  hn::Store(peak, f32, lanes);
  hn::Store(strange, f32, lanes + kLanes);
  float largest = 0.0f, zero = 0.0f;
  for (int64_t l = 0; l < kLanes; ++l) {
    largest = HWY_MAX(largest, lanes[l]);
    zero += lanes[kLanes + l];
  }
  const F32 inverse = hn::Set(f32, largest >= kSmallestPeak && zero == 0.0f ? 127.0f / largest : 0.0f);
  I32 sums = hn::Zero(i32);
  for (int k = 0; k < kVectors; ++k) {
    const F32 v = hn::LoadU(f32, x + k * kLanes);
    const F32 scaled = zero == 0.0f ? hn::Mul(v, inverse) : hn::Zero(f32);
    const I32 q = hn::NearestInt(scaled);
    sums = hn::Add(sums, q);
    hn::StoreU(hn::DemoteTo(hn::Rebind<int8_t, F32Tag>(), q), hn::Rebind<int8_t, F32Tag>(),
               values + k * kLanes);
  }
  HWY_ALIGN int32_t parts[kLanes];
  hn::Store(sums, i32, parts);
  int32_t sum = 0;
  for (int64_t l = 0; l < kLanes; ++l) sum += parts[l];
  block.scale = largest / 127.0f + zero;
  block.scaled_sum = block.scale * static_cast<float>(sum);
  block.minus_8_sum = -8 * sum;
  block.minus_128_sum = -128 * sum;
}

}  // namespace

void QuantizeActivations(MatrixView<const float> x, MatrixView<int8_t> values,
                         MatrixView<ActivationBlock> blocks) {
  HWY_DASSERT(x.cols % kActivationBlock == 0);
  for (int64_t t = 0; t < x.rows; ++t) {
    for (int64_t b = 0; b < x.cols / kActivationBlock; ++b)
      QuantizeBlock(x.row_data(t) + b * kActivationBlock, values.row_data(t) + b * kActivationBlock,
                    blocks.row_data(t)[b]);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace thermocline
HWY_AFTER_NAMESPACE();
