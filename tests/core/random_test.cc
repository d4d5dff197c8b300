// The generator's published sequence.
// SPDX-License-Identifier: Apache-2.0
#include "core/random.h"

#include <gtest/gtest.h>

namespace thermocline {
namespace {

// The reference implementation's first numbers for this seed.
TEST(SplitMix64, GivesTheReferenceSequence) {
  SplitMix64 random(1234567);
  for (const uint64_t expected : {6457827717110365317u, 3203168211198807973u, 9817491932198370423u,
                                  4593380528125082431u, 16408922859458223821u})
    EXPECT_EQ(random.Next(), expected);
}

TEST(SplitMix64, UniformNumbersFillTheUnitInterval) {
  SplitMix64 random(1);
  double sum = 0;
  int upper = 0;
  constexpr int kDraws = 100'000;
  for (int i = 0; i < kDraws; ++i) {
    const double number = random.Uniform();
    ASSERT_TRUE(number >= 0 && number < 1);
    sum += number;
    upper += number >= 0.75 ? 1 : 0;
  }
  EXPECT_NEAR(sum / kDraws, 0.5, 0.005);  // five standard deviations
  EXPECT_NEAR(static_cast<double>(upper) / kDraws, 0.25, 0.007);
}

}  // namespace
}  // namespace thermocline
