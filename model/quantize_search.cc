// Least-squares searches for the scales of quantised blocks.
// SPDX-License-Identifier: Apache-2.0
#include "model/quantize_search.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "core/half.h"
#include "core/status.h"
#include "model/quantize.h"

namespace thermocline {
namespace {

constexpr int kSuperBlock = 256;
// What is added to the largest integer, or the number of steps, to get the scales that are tried.
constexpr float kOffsets[] = {-1.05f, -0.9f, -0.75f, -0.6f, -0.45f, -0.3f, -0.15f,
                              0.0f,   0.15f, 0.3f,   0.45f, 0.6f,   0.75f, 0.9f};

// To the nearest integer, ties to even, of magnitudes below 2^22: the sum has no bits behind the point. Plain
// arithmetic, so that the compiler may use vectors.
inline float Round(float value) {
  constexpr float kShift = 12582912.0f;  // 1.5 * 2^23
  return (value + kShift) - kShift;
}

inline float RoundWithin(float value, float least, float most) {
  return Round(std::min(std::max(value, least), most));
}

// Scales below are those of zeros: their reciprocals would overflow.
constexpr float kLeastScale = 1e-30f;
inline float Reciprocal(float value) { return std::abs(value) > kLeastScale ? 1.0f / value : 0.0f; }

inline float AsHalf(float value) { return HalfToFloat(FloatToHalf(value)); }

std::byte* Put(uint16_t half, std::byte* target) {
  std::memcpy(target, &half, sizeof half);
  return target + sizeof half;
}

// Sums over a block in lanes, so that the compiler may use vectors and the order is still fixed.
template <int kCount, typename Term>
inline float Sum(const Term& term) {
  constexpr int kLanes = 8;
  float lanes[kLanes] = {};
  for (int i = 0; i < kCount; i += kLanes) {
    for (int l = 0; l < kLanes; ++l) lanes[l] += term(i + l);
  }
  float sum = 0;
  for (const float lane : lanes) sum += lane;
  return sum;
}

// ---- Blocks of a scale alone: value = scale * integer, integer in [-kLevels, kLevels)

template <int kCount, int kLevels>
struct SymmetricBlock {
  static constexpr float kLeast = -kLevels, kMost = kLevels - 1;

  float scale = 0;
  float integers[kCount] = {};

