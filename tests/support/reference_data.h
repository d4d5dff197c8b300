// Random inputs for kernel tests and benchmarks, in exact heap blocks so that ASan sees over-reads.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <span>
#include <vector>

#include "core/matrix.h"
#include "kernels_cpu/neurons.h"

namespace thermocline::reference {

// A weight matrix with random blocks: sane scales of either sign, any quants. It starts `offset` bytes into
// its heap block, rows `row_gap_bytes` apart, and ends with the block.
class RandomWeights {
 public:
  RandomWeights(ElementType type, int64_t rows, int64_t cols, uint32_t seed, int64_t offset = 0,
                int64_t row_gap_bytes = 0);
  WeightView view() const { return view_; }

 private:
  std::unique_ptr<std::byte[]> storage_;
  WeightView view_;
};

// A table of bundles with random rows, `gap_bytes` between the parts and between the bundles. It ends with
// its heap block.
class RandomBundles {
 public:
  struct Types {
    ElementType gate;
    ElementType up;
    ElementType down;
  };
  RandomBundles(const Types& types, bool gated, int64_t n_neurons, int64_t d_model, uint32_t seed,
                int64_t gap_bytes = 3);
  const BundleView& view() const { return view_; }

  // Overwrites neuron i's gate row, or its up and down rows, with 0xFF bytes: NaN in every type of floats and
  // in every scale.
  void PoisonGate(int64_t i);
  void PoisonUpAndDown(int64_t i);

 private:
  std::byte* bundle(int64_t i) { return storage_.get() + i * view_.stride_bytes; }

  std::unique_ptr<std::byte[]> storage_;
  BundleView view_;
};

// A (rows, cols) matrix of floats, `gap` further elements between rows; the gaps hold NaN.
class FloatMatrix {
 public:
  static FloatMatrix Random(int64_t rows, int64_t cols, uint32_t seed, int64_t gap = 0);
  static FloatMatrix Poisoned(int64_t rows, int64_t cols, int64_t gap = 0);  // all NaN

  MatrixView<float> view() { return {data_.get(), rows_, cols_, cols_ + gap_}; }
  MatrixView<const float> view() const { return {data_.get(), rows_, cols_, cols_ + gap_}; }

 private:
  FloatMatrix(int64_t rows, int64_t cols, int64_t gap);
  int64_t rows_, cols_, gap_;
  std::unique_ptr<float[]> data_;
};

// Whether two matrices have the same bits in every element.
bool SameBits(MatrixView<const float> a, MatrixView<const float> b);
bool SameBits(std::span<const float> a, std::span<const float> b);

}  // namespace thermocline::reference
