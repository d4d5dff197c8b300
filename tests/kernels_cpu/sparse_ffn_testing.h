// Random sparse feed-forward steps and the dense step beside them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels_cpu/sparse_ffn.h"
#include "tests/support/reference_data.h"

namespace thermocline::testing_sparse {

using reference::FloatMatrix;
using reference::RandomBundles;

// Neurons around the number of ranges, of register tiles, of blocks for one token (ranges of 512) and many.
inline const std::vector<int64_t> kNeurons = {1, 5, 31, 33, 100, 333};

// Widths that leave rests of vectors, of groups of 32 and of chunks, as far as the type allows.
inline std::vector<int64_t> Widths(const ElementTypeInfo& type) {
  if (type.block_elements == 1) return {1, 45, 530};
  if (type.block_elements == 32) return {32, 544};
  return {256, 768};
}

// One whose gates are about half silent, one with none, one with a threshold that silences most.
inline ActivationFunction ActivationOf(uint32_t seed, int64_t d_model) {
  switch (seed % 4) {
    case 0:
      return Activation::kSilu;
    case 1:
      return {Activation::kFatRelu, 0.3f * std::sqrt(static_cast<float>(d_model))};
    default:
      return Activation::kRelu;
  }
}

inline std::vector<uint32_t> EveryRow(int64_t n) {
  std::vector<uint32_t> rows;
  for (int64_t i = 0; i < n; ++i) rows.push_back(static_cast<uint32_t>(i));
  return rows;
}

// A result, its outputs poisoned before.
struct Result {
  FloatMatrix y;
  std::vector<TokenMask> fired;
  NeuronReads reads;
};

inline Result RunSparse(const KernelTable& kernels, int threads, const BundleView& bundles,
                        ActivationFunction activation, MatrixView<const float> x,
                        const NeuronSelection& candidates) {
  const auto team = *ThreadTeam::Create(threads);
  Result result{FloatMatrix::Poisoned(x.rows, bundles.d_model, 3),
                std::vector<TokenMask>(candidates.rows.size(), 0xFFFF),
                {}};
  std::vector<float> scratch(
      static_cast<size_t>(SparseFfnScratchSize(bundles.n_neurons, bundles.d_model, x.rows)), NAN);
  result.reads = SparseFeedForward({team.get(), &kernels},
                                   {.bundles = bundles,
                                    .activation = activation,
                                    .x = x,
                                    .candidates = candidates,
                                    .y = result.y.view(),
                                    .fired = result.fired},
                                   scratch);
  return result;
}

struct DenseResult {
  FloatMatrix y;
  FloatMatrix active;  // activation(gate)
  FloatMatrix hidden;  // activation(gate) * up
};

inline DenseResult RunDense(const KernelTable& kernels, int threads, const BundleView& bundles,
                            ActivationFunction activation, MatrixView<const float> x, ZeroRows zero_rows) {
  const auto team = *ThreadTeam::Create(threads);
  const CpuContext context{team.get(), &kernels};
  const int64_t n = bundles.n_neurons;
  DenseResult result{FloatMatrix::Poisoned(x.rows, bundles.d_model), FloatMatrix::Poisoned(x.rows, n),
                     FloatMatrix::Poisoned(x.rows, n)};
  FloatMatrix up = FloatMatrix::Poisoned(x.rows, n);
  std::vector<float> partials(static_cast<size_t>(FfnPartialsSize(bundles.d_model)), NAN);
  DenseFeedForward(context, {.bundles = bundles,
                             .activation = activation,
                             .x = x,
                             .y = result.y.view(),
                             .gate = result.hidden.view(),
                             .up = up.view(),
                             .partials = partials,
                             .zero_rows = zero_rows});
  MatMul(context, bundles.gate(), x, result.active.view());
  Activate(context, activation, result.active.view(), result.active.view());
  return result;
}

}  // namespace thermocline::testing_sparse