  void Assign(const float* x, float inverse) {
    for (int i = 0; i < kCount; ++i) integers[i] = RoundWithin(x[i] * inverse, kLeast, kMost);
  }
  float Error(const float* x) const {
    return Sum<kCount>([&](int i) {
      const float error = x[i] - scale * integers[i];
      return error * error;
    });
  }
};

template <int kCount>
float ValueOfLargestMagnitude(const float* x) {
  float extreme = 0;
  for (int i = 0; i < kCount; ++i) extreme = std::abs(x[i]) > std::abs(extreme) ? x[i] : extreme;
  return extreme;
}

// Rounding to nearest with the extreme at -kLevels. `stored` is how scales are kept.
template <int kCount, int kLevels, typename Stored>
SymmetricBlock<kCount, kLevels> RoundSymmetric(const float* x, const Stored& stored) {
  SymmetricBlock<kCount, kLevels> block;
  const float scale = ValueOfLargestMagnitude<kCount>(x) / static_cast<float>(-kLevels);
  block.scale = stored(scale);
  block.Assign(x, Reciprocal(scale));
  return block;
}

// The integers of some scale leave the least error at scale = xq / qq, where they take xq^2 / qq off the sum
// of squares: the trial that takes off most wins.
template <int kCount, int kLevels, typename Stored>
SymmetricBlock<kCount, kLevels> SearchSymmetric(const float* x, const Stored& stored) {
  SymmetricBlock<kCount, kLevels> best = RoundSymmetric<kCount, kLevels>(x, stored);
  const float extreme = ValueOfLargestMagnitude<kCount>(x);
  if (std::abs(extreme) <= kLeastScale) return best;
  float best_gain = 0, best_scale = 0;
  SymmetricBlock<kCount, kLevels> trial;
  for (const float end : {trial.kLeast, trial.kMost}) {
    for (const float offset : kOffsets) {
      trial.Assign(x, (end + std::copysign(offset, end * offset)) / extreme);
      const float xq = Sum<kCount>([&](int i) { return x[i] * trial.integers[i]; });
      const float qq = Sum<kCount>([&](int i) { return trial.integers[i] * trial.integers[i]; });
      if (qq > 0 && xq * xq > best_gain * qq) {
        best_gain = xq * xq / qq;
        best_scale = xq / qq;
      }
    }
  }
  trial.scale = stored(best_scale);
  trial.Assign(x, Reciprocal(trial.scale));
  return trial.Error(x) < best.Error(x) ? trial : best;
}

void PutQ4_0(const float* x, std::byte* target) {
  const auto block = SearchSymmetric<32, 8>(x, AsHalf);
  target = Put(FloatToHalf(block.scale), target);
  for (int i = 0; i < 16; ++i) {
    const int low = static_cast<int>(block.integers[i]) + 8;
    const int high = static_cast<int>(block.integers[i + 16]) + 8;
    target[i] = static_cast<std::byte>(low | high << 4);
  }
}

void PutQ5_0(const float* x, std::byte* target) {
  const auto block = SearchSymmetric<32, 16>(x, AsHalf);
  target = Put(FloatToHalf(block.scale), target);
  uint32_t fifth_bits = 0;
  for (int i = 0; i < 32; ++i) {
    const auto number = static_cast<uint32_t>(block.integers[i] + 16);
    fifth_bits |= (number >> 4) << i;
  }
  std::memcpy(target, &fifth_bits, sizeof fifth_bits);
  target += sizeof fifth_bits;
  for (int i = 0; i < 16; ++i) {
    const int low = static_cast<int>(block.integers[i]) + 16;
    const int high = static_cast<int>(block.integers[i + 16]) + 16;
    target[i] = static_cast<std::byte>((low & 15) | (high & 15) << 4);
  }
}

// ---- Q6_K: value = scale * sub_scale * integer, 16 sub-blocks of 16

struct SixBitBlock {
  static constexpr int kSubBlocks = 16, kCount = 16, kLevels = 32;

  uint16_t scale = 0;
  std::array<int, kSubBlocks> sub_scales = {};
  std::array<float, kSuperBlock> integers = {};

