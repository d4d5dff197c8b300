// Normalisation, rotary embedding, gated activation and addition.
// SPDX-License-Identifier: Apache-2.0
//
// Ragged ends go through the same vector operations as the rest, so an element's bits do not depend on its
// place.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels_cpu/elementwise.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
// Per-target headers follow it.
#include "kernels_cpu/activations-inl.h"
#include "kernels_cpu/targets-inl.h"
#include "kernels_cpu/vectors-inl.h"

#include <cmath>

HWY_BEFORE_NAMESPACE();
namespace thermocline {
namespace HWY_NAMESPACE {
namespace {

// target[i] = function(a[i], b[i]).
template <class Function>
HWY_INLINE void MapPairs(const float* a, const float* b, int64_t count, float* target, Function function) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    hn::StoreU(function(hn::LoadU(F32Tag(), a + i), hn::LoadU(F32Tag(), b + i)), F32Tag(), target + i);
  if (i < count)
    StorePartial(function(LoadPartial(a + i, count - i), LoadPartial(b + i, count - i)), target + i,
                 count - i);
}

struct AddFunction {
  HWY_INLINE F32 operator()(F32 a, F32 b) const { return hn::Add(a, b); }
};

// activation(gate) * up; a silent neuron is 0 even where up is infinite or NaN.
template <class Activate>
struct GatedFunction {
  Activate activate;
  HWY_INLINE F32 operator()(F32 gate, F32 up) const {
    const F32 activation = activate(gate);
    return hn::IfThenElse(hn::Eq(activation, hn::Zero(F32Tag())), activation, hn::Mul(activation, up));
  }
};

// ReLU of both; a silent neuron is 0 as above.
struct DReluFunction {
  HWY_INLINE F32 operator()(F32 gate, F32 up) const {
    return GatedFunction<ReluFunction>{}(gate, ReluFunction()(up));
  }
};

// activation(gate), of neurons that have no up row.
template <class Activate>
struct UngatedFunction {
  Activate activate;
  HWY_INLINE F32 operator()(F32 gate, F32) const { return activate(gate); }
};

struct ScaleFunction {
  F32 scale;
  HWY_INLINE F32 operator()(F32 x, F32 weight) const { return hn::Mul(hn::Mul(x, scale), weight); }
};

// (x - mean) * scale * weight.
struct CentreAndScaleFunction {
  F32 mean, scale;
  HWY_INLINE F32 operator()(F32 x, F32 weight) const {
    return hn::Mul(hn::Mul(hn::Sub(x, mean), scale), weight);
  }
};

// cap * tanh(x / cap).
struct SoftCapFunction {
  F32 cap, inverse;
  HWY_INLINE F32 operator()(F32 x, F32) const { return hn::Mul(cap, TanhOf(hn::Mul(x, inverse))); }
};

// Sums of x and of (x - mean)^2, lanes first, always in the same order.
float Sum(const float* x, int64_t count) {
  F32 sum = hn::Zero(F32Tag());
  for (int64_t i = 0; i < count; i += kLanes)
    sum = hn::Add(sum, i + kLanes <= count ? hn::LoadU(F32Tag(), x + i) : LoadPartial(x + i, count - i));
  return SumLanes(sum);
}

float SumOfSquaredDistances(const float* x, int64_t count, float mean) {
  const F32 centre = hn::Set(F32Tag(), mean);
  F32 sum = hn::Zero(F32Tag());
  for (int64_t i = 0; i < count; i += kLanes) {
    const bool whole = i + kLanes <= count;
    F32 distance = hn::Sub(whole ? hn::LoadU(F32Tag(), x + i) : LoadPartial(x + i, count - i), centre);
    if (!whole) distance = hn::IfThenElseZero(hn::FirstN(F32Tag(), static_cast<size_t>(count - i)), distance);
    sum = hn::MulAdd(distance, distance, sum);
  }
  return SumLanes(sum);
}

// Four accumulators take vectors in turn; they are added in a fixed order.
float SumOfSquares(const float* x, int64_t count) {
  F32 sum[4];
  for (F32& s : sum) s = hn::Zero(F32Tag());
  int64_t i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
    THERMOCLINE_UNROLL(4)
    for (int k = 0; k < 4; ++k) {
      const F32 value = hn::LoadU(F32Tag(), x + i + k * kLanes);
      sum[k] = hn::MulAdd(value, value, sum[k]);
    }
  }
  for (; i < count; i += kLanes) {
    const F32 value = i + kLanes <= count ? hn::LoadU(F32Tag(), x + i) : LoadPartial(x + i, count - i);
    sum[0] = hn::MulAdd(value, value, sum[0]);
  }
  return SumLanes(hn::Add(hn::Add(sum[0], sum[1]), hn::Add(sum[2], sum[3])));
}

HWY_INLINE void Rotate(F32& first, F32& second, F32 cos, F32 sin) {
  const F32 rotated = hn::NegMulAdd(second, sin, hn::Mul(first, cos));
  second = hn::MulAdd(second, cos, hn::Mul(first, sin));
  first = rotated;
}

void RotateHalves(float* head, const float* cos, const float* sin, int64_t pairs) {
  int64_t i = 0;
  for (; i + kLanes <= pairs; i += kLanes) {
    F32 first = hn::LoadU(F32Tag(), head + i), second = hn::LoadU(F32Tag(), head + pairs + i);
    Rotate(first, second, hn::LoadU(F32Tag(), cos + i), hn::LoadU(F32Tag(), sin + i));
    hn::StoreU(first, F32Tag(), head + i);
    hn::StoreU(second, F32Tag(), head + pairs + i);
  }
  if (const int64_t left = pairs - i; left > 0) {
    F32 first = LoadPartial(head + i, left), second = LoadPartial(head + pairs + i, left);
    Rotate(first, second, LoadPartial(cos + i, left), LoadPartial(sin + i, left));
    StorePartial(first, head + i, left);
    StorePartial(second, head + pairs + i, left);
  }
}

void RotateInterleaved(float* head, const float* cos, const float* sin, int64_t pairs) {
  int64_t i = 0;
  for (; i + kLanes <= pairs; i += kLanes) {
    F32 first, second;
    hn::LoadInterleaved2(F32Tag(), head + 2 * i, first, second);
    Rotate(first, second, hn::LoadU(F32Tag(), cos + i), hn::LoadU(F32Tag(), sin + i));
    hn::StoreInterleaved2(first, second, F32Tag(), head + 2 * i);
  }
  if (const int64_t left = pairs - i; left > 0) {
    HWY_ALIGN float lanes[2 * kLanes] = {};
    std::memcpy(lanes, head + 2 * i, static_cast<size_t>(2 * left) * sizeof(float));
    F32 first, second;
    hn::LoadInterleaved2(F32Tag(), lanes, first, second);
    Rotate(first, second, LoadPartial(cos + i, left), LoadPartial(sin + i, left));
    hn::StoreInterleaved2(first, second, F32Tag(), lanes);
    std::memcpy(head + 2 * i, lanes, static_cast<size_t>(2 * left) * sizeof(float));
  }
}

}  // namespace

