// Quantisation of rows, against the Python package gguf (tests/support/golden) and the way back.
// SPDX-License-Identifier: Apache-2.0
#include "model/quantize.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kernels_cpu/kernel_table.h"

namespace thermocline {
namespace {

nlohmann::json ReadGolden() {
  std::ifstream file(THERMOCLINE_SOURCE_DIR "/tests/support/golden/quantize.json");
  return nlohmann::json::parse(file);
}

std::vector<float> GoldenRow(const nlohmann::json& golden) {
  const auto text = golden.at("row").get<std::string>();
  std::vector<float> row(text.size() / 8);
  for (size_t i = 0; i < text.size() / 2; ++i) {
    reinterpret_cast<unsigned char*>(row.data())[i] =
        static_cast<unsigned char>(std::stoi(text.substr(2 * i, 2), nullptr, 16));
  }
  return row;
}

TEST(QuantizeRow, EqualsThePythonPackage) {
  const nlohmann::json golden = ReadGolden();
  const std::vector<float> row = GoldenRow(golden);
  ASSERT_EQ(row.size(), 7u * 32);
  for (const ElementTypeInfo& type : AllElementTypes()) {
    ASSERT_EQ(CanQuantize(type.type), golden["types"].contains(std::string(type.name))) << type.name;
    if (!CanQuantize(type.type)) continue;
    std::vector<std::byte> bytes(static_cast<size_t>(*RowBytes(type.type, static_cast<int64_t>(row.size()))));
    QuantizeRow(type.type, row, bytes.data());
    std::string hex;
    for (const std::byte byte : bytes) hex += fmt::format("{:02x}", static_cast<unsigned>(byte));
    EXPECT_EQ(hex, golden["types"][std::string(type.name)].get<std::string>()) << type.name;
  }
}

TEST(QuantizeRow, ComesBackWithinHalfAStep) {
  const std::vector<float> row = GoldenRow(ReadGolden());
  std::vector<float> back(row.size());
  for (const ElementType type : {ElementType::kQ8_0, ElementType::kQ4_0}) {
    std::vector<std::byte> bytes(static_cast<size_t>(*RowBytes(type, static_cast<int64_t>(row.size()))));
    QuantizeRow(type, row, bytes.data());
    BestKernels().dequantize(type, bytes.data(), static_cast<int64_t>(row.size()), back.data());
    for (size_t block = 0; block < row.size(); block += 32) {
      float largest = 0;
      for (size_t i = block; i < block + 32; ++i) largest = std::max(largest, std::abs(row[i]));
      const float step = largest / (type == ElementType::kQ8_0 ? 127.0f : 8.0f);
      // Of the 16 levels of Q4_0 the one opposite the extreme is missing: up to a whole step is cut there.
      // The scale as F16 is off by 2^-11 of itself, or of the least normal F16.
      const float half_step = type == ElementType::kQ8_0 ? step / 2 : step;
      const float scale_error = std::max(step, 6.2e-5f) * 0x1p-11f * 127.0f;
      for (size_t i = block; i < block + 32; ++i) {
        EXPECT_LE(std::abs(row[i] - back[i]), half_step + scale_error) << NameOf(type) << " " << i;
      }
    }
  }
}

}  // namespace
}  // namespace thermocline