  float StepOf(int s) const {
    return HalfToFloat(scale) * static_cast<float>(sub_scales[static_cast<size_t>(s)]);
  }
  void Assign(const float* x) {
    for (int s = 0; s < kSubBlocks; ++s) {
      const float inverse = Reciprocal(StepOf(s));
      for (int i = s * kCount; i < (s + 1) * kCount; ++i)
        integers[static_cast<size_t>(i)] = RoundWithin(x[i] * inverse, -kLevels, kLevels - 1);
    }
  }
  float Error(const float* x) const {
    float sum = 0;
    for (int s = 0; s < kSubBlocks; ++s) {
      const float step = StepOf(s);
      sum += Sum<kCount>([&](int i) {
        const float error = x[s * kCount + i] - step * integers[static_cast<size_t>(s * kCount + i)];
        return error * error;
      });
    }
    return sum;
  }
  // The scale that fits what is there best.
  float FittedScale(const float* x) const {
    float xq = 0, qq = 0;
    for (int s = 0; s < kSubBlocks; ++s) {
      const auto sub_scale = static_cast<float>(sub_scales[static_cast<size_t>(s)]);
      const float* q = integers.data() + s * kCount;
      xq += sub_scale * Sum<kCount>([&](int i) { return x[s * kCount + i] * q[i]; });
      qq += sub_scale * sub_scale * Sum<kCount>([&](int i) { return q[i] * q[i]; });
    }
    return qq > 0 ? xq / qq : 0.0f;
  }
};

SixBitBlock WithScales(const float* x, const std::array<float, SixBitBlock::kSubBlocks>& scales) {
  SixBitBlock block;
  const float extreme = ValueOfLargestMagnitude<SixBitBlock::kSubBlocks>(scales.data());
  block.scale = FloatToHalf(extreme / -128.0f);
  const float inverse = Reciprocal(HalfToFloat(block.scale));
  for (size_t s = 0; s < scales.size(); ++s)
    block.sub_scales[s] = static_cast<int>(RoundWithin(scales[s] * inverse, -128, 127));
  block.Assign(x);
  return block;
}

void PutQ6_K(const float* x, std::byte* target) {
  constexpr auto kAsItIs = [](float scale) { return scale; };
  std::array<float, SixBitBlock::kSubBlocks> rounded{}, searched{};
  for (size_t s = 0; s < searched.size(); ++s) {
    const float* sub = x + s * SixBitBlock::kCount;
    rounded[s] = RoundSymmetric<SixBitBlock::kCount, SixBitBlock::kLevels>(sub, kAsItIs).scale;
    searched[s] = SearchSymmetric<SixBitBlock::kCount, SixBitBlock::kLevels>(sub, kAsItIs).scale;
  }
  SixBitBlock best = WithScales(x, rounded);
  float least = best.Error(x);
  SixBitBlock trial = WithScales(x, searched);
  for (int pass = 0; pass < 2; ++pass) {
    if (const float error = trial.Error(x); error < least) {
      least = error;
      best = trial;
    }
    trial.scale = FloatToHalf(trial.FittedScale(x));
    trial.Assign(x);
  }
  std::memset(target, 0, 192);
  for (int i = 0; i < kSuperBlock; ++i) {
    const int number = static_cast<int>(best.integers[static_cast<size_t>(i)]) + SixBitBlock::kLevels;
    const int half = i / 128, quarter = i % 128 / 32, k = i % 32;
    target[half * 64 + quarter % 2 * 32 + k] |= static_cast<std::byte>((number & 15) << quarter / 2 * 4);
    target[128 + half * 32 + k] |= static_cast<std::byte>(number >> 4 << quarter * 2);
  }
  for (int s = 0; s < SixBitBlock::kSubBlocks; ++s)
    target[192 + s] = static_cast<std::byte>(best.sub_scales[static_cast<size_t>(s)]);
  Put(best.scale, target + 208);
}

// ---- Q4_K: value = scale * sub_scale * integer - minimum * sub_minimum, 8 sub-blocks of 32

struct Line {  // value = slope * integer - below
  float slope = 0;
  float below = 0;  // never negative
};

struct FourBitBlock {
  static constexpr int kSubBlocks = 8, kCount = 32, kMost = 15, kMostSubScale = 63;

  uint16_t scale = 0, minimum = 0;
  std::array<int, kSubBlocks> sub_scales = {}, sub_minima = {};
  std::array<float, kSuperBlock> integers = {};

