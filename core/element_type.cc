// Table of element types.
// SPDX-License-Identifier: Apache-2.0
#include "core/element_type.h"

#include <absl/strings/match.h>

#include "core/checked.h"

namespace thermocline {
namespace {

constexpr ElementTypeInfo kTypes[] = {
    {ElementType::kF32, "F32", 1, 4},       {ElementType::kF16, "F16", 1, 2},
    {ElementType::kBF16, "BF16", 1, 2},     {ElementType::kQ4_0, "Q4_0", 32, 18},
    {ElementType::kQ4_1, "Q4_1", 32, 20},   {ElementType::kQ5_0, "Q5_0", 32, 22},
    {ElementType::kQ5_1, "Q5_1", 32, 24},   {ElementType::kQ8_0, "Q8_0", 32, 34},
    {ElementType::kQ4_K, "Q4_K", 256, 144}, {ElementType::kQ5_K, "Q5_K", 256, 176},
    {ElementType::kQ6_K, "Q6_K", 256, 210},
};

}  // namespace

std::span<const ElementTypeInfo> AllElementTypes() { return kTypes; }

const ElementTypeInfo& InfoOf(ElementType type) {
  const auto index = static_cast<size_t>(type);
  TC_CHECK(index < std::size(kTypes) && kTypes[index].type == type);
  return kTypes[index];
}

absl::StatusOr<ElementType> ParseElementType(std::string_view name) {
  for (const ElementTypeInfo& info : kTypes) {
    if (absl::EqualsIgnoreCase({info.name.data(), info.name.size()}, {name.data(), name.size()}))
      return info.type;
  }
  return InvalidArgument("element type '{}' is unknown", name);
}

absl::StatusOr<int64_t> RowBytes(ElementType type, int64_t columns) {
  const ElementTypeInfo& info = InfoOf(type);
  if (columns < 0 || columns % info.block_elements != 0) {
    return InvalidArgument("{} columns are not a multiple of {}'s block of {}", columns, info.name,
                           info.block_elements);
  }
  const auto bytes = CheckedMul(static_cast<uint64_t>(columns / info.block_elements),
                                static_cast<uint64_t>(info.block_bytes));
  if (!bytes || *bytes > static_cast<uint64_t>(INT64_MAX)) {
    return InvalidArgument("a row of {} {} elements overflows 64 bits", columns, info.name);
  }
  return static_cast<int64_t>(*bytes);
}

}  // namespace thermocline
