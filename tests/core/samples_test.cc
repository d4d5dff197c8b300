// Median and spread.
// SPDX-License-Identifier: Apache-2.0
#include "core/samples.h"

#include <gtest/gtest.h>

namespace thermocline {
namespace {

TEST(Samples, MedianMinMax) {
  EXPECT_EQ((Samples{{3, 1, 2}}.median()), 2);
  EXPECT_EQ((Samples{{4, 1, 2, 3}}.median()), 2.5);
  EXPECT_EQ((Samples{{4, 1, 2, 3}}.min()), 1);
  EXPECT_EQ((Samples{{4, 1, 2, 3}}.max()), 4);
  EXPECT_EQ(Samples{}.median(), 0);
}

}  // namespace
}  // namespace thermocline
