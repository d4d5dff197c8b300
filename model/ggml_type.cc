// Table of GGUF's tensor type numbers.
// SPDX-License-Identifier: Apache-2.0
#include "model/ggml_type.h"

#include <string_view>

namespace thermocline {
namespace {

struct SupportedType {
  uint32_t id;
  ElementType type;
};
constexpr SupportedType kSupported[] = {
    {0, ElementType::kF32},   {1, ElementType::kF16},   {30, ElementType::kBF16}, {2, ElementType::kQ4_0},
    {3, ElementType::kQ4_1},  {6, ElementType::kQ5_0},  {7, ElementType::kQ5_1},  {8, ElementType::kQ8_0},
    {12, ElementType::kQ4_K}, {13, ElementType::kQ5_K}, {14, ElementType::kQ6_K},
};

struct NamedType {
  uint32_t id;
  std::string_view name;
};
// Known to the format but not to us, so that the message can say which it was.
constexpr NamedType kUnsupported[] = {
    {4, "Q4_2"},        {5, "Q4_3"},        {9, "Q8_1"},        {10, "Q2_K"},    {11, "Q3_K"},
    {15, "Q8_K"},       {16, "IQ2_XXS"},    {17, "IQ2_XS"},     {18, "IQ3_XXS"}, {19, "IQ1_S"},
    {20, "IQ4_NL"},     {21, "IQ3_S"},      {22, "IQ2_S"},      {23, "IQ4_XS"},  {24, "I8"},
    {25, "I16"},        {26, "I32"},        {27, "I64"},        {28, "F64"},     {29, "IQ1_M"},
    {31, "Q4_0_4_4"},   {32, "Q4_0_4_8"},   {33, "Q4_0_8_8"},   {34, "TQ1_0"},   {35, "TQ2_0"},
    {36, "IQ4_NL_4_4"}, {37, "IQ4_NL_4_8"}, {38, "IQ4_NL_8_8"}, {39, "MXFP4"},   {40, "NVFP4"},
    {41, "Q1_0"},
};

}  // namespace

std::optional<ElementType> ElementTypeOfGgml(uint32_t id) {
  for (const SupportedType& supported : kSupported) {
    if (supported.id == id) return supported.type;
  }
  return std::nullopt;
}

uint32_t GgmlIdOf(ElementType type) {
  for (const SupportedType& supported : kSupported) {
    if (supported.type == type) return supported.id;
  }
  TC_CHECK(false);
}

std::string GgmlTypeName(uint32_t id) {
  if (const auto type = ElementTypeOfGgml(id)) return std::string(NameOf(*type));
  for (const NamedType& named : kUnsupported) {
    if (named.id == id) return std::string(named.name);
  }
  return fmt::format("number {}", id);
}

std::string SupportedGgmlTypes() {
  std::string names;
  for (const SupportedType& supported : kSupported) {
    if (!names.empty()) names += ", ";
    names += NameOf(supported.type);
  }
  return names;
}

}  // namespace thermocline
