// Rungs of one target; rung_table.cc puts them into that target's table.
// SPDX-License-Identifier: Apache-2.0
#include "hwy/highway.h"
#include "tests/bench/ladder/rungs.h"

#if defined(THERMOCLINE_LADDER_TARGETS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef THERMOCLINE_LADDER_TARGETS_INL_H_
#undef THERMOCLINE_LADDER_TARGETS_INL_H_
#else
#define THERMOCLINE_LADDER_TARGETS_INL_H_
#endif

// The scalar target has no vectors to climb with.
#undef THERMOCLINE_LADDER_SIMD
#if HWY_TARGET == HWY_SCALAR
#define THERMOCLINE_LADDER_SIMD 0
#else
#define THERMOCLINE_LADDER_SIMD 1
#endif

HWY_BEFORE_NAMESPACE();
namespace thermocline::ladder {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

#if THERMOCLINE_LADDER_SIMD
using F32Tag = hn::ScalableTag<float>;
using F32 = hn::Vec<F32Tag>;
constexpr int64_t kLanes = hn::MaxLanes(F32Tag());

// Contracts: rungs.h.
std::vector<ReluRung> ReluRungs();
std::vector<MatMulRung> MatMulRungs();
std::vector<Matrix4Rung> Matrix4Rungs();
std::vector<FixedMatrix4Rung> FixedMatrix4Rungs();
std::vector<BoxFilterRung> BoxFilterRungs();
double MultiplyAddChains(int64_t steps, float* sink);
void StreamCopy(const float* source, int64_t count, float* target);
#endif

}  // namespace HWY_NAMESPACE
}  // namespace thermocline::ladder
HWY_AFTER_NAMESPACE();

#endif  // toggled guard
