// Quantisation of rows.
// SPDX-License-Identifier: Apache-2.0
#include "model/quantize.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "core/half.h"
#include "core/status.h"

namespace thermocline {
namespace {

constexpr size_t kBlock = 32;

void Store(std::span<const float> row, uint16_t (*convert)(float), std::byte* target) {
  for (const float value : row) {
    const uint16_t half = convert(value);
    std::memcpy(target, &half, sizeof half);
    target += sizeof half;
  }
}

}  // namespace

void QuantizeQ8_0(std::span<const float> row, std::byte* target) {
  TC_CHECK(row.size() % kBlock == 0);
  for (size_t begin = 0; begin < row.size(); begin += kBlock) {
    const std::span<const float> block = row.subspan(begin, kBlock);
    float largest = 0;
    for (const float value : block) largest = std::max(largest, std::abs(value));
    const float scale = largest / 127.0f;
    const float inverse = scale > 0 ? 1.0f / scale : 0.0f;
    const uint16_t half = FloatToHalf(scale);
    std::memcpy(target, &half, sizeof half);
    target += sizeof half;
    for (const float value : block) {
      const float rounded = std::clamp(std::nearbyint(value * inverse), -127.0f, 127.0f);
      *target++ = static_cast<std::byte>(static_cast<int8_t>(rounded));
    }
  }
}

void QuantizeQ4_0(std::span<const float> row, std::byte* target) {
  TC_CHECK(row.size() % kBlock == 0);
  // 0 to 15 stand for -8 to 7. Truncation after adding a half more rounds to nearest.
  const auto quantise = [](float scaled) {
    return static_cast<uint8_t>(std::min(15, static_cast<int>(scaled + 8.5f)));
  };
  for (size_t begin = 0; begin < row.size(); begin += kBlock) {
    const std::span<const float> block = row.subspan(begin, kBlock);
    float extreme = 0;
    for (const float value : block) extreme = std::abs(value) > std::abs(extreme) ? value : extreme;
    const float scale = extreme / -8.0f;
    const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
    const uint16_t half = FloatToHalf(scale);
    std::memcpy(target, &half, sizeof half);
    target += sizeof half;
    for (size_t i = 0; i < kBlock / 2; ++i) {
      const uint8_t low = quantise(block[i] * inverse), high = quantise(block[i + kBlock / 2] * inverse);
      *target++ = static_cast<std::byte>(low | high << 4);
    }
  }
}

bool CanQuantize(ElementType type) {
  switch (type) {
    case ElementType::kF32:
    case ElementType::kF16:
    case ElementType::kBF16:
    case ElementType::kQ8_0:
    case ElementType::kQ4_0:
      return true;
    default:
      return false;
  }
}

void QuantizeRow(ElementType type, std::span<const float> row, std::byte* target) {
  switch (type) {
    case ElementType::kF32:
      std::memcpy(target, row.data(), row.size_bytes());
      return;
    case ElementType::kF16:
      return Store(row, FloatToHalf, target);
    case ElementType::kBF16:
      return Store(row, FloatToBFloat16, target);
    case ElementType::kQ8_0:
      return QuantizeQ8_0(row, target);
    case ElementType::kQ4_0:
      return QuantizeQ4_0(row, target);
    default:
      TC_CHECK(CanQuantize(type));
  }
}

}  // namespace thermocline
