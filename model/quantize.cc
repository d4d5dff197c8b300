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

void QuantizeQ8_0(std::span<const float> row, std::byte* target) {
  constexpr size_t kBlock = 32;
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

}  // namespace thermocline