  Line LineOf(int s) const {
    const auto index = static_cast<size_t>(s);
    return {HalfToFloat(scale) * static_cast<float>(sub_scales[index]),
            HalfToFloat(minimum) * static_cast<float>(sub_minima[index])};
  }
  void Assign(const float* x) {
    for (int s = 0; s < kSubBlocks; ++s) {
      const Line line = LineOf(s);
      const float inverse = Reciprocal(line.slope);
      for (int i = s * kCount; i < (s + 1) * kCount; ++i)
        integers[static_cast<size_t>(i)] = RoundWithin((x[i] + line.below) * inverse, 0, kMost);
    }
  }
  float Error(const float* x) const {
    float sum = 0;
    for (int s = 0; s < kSubBlocks; ++s) {
      const Line line = LineOf(s);
      sum += Sum<kCount>([&](int i) {
        const float q = integers[static_cast<size_t>(s * kCount + i)];
        const float error = x[s * kCount + i] - (line.slope * q - line.below);
        return error * error;
      });
    }
    return sum;
  }
  // Scale and minimum that fit the rest best, by the normal equations of a line through two columns.
  void Fit(const float* x) {
    double aa = 0, ab = 0, bb = 0, ax = 0, bx = 0;
    for (int s = 0; s < kSubBlocks; ++s) {
      const double a = sub_scales[static_cast<size_t>(s)], b = sub_minima[static_cast<size_t>(s)];
      const float* q = integers.data() + s * kCount;
      const double q1 = Sum<kCount>([&](int i) { return q[i]; });
      const double q2 = Sum<kCount>([&](int i) { return q[i] * q[i]; });
      const double x1 = Sum<kCount>([&](int i) { return x[s * kCount + i]; });
      const double xq = Sum<kCount>([&](int i) { return x[s * kCount + i] * q[i]; });
      aa += a * a * q2;
      ab += a * b * q1;
      bb += b * b * kCount;
      ax += a * xq;
      bx += b * x1;
    }
    if (bb == 0 && aa > 0) scale = FloatToHalf(static_cast<float>(std::max(ax / aa, 0.0)));
    const double determinant = aa * bb - ab * ab;
    if (!(determinant > 1e-6 * aa * bb)) return;
    const double fitted_scale = (ax * bb - ab * bx) / determinant;
    const double fitted_minimum = (ab * ax - aa * bx) / determinant;
    if (fitted_scale < 0 || fitted_minimum < 0) return;
    scale = FloatToHalf(static_cast<float>(fitted_scale));
    minimum = FloatToHalf(static_cast<float>(fitted_minimum));
  }
};

// The range in 15 steps, from zero at most.
Line LineOverRange(const float* x) {
  float least = 0, most = x[0];
  for (int i = 0; i < FourBitBlock::kCount; ++i) {
    least = std::min(least, x[i]);
    most = std::max(most, x[i]);
  }
  return {(most - least) / FourBitBlock::kMost, -least};
}

Line SearchLine(const float* x) {
  constexpr int kCount = FourBitBlock::kCount;
  const Line range = LineOverRange(x);
  if (range.slope <= kLeastScale) return range;
  float q[kCount];
  const float x1 = Sum<kCount>([&](int i) { return x[i]; });
  // Integers of a line, and the line that fits them best; its error.
  const auto refit = [&](float inverse, float below, Line& line) {
    for (int i = 0; i < kCount; ++i) q[i] = RoundWithin((x[i] + below) * inverse, 0, FourBitBlock::kMost);
    const float q1 = Sum<kCount>([&](int i) { return q[i]; });
    const float q2 = Sum<kCount>([&](int i) { return q[i] * q[i]; });
    const float xq = Sum<kCount>([&](int i) { return x[i] * q[i]; });
    const float determinant = kCount * q2 - q1 * q1;
    if (!(determinant > 0)) return std::numeric_limits<float>::infinity();
    line = {(kCount * xq - x1 * q1) / determinant, (q1 * xq - q2 * x1) / determinant};
    if (line.below < 0) line = {xq / q2, 0};
    if (!(line.slope > kLeastScale)) return std::numeric_limits<float>::infinity();
    return Sum<kCount>([&](int i) {
      const float error = x[i] - (line.slope * q[i] - line.below);
      return error * error;
    });
  };
  Line best = range;
  float least = std::numeric_limits<float>::infinity();
  for (const float offset : kOffsets) {
    Line line;
    float error = refit((1.0f + offset / FourBitBlock::kMost) / range.slope, range.below, line);
    if (error < least) {
      least = error;
      best = line;
    }
  }
  Line line;
  if (refit(1.0f / best.slope, best.below, line) < least) best = line;
  return best;
}

FourBitBlock WithLines(const float* x, const std::array<Line, FourBitBlock::kSubBlocks>& lines) {
  float slope = 0, below = 0;
  for (const Line& line : lines) {
    slope = std::max(slope, line.slope);
    below = std::max(below, line.below);
  }
  FourBitBlock block;
  block.scale = FloatToHalf(slope / FourBitBlock::kMostSubScale);
  block.minimum = FloatToHalf(below / FourBitBlock::kMostSubScale);
  const float inverse_slope = Reciprocal(HalfToFloat(block.scale));
  const float inverse_below = Reciprocal(HalfToFloat(block.minimum));
  for (size_t s = 0; s < lines.size(); ++s) {
    block.sub_scales[s] =
        static_cast<int>(RoundWithin(lines[s].slope * inverse_slope, 0, FourBitBlock::kMostSubScale));
    block.sub_minima[s] =
        static_cast<int>(RoundWithin(lines[s].below * inverse_below, 0, FourBitBlock::kMostSubScale));
  }
  block.Assign(x);
  return block;
}

void PutQ4_K(const float* x, std::byte* target) {
  std::array<Line, FourBitBlock::kSubBlocks> ranges, searched;
  for (size_t s = 0; s < searched.size(); ++s) {
    ranges[s] = LineOverRange(x + s * FourBitBlock::kCount);
    searched[s] = SearchLine(x + s * FourBitBlock::kCount);
  }
  FourBitBlock best = WithLines(x, ranges);
  float least = best.Error(x);
  FourBitBlock trial = WithLines(x, searched);
  for (int pass = 0; pass < 3; ++pass) {
    if (const float error = trial.Error(x); error < least) {
      least = error;
      best = trial;
    }
    trial.Fit(x);
    trial.Assign(x);
  }
  target = Put(best.minimum, Put(best.scale, target));
  for (size_t j = 0; j < 4; ++j) {
    const int low_scale = best.sub_scales[j], high_scale = best.sub_scales[j + 4];
    const int low_minimum = best.sub_minima[j], high_minimum = best.sub_minima[j + 4];
    target[j] = static_cast<std::byte>(low_scale | high_scale >> 4 << 6);
    target[4 + j] = static_cast<std::byte>(low_minimum | high_minimum >> 4 << 6);
    target[8 + j] = static_cast<std::byte>((high_scale & 15) | (high_minimum & 15) << 4);
  }
  target += 12;
  for (int pair = 0; pair < 4; ++pair) {
    const float* q = best.integers.data() + pair * 64;
    for (int k = 0; k < 32; ++k)
      *target++ = static_cast<std::byte>(static_cast<int>(q[k]) | static_cast<int>(q[k + 32]) << 4);
  }
}

}  // namespace

bool CanQuantizeClosely(ElementType type) {
  return CanQuantize(type) || type == ElementType::kQ5_0 || type == ElementType::kQ4_K ||
         type == ElementType::kQ6_K;
}

void QuantizeRowClosely(ElementType type, std::span<const float> row, std::byte* target) {
  TC_CHECK(CanQuantizeClosely(type));
  void (*put)(const float*, std::byte*) = nullptr;
  if (type == ElementType::kQ4_0) put = PutQ4_0;
  if (type == ElementType::kQ5_0) put = PutQ5_0;
  if (type == ElementType::kQ4_K) put = PutQ4_K;
  if (type == ElementType::kQ6_K) put = PutQ6_K;
  if (put == nullptr) return QuantizeRow(type, row, target);
  const ElementTypeInfo& info = InfoOf(type);
  const auto elements = static_cast<size_t>(info.block_elements);
  TC_CHECK(row.size() % elements == 0);
  for (size_t i = 0; i < row.size(); i += elements, target += info.block_bytes) put(row.data() + i, target);
}

}  // namespace thermocline
