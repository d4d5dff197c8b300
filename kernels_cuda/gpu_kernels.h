// GpuKernels: the GPU's kernels as a table of launchers, twins of kernels_cpu.
// SPDX-License-Identifier: Apache-2.0
//
// A launcher checks shapes, types and alignment, puts its kernels on the stream and returns; views and
// pointers hold addresses of device memory. InvalidArgument names what does not fit, Unimplemented the type
// that a kernel does not have, Internal a launch that failed.
//
// Activations are F32 and sums are F32. Every token's result is bitwise independent of its companions in the
// step and the same from run to run: reductions have a fixed order. Steps of the neuron-aware kernels take at
// most kMostSparseTokens tokens (kernels_cpu/neurons.h has the same limit). Weight types: F32, F16, BF16,
// Q8_0, Q4_0 (IsGpuType).
#pragma once

#include <cstdint>
#include <span>

#include "core/matrix.h"
#include "core/status.h"
#include "kernels_cuda/gpu.h"

namespace thermocline {

// Bit t: token t of the step.
using GpuTokenMask = uint16_t;
inline constexpr int64_t kGpuMostSparseTokens = 16;

bool IsGpuType(ElementType type);

enum class GpuActivation { kNone, kRelu, kSilu, kFatRelu };

struct GpuActivationFunction {
  GpuActivation kind = GpuActivation::kRelu;
  float threshold = 0;  // of kFatRelu
};

// Where a step's tokens stand, in device memory.
struct GpuStepView {
  int64_t n_tokens = 0;
  const int32_t* positions = nullptr;  // (n_tokens)
  const int32_t* slices = nullptr;     // (n_tokens): the row of `pages` of each token's sequence
  MatrixView<const int32_t>
      pages;  // (slices, most pages): position p lies in page pages(slice, p / page_tokens)
};

// One layer's keys and values in pages: page g, KV head h, position p within the page: element
// ((g * 2 + {0 key, 1 value}) * n_kv_heads + h) * page_tokens * d_head + p * d_head.
struct GpuKvPages {
  float* data = nullptr;
  int64_t n_pages = 0;
  int64_t page_tokens = 0;
  int64_t n_kv_heads = 0;
  int64_t d_head = 0;
};

struct GpuAttentionArgs {
  MatrixView<const float> queries;  // (n_tokens, n_heads * d_head), already rotated
  MatrixView<float> output;         // (n_tokens, n_heads * d_head)
  GpuKvPages cache;                 // holds the step's own tokens already; d_head <= 256
  GpuStepView step;
  int64_t n_heads = 0;
  // Above every position of the step: sizes the launch, and changes no result. A captured step can be
  // launched again for positions below it.
  int64_t most_positions = 0;
  float scale = 1.0f;
  std::span<float> scratch;  // at least GpuAttentionScratch floats
};

// Bundles of a table of neurons (kernels_cpu/neurons.h says how they lie), and what the step needs of them.
// Parts that start, and end, at multiples of 16 bytes are read fastest; others are read all the same.
struct GpuSparseFfnArgs {
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
  bool read_silent = false;  // dense: up and down rows of neurons that are zero are read all the same
  GpuActivationFunction activation;
  MatrixView<const float> x;  // (n_tokens, d_model)
  // (n_neurons), aligned to 16 bytes: tokens that need each; nullptr: all need all. Bits past the step's
  // tokens are ignored.
  const GpuTokenMask* marked = nullptr;
  MatrixView<float> y;            // (n_tokens, d_model), written
  GpuTokenMask* fired = nullptr;  // (n_neurons), written: tokens for which each was active; may be nullptr
  // Added to: rows of gate and of down that were read, as NeuronReads counts; may be nullptr.
  uint64_t* counts = nullptr;  // (2)
  std::span<float> scratch;    // at least GpuSparseFfnScratch floats
};

// A layer's MLP predictor: score = w2 * relu(w1 * x + b1) + b2.
struct GpuMlpPredictorArgs {
  WeightView w1;                      // (hidden, d_model), Q8_0
  const float* b1 = nullptr;          // (hidden)
  WeightView w2;                      // (n, hidden), Q8_0
  const float* b2 = nullptr;          // (n)
  MatrixView<const float> x;          // (n_tokens, d_model)
  const float* thresholds = nullptr;  // (n_tokens)
  GpuTokenMask* marked = nullptr;     // (n), written: tokens whose score reaches their threshold
  std::span<float> scratch;           // at least n_tokens * hidden floats
};

// A layer's sign predictor: score = d_model - 2 * (signs in which row and x differ).
struct GpuSignPredictorArgs {
  MatrixView<const uint64_t> signs;   // (n, BitWords(d_model)): 1 where the gate row is negative
  MatrixView<const float> x;          // (n_tokens, d_model)
  const float* thresholds = nullptr;  // (n_tokens)
  GpuTokenMask* marked = nullptr;     // (n), written
  std::span<float> scratch;           // at least n_tokens * 2 * BitWords(d_model) floats
};

struct GpuKernels {
  // out = x / sqrt(mean(x^2) + epsilon) * weight. weight: (cols). out may be x.
  absl::Status (*rms_norm)(MatrixView<const float> x, const float* weight, float epsilon,
                           MatrixView<float> out, GpuStream stream);
  // out = (x - mean) / sqrt(variance + epsilon) * weight + bias; bias may be nullptr.
  absl::Status (*layer_norm)(MatrixView<const float> x, const float* weight, const float* bias, float epsilon,
                             MatrixView<float> out, GpuStream stream);
  // Rotates pairs of every head in place. cos, sin: (n_tokens, pairs); x: (n_tokens, heads * d_head). Pairs
  // are (i, i + pairs) when `half`, else (2i, 2i + 1); elements past 2 * pairs stay.
  absl::Status (*rope)(MatrixView<const float> cos, MatrixView<const float> sin, int64_t d_head, bool half,
                       MatrixView<float> x, GpuStream stream);
  // keys, values: (n_tokens, n_kv_heads * d_head), to where the step's tokens stand.
  absl::Status (*store_kv)(MatrixView<const float> keys, MatrixView<const float> values,
                           const GpuKvPages& cache, const GpuStepView& step, GpuStream stream);
  // Causal grouped-query attention over pages, split along the context.
  absl::Status (*attention)(const GpuAttentionArgs& args, GpuStream stream);
  // out(t) = row tokens[t] of the embedding as F32, NaN where it has no such row. tokens: (out.rows), of the
  // device.
  absl::Status (*embed)(const WeightView& embedding, const int32_t* tokens, MatrixView<float> out,
                        GpuStream stream);
  // y(t, r) = sum_c w(r, c) * x(t, c), one pass over w for up to 16 tokens.
  absl::Status (*mat_mul)(const WeightView& w, MatrixView<const float> x, MatrixView<float> y,
                          GpuStream stream);
  // to(r, c) = w(r, c) as F32: (w.rows, w.cols).
  absl::Status (*dequantize)(const WeightView& w, MatrixView<float> to, GpuStream stream);
  // hidden = activation(gate) * up; up.data nullptr: activation(gate). hidden may be gate.
  absl::Status (*gated_activation)(GpuActivationFunction activation, MatrixView<const float> gate,
                                   MatrixView<const float> up, MatrixView<float> hidden, GpuStream stream);
  // The neuron-aware feed-forward block.
  absl::Status (*sparse_ffn)(const GpuSparseFfnArgs& args, GpuStream stream);
  absl::Status (*mlp_predictor)(const GpuMlpPredictorArgs& args, GpuStream stream);
  absl::Status (*sign_predictor)(const GpuSignPredictorArgs& args, GpuStream stream);
  // x += y.
  absl::Status (*add)(MatrixView<const float> y, MatrixView<float> x, GpuStream stream);
  // The k likeliest of each row, likeliest first, ties to the lower id; NaN is never among them, places that
  // nothing takes have id -1 and value -infinity. logits: up to 2^20 columns. ids, values: (rows, k), 1 <= k
  // <= 64. scratch: at least GpuTopKScratch floats.
  absl::Status (*top_k)(MatrixView<const float> logits, MatrixView<int32_t> ids, MatrixView<float> values,
                        std::span<float> scratch, GpuStream stream);
  // c = alpha * x * transpose(w) + beta * c through cuBLAS, plain F32; the order of its sums may change with
  // n_tokens. x: (n_tokens, cols), w: (rows, cols), c: (n_tokens, rows).
  absl::Status (*sgemm_nt)(Gpu& gpu, float alpha, MatrixView<const float> x, MatrixView<const float> w,
                           float beta, MatrixView<float> c, GpuStream stream);
  // c = alpha * h * w + beta * c. h: (n_tokens, rows), w: (rows, cols), c: (n_tokens, cols).
  absl::Status (*sgemm_nn)(Gpu& gpu, float alpha, MatrixView<const float> h, MatrixView<const float> w,
                           float beta, MatrixView<float> c, GpuStream stream);
};

// Floats of scratch, of arguments of 1 and above.
int64_t GpuAttentionScratch(int64_t n_tokens, int64_t n_heads, int64_t d_head, int64_t most_positions);
int64_t GpuTopKScratch(int64_t rows, int64_t cols, int64_t k);
int64_t GpuSparseFfnScratch(int64_t n_tokens, int64_t n_neurons, int64_t d_model);

}  // namespace thermocline
