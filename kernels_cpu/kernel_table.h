// KernelTable: the CPU kernels of one instruction set, and the choice among instruction sets.
// SPDX-License-Identifier: Apache-2.0
//
// Kernels are pure single-threaded functions of views and scalars: no globals, no allocation, no
// configuration. Callers have checked shapes and types (weights are checked once, when they are bound);
// kernels only assert in debug builds. Splitting over threads happens above (parallel.h). Activations are
// F32.
//
// Every result is bitwise independent of how rows, tokens and threads are grouped: a token alone and the same
// token in a batch get the same bits. Two instruction sets may differ by rounding.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "core/matrix.h"
#include "core/status.h"
#include "kernels_cpu/activation.h"
#include "kernels_cpu/column_matrix.h"
#include "kernels_cpu/kv_layout.h"
#include "kernels_cpu/listed_activations.h"
#include "kernels_cpu/neurons.h"
#include "kernels_cpu/packed_matrix.h"
#include "kernels_cpu/quantized_activations.h"

namespace thermocline {

// What one token of a step sees of its sequence.
struct AttentionToken {
  const int32_t* pages = nullptr;  // position p lies in page pages[p / kKvPageTokens]
  int64_t n_positions = 0;         // it sees [first_position, n_positions), its own the last
  int64_t first_position = 0;      // above 0 behind a sliding window
};

// Most (token, head) pairs of one call of the attention kernel.
inline constexpr int64_t kAttentionRows = 24;

// Causal grouped-query attention over one layer's pages of keys and values. KV head h of page g starts at
// cache + g * layout.page_bytes() + h * layout.head_bytes().
struct AttentionArgs {
  MatrixView<const float> queries;         // (n_tokens, n_heads * d_head), already rotated
  MatrixView<float> output;                // (n_tokens, n_heads * d_head)
  std::span<const AttentionToken> tokens;  // (n_tokens)
  const std::byte* cache = nullptr;
  KvLayout layout;
  int64_t n_heads = 0;
  float scale = 1.0f;  // multiplies q.k; usually 1/sqrt(d_head)
  float soft_cap = 0;  // above 0: scores become soft_cap * tanh(score / soft_cap)
};

// Some tokens of one sequence and some heads of one KV head, which read each key and value once together.
struct AttentionTile {
  int64_t token_begin = 0, token_end = 0;  // their `pages` are the same
  int64_t head_begin = 0, head_end = 0;    // query heads
};

// Floats of a call's scratch.
int64_t AttentionScratchSize(int64_t d_head);

// A feed-forward block over the candidates of a table (sparse_ffn.h says what is read).
struct SparseFfnArgs {
  BundleView bundles;  // gated or not
  ActivationFunction activation = Activation::kRelu;
  MatrixView<const float> x;  // (n_tokens, d_model), n_tokens <= kMostSparseTokens
  NeuronSelection candidates;
  MatrixView<float> y;         // (n_tokens, d_model)
  std::span<TokenMask> fired;  // (candidates.rows.size()): the tokens for which each candidate was active
};

// What becomes of a row whose factor is zero.
enum class ZeroRows {
  kSkip,  // it is not touched
  kRead,  // it is read and its zeros are added: what a dense product costs
};

struct KernelTable {
  std::string_view isa;  // "scalar", "sse4", "avx2", "avx512" with "_vnni" or "_amx", "neon", "neon_dotprod"

  // Expands `count` elements (a multiple of the type's block) to F32.
  void (*dequantize)(ElementType type, const std::byte* source, int64_t count, float* target);

  // y(t, r) = sum_c w(r, c) * x(t, c).  w: (rows, cols), x: (n_tokens, cols), y: (n_tokens, rows).
  void (*mat_mul)(const WeightView& w, MatrixView<const float> x, MatrixView<float> y);

  // The same of a packed matrix of quantised weights and x in 8 bits. w: (rows, cols), x: (n_tokens, cols),
  // y: (n_tokens, rows).
  void (*mat_mul_packed)(const PackedView& w, const QuantizedActivations& x, MatrixView<float> y);

  // The same of packed weights and x in 16 bits.
  void (*mat_mul_packed_int16)(const PackedView& w, const Int16Activations& x, MatrixView<float> y);

  // sums(t, r) = sum over the columns that groups [begin, end) list of w(r, c) * x(t, c); the other columns
  // are not read. w: (rows, cols) of a quantised type, x: (n_tokens, cols), sums: (n_tokens, rows rounded up
  // to kChunkRows).
  void (*mat_mul_columns)(const ColumnView& w, int64_t begin, int64_t end, const ListedActivations& x,
                          MatrixView<float> sums);

  // The same of plain floats.
  void (*mat_mul_float_columns)(const ColumnView& w, int64_t begin, int64_t end, const ListedActivations& x,
                                MatrixView<float> sums);

  // y(t, rows[i]) = row rows[i] of w . x(t), with the bits of mat_mul; other entries of y stay. w: (rows,
  // cols), x: (n_tokens <= kMostSparseTokens, cols), y: (n_tokens, rows).
  void (*mat_mul_rows)(const WeightView& w, std::span<const uint32_t> rows, MatrixView<const float> x,
                       MatrixView<float> y);

