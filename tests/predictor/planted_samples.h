// Samples of layers whose neurons follow a planted rule of low rank.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "predictor/activation_samples.h"

namespace thermocline::testing {

// Neuron i is active when row i of a random matrix of the given rank, times x, is among the frequencies[i]
// largest such products.
struct PlantedLayer {
  int64_t rank = 0;
  std::vector<double> frequencies;  // (d_ff)
};

struct PlantedOptions {
  int64_t d_model = 64;
  int64_t training_tokens = 6000;
  int64_t held_out_tokens = 2000;
  int64_t memory_limit_bytes = int64_t{1} << 30;
  std::string spool_folder = {};
};

// Samples, and the rows that made them.
struct Planted {
  ActivationSamples samples;
  std::vector<Matrix<float>> gates;  // by layer, (d_ff, d_model)

  WeightView gate(size_t layer) const {
    const MatrixView<const float> view = gates[layer].view();
    return {reinterpret_cast<const std::byte*>(view.data), ElementType::kF32, view.rows, view.cols,
            view.stride * static_cast<int64_t>(sizeof(float))};
  }
};

// x such that a standard normal value lies above it with the given chance; by bisection.
inline double NormalQuantileAbove(double chance) {
  double low = -10, high = 10;
  for (int i = 0; i < 100; ++i) {
    const double middle = (low + high) / 2;
    (0.5 * std::erfc(middle / std::sqrt(2.0)) > chance ? low : high) = middle;
  }
  return low;
}

inline Matrix<float> PlantedGate(const PlantedLayer& layer, int64_t d_model, std::mt19937_64& random) {
  std::normal_distribution<float> normal(0, 1);
  const auto d_ff = static_cast<int64_t>(layer.frequencies.size());
  auto basis = *Matrix<float>::Create(layer.rank, d_model);
  for (int64_t r = 0; r < layer.rank; ++r)
    for (float& value : basis.row(r)) value = normal(random);
  auto gate = *Matrix<float>::Create(d_ff, d_model);
  for (int64_t i = 0; i < d_ff; ++i) {
    float squares = 0;
    for (int64_t r = 0; r < layer.rank; ++r) {
      const float factor = normal(random);
      for (int64_t c = 0; c < d_model; ++c)
        gate.view().row_data(i)[c] += factor * basis.view().row_data(r)[c];
    }
    for (const float value : gate.row(i)) squares += value * value;
    for (float& value : gate.row(i)) value /= std::sqrt(squares);  // so that gate * x is standard normal
  }
  return gate;
}

inline Planted Plant(const std::vector<PlantedLayer>& layers, const PlantedOptions& options = {}) {
  std::mt19937_64 random(7);
  std::normal_distribution<float> normal(0, 1);
  const auto d_ff = static_cast<int64_t>(layers[0].frequencies.size());
  Planted planted{.samples = *ActivationSamples::Create({.n_layers = static_cast<int64_t>(layers.size()),
                                                         .d_model = options.d_model,
                                                         .d_ff = d_ff,
                                                         .training_tokens = options.training_tokens,
                                                         .held_out_tokens = options.held_out_tokens,
                                                         .memory_limit_bytes = options.memory_limit_bytes,
                                                         .spool_folder = options.spool_folder}),
                  .gates = {}};
  for (size_t l = 0; l < layers.size(); ++l) {
    planted.gates.push_back(PlantedGate(layers[l], options.d_model, random));
    const Matrix<float>& gate = planted.gates.back();
    std::vector<double> least;
    for (const double frequency : layers[l].frequencies) least.push_back(NormalQuantileAbove(frequency));
    for (const SamplePart part : {SamplePart::kTraining, SamplePart::kHeldOut}) {
      const int64_t tokens =
          part == SamplePart::kTraining ? options.training_tokens : options.held_out_tokens;
      auto x = *Matrix<float>::Create(tokens, options.d_model);
      auto active = *Matrix<uint64_t>::Create(tokens, BitWords(d_ff));
      for (int64_t t = 0; t < tokens; ++t) {
        for (float& value : x.row(t)) value = normal(random);
        for (int64_t i = 0; i < d_ff; ++i) {
          float sum = 0;
          for (int64_t c = 0; c < options.d_model; ++c)
            sum += gate.view().row_data(i)[c] * x.view().row_data(t)[c];
          const bool is_active = static_cast<double>(sum) > least[static_cast<size_t>(i)];
          active.view().row_data(t)[i / 64] |= static_cast<uint64_t>(is_active) << (i % 64);
        }
      }
      const absl::Status appended =
          planted.samples.Append(part, static_cast<int64_t>(l), x.view(), active.view());
      TC_CHECK(appended.ok());
    }
  }
  return planted;
}

// Every neuron alike.
inline std::vector<double> FlatFrequencies(size_t d_ff, double frequency) {
  return std::vector<double>(d_ff, frequency);
}

// The same mean, almost all of it made by one neuron in ten.
inline std::vector<double> SkewedFrequencies(size_t d_ff, double mean) {
  std::vector<double> frequencies(d_ff);
  for (size_t i = 0; i < d_ff; ++i) frequencies[i] = i % 10 == 0 ? 9.8 * mean : 0.2 * mean / 9;
  return frequencies;
}

}  // namespace thermocline::testing
