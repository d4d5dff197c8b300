// Multiply-adds that nothing but the arithmetic units can slow down: the machine's peak.
// SPDX-License-Identifier: Apache-2.0
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/bench/ladder/peak_simd.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
// Per-target headers follow it.
#include "tests/bench/ladder/targets-inl.h"

HWY_BEFORE_NAMESPACE();
namespace thermocline::ladder {
namespace HWY_NAMESPACE {
#if THERMOCLINE_LADDER_SIMD

// More chains than latency times units needs (Zen 5: 4 x 2), no more than 16 registers hold with the factors.
double MultiplyAddChains(int64_t steps, float* sink) {
  constexpr int kChains = 12;
  const F32Tag d;
  const F32 factor = hn::Set(d, sink[0]), addend = hn::Set(d, sink[1]);
  F32 chain[kChains];
  for (int i = 0; i < kChains; ++i) chain[i] = hn::Set(d, static_cast<float>(i));
  for (int64_t step = 0; step < steps; ++step) {
    HWY_UNROLL(12)
    for (int i = 0; i < kChains; ++i) chain[i] = hn::MulAdd(chain[i], factor, addend);
  }
  F32 sum = hn::Zero(d);
  for (int i = 0; i < kChains; ++i) sum = hn::Add(sum, chain[i]);
  sink[2] = hn::GetLane(sum);
  return 2.0 * kChains * static_cast<double>(kLanes) * static_cast<double>(steps);
}
#endif

}  // namespace HWY_NAMESPACE
}  // namespace thermocline::ladder
HWY_AFTER_NAMESPACE();
