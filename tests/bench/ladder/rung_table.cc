// The rungs of each instruction set, and which of them this machine runs.
// SPDX-License-Identifier: Apache-2.0
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/bench/ladder/rung_table.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
// Per-target headers follow it.
#include "tests/bench/ladder/targets-inl.h"

HWY_BEFORE_NAMESPACE();
namespace thermocline::ladder {
namespace HWY_NAMESPACE {

SimdRungs MakeRungs() {
#if THERMOCLINE_LADDER_SIMD
#if HWY_TARGET == HWY_AVX3
  constexpr std::string_view kIsa = "avx512";
#elif HWY_TARGET == HWY_AVX2
  constexpr std::string_view kIsa = "avx2";
#elif HWY_TARGET == HWY_SSE4
  constexpr std::string_view kIsa = "sse4";
#else
  constexpr std::string_view kIsa = "neon";
#endif
  return {.isa = kIsa,
          .relu = ReluRungs(),
          .mat_mul = MatMulRungs(),
          .matrix4 = Matrix4Rungs(),
          .fixed_matrix4 = FixedMatrix4Rungs(),
          .box_filter = BoxFilterRungs(),
          .multiply_add_chains = MultiplyAddChains,
          .stream_copy = StreamCopy};
#else
  return {};
#endif
}

}  // namespace HWY_NAMESPACE
}  // namespace thermocline::ladder
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace thermocline::ladder {
namespace {

HWY_EXPORT(MakeRungs);

// Entry of Highway's dispatch table for one target: the choice that a processor with only that target makes.
SimdRungs RungsOf(int64_t target) {
#if (HWY_TARGETS & (HWY_TARGETS - 1)) == 0  // one target: a table of one entry
  static_cast<void>(target);
  return HWY_DISPATCH_TABLE(MakeRungs)[0]();
#else
  hwy::ChosenTarget choice;
  choice.Update(target);
  return HWY_DISPATCH_TABLE(MakeRungs)[choice.GetIndex()]();
#endif
}

}  // namespace

const std::vector<SimdRungs>& AvailableSimdRungs() {
  static const std::vector<SimdRungs>* const rungs = [] {
    auto* list = new std::vector<SimdRungs>;
    // Highway gives better targets lower bits.
    const int64_t runnable = (hwy::SupportedTargets() | HWY_STATIC_TARGET) & HWY_TARGETS & ~HWY_SCALAR;
    for (int64_t left = runnable; left != 0; left &= left - 1) list->push_back(RungsOf(left & -left));
    return list;
  }();
  return *rungs;
}

}  // namespace thermocline::ladder
#endif  // HWY_ONCE
