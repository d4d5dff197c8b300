// Parameters of kernel tests: every instruction set this machine runs, alone and with every element type.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <string_view>
#include <tuple>

#include "kernels_cpu/kernel_table.h"

namespace thermocline {

class IsaTest : public testing::TestWithParam<std::string_view> {
 protected:
  const KernelTable& kernels() const { return **KernelsFor(GetParam()); }
};

using IsaAndType = std::tuple<std::string_view, ElementTypeInfo>;
class IsaTypeTest : public testing::TestWithParam<IsaAndType> {
 protected:
  const KernelTable& kernels() const { return **KernelsFor(std::get<0>(GetParam())); }
  const ElementTypeInfo& type() const { return std::get<1>(GetParam()); }
};

inline std::string IsaName(const testing::TestParamInfo<std::string_view>& info) {
  return std::string(info.param);
}
inline std::string IsaTypeName(const testing::TestParamInfo<IsaAndType>& info) {
  return std::string(std::get<0>(info.param)) + "_" + std::string(std::get<1>(info.param).name);
}
inline auto EveryIsa() { return testing::ValuesIn(AvailableIsas()); }
inline auto EveryIsaAndType() {
  return testing::Combine(EveryIsa(), testing::ValuesIn(AllElementTypes().begin(), AllElementTypes().end()));
}

// What rounding may do to a sum of `terms` products whose magnitudes add up to `magnitude`: errors of up to
// two half-ulps a term (product and addition), which grow as the root of their number; 8 standard deviations.
inline double SumTolerance(int64_t terms, double magnitude) {
  return 0x1p-24 * 2.0 * (8.0 * std::sqrt(static_cast<double>(terms)) + 1.0) * magnitude + 1e-30;
}

}  // namespace thermocline
