// Element types of weights: names, block shapes and byte sizes (block layouts as in the GGUF format).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "core/status.h"

namespace thermocline {

enum class ElementType { kF32, kF16, kBF16, kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ8_0, kQ4_K, kQ5_K, kQ6_K };

struct ElementTypeInfo {
  ElementType type;
  std::string_view name;   // as in GGUF, upper case: "Q4_0"
  int64_t block_elements;  // elements that share one block; 1 for plain floats
  int64_t block_bytes;
  bool quantized() const { return block_elements > 1; }
};

// All types, in the order of the enumeration.
std::span<const ElementTypeInfo> AllElementTypes();

const ElementTypeInfo& InfoOf(ElementType type);
inline std::string_view NameOf(ElementType type) { return InfoOf(type).name; }

// Accepts any case. Unknown names are InvalidArgument.
absl::StatusOr<ElementType> ParseElementType(std::string_view name);

// Bytes of one row of `columns` elements. InvalidArgument when columns is negative or no multiple of the
// block, or the size overflows.
absl::StatusOr<int64_t> RowBytes(ElementType type, int64_t columns);

}  // namespace thermocline
