// Expansion of every element type, against the Python package gguf (tests/support/golden) and the scalar
// reference. SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/half.h"
#include "tests/kernels_cpu/isa_test_support.h"
#include "tests/support/reference.h"
#include "tests/support/reference_data.h"

namespace thermocline {
namespace {

std::vector<std::byte> FromHex(const std::string& text) {
  std::vector<std::byte> bytes;
  for (size_t i = 0; i + 1 < text.size(); i += 2)
    bytes.push_back(static_cast<std::byte>(std::stoi(text.substr(i, 2), nullptr, 16)));
  return bytes;
}

struct Golden {
  std::vector<std::byte> blocks;
  std::vector<float> expected;
};

Golden ReadGolden(std::string_view type) {
  std::ifstream file(THERMOCLINE_SOURCE_DIR "/tests/support/golden/dequant.json");
  const nlohmann::json entry = nlohmann::json::parse(file).at("types").at(std::string(type));
  Golden golden;
  golden.blocks = FromHex(entry.at("blocks"));
  const std::vector<std::byte> expected = FromHex(entry.at("expected"));
  golden.expected.resize(expected.size() / sizeof(float));
  std::memcpy(golden.expected.data(), expected.data(), expected.size());
  return golden;
}

class DequantizeTest : public IsaTypeTest {};
INSTANTIATE_TEST_SUITE_P(All, DequantizeTest, EveryIsaAndType(), IsaTypeName);

TEST_P(DequantizeTest, EqualsThePythonPackage) {
  const Golden golden = ReadGolden(type().name);
  ASSERT_GE(golden.expected.size(), 40u);
  std::vector<float> values(golden.expected.size(), NAN);
  kernels().dequantize(type().type, golden.blocks.data(), static_cast<int64_t>(values.size()), values.data());
  for (size_t i = 0; i < values.size(); ++i) ASSERT_EQ(values[i], golden.expected[i]) << i;
}

TEST_P(DequantizeTest, EqualsTheReferenceAtAnyLengthAndAlignment) {
  for (const int64_t blocks : {1, 2, 3, 7, 31, 32, 33, 65}) {
    const int64_t count = blocks * type().block_elements;
    for (const int64_t offset : {0, 1}) {
      const reference::RandomWeights w(type().type, 1, count, static_cast<uint32_t>(blocks), offset);
      const std::vector<float> expected = reference::Dequantize(type().type, w.view().data, count);
      const auto values = std::make_unique<float[]>(static_cast<size_t>(count));
      kernels().dequantize(type().type, w.view().data, count, values.get());
      for (int64_t i = 0; i < count; ++i)
        ASSERT_EQ(values[static_cast<size_t>(i)], expected[static_cast<size_t>(i)]) << count << " " << i;
    }
  }
}

TEST_P(DequantizeTest, WritesOnlyWhatWasAsked) {
  const int64_t count = 3 * type().block_elements;
  const reference::RandomWeights w(type().type, 1, count, 5);
  std::vector<float> values(static_cast<size_t>(count) + 64, -7.0f);
  kernels().dequantize(type().type, w.view().data, count, values.data());
  for (size_t i = static_cast<size_t>(count); i < values.size(); ++i) ASSERT_EQ(values[i], -7.0f) << i;
}

class HalfTest : public IsaTest {};
INSTANTIATE_TEST_SUITE_P(All, HalfTest, EveryIsa(), IsaName);

TEST_P(HalfTest, EveryHalfIsExact) {
  std::vector<uint16_t> halves(0x10000);
  for (size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<uint16_t>(i);
  std::vector<float> values(halves.size());
  kernels().dequantize(ElementType::kF16, reinterpret_cast<const std::byte*>(halves.data()), 0x10000,
                       values.data());
  for (size_t i = 0; i < halves.size(); ++i) {
    const float expected = HalfToFloat(halves[i]);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(values[i])) << i;
    } else {
      ASSERT_EQ(std::bit_cast<uint32_t>(values[i]), std::bit_cast<uint32_t>(expected)) << i;
    }
  }
}

}  // namespace
}  // namespace thermocline
