// Tables of neurons: bundles of rows, selections of neurons for a step, counts of what was read.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include "core/matrix.h"

namespace thermocline {

// One neuron's rows side by side, for all neurons of a table: neuron i's bundle starts at data + i *
// stride_bytes and holds gate_i, up_i, down_i, each d_model elements, at the given offsets. The three parts
// may differ in type. A bundle of an ungated block (FC1, activation, FC2) has no up part: gate is FC1, down
// FC2.
struct BundleView {
  const std::byte* data = nullptr;
  int64_t n_neurons = 0;
  int64_t d_model = 0;
  int64_t stride_bytes = 0;
  int64_t up_offset_bytes = 0;  // gated only
  int64_t down_offset_bytes = 0;
  ElementType gate_type = ElementType::kF32;
  ElementType up_type = ElementType::kF32;  // gated only
  ElementType down_type = ElementType::kF32;
  bool gated = true;
  const float* gate_bias = nullptr;  // (n_neurons), added to the gate's products; nullptr: none

  WeightView gate() const { return {data, gate_type, n_neurons, d_model, stride_bytes}; }
  WeightView up() const { return {data + up_offset_bytes, up_type, n_neurons, d_model, stride_bytes}; }
  WeightView down() const { return {data + down_offset_bytes, down_type, n_neurons, d_model, stride_bytes}; }
};

// Bit t: token t of the step.
using TokenMask = uint16_t;
inline constexpr int64_t kMostSparseTokens = 16;  // of one call

// Words of 64 bits that hold one bit for each of n.
constexpr int64_t BitWords(int64_t n) { return (n + 63) / 64; }

// Rows of a table, ascending, and which tokens need each.
struct NeuronSelection {
  std::span<const uint32_t> rows;
  std::span<const TokenMask> tokens;  // (rows.size()), none of them 0; empty: every token needs every row
};

// Rows that were read, each counted once however many tokens needed it.
struct NeuronReads {
  int64_t gate_rows = 0;
  int64_t up_rows = 0;
  int64_t down_rows = 0;

  // What those rows of a table take, without the rest of their bundles.
  int64_t Bytes(const BundleView& bundles) const;
  NeuronReads& operator+=(const NeuronReads& other);
  bool operator==(const NeuronReads&) const = default;
};

}  // namespace thermocline
