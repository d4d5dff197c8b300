// MagnitudeHistogram: how large values are, from which shares and the thresholds for them are read.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace thermocline {

// Bins are floats of the same exponent and upper 6 bits of the mantissa, so that each is a 64th of its
// magnitude wide and memory does not grow with the values; within a bin values count as evenly spread.
// Magnitudes below 2^-40 share the first bin, those from 2^40 on and NaN the last.
class MagnitudeHistogram {
 public:
  MagnitudeHistogram();

  void Add(std::span<const float> values);
  // The counts of both.
  void Merge(const MagnitudeHistogram& other);

  uint64_t count() const { return count_; }
  // Below which `share` of the values are, from 0 to 1; 0 without values.
  float Quantile(double share) const;
  // Of the values, below a magnitude; 0 without values.
  double ShareBelow(float magnitude) const;

 private:
  std::vector<uint64_t> bins_;
  uint64_t count_ = 0;
};

}  // namespace thermocline
