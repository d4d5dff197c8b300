// RandomRow: random numbers of one row of a synthetic tensor, the same whatever thread draws them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/random.h"

namespace thermocline {

// SplitMix64, started from seed, stream (which tensor or table) and row.
class RandomRow {
 public:
  RandomRow(uint64_t seed, uint64_t stream, uint64_t row)
      : random_(SplitMix64(SplitMix64(seed).Next() ^ stream).Next() ^ row) {}

  uint64_t Bits() { return random_.Next(); }

  // Mean 0, variance 1: a sum of eight uniform 16-bit numbers, which is normal up to 4 standard deviations as
  // far as weights are concerned, and cheap enough to draw billions of.
  float Normal() {
    constexpr uint64_t kEven = 0x0000FFFF0000FFFFu;
    const uint64_t a = Bits(), b = Bits();
    const uint64_t sums = (a & kEven) + ((a >> 16) & kEven) + (b & kEven) + ((b >> 16) & kEven);
    const auto sum = static_cast<int32_t>((sums & 0xFFFFFFFFu) + (sums >> 32));
    constexpr int32_t kMean = 8 * 65535 / 2;
    constexpr float kInverseDeviation = 1.8688154e-5f;  // 1 / sqrt(8 * (65536^2 - 1) / 12)
    return static_cast<float>(sum - kMean) * kInverseDeviation;
  }

  // Below `limit`, which is below 2^32.
  uint64_t Below(uint64_t limit) { return (Bits() >> 32) * limit >> 32; }

 private:
  SplitMix64 random_;
};

}  // namespace thermocline
