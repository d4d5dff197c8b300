// The kernels split over a thread team. Results do not depend on the number of threads.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/matrix.h"
#include "core/thread_team.h"
#include "kernels_cpu/column_matrix.h"
#include "kernels_cpu/kernel_table.h"

namespace thermocline {

// What a CPU operator runs with. Both outlive the context.
struct CpuContext {
  const ThreadTeam* team = nullptr;
  const KernelTable* kernels = nullptr;
};

// y = x * w^T.  w: (rows, cols), x: (n_tokens, cols), y: (n_tokens, rows).
void MatMul(const CpuContext& context, const WeightView& w, MatrixView<const float> x, MatrixView<float> y);

// The same of a packed matrix: x is rounded to 8 or 16 bits in blocks of 32 (quantized_activations.h).
void MatMul(const CpuContext& context, const PackedView& w, MatrixView<const float> x, MatrixView<float> y);

// The same bits from rows of a type that has panels: each panel is packed when it is needed, once a call,
// which costs about as much as reading it; of F16 and BF16 more.
void MatMulPacking(const CpuContext& context, const WeightView& w, MatrixView<const float> x,
                   MatrixView<float> y);

struct HeldProduct {
  const HeldMatrix* w = nullptr;
  MatrixView<float> y;
};
inline constexpr size_t kMostHeldProducts = 3;

// One or the other for each of 1 to kMostHeldProducts matrices of the same input. Where all are packed, x is
// rounded once and the team goes through their panels together.
void MatMul(const CpuContext& context, std::span<const HeldProduct> products, MatrixView<const float> x);

// Sets every x(t, c) with |x(t, c)| < threshold to 0, lists the columns where some token's is not 0,
// ascending, and returns how many those are. NaN is kept and listed. x: (n_tokens, cols), columns: room for
// cols.
int64_t SelectColumns(const CpuContext& context, MatrixView<float> x, float threshold,
                      std::span<uint32_t> columns);

// y = x * w^T, which reads of w the columns where some token's x is not 0. Of quantised types x is rounded to
// 8 bits in blocks of 32. A token's y has the same bits alone and beside others that need more columns. w:
// (rows, cols), x: (n_tokens, cols), y: (n_tokens, rows).
void MatMulColumns(const CpuContext& context, const ColumnView& w, MatrixView<const float> x,
                   MatrixView<float> y);

// y(t, r) = row r of w . x(t) for the rows listed, ascending, with the bits of MatMul over the same view; the
// others of y become 0. The rows of w that are not listed are not read. w: (rows, cols), x: (n_tokens <=
// kMostSparseTokens, cols), y: (n_tokens, rows).
void MatMulRows(const CpuContext& context, const WeightView& w, MatrixView<const float> x,
                std::span<const uint32_t> rows, MatrixView<float> y);

// hidden = activation(gate) * up, element by element. All (n_tokens, d_ff).
void GatedActivation(const CpuContext& context, ActivationFunction activation, MatrixView<const float> gate,
                     MatrixView<const float> up, MatrixView<float> hidden);

// hidden = activation(gate), of neurons that have no up row. All (n_tokens, d_ff).
void Activate(const CpuContext& context, ActivationFunction activation, MatrixView<const float> gate,
              MatrixView<float> hidden);

// Adds to active (d_ff) the tokens for which |activation(gate)| > threshold, and to magnitude (d_ff) the sum
// of those magnitudes, token after token. gate: (n_tokens, d_ff).
void CountActive(const CpuContext& context, ActivationFunction activation, float threshold,
                 MatrixView<const float> gate, std::span<uint64_t> active, std::span<double> magnitude);

// y = hidden * down, down neuron-major: (d_ff, d_model). hidden: (n_tokens, d_ff), y: (n_tokens, d_model).
// Sums run over fixed ranges of neurons, then over the ranges in order. `partials`: FfnPartialsSize(d_model)
// floats. zero_rows holds for one token, and changes no bit where weights are finite; batches skip.
void NeuronMajorDown(const CpuContext& context, const WeightView& down, MatrixView<const float> hidden,
                     std::span<float> partials, MatrixView<float> y, ZeroRows zero_rows = ZeroRows::kSkip);
int64_t FfnPartialsSize(int64_t d_model);

// A feed-forward block over every neuron of a table.
struct DenseFfnArgs {
  BundleView bundles;  // gated or not
  ActivationFunction activation = Activation::kRelu;
  MatrixView<const float> x;  // (n_tokens, d_model)
  MatrixView<float> y;        // (n_tokens, d_model), overwritten
  MatrixView<float> gate;     // (n_tokens, n_neurons), scratch
  MatrixView<float> up;       // (n_tokens, n_neurons), scratch; gated only
  std::span<float> partials;  // FfnPartialsSize(d_model), scratch
  ZeroRows zero_rows = ZeroRows::kSkip;
};

// y = sum over the neurons of activation(gate_i . x) * (up_i . x) * down_i: MatMul, GatedActivation,
// NeuronMajorDown. Ungated: activation(fc1_i . x) * down_i.
void DenseFeedForward(const CpuContext& context, const DenseFfnArgs& args);

// out row t = RMSNorm(x row t). All (n_tokens, d_model).
void RmsNorm(const CpuContext& context, MatrixView<const float> x, std::span<const float> weight,
             float epsilon, MatrixView<float> out);

// Rotates every head of every row of x: (n_tokens, n_heads * d_head); cos and sin: (n_tokens, rotated pairs).
void Rope(const CpuContext& context, MatrixView<const float> cos, MatrixView<const float> sin, int64_t d_head,
          bool half, MatrixView<float> x);

// Attention of all tokens and heads, n_heads a multiple of n_kv_heads. scratch: (threads of the team,
// AttentionScratchSize(d_head)).
void Attention(const CpuContext& context, const AttentionArgs& args, MatrixView<float> scratch);

// x += y, (n_tokens, d_model).
void AddRows(const CpuContext& context, MatrixView<const float> y, MatrixView<float> x);

}  // namespace thermocline