void RmsNorm(std::span<const float> x, std::span<const float> weight, float epsilon, std::span<float> out) {
  HWY_DASSERT(weight.size() == x.size() && out.size() == x.size());
  const auto count = static_cast<int64_t>(x.size());
  const float mean = SumOfSquares(x.data(), count) / static_cast<float>(count);
  MapPairs(x.data(), weight.data(), count, out.data(),
           ScaleFunction{hn::Set(F32Tag(), 1.0f / std::sqrt(mean + epsilon))});
}

void LayerNorm(std::span<const float> x, std::span<const float> weight, std::span<const float> bias,
               float epsilon, std::span<float> out) {
  HWY_DASSERT(weight.size() == x.size() && out.size() == x.size());
  const auto count = static_cast<int64_t>(x.size());
  const float mean = Sum(x.data(), count) / static_cast<float>(count);
  const float variance = SumOfSquaredDistances(x.data(), count, mean) / static_cast<float>(count);
  const F32 scale = hn::Set(F32Tag(), 1.0f / std::sqrt(variance + epsilon));
  MapPairs(x.data(), weight.data(), count, out.data(),
           CentreAndScaleFunction{hn::Set(F32Tag(), mean), scale});
  if (!bias.empty()) MapPairs(out.data(), bias.data(), count, out.data(), AddFunction());
}

void SoftCap(float cap, std::span<float> x) {
  MapPairs(x.data(), x.data(), static_cast<int64_t>(x.size()), x.data(),
           SoftCapFunction{hn::Set(F32Tag(), cap), hn::Set(F32Tag(), 1.0f / cap)});
}

void Rope(std::span<float> head, std::span<const float> cos, std::span<const float> sin, bool half) {
  HWY_DASSERT(sin.size() == cos.size() && 2 * cos.size() <= head.size());
  const auto pairs = static_cast<int64_t>(cos.size());
  if (half) {
    RotateHalves(head.data(), cos.data(), sin.data(), pairs);
  } else {
    RotateInterleaved(head.data(), cos.data(), sin.data(), pairs);
  }
}

void GatedActivation(ActivationFunction activation, std::span<const float> gate, std::span<const float> up,
                     std::span<float> hidden) {
  HWY_DASSERT(gate.size() == hidden.size() && up.size() == hidden.size());
  const auto count = static_cast<int64_t>(hidden.size());
  if (activation.kind == Activation::kDRelu)
    return MapPairs(gate.data(), up.data(), count, hidden.data(), DReluFunction());
  WithActivation(activation, [&]<class Activate>(const Activate& activate) HWY_ATTR {
    MapPairs(gate.data(), up.data(), count, hidden.data(), GatedFunction<Activate>{activate});
  });
}

void Activate(ActivationFunction activation, std::span<const float> gate, std::span<float> hidden) {
  HWY_DASSERT(gate.size() == hidden.size());
  const auto count = static_cast<int64_t>(hidden.size());
  WithActivation(activation, [&]<class Function>(const Function& activate) HWY_ATTR {
    MapPairs(gate.data(), gate.data(), count, hidden.data(), UngatedFunction<Function>{activate});
  });
}

void Add(std::span<const float> y, std::span<float> x) {
  HWY_DASSERT(y.size() == x.size());
  MapPairs(x.data(), y.data(), static_cast<int64_t>(x.size()), x.data(), AddFunction());
}

}  // namespace HWY_NAMESPACE
}  // namespace thermocline
HWY_AFTER_NAMESPACE();
