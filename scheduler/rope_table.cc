// RopeTable.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/rope_table.h"

#include <cmath>
#include <numbers>

namespace thermocline {
namespace {

// Llama 3.1: wavelengths beyond the original context are stretched by `factor`, short ones stay, between them
// a blend.
double Llama3Frequency(double frequency, const RopeScaling& scaling) {
  const double wavelength = 2 * std::numbers::pi / frequency;
  const auto original = static_cast<double>(scaling.original_context_length);
  const double low_wavelength = original / scaling.low_freq_factor;
  const double high_wavelength = original / scaling.high_freq_factor;
  if (wavelength < high_wavelength) return frequency;
  if (wavelength > low_wavelength) return frequency / scaling.factor;
  const double smooth = (original / wavelength - scaling.low_freq_factor) /
                        (scaling.high_freq_factor - scaling.low_freq_factor);
  return (1 - smooth) * frequency / scaling.factor + smooth * frequency;
}

}  // namespace

RopeTable::RopeTable(const ModelConfig& config) {
  const RopeScaling& scaling = config.rope_scaling;
  const int64_t pairs = config.rope_dimensions / 2;
  for (int64_t i = 0; i < pairs; ++i) {
    double frequency = std::pow(config.rope_theta,
                                -2.0 * static_cast<double>(i) / static_cast<double>(config.rope_dimensions));
    if (scaling.kind == RopeScaling::Kind::kLinear) frequency /= scaling.factor;
    if (scaling.kind == RopeScaling::Kind::kLlama3) frequency = Llama3Frequency(frequency, scaling);
    if (!scaling.frequency_divisors.empty()) {
      frequency /= static_cast<double>(scaling.frequency_divisors[static_cast<size_t>(i)]);
    }
    frequencies_.push_back(frequency);
  }
}

RopeTable RopeTable::OfWindow(const ModelConfig& config) {
  ModelConfig windowed = config;
  if (config.window.rope_theta > 0) {
    windowed.rope_theta = config.window.rope_theta;
    windowed.rope_scaling = {};
  }
  return RopeTable(windowed);
}

void RopeTable::Angles(int64_t first_position, MatrixView<float> cos, MatrixView<float> sin) const {
  for (int64_t t = 0; t < cos.rows; ++t) {
    const auto position = static_cast<double>(first_position + t);
    for (size_t i = 0; i < frequencies_.size(); ++i) {
      cos.row(t)[i] = static_cast<float>(std::cos(position * frequencies_[i]));
      sin.row(t)[i] = static_cast<float>(std::sin(position * frequencies_[i]));
    }
  }
}

}  // namespace thermocline
