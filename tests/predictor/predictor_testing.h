// Predictors with random weights, for tests.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "model/quantize.h"
#include "predictor/predictor_set.h"

namespace thermocline::testing {

inline QuantizedMatrix RandomQuantized(int64_t rows, int64_t cols, std::mt19937_64& random) {
  std::normal_distribution<float> normal(0, 0.3f);
  QuantizedMatrix matrix{.rows = rows, .cols = cols};
  matrix.blocks.resize(static_cast<size_t>(rows * cols / 32 * 34));
  std::vector<float> row(static_cast<size_t>(cols));
  for (int64_t r = 0; r < rows; ++r) {
    for (float& value : row) value = normal(random);
    QuantizeQ8_0(row, matrix.blocks.data() + r * (cols / 32 * 34));
  }
  return matrix;
}

inline std::vector<float> RandomVector(int64_t size, std::mt19937_64& random) {
  std::normal_distribution<float> normal(0, 1);
  std::vector<float> values(static_cast<size_t>(size));
  for (float& value : values) value = normal(random);
  return values;
}

// d_model is a multiple of 32.
inline LayerPredictor RandomMlp(int64_t d_model, int64_t d_ff, int64_t hidden, uint64_t seed) {
  std::mt19937_64 random(seed);
  LayerPredictor layer{.kind = PredictorKind::kMlp,
                       .balanced_threshold = -0.25,
                       .fast_threshold = 0.75,
                       .balanced = {.recall = 0.96, .precision = 0.5, .marked = 0.2},
                       .fast = {.recall = 0.91, .precision = 0.6, .marked = 0.15},
                       .hidden = hidden};
  layer.w1 = RandomQuantized(hidden, d_model, random);
  layer.b1 = RandomVector(hidden, random);
  layer.w2 = RandomQuantized(d_ff, hidden, random);
  layer.b2 = RandomVector(d_ff, random);
  return layer;
}

inline LayerPredictor SomeSign() {
  return {.kind = PredictorKind::kSign,
          .balanced_threshold = 2,
          .fast_threshold = 6,
          .balanced = {.recall = 0.97, .precision = 0.3, .marked = 0.4},
          .fast = {.recall = 0.9, .precision = 0.4, .marked = 0.3}};
}

// A layer of each kind.
inline PredictorSet SomePredictors() {
  PredictorSet predictors{.model = {.sha256 = std::string(64, 'a'), .n_layers = 2, .d_model = 64, .d_ff = 96},
                          .target_recall = 0.95,
                          .fast_recall = 0.9};
  predictors.layers = {RandomMlp(64, 96, 32, 1), SomeSign()};
  return predictors;
}

}  // namespace thermocline::testing
