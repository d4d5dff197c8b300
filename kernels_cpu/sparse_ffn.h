// Neuron-aware feed-forward operators: only the neurons that a step needs are read.
// SPDX-License-Identifier: Apache-2.0
//
// A neuron of a table of bundles (BundleView) is a candidate when the caller lists it. For each candidate and
// each token that needs it the gate row is multiplied; only where the activation is not zero the up row is
// read, and the down row is added to the token's sum. Rows of neurons that no token needs are not touched.
//
// Sums run over fixed ranges of the table's neurons, ascending, then over the ranges in order, as in
// NeuronMajorDown: with every neuron a candidate the result is that of the dense operators bit for bit, for
// any number of threads and any companions in the batch.
#pragma once

#include <cstdint>
#include <span>

#include "core/matrix.h"
#include "kernels_cpu/neurons.h"
#include "kernels_cpu/parallel.h"

namespace thermocline {

struct SparseFfnArgs {
  BundleView bundles;  // gated or not
  ActivationFunction activation = Activation::kRelu;
  MatrixView<const float> x;  // (n_tokens, d_model), n_tokens <= kMostSparseTokens
  NeuronSelection candidates;
  MatrixView<float> y;         // (n_tokens, d_model), overwritten
  std::span<TokenMask> fired;  // (candidates.rows.size()): the tokens for which each candidate was active
};

// Floats of scratch that SparseFeedForward needs for steps of up to n_tokens over tables of up to n_neurons.
int64_t SparseFfnScratchSize(int64_t n_neurons, int64_t d_model, int64_t n_tokens);

// y = sum over the candidates of activation(gate_i . x) * (up_i . x) * down_i; ungated: activation(fc1_i . x)
// * down_i. Allocates nothing.
NeuronReads SparseFeedForward(const CpuContext& context, const SparseFfnArgs& args, std::span<float> scratch);

// Lists the neurons whose score reaches the token's threshold for at least one token, ascending, with the
// mask of those tokens, and returns how many there are. NaN scores never reach it. scores: (n_tokens <=
// kMostSparseTokens, n); thresholds: (n_tokens); bits: (n_tokens, BitWords(n)), bit i of a token's row says
// that it needs neuron i, bits past n are 0; rows and tokens: room for n.
int64_t SelectActive(const CpuContext& context, MatrixView<const float> scores,
                     std::span<const float> thresholds, MatrixView<uint64_t> bits, std::span<uint32_t> rows,
                     std::span<TokenMask> tokens);

// Sign bits (1: negative; zeros and NaN are not) of one row: bit c of words (BitWords(cols)), bits past cols
// are 0.
void PackSigns(const CpuContext& context, std::span<const float> row, std::span<uint64_t> words);

// scores(t, i) = columns whose signs agree minus columns whose signs differ, of input t and row i: cols - 2 *
// popcount(xor). signs: (n, BitWords(cols)), inputs: (n_tokens, BitWords(cols)), scores: (n_tokens, n).
void SignAgreement(const CpuContext& context, MatrixView<const uint64_t> signs,
                   MatrixView<const uint64_t> inputs, int64_t cols, MatrixView<float> scores);

}  // namespace thermocline
