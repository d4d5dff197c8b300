// Names and sizes of element types.
// SPDX-License-Identifier: Apache-2.0
#include "core/element_type.h"

#include <gtest/gtest.h>

namespace thermocline {
namespace {

TEST(ElementType, NamesParseBack) {
  for (const ElementTypeInfo& info : AllElementTypes()) {
    EXPECT_EQ(*ParseElementType(info.name), info.type);
    EXPECT_EQ(&InfoOf(info.type), &info);
  }
  EXPECT_EQ(*ParseElementType("q4_k"), ElementType::kQ4_K);
  EXPECT_EQ(ParseElementType("q3_z").status().message(), "element type 'q3_z' is unknown");
}

TEST(ElementType, RowBytes) {
  EXPECT_EQ(*RowBytes(ElementType::kF32, 3), 12);
  EXPECT_EQ(*RowBytes(ElementType::kQ4_0, 64), 36);
  EXPECT_EQ(*RowBytes(ElementType::kQ6_K, 512), 420);
  EXPECT_EQ(RowBytes(ElementType::kQ4_0, 33).status().message(),
            "33 columns are not a multiple of Q4_0's block of 32");
  EXPECT_FALSE(RowBytes(ElementType::kF32, -1).ok());
  EXPECT_FALSE(RowBytes(ElementType::kF32, INT64_MAX).ok());
}

}  // namespace
}  // namespace thermocline
