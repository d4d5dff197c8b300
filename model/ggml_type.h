// The tensor type numbers of GGUF files: which are supported, and what the others are called.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/element_type.h"

namespace thermocline {

// Nothing for a type that is not supported.
std::optional<ElementType> ElementTypeOfGgml(uint32_t id);
// The number in a file of a supported type.
uint32_t GgmlIdOf(ElementType type);

// "IQ4_XS", or "number 99" where it is unknown.
std::string GgmlTypeName(uint32_t id);

// "F32, F16, BF16, ...", for messages.
std::string SupportedGgmlTypes();

}  // namespace thermocline
