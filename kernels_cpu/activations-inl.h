// Activation functions of vectors, shared by the kernels that apply them and the one that counts them.
// SPDX-License-Identifier: Apache-2.0
#include "hwy/contrib/math/math-inl.h"
#include "kernels_cpu/activation.h"
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

// x where x >= threshold, else 0; NaN stays NaN.
struct FatReluFunction {
  F32 threshold;
  HWY_INLINE F32 operator()(F32 x) const { return hn::IfThenZeroElse(hn::Lt(x, threshold), x); }
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

// Calls body with the vector function of `activation`.
template <class Body>
HWY_INLINE void WithActivation(ActivationFunction activation, const Body& body) {
  switch (activation.kind) {
    case Activation::kRelu:
      return body(ReluFunction());
    case Activation::kSilu:
      return body(SiluFunction());
    case Activation::kFatRelu:
      return body(FatReluFunction{hn::Set(F32Tag(), activation.threshold)});
  }
  TC_CHECK(false);
}

}  // namespace HWY_NAMESPACE
}  // namespace thermocline
HWY_AFTER_NAMESPACE();

#endif  // toggled guard