  // Rounds x to 8 bits, cols a multiple of 32. The same bits on every instruction set. x, values: (n_tokens,
  // cols), blocks: (n_tokens, cols / 32).
  void (*quantize_activations)(MatrixView<const float> x, MatrixView<int8_t> values,
                               MatrixView<ActivationBlock> blocks);

  // The same to 16 bits. A scale is the least bfloat16 that its block's largest magnitude over kInt16Peak is
  // not above, NaN where the block holds what is not finite. x, values: (n_tokens, cols), scales: (n_tokens,
  // cols / 32).
  void (*quantize_int16)(MatrixView<const float> x, MatrixView<int16_t> values, MatrixView<float> scales);

  // y(t, c) += sum_i h(t, i) * w(i, c), i ascending, c in [column_begin, column_end), which are multiples of
  // 256 or the width. w: (n_rows, cols), h: (n_tokens, n_rows), y: (n_tokens, cols). A zero h(t, i) adds
  // nothing. zero_rows holds for one token; batches skip.
  void (*accumulate_rows)(const WeightView& w, MatrixView<const float> h, int64_t column_begin,
                          int64_t column_end, ZeroRows zero_rows, MatrixView<float> y);

  // y += what the candidates contribute, ascending, and fired. One thread's share of SparseFeedForward.
  // next_rows: the candidates of the call that the thread makes next, prefetched; empty where there is none.
  NeuronReads (*accumulate_neurons)(const SparseFfnArgs& args, std::span<const uint32_t> next_rows);

  // out = x / sqrt(mean(x^2) + epsilon) * weight.
  void (*rms_norm)(std::span<const float> x, std::span<const float> weight, float epsilon,
                   std::span<float> out);

  // out = (x - mean(x)) / sqrt(variance(x) + epsilon) * weight + bias; bias may be empty.
  void (*layer_norm)(std::span<const float> x, std::span<const float> weight, std::span<const float> bias,
                     float epsilon, std::span<float> out);

  // x = cap * tanh(x / cap). cap > 0.
  void (*soft_cap)(float cap, std::span<float> x);

  // Rotates pairs of one head's vector (d_head) in place: (x[i], x[i + n]) when `half`, else (x[2i], x[2i +
  // 1]), i < n = cos.size(). Elements past 2n stay.
  void (*rope)(std::span<float> head, std::span<const float> cos, std::span<const float> sin, bool half);

  // hidden[i] = activation(gate[i]) * up[i] (kDRelu: * max(0, up[i])), and 0 where the activation is 0
  // whatever up[i] is; hidden may be gate or up.
  void (*gated_activation)(ActivationFunction activation, std::span<const float> gate,
                           std::span<const float> up, std::span<float> hidden);

  // hidden[i] = activation(gate[i]); hidden may be gate.
  void (*activate)(ActivationFunction activation, std::span<const float> gate, std::span<float> hidden);

  // For every column c and row t, t ascending, where |activation(gate(t, c))| > threshold: active[c] += 1 and
  // magnitude[c] += that magnitude. threshold >= 0; NaN is never active. gate: (n_tokens, n), the others (n).
  void (*count_active)(ActivationFunction activation, float threshold, MatrixView<const float> gate,
                       std::span<uint64_t> active, std::span<double> magnitude);

  // Lists the columns i where scores(t, i) >= thresholds[t] for some token t, ascending, as first_row + i
  // with the mask of those tokens, and returns how many there are. bits: (n_tokens, BitWords(n)), bit i of
  // row t says whether token t is one of them, bits past n are 0. scores: (n_tokens <= kMostSparseTokens, n);
  // rows and tokens: room for n.
  int64_t (*select_active)(MatrixView<const float> scores, std::span<const float> thresholds,
                           MatrixView<uint64_t> bits, uint32_t first_row, std::span<uint32_t> rows,
                           std::span<TokenMask> tokens);

  // Sets every x(t, c) with |x(t, c)| < threshold to 0 and lists the columns where some x(t, c) is not, NaN
  // included, ascending; returns how many. x: (n_tokens, cols), columns: room for cols.
  int64_t (*select_columns)(MatrixView<float> x, float threshold, std::span<uint32_t> columns);

  // Bit c of words (BitWords(row.size())): row[c] < 0. Bits past the row are 0.
  void (*pack_signs)(std::span<const float> row, std::span<uint64_t> words);

  // scores(t, i) = cols - 2 * (bits in which row i of signs and row t of inputs differ). signs: (n, words),
  // inputs: (n_tokens, words), scores: (n_tokens, n).
  void (*sign_agreement)(MatrixView<const uint64_t> signs, MatrixView<const uint64_t> inputs, int64_t cols,
                         MatrixView<float> scores);

  // x += y.
  void (*add)(std::span<const float> y, std::span<float> x);

  // Attention of a tile of at most kAttentionRows (token, head) pairs. Softmax and sums run over fixed ranges
  // of positions in ascending order, whatever the tile. scratch: AttentionScratchSize(d_head).
  void (*attention)(const AttentionArgs& args, const AttentionTile& tile, std::span<float> scratch);
};

// The kernels of the best instruction set of this processor, chosen once.
const KernelTable& BestKernels();

// Every instruction set this build has and this processor runs, best first.
std::vector<std::string_view> AvailableIsas();

// InvalidArgument, listing the available ones, for any other name. The tables live as long as the program.
absl::StatusOr<const KernelTable*> KernelsFor(std::string_view isa);

}  // namespace thermocline
