// Rounds activations to 8 or 16 bits, block by block; every instruction set gives the same bits.
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

// The largest magnitude of a block, and 0, or NaN when some value is not finite.
struct BlockPeak {
  float largest = 0.0f;
  float zero = 0.0f;
};

HWY_INLINE BlockPeak PeakOf(const float* HWY_RESTRICT x) {
  const F32Tag f32;
  F32 peak = hn::Zero(f32), strange = hn::Zero(f32);
  for (int64_t k = 0; k < kActivationBlock; k += kLanes) {
    const F32 v = hn::LoadU(f32, x + k);
    peak = hn::Max(peak, hn::Abs(v));
    strange = hn::Add(strange, hn::Mul(v, hn::Zero(f32)));  // NaN for infinities and NaN, else 0
  }
  BlockPeak block;
  block.largest = hn::GetLane(hn::MaxOfLanes(f32, peak));
  block.zero = hn::GetLane(hn::SumOfLanes(f32, strange));
  return block;
}

// Of x, `inverse` of the scale.
HWY_INLINE I32 Rounded(const float* HWY_RESTRICT x, const BlockPeak& peak, float inverse) {
  const F32Tag f32;
  if (peak.zero != 0.0f) return hn::Zero(I32Tag());
  return hn::NearestInt(hn::Mul(hn::LoadU(f32, x), hn::Set(f32, inverse)));
}

HWY_INLINE void QuantizeBlock(const float* HWY_RESTRICT x, int8_t* HWY_RESTRICT values,
                              ActivationBlock& block) {
  const BlockPeak peak = PeakOf(x);
  const float inverse = peak.largest >= kSmallestPeak && peak.zero == 0.0f ? 127.0f / peak.largest : 0.0f;
  const hn::Rebind<int8_t, F32Tag> i8;
  I32 sums = hn::Zero(I32Tag());
  for (int64_t k = 0; k < kActivationBlock; k += kLanes) {
    const I32 q = Rounded(x + k, peak, inverse);
    sums = hn::Add(sums, q);
    hn::StoreU(hn::DemoteTo(i8, q), i8, values + k);
  }
  const int32_t sum = hn::GetLane(hn::SumOfLanes(I32Tag(), sums));
  block.scale = peak.largest / 127.0f + peak.zero;
  block.scaled_sum = block.scale * static_cast<float>(sum);
  block.minus_8_sum = -8 * sum;
  block.minus_128_sum = -128 * sum;
}

// The least bfloat16 that is not below a positive finite value.
HWY_INLINE float RoundedUpToBFloat16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  bits = (bits + 0xFFFFu) & 0xFFFF0000u;
  std::memcpy(&value, &bits, sizeof bits);
  return value;
}

HWY_INLINE void QuantizeInt16Block(const float* HWY_RESTRICT x, int16_t* HWY_RESTRICT values, float& scale) {
  const BlockPeak peak = PeakOf(x);
  const bool zeros = !(peak.largest >= kSmallestPeak);
  scale = peak.zero != 0.0f ? peak.zero
          : zeros           ? 0.0f
                            : RoundedUpToBFloat16(peak.largest * (1.0f / static_cast<float>(kInt16Peak)));
  const float inverse = zeros || peak.zero != 0.0f ? 0.0f : 1.0f / scale;
  const hn::Rebind<int16_t, F32Tag> i16;
  for (int64_t k = 0; k < kActivationBlock; k += kLanes)
    hn::StoreU(hn::DemoteTo(i16, Rounded(x + k, peak, inverse)), i16, values + k);
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

void QuantizeInt16(MatrixView<const float> x, MatrixView<int16_t> values, MatrixView<float> scales) {
  HWY_DASSERT(x.cols % kActivationBlock == 0);
  for (int64_t t = 0; t < x.rows; ++t) {
    for (int64_t b = 0; b < x.cols / kActivationBlock; ++b) {
      QuantizeInt16Block(x.row_data(t) + b * kActivationBlock, values.row_data(t) + b * kActivationBlock,
                         scales.row_data(t)[b]);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace thermocline
HWY_AFTER_NAMESPACE();
