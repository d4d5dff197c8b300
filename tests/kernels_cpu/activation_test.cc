// Activation names.
// SPDX-License-Identifier: Apache-2.0
#include "kernels_cpu/activation.h"

#include <gtest/gtest.h>

namespace thermocline {
namespace {

TEST(Activation, NamesRoundTrip) {
  for (const Activation activation : {Activation::kRelu, Activation::kSilu, Activation::kFatRelu})
    EXPECT_EQ(*ParseActivation(NameOf(activation)), activation);
  EXPECT_EQ(*ParseActivation("swish"), Activation::kSilu);
}

TEST(Activation, UnknownNamesAreRefused) {
  EXPECT_EQ(ParseActivation("gelu").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ParseActivation("").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(Activation, SiluHasNoTrueZeros) {
  EXPECT_TRUE(HasTrueZeros(Activation::kRelu));
  EXPECT_TRUE(HasTrueZeros(Activation::kFatRelu));
  EXPECT_FALSE(HasTrueZeros(Activation::kSilu));
}

}  // namespace
}  // namespace thermocline
