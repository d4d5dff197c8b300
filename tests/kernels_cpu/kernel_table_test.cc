// The choice among instruction sets.
// SPDX-License-Identifier: Apache-2.0
#include "kernels_cpu/kernel_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace thermocline {
namespace {

using testing::HasSubstr;

TEST(KernelTable, TheBestIsTheFirstAvailable) {
  ASSERT_FALSE(AvailableIsas().empty());
  EXPECT_EQ(BestKernels().isa, AvailableIsas().front());
  EXPECT_EQ(*KernelsFor(AvailableIsas().front()), &BestKernels());
}

TEST(KernelTable, EveryAvailableSetHasItsOwnCompleteTable) {
  std::set<decltype(KernelTable::mat_mul_packed)> products;
  for (const std::string_view isa : AvailableIsas()) {
    const absl::StatusOr<const KernelTable*> kernels = KernelsFor(isa);
    ASSERT_TRUE(kernels.ok()) << kernels.status();
    EXPECT_EQ((*kernels)->isa, isa);
    EXPECT_NE((*kernels)->dequantize, nullptr);
    EXPECT_NE((*kernels)->accumulate_rows, nullptr);
    EXPECT_NE((*kernels)->accumulate_neurons, nullptr);
    EXPECT_NE((*kernels)->activate, nullptr);
    EXPECT_NE((*kernels)->rms_norm, nullptr);
    EXPECT_NE((*kernels)->rope, nullptr);
    EXPECT_NE((*kernels)->gated_activation, nullptr);
    EXPECT_NE((*kernels)->count_active, nullptr);
    EXPECT_NE((*kernels)->select_active, nullptr);
    EXPECT_NE((*kernels)->pack_signs, nullptr);
    EXPECT_NE((*kernels)->sign_agreement, nullptr);
    EXPECT_NE((*kernels)->add, nullptr);
    EXPECT_NE((*kernels)->attention, nullptr);
    EXPECT_NE((*kernels)->quantize_activations, nullptr);
    products.insert((*kernels)->mat_mul_packed);
  }
  EXPECT_EQ(products.size(), AvailableIsas().size());
}

#if defined(__x86_64__)
TEST(KernelTable, TheSetsOfThisProcessorAreThere) {
  const std::vector<std::string_view> isas = AvailableIsas();
  const std::set<std::string_view> names(isas.begin(), isas.end());
  EXPECT_TRUE(names.contains("scalar"));
  EXPECT_EQ(names.contains("avx2"), __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"));
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // where fewer sets are compiled
  EXPECT_EQ(names.contains("avx512"), __builtin_cpu_supports("avx512bw") &&
                                          __builtin_cpu_supports("avx512dq") &&
                                          __builtin_cpu_supports("avx512vl"));
#endif
}
#elif defined(__aarch64__)
TEST(KernelTable, TheSetsOfThisProcessorAreThere) {
  std::vector<std::string_view> expected = {"neon", "scalar"};  // every 64-bit Arm has NEON
  if ((getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0) expected.insert(expected.begin(), "neon_dotprod");
  EXPECT_EQ(AvailableIsas(), expected);
}
#endif

TEST(KernelTable, UnknownSetsAreRefusedWithTheList) {
  const absl::StatusOr<const KernelTable*> kernels = KernelsFor("mmx");
  ASSERT_EQ(kernels.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(kernels.status().message()), HasSubstr("mmx"));
  EXPECT_THAT(std::string(kernels.status().message()), HasSubstr(std::string(BestKernels().isa)));
}

}  // namespace
}  // namespace thermocline
