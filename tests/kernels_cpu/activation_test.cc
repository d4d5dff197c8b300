// Activation names.
// SPDX-License-Identifier: Apache-2.0
#include "kernels_cpu/activation.h"

#include <gtest/gtest.h>

namespace thermocline {
namespace {

TEST(Activation, NamesRoundTrip) {
  for (const Activation activation :
       {Activation::kRelu, Activation::kSilu, Activation::kFatRelu, Activation::kGelu, Activation::kGeluTanh,
        Activation::kRelu2, Activation::kDRelu}) {
    EXPECT_EQ(*ParseActivation(NameOf(activation)), activation);
    EXPECT_NE(kKnownActivations.find(NameOf(activation)), std::string_view::npos);
  }
  EXPECT_EQ(*ParseActivation("gelu_pytorch_tanh"), Activation::kGeluTanh);
  EXPECT_EQ(*ParseActivation("gelu_new"), Activation::kGeluTanh);
  EXPECT_EQ(*ParseActivation("swish"), Activation::kSilu);
}

TEST(Activation, UnknownNamesAreRefused) {
  EXPECT_EQ(ParseActivation("quick_gelu").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ParseActivation("").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(Activation, SiluAndGeluHaveNoTrueZeros) {
  EXPECT_TRUE(HasTrueZeros(Activation::kRelu));
  EXPECT_TRUE(HasTrueZeros(Activation::kFatRelu));
  EXPECT_TRUE(HasTrueZeros(Activation::kRelu2));
  EXPECT_TRUE(HasTrueZeros(Activation::kDRelu));
  EXPECT_FALSE(HasTrueZeros(Activation::kSilu));
  EXPECT_FALSE(HasTrueZeros(Activation::kGelu));
  EXPECT_FALSE(HasTrueZeros(Activation::kGeluTanh));
}

}  // namespace
}  // namespace thermocline
