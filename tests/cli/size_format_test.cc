// Sizes for people.
// SPDX-License-Identifier: Apache-2.0
#include "cli/size_format.h"

#include <gtest/gtest.h>

namespace thermocline {
namespace {

TEST(FormatBytes, TakesTheLargestUnitBelow) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(1023), "1023 B");
  EXPECT_EQ(FormatBytes(1024), "1.0 KiB");
  EXPECT_EQ(FormatBytes(13'900'288), "13.3 MiB");
  EXPECT_EQ(FormatBytes(int64_t{24} << 30), "24.0 GiB");
}

}  // namespace
}  // namespace thermocline
