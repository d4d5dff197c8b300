// Bins of magnitudes.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/magnitude_histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>

namespace thermocline {
namespace {

constexpr int kLeastExponent = -40, kExponents = 80;
constexpr int kMantissaBits = 6;
constexpr uint32_t kBinsOfExponent = 1u << kMantissaBits;
constexpr int kDroppedBits = 23 - kMantissaBits;
constexpr uint32_t kBias = 127;
// What a float of the least exponent becomes without its dropped bits; everything below is of the first bin.
constexpr uint32_t kFirst = (kBias + kLeastExponent) * kBinsOfExponent;
constexpr uint32_t kBins = kExponents * kBinsOfExponent + 1;

size_t BinOf(float value) {
  const uint32_t upper = (std::bit_cast<uint32_t>(value) & 0x7fffffffu) >> kDroppedBits;
  return upper < kFirst ? 0 : std::min(upper - kFirst + 1, kBins - 1);
}

// The least magnitude of a bin; of the one behind the last its end.
double EdgeOf(size_t bin) {
  if (bin == 0) return 0;
  const auto upper = static_cast<uint32_t>(bin - 1) + kFirst;
  return static_cast<double>(std::bit_cast<float>(upper << kDroppedBits));
}

}  // namespace

MagnitudeHistogram::MagnitudeHistogram() : bins_(kBins) {}

void MagnitudeHistogram::Add(std::span<const float> values) {
  for (const float value : values) ++bins_[BinOf(value)];
  count_ += values.size();
}

void MagnitudeHistogram::Merge(const MagnitudeHistogram& other) {
  for (size_t b = 0; b < bins_.size(); ++b) bins_[b] += other.bins_[b];
  count_ += other.count_;
}

float MagnitudeHistogram::Quantile(double share) const {
  const double wanted = share * static_cast<double>(count_);
  double below = 0;
  for (size_t b = 0; b < bins_.size(); ++b) {
    const auto here = static_cast<double>(bins_[b]);
    if (here > 0 && below + here >= wanted) {
      const double part = std::max(0.0, wanted - below) / here;
      return static_cast<float>(EdgeOf(b) + part * (EdgeOf(b + 1) - EdgeOf(b)));
    }
    below += here;
  }
  return 0;
}

double MagnitudeHistogram::ShareBelow(float magnitude) const {
  if (count_ == 0) return 0;
  const size_t bin = BinOf(magnitude);
  uint64_t below = 0;
  for (size_t b = 0; b < bin; ++b) below += bins_[b];
  const double part =
      (static_cast<double>(std::abs(magnitude)) - EdgeOf(bin)) / (EdgeOf(bin + 1) - EdgeOf(bin));
  const double here = static_cast<double>(bins_[bin]) * std::clamp(part, 0.0, 1.0);
  return (static_cast<double>(below) + here) / static_cast<double>(count_);
}

}  // namespace thermocline
