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

// max(0, x)^2; NaN stays NaN.
struct Relu2Function {
  HWY_INLINE F32 operator()(F32 x) const {
    const F32 positive = ReluFunction()(x);
    return hn::Mul(positive, positive);
  }
};

// tanh(x) = 1 - 2 / (exp(2x) + 1) away from 0; near it, where that would cancel, x - x^3/3 + 2x^5/15 - ...
HWY_INLINE F32 TanhOf(F32 x) {
  const F32Tag f32;
  const F32 one = hn::Set(f32, 1.0f), square = hn::Mul(x, x);
  const F32 twice = hn::Clamp(hn::Add(x, x), hn::Set(f32, -40.0f), hn::Set(f32, 40.0f));
  const F32 far = hn::Sub(one, hn::Div(hn::Set(f32, 2.0f), hn::Add(hn::Exp(f32, twice), one)));
  F32 series = hn::Set(f32, 62.0f / 2835.0f);
  series = hn::NegMulAdd(series, square, hn::Set(f32, 17.0f / 315.0f));
  series = hn::NegMulAdd(series, square, hn::Set(f32, 2.0f / 15.0f));
  series = hn::NegMulAdd(series, square, hn::Set(f32, 1.0f / 3.0f));
  const F32 near = hn::NegMulAdd(hn::Mul(series, square), x, x);
  const F32 tanh = hn::IfThenElse(hn::Lt(square, hn::Set(f32, 0.0625f)), near, far);
  return hn::IfThenElse(hn::IsNaN(x), x, tanh);
}

struct GeluTanhFunction {
  HWY_INLINE F32 operator()(F32 x) const {
    const F32Tag f32;
    const F32 cube = hn::Mul(hn::Mul(x, x), x);
    const F32 inner =
        hn::Mul(hn::Set(f32, 0.7978845608028654f), hn::MulAdd(hn::Set(f32, 0.044715f), cube, x));
    return hn::Mul(hn::Mul(hn::Set(f32, 0.5f), x), hn::Add(hn::Set(f32, 1.0f), TanhOf(inner)));
  }
};

// erf by Abramowitz and Stegun 7.1.26 is off by 1.5e-7 at most, in absolute terms, which is F32's rounding
// beside 1.
struct GeluFunction {
  HWY_INLINE F32 operator()(F32 x) const {
    const F32Tag f32;
    const F32 one = hn::Set(f32, 1.0f);
    const F32 scaled = hn::Mul(hn::Abs(x), hn::Set(f32, 0.7071067811865476f));
    const F32 t = hn::Div(one, hn::MulAdd(hn::Set(f32, 0.3275911f), scaled, one));
    F32 series = hn::Set(f32, 1.061405429f);
    series = hn::MulAdd(series, t, hn::Set(f32, -1.453152027f));
    series = hn::MulAdd(series, t, hn::Set(f32, 1.421413741f));
    series = hn::MulAdd(series, t, hn::Set(f32, -0.284496736f));
    series = hn::MulAdd(series, t, hn::Set(f32, 0.254829592f));
    // exp underflows at 88; beyond, its argument is held there.
    const F32 exponent = hn::Max(hn::Neg(hn::Mul(scaled, scaled)), hn::Set(f32, -87.0f));
    const F32 tail = hn::Mul(hn::Mul(hn::Mul(series, t), hn::Exp(f32, exponent)), hn::Set(f32, 0.5f));
    // tail = Phi(-|x|).
    return hn::Mul(x, hn::IfThenElse(hn::Lt(x, hn::Zero(f32)), tail, hn::Sub(one, tail)));
  }
};

// Where a neuron's activation is not zero; NaN is not. (Highway's Ne is false for NaN on some targets.)
HWY_INLINE hn::Mask<F32Tag> Fires(F32 activation) { return hn::Not(hn::Eq(activation, hn::Zero(F32Tag()))); }

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
    case Activation::kGelu:
      return body(GeluFunction());
    case Activation::kGeluTanh:
      return body(GeluTanhFunction());
    case Activation::kRelu2:
      return body(Relu2Function());
    case Activation::kDRelu:  // of the gate; UpFactor is the other half
      return body(ReluFunction());
  }
  TC_CHECK(false);
}

}  // namespace HWY_NAMESPACE
}  // namespace thermocline
HWY_AFTER_NAMESPACE();

#endif  // toggled guard
