// 16-bit floats: every value there and back, and rounding against an exact search.
// SPDX-License-Identifier: Apache-2.0
#include "core/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace thermocline {
namespace {

TEST(Half, EveryHalfSurvivesTheRoundTrip) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float value = HalfToFloat(half);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(HalfToFloat(FloatToHalf(value))));
    } else {
      ASSERT_EQ(FloatToHalf(value), half) << bits;
    }
  }
}

TEST(Half, KnownValues) {
  EXPECT_EQ(HalfToFloat(0x3C00), 1.0f);
  EXPECT_EQ(HalfToFloat(0xC000), -2.0f);
  EXPECT_EQ(HalfToFloat(0x0001), 0x1p-24f);
  EXPECT_EQ(HalfToFloat(0x7BFF), 65504.0f);
  EXPECT_EQ(FloatToHalf(65519.0f), 0x7BFF);
  EXPECT_EQ(FloatToHalf(65520.0f), 0x7C00);
  EXPECT_EQ(FloatToHalf(0x1p-25f), 0x0000);  // tie to even
  EXPECT_EQ(FloatToHalf(0x1.8p-25f), 0x0001);
}

// The nearest of two neighbouring 16-bit values, ties to the even one.
TEST(Half, RoundsToNearestEven) {
  std::mt19937 random(7);
  std::uniform_int_distribution<uint32_t> pick(0, 0x7BFE);
  for (int i = 0; i < 20000; ++i) {
    const auto low = static_cast<uint16_t>(pick(random));
    const auto high = static_cast<uint16_t>(low + 1);
    const double a = HalfToFloat(low), b = HalfToFloat(high);
    const auto value = static_cast<float>(a + (b - a) * std::generate_canonical<double, 53>(random));
    const double to_a = value - a, to_b = b - value;
    const uint16_t want = to_a < to_b ? low : to_b < to_a ? high : (low & 1) ? high : low;
    ASSERT_EQ(FloatToHalf(value), want) << value;
    ASSERT_EQ(FloatToHalf(-value), want | 0x8000) << value;
  }
}

TEST(BFloat16, RoundTripAndRounding) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = BFloat16ToFloat(static_cast<uint16_t>(bits));
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(BFloat16ToFloat(FloatToBFloat16(value))));
    } else {
      ASSERT_EQ(FloatToBFloat16(value), bits);
    }
  }
  EXPECT_EQ(FloatToBFloat16(1.0f + 0x1p-8f), 0x3F80);             // tie to even
  EXPECT_EQ(FloatToBFloat16(1.0f + 0x1p-8f + 0x1p-20f), 0x3F81);  // above the tie
}

}  // namespace
}  // namespace thermocline
