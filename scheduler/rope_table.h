// RopeTable: the angles of rotary position embedding for a model.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/matrix.h"
#include "model/config.h"

namespace thermocline {

class RopeTable {
 public:
  // Applies the configuration's scaling: linear divides every frequency, llama3 divides the low ones and
  // blends between (Llama 3.1, Hugging Face's `llama3` rope type); divisors from the file apply whatever the
  // kind.
  explicit RopeTable(const ModelConfig& config);
  // Of the layers with a sliding window, whose base may differ and is then not scaled.
  static RopeTable OfWindow(const ModelConfig& config);

  int64_t pairs() const { return static_cast<int64_t>(frequencies_.size()); }
  std::span<const double> frequencies() const { return frequencies_; }  // radians a position, one a pair

  // Fills row t of cos and sin, (n_tokens, pairs), with the angles of position first_position + t.
  void Angles(int64_t first_position, MatrixView<float> cos, MatrixView<float> sin) const;

 private:
  std::vector<double> frequencies_;
};

}  // namespace thermocline
