// The searching quantisers beside rounding to nearest, on planted rows and on values of many kinds.
// SPDX-License-Identifier: Apache-2.0
#include "model/quantize_search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "core/half.h"
#include "core/random.h"
#include "kernels_cpu/kernel_table.h"
#include "model/conversion_verify.h"
#include "model/quantize.h"

namespace thermocline {
namespace {

constexpr ElementType kSearched[] = {ElementType::kQ4_0, ElementType::kQ5_0, ElementType::kQ4_K,
                                     ElementType::kQ6_K};

std::vector<float> ThereAndBack(ElementType type, const std::vector<float>& row) {
  const auto count = static_cast<int64_t>(row.size());
  std::vector<std::byte> bytes(static_cast<size_t>(*RowBytes(type, count)));
  QuantizeRowClosely(type, row, bytes.data());
  std::vector<float> back(row.size());
  BestKernels().dequantize(type, bytes.data(), count, back.data());
  return back;
}

double SquaredError(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i)
    sum += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
  return sum;
}

float AsHalf(float value) { return HalfToFloat(FloatToHalf(value)); }
float Extreme(std::span<const float> x) {
  return *std::ranges::max_element(x, {}, [](float value) { return std::abs(value); });
}
float Rounded(float value, float scale, float least, float most) {
  return scale == 0 ? 0.0f : std::clamp(std::nearbyint(value / scale), least, most);
}

// Rounding to nearest: the extreme gets the least integer.
std::vector<float> NearestOfScale(std::span<const float> x, float levels) {
  const float scale = Extreme(x) / -levels, stored = AsHalf(scale);
  std::vector<float> result;
  for (const float value : x) result.push_back(stored * Rounded(value, scale, -levels, levels - 1));
  return result;
}

std::vector<float> NearestQ6_K(std::span<const float> x) {
  std::vector<float> scales, result;
  for (size_t s = 0; s < 16; ++s) scales.push_back(Extreme(x.subspan(s * 16, 16)) / -32);
  const float scale = AsHalf(Extreme(scales) / -128);
  for (size_t i = 0; i < 256; ++i) {
    const float step = scale * Rounded(scales[i / 16], scale, -128, 127);
    result.push_back(step * Rounded(x[i], step, -32, 31));
  }
  return result;
}

std::vector<float> NearestQ4_K(std::span<const float> x) {
  std::vector<float> slopes, belows, result;
  for (size_t s = 0; s < 8; ++s) {
    const auto [least, most] = std::ranges::minmax(x.subspan(s * 32, 32));
    belows.push_back(-std::min(least, 0.0f));
    slopes.push_back((most + belows.back()) / 15);
  }
  const float scale = AsHalf(std::ranges::max(slopes) / 63), minimum = AsHalf(std::ranges::max(belows) / 63);
  for (size_t i = 0; i < 256; ++i) {
    const float slope = scale * Rounded(slopes[i / 32], scale, 0, 63);
    const float below = minimum * Rounded(belows[i / 32], minimum, 0, 63);
    result.push_back(slope * Rounded(x[i] + below, slope, 0, 15) - below);
  }
  return result;
}

std::vector<float> Nearest(ElementType type, std::span<const float> row) {
  std::vector<float> result;
  const auto block = static_cast<size_t>(InfoOf(type).block_elements);
  for (size_t i = 0; i < row.size(); i += block) {
    const std::span<const float> x = row.subspan(i, block);
    const std::vector<float> part = type == ElementType::kQ4_0   ? NearestOfScale(x, 8)
                                    : type == ElementType::kQ5_0 ? NearestOfScale(x, 16)
                                    : type == ElementType::kQ4_K ? NearestQ4_K(x)
                                                                 : NearestQ6_K(x);
    result.insert(result.end(), part.begin(), part.end());
  }
  return result;
}

std::vector<float> Row(size_t count, const std::function<double(SplitMix64&)>& value) {
  SplitMix64 random(7);
  std::vector<float> row(count);
  for (float& element : row) element = static_cast<float>(value(random));
  return row;
}

// About normal.
double Bell(SplitMix64& random) {
  double sum = -6;
  for (int i = 0; i < 12; ++i) sum += random.Uniform();
  return sum;
}

struct Kind {
  const char* name;
  std::function<double(SplitMix64&)> value;
};

const Kind kKinds[] = {
    {"normal", Bell},
    {"uniform", [](SplitMix64& random) { return 2 * random.Uniform() - 1; }},
    {"positive", [](SplitMix64& random) { return std::abs(Bell(random)); }},
    {"negative", [](SplitMix64& random) { return -1 - random.Uniform(); }},
    {"heavy tails", [](SplitMix64& random) { return std::pow(Bell(random), 5); }},
    {"scales below F16's normal ones", [](SplitMix64& random) { return 1e-4 * Bell(random); }},
    {"below F16", [](SplitMix64& random) { return 1e-12 * Bell(random); }},
    {"below float's normal ones", [](SplitMix64& random) { return 1e-41 * Bell(random); }},
    {"large", [](SplitMix64& random) { return 65504 * (2 * random.Uniform() - 1); }},
    {"zero", [](SplitMix64&) { return 0.0; }},
    {"ternary", [](SplitMix64& random) { return 0.7 * std::floor(3 * random.Uniform()) - 0.7; }},
};

TEST(QuantizeRowClosely, IsNeverWorseThanRoundingToNearest) {
  for (const ElementType type : kSearched) {
    const auto block = static_cast<size_t>(InfoOf(type).block_elements);
    for (const Kind& kind : kKinds) {
      const std::vector<float> row = Row(1024, kind.value);
      const std::vector<float> ours = ThereAndBack(type, row), nearest = Nearest(type, row);
      for (size_t i = 0; i < row.size(); i += block) {
        const std::span<const float> x = std::span(row).subspan(i, block);
        const double squares = SquaredError(x, std::span(ours).subspan(i, block));
        // Both sum in F32 at some place, and a tie may go either way.
        EXPECT_LE(squares, SquaredError(x, std::span(nearest).subspan(i, block)) * (1 + 1e-4) + 1e-30)
            << NameOf(type) << ", " << kind.name << ", " << i;
        EXPECT_LE(std::sqrt(squares / static_cast<double>(block)), ErrorBound(type, x))
            << NameOf(type) << ", " << kind.name << ", " << i;
      }
    }
  }
}

TEST(QuantizeRowClosely, TakesAShareOfTheErrorOff) {
  const std::vector<float> row = Row(8192, Bell);
  const auto share = [&](ElementType type) {
    return SquaredError(row, ThereAndBack(type, row)) / SquaredError(row, Nearest(type, row));
  };
  EXPECT_LT(share(ElementType::kQ4_0), 0.9);
  EXPECT_LT(share(ElementType::kQ5_0), 0.9);
  EXPECT_LT(share(ElementType::kQ4_K), 0.9);
  EXPECT_LT(share(ElementType::kQ6_K), 0.95);
}

// Values that lie on a type's grid come back as they are.
TEST(QuantizeRowClosely, FindsPlantedScales) {
  SplitMix64 random(3);
  const auto below = [&](int limit) {
    return static_cast<int>(random.Next() % static_cast<uint64_t>(limit));
  };
  const auto expect_exact = [](ElementType type, const std::vector<float>& row) {
    EXPECT_EQ(ThereAndBack(type, row), row) << NameOf(type);
  };
  for (const int levels : {8, 16}) {
    std::vector<float> row;
    for (int i = 0; i < 256; ++i) {
      const int integer = i % 32 == 3 ? -levels : below(2 * levels) - levels;
      row.push_back(0.375f * static_cast<float>((1 + i / 32) * integer));
    }
    expect_exact(levels == 8 ? ElementType::kQ4_0 : ElementType::kQ5_0, row);
  }
  std::vector<float> four(256), six(256);
  for (int i = 0; i < 256; ++i) {
    const int s = i / 32, q = i % 32 == 0 ? 0 : i % 32 == 1 ? 15 : below(16);
    four[static_cast<size_t>(i)] = 0x1p-6f * static_cast<float>((63 - 5 * s) * q - 4 * (63 - 7 * s));
    const int t = i / 16, p = i % 16 == 0 ? -32 : below(64) - 32;
    six[static_cast<size_t>(i)] = 0x1p-9f * static_cast<float>((-128 + 13 * t) * p);
  }
  expect_exact(ElementType::kQ4_K, four);
  expect_exact(ElementType::kQ6_K, six);
}

TEST(QuantizeRowClosely, KeepsTernaryWeightsUpToTheScalesRounding) {
  const std::vector<float> row = Row(1024, kKinds[std::size(kKinds) - 1].value);
  for (const ElementType type : {ElementType::kQ4_0, ElementType::kQ5_0, ElementType::kQ8_0}) {
    const std::vector<float> back = ThereAndBack(type, row);
    for (size_t i = 0; i < row.size(); ++i) EXPECT_NEAR(back[i], row[i], 0.7f * 0x1p-10f) << NameOf(type);
  }
}

TEST(QuantizeRowClosely, OtherTypesAreAsInQuantizeRow) {
  const std::vector<float> row = Row(256, Bell);
  for (const ElementTypeInfo& type : AllElementTypes()) {
    const bool searched = std::ranges::find(kSearched, type.type) != std::end(kSearched);
    EXPECT_EQ(CanQuantizeClosely(type.type), searched || CanQuantize(type.type)) << type.name;
    if (searched || !CanQuantizeClosely(type.type)) continue;
    std::vector<std::byte> plain(static_cast<size_t>(*RowBytes(type.type, 256))), ours(plain.size());
    QuantizeRow(type.type, row, plain.data());
    QuantizeRowClosely(type.type, row, ours.data());
    EXPECT_EQ(plain, ours) << type.name;
  }
}

}  // namespace
}  // namespace thermocline
