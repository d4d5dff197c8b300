// Activation functions of vectors, shared by the kernels that apply them and the one that counts them.
// SPDX-License-Identifier: Apache-2.0
#include "hwy/contrib/math/math-inl.h"
#include "kernels_cpu/vectors-inl.h"

#if defined(THERMOCLINE_KERNELS_CPU_ACTIVATIONS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef THERMOCLINE_KERNELS_CPU_ACTIVATIONS_INL_H_
#undef THERMOCLINE_KERNELS_CPU_ACTIVATIONS_INL_H_
#else
#define THERMOCLINE_KERNELS_CPU_ACTIVATIONS_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace thermocline {
namespace HWY_NAMESPACE {

// max(0, x); NaN stays NaN.
struct ReluFunction {
  HWY_INLINE F32 operator()(F32 x) const { return hn::IfThenZeroElse(hn::Lt(x, hn::Zero(F32Tag())), x); }
};

// x / (1 + exp(-x)).
struct SiluFunction {
  HWY_INLINE F32 operator()(F32 x) const {
    const F32Tag f32;
    // exp is infinite at 104 already and not defined above.
    const F32 exponential = hn::Exp(f32, hn::Min(hn::Neg(x), hn::Set(f32, 104.0f)));
    return hn::Div(x, hn::Add(hn::Set(f32, 1.0f), exponential));
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace thermocline
HWY_AFTER_NAMESPACE();

#endif  // toggled guard
