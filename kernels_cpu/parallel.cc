// The kernels split over a thread team.
// SPDX-License-Identifier: Apache-2.0
#include "kernels_cpu/parallel.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <numeric>
#include <vector>

#include "kernels_cpu/neuron_ranges.h"

namespace thermocline {
namespace {

// A piece of work should take some microseconds: long beside the hand-over to a thread that waits, short
// beside a layer.
constexpr int64_t kPieceBytes = 64 * 1024;          // weights read
constexpr int64_t kPieceMultiplyAdds = 256 * 1024;  // arithmetic on data in cache
constexpr int64_t kPieceIntegerMultiplyAdds = 4 * kPieceMultiplyAdds;
constexpr int64_t kPieceInt16MultiplyAdds = 2 * kPieceMultiplyAdds;
constexpr int64_t kTilePanels = 2;               // of mat_mul_packed's largest tiles
constexpr int64_t kRowAlignment = 8;             // mat_mul's register tiles stay whole
constexpr int64_t kTokenBlock = 128;             // activations of a block stay in the second-level cache
constexpr int64_t kDownColumns = 256;            // columns that a batch's piece of NeuronMajorDown owns
constexpr int64_t kFewestDownColumns = 64;       // or a block of the type
constexpr int64_t kDownTokens = 32;              // and its most tokens: 32 KiB of sums on the stack
constexpr int64_t kElementwisePiece = 8 * 1024;  // elements
constexpr int64_t kCountedNeurons = 64;          // of a strip that count_active keeps in registers

int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Rows of `row_elements` elements that make one piece of elementwise work.
int64_t ElementwiseGrain(int64_t row_elements) {
  return std::max<int64_t>(1, kElementwisePiece / std::max<int64_t>(1, row_elements));
}

// Room for the activations of one product, kept by the thread that asks for products.
template <typename Value, typename Block>
class ActivationRoom {
 public:
  struct Views {
    MatrixView<Value> values;
    MatrixView<Block> blocks;
  };
  Views For(int64_t n_tokens, int64_t cols) {
    const int64_t n_blocks = cols / kActivationBlock;
    values_.resize(std::max(values_.size(), static_cast<size_t>(n_tokens * cols)));
    blocks_.resize(std::max(blocks_.size(), static_cast<size_t>(n_tokens * n_blocks)));
    return {{values_.data(), n_tokens, cols, cols}, {blocks_.data(), n_tokens, n_blocks, n_blocks}};
  }

 private:
  std::vector<Value> values_;
  std::vector<Block> blocks_;
};

// x in 8 or 16 bits, valid until the thread's next call.
template <typename Value, typename Block, typename Quantize>
auto Round(const CpuContext& context, MatrixView<const float> x, Quantize quantize) {
  static thread_local ActivationRoom<Value, Block> room;
  const auto rounded = room.For(x.rows, x.cols);
  context.team->ParallelFor(x.rows, ElementwiseGrain(x.cols), [&](int64_t begin, int64_t end) {
    const int64_t count = end - begin;
    quantize(x.Rows(begin, count), rounded.values.Rows(begin, count), rounded.blocks.Rows(begin, count));
  });
  return rounded;
}

// Room for the panels of a piece of work, kept by the thread that packs them.
class PanelRoom {
 public:
  std::byte* For(int64_t bytes) {
    lines_.resize(std::max(lines_.size(), static_cast<size_t>(CeilDivide(bytes, sizeof(Line)))));
    return lines_.front().bytes;
  }

 private:
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  std::vector<Line> lines_;
};

// Ranges first, columns last: every range is read once, by one thread.
void DownOneToken(const CpuContext& context, const WeightView& down, MatrixView<const float> hidden,
                  std::span<float> partials, ZeroRows zero_rows, MatrixView<float> y) {
  const int64_t d_model = down.cols;
  const MatrixView<float> sums{partials.data(), kNeuronRanges, d_model, d_model};
  std::array<int64_t, kNeuronRanges> every;
  std::iota(every.begin(), every.end(), 0);
  context.team->ParallelFor(kNeuronRanges, 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const NeuronRange range = RangeOfNeurons(down.rows, r);
      std::ranges::fill(sums.row(r), 0.0f);
      context.kernels->accumulate_rows(down.Rows(range.begin, range.count),
                                       hidden.Columns(range.begin, range.count), 0, d_model, zero_rows,
                                       sums.Rows(r, 1));
    }
  });
  SumRanges(context, sums, every, y);
}

// The same sums for the columns of `down` and all rows of hidden.
void DownBlock(const KernelTable& kernels, const WeightView& down, MatrixView<const float> hidden,
               MatrixView<float> y) {
  alignas(64) float storage[kDownTokens * kDownColumns];
  const MatrixView<float> sums{storage, hidden.rows, down.cols, down.cols};
  for (int64_t t = 0; t < hidden.rows; ++t) std::ranges::fill(y.row(t), 0.0f);
  for (int64_t r = 0; r < kNeuronRanges; ++r) {
    const NeuronRange range = RangeOfNeurons(down.rows, r);
    std::fill_n(storage, hidden.rows * down.cols, 0.0f);
    kernels.accumulate_rows(down.Rows(range.begin, range.count), hidden.Columns(range.begin, range.count), 0,
                            down.cols, ZeroRows::kSkip, sums);
    for (int64_t t = 0; t < hidden.rows; ++t) kernels.add(sums.row(t), y.row(t));
  }
}

// A batch needs each row for many tokens, so pieces own columns and tokens instead of neurons.
void DownBatch(const CpuContext& context, const WeightView& down, MatrixView<const float> hidden,
               MatrixView<float> y) {
  const ElementTypeInfo& type = InfoOf(down.type);
  const int64_t token_blocks = CeilDivide(hidden.rows, kDownTokens);
  // Narrower pieces when there would be too few for the team: fewer tokens a piece would expand rows again.
  int64_t columns_of_piece = kDownColumns;
  while (columns_of_piece > std::max(kFewestDownColumns, type.block_elements) &&
         CeilDivide(down.cols, columns_of_piece) * token_blocks < 2 * context.team->threads()) {
    columns_of_piece /= 2;
  }
  const int64_t column_blocks = CeilDivide(down.cols, columns_of_piece);
  context.team->ParallelFor(column_blocks * token_blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t piece = begin; piece < end; ++piece) {
      const int64_t column = piece / token_blocks * columns_of_piece;
      const int64_t columns = std::min(columns_of_piece, down.cols - column);
      const int64_t token = piece % token_blocks * kDownTokens;
      const int64_t tokens = std::min(kDownTokens, hidden.rows - token);
      const WeightView part{down.data + column / type.block_elements * type.block_bytes, down.type, down.rows,
                            columns, down.row_stride_bytes};
      DownBlock(*context.kernels, part, hidden.Rows(token, tokens),
                y.Rows(token, tokens).Columns(column, columns));
    }
  });
}

// y = x * w^T of a packed matrix of this shape.
struct PanelProduct {
  PackedView w;
  MatrixView<float> y;
};

// Of several with the same x. panels_of(w, begin, count): panels [begin, begin + count) of such a product.
// piece_multiply_adds: those of a piece.
template <typename Activations, typename Product, typename Panels>
void MatMulRounded(const CpuContext& context, std::span<const PanelProduct> products, const Activations& x,
                   Product product, int64_t piece_multiply_adds, const Panels& panels_of) {
  const int64_t n_tokens = x.values.rows;
  int64_t n_panels = 0, panel_bytes = 1;
  for (const PanelProduct& each : products) {
    n_panels += each.w.panels();
    panel_bytes = std::max(panel_bytes, each.w.layout.panel_bytes);
  }
  const int64_t panel_multiply_adds = std::max<int64_t>(1, kPanelRows * x.values.cols * n_tokens);
  const int64_t panels = std::min(kPieceBytes / panel_bytes, piece_multiply_adds / panel_multiply_adds);
  const int64_t grain = std::max<int64_t>(1, CeilDivide(panels, kTilePanels)) * kTilePanels;
  context.team->ParallelFor(n_panels, grain, [&](int64_t begin, int64_t end) {
    int64_t first = 0;  // of the product's panels, counted through all
    for (const PanelProduct& each : products) {
      const int64_t last = std::min(end - first, each.w.panels());
      // Within a piece the panels of a grain stay in cache while the blocks of tokens pass.
      for (int64_t panel = std::max<int64_t>(0, begin - first); panel < last; panel += grain) {
        const PackedView part = panels_of(each.w, panel, std::min(grain, last - panel));
        const MatrixView<float> columns = each.y.Columns(panel * kPanelRows, part.rows);
        for (int64_t token = 0; token < n_tokens; token += kTokenBlock) {
          const int64_t tokens = std::min(kTokenBlock, n_tokens - token);
          product(part, x.Tokens(token, tokens), columns.Rows(token, tokens));
        }
      }
      first += each.w.panels();
    }
  });
}

// Of products whose panels take activations of the same kind.
template <typename Panels>
void MatMulPanels(const CpuContext& context, std::span<const PanelProduct> products,
                  MatrixView<const float> x, const Panels& panels_of) {
  const KernelTable& kernels = *context.kernels;
  if (TakesInt16(products.front().w.type)) {
    const auto rounded = Round<int16_t, float>(context, x, kernels.quantize_int16);
    MatMulRounded(context, products, Int16Activations{rounded.values, rounded.blocks},
                  kernels.mat_mul_packed_int16, kPieceInt16MultiplyAdds, panels_of);
  } else {
    const auto rounded = Round<int8_t, ActivationBlock>(context, x, kernels.quantize_activations);
    MatMulRounded(context, products, QuantizedActivations{rounded.values, rounded.blocks},
                  kernels.mat_mul_packed, kPieceIntegerMultiplyAdds, panels_of);
  }
}

void MatMulPacked(const CpuContext& context, std::span<const PanelProduct> products,
                  MatrixView<const float> x) {
  MatMulPanels(context, products, x,
               [](const PackedView& w, int64_t begin, int64_t count) { return w.Panels(begin, count); });
}

}  // namespace

void MatMul(const CpuContext& context, const WeightView& w, MatrixView<const float> x, MatrixView<float> y) {
  const ElementTypeInfo& type = InfoOf(w.type);
  const int64_t row_bytes = std::max<int64_t>(1, w.cols / type.block_elements * type.block_bytes);
  const int64_t row_multiply_adds = std::max<int64_t>(1, w.cols * x.rows);
  const int64_t rows = std::min(kPieceBytes / row_bytes, kPieceMultiplyAdds / row_multiply_adds);
  const int64_t grain = std::max<int64_t>(1, CeilDivide(rows, kRowAlignment)) * kRowAlignment;
  context.team->ParallelFor(w.rows, grain, [&](int64_t begin, int64_t end) {
    // Within a piece the weights of a grain stay in cache while the blocks of tokens pass.
    for (int64_t row = begin; row < end; row += grain) {
      const int64_t count = std::min(grain, end - row);
      for (int64_t token = 0; token < x.rows; token += kTokenBlock) {
        const int64_t tokens = std::min(kTokenBlock, x.rows - token);
        context.kernels->mat_mul(w.Rows(row, count), x.Rows(token, tokens),
                                 y.Rows(token, tokens).Columns(row, count));
      }
    }
  });
}

void MatMul(const CpuContext& context, const PackedView& w, MatrixView<const float> x, MatrixView<float> y) {
  const PanelProduct product{w, y};
  MatMulPacked(context, {&product, 1}, x);
}

void MatMulPacking(const CpuContext& context, const WeightView& w, MatrixView<const float> x,
                   MatrixView<float> y) {
  const PanelProduct product{{nullptr, w.type, w.rows, w.cols, PanelLayoutOf(w.type, w.cols)}, y};
  MatMulPanels(context, {&product, 1}, x, [&](const PackedView& shape, int64_t begin, int64_t count) {
    static thread_local PanelRoom room;
    PackedView panels = shape;
    panels.rows = std::min(count * kPanelRows, w.rows - begin * kPanelRows);
    std::byte* const packed = room.For(panels.size_bytes());
    PackPanels(*context.kernels, w.Rows(begin * kPanelRows, panels.rows), packed);
    panels.data = packed;
    return panels;
  });
}

void MatMul(const CpuContext& context, std::span<const HeldProduct> products, MatrixView<const float> x) {
  TC_CHECK(!products.empty() && products.size() <= kMostHeldProducts);
  const bool int16 = TakesInt16(products.front().w->rows.type);
  const bool together = std::ranges::all_of(products, [&](const HeldProduct& product) {
    return !product.w->packed.empty() && TakesInt16(product.w->rows.type) == int16;
  });
  if (together) {
    std::array<PanelProduct, kMostHeldProducts> panels;
    std::ranges::transform(products, panels.begin(), [](const HeldProduct& product) {
      return PanelProduct{product.w->packed.view(), product.y};
    });
    return MatMulPacked(context, std::span(panels).first(products.size()), x);
  }
  for (const HeldProduct& product : products) {
    if (product.w->packed.empty()) {
      MatMul(context, product.w->rows, x, product.y);
    } else {
      MatMul(context, product.w->packed.view(), x, product.y);
    }
  }
}

void GatedActivation(const CpuContext& context, ActivationFunction activation, MatrixView<const float> gate,
                     MatrixView<const float> up, MatrixView<float> hidden) {
  context.team->ParallelFor(hidden.rows, ElementwiseGrain(hidden.cols), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t)
      context.kernels->gated_activation(activation, gate.row(t), up.row(t), hidden.row(t));
  });
}

void CountActive(const CpuContext& context, ActivationFunction activation, float threshold,
                 MatrixView<const float> gate, std::span<uint64_t> active, std::span<double> magnitude) {
  // Pieces own neurons, so that nothing is shared; whole strips of the kernel but for the last.
  const int64_t strips = CeilDivide(kElementwisePiece / kCountedNeurons, std::max<int64_t>(1, gate.rows));
  context.team->ParallelFor(gate.cols, strips * kCountedNeurons, [&](int64_t begin, int64_t end) {
    const auto first = static_cast<size_t>(begin), count = static_cast<size_t>(end - begin);
    context.kernels->count_active(activation, threshold, gate.Columns(begin, end - begin),
                                  active.subspan(first, count), magnitude.subspan(first, count));
  });
}

void Activate(const CpuContext& context, ActivationFunction activation, MatrixView<const float> gate,
              MatrixView<float> hidden) {
  context.team->ParallelFor(hidden.rows, ElementwiseGrain(hidden.cols), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) context.kernels->activate(activation, gate.row(t), hidden.row(t));
  });
}

int64_t FfnPartialsSize(int64_t d_model) { return kNeuronRanges * d_model; }

void NeuronMajorDown(const CpuContext& context, const WeightView& down, MatrixView<const float> hidden,
                     std::span<float> partials, MatrixView<float> y, ZeroRows zero_rows) {
  if (hidden.rows == 1) {
    DownOneToken(context, down, hidden, partials, zero_rows, y);
  } else {
    DownBatch(context, down, hidden, y);
  }
}

void DenseFeedForward(const CpuContext& context, const DenseFfnArgs& args) {
  const BundleView& bundles = args.bundles;
  MatMul(context, bundles.gate(), args.x, args.gate);
  if (bundles.gated) {
    MatMul(context, bundles.up(), args.x, args.up);
    GatedActivation(context, args.activation, args.gate, args.up, args.gate);
  } else {
    Activate(context, args.activation, args.gate, args.gate);
  }
  NeuronMajorDown(context, bundles.down(), args.gate, args.partials, args.y, args.zero_rows);
}

void RmsNorm(const CpuContext& context, MatrixView<const float> x, std::span<const float> weight,
             float epsilon, MatrixView<float> out) {
  context.team->ParallelFor(x.rows, ElementwiseGrain(x.cols), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) context.kernels->rms_norm(x.row(t), weight, epsilon, out.row(t));
  });
}

void Rope(const CpuContext& context, MatrixView<const float> cos, MatrixView<const float> sin, int64_t d_head,
          bool half, MatrixView<float> x) {
  context.team->ParallelFor(x.rows, ElementwiseGrain(x.cols), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t column = 0; column < x.cols; column += d_head)
        context.kernels->rope(x.row(t).subspan(static_cast<size_t>(column), static_cast<size_t>(d_head)),
                              cos.row(t), sin.row(t), half);
    }
  });
}

namespace {

// How attention is cut into tasks: every KV head, times chunks of tokens, times parts of a group's heads.
struct AttentionTasks {
  AttentionTasks(const AttentionArgs& args, int threads)
      : n_tokens(args.queries.rows), group(args.n_heads / args.layout.n_kv_heads) {
    // Chunks as large as a tile may be, but so many that each thread has one.
    const int64_t n_kv_heads = args.layout.n_kv_heads;
    chunk =
        std::clamp<int64_t>(n_tokens * n_kv_heads / threads, 1, std::max<int64_t>(1, kAttentionRows / group));
    n_chunks = (n_tokens + chunk - 1) / chunk;
    const int64_t parts = std::min<int64_t>(group, std::max<int64_t>(1, threads / (n_kv_heads * n_chunks)));
    part_heads = std::min(kAttentionRows, (group + parts - 1) / parts);
    n_parts = (group + part_heads - 1) / part_heads;
    count = n_kv_heads * n_chunks * n_parts;
  }

  // The tile of a task; its tokens may be of several sequences.
  AttentionTile Tile(int64_t task) const {
    const int64_t part = task % n_parts, of_chunk = task / n_parts;
    const int64_t token = of_chunk % n_chunks * chunk, head = of_chunk / n_chunks * group + part * part_heads;
    return {token, std::min(n_tokens, token + chunk), head,
            std::min(head - part * part_heads + group, head + part_heads)};
  }

  int64_t n_tokens, group;
  int64_t chunk, n_chunks;      // tokens
  int64_t part_heads, n_parts;  // heads of a group
  int64_t count;
};

}  // namespace

void Attention(const CpuContext& context, const AttentionArgs& args, MatrixView<float> scratch) {
  const AttentionTasks tasks(args, context.team->threads());
  std::atomic<int64_t> next = 0;
  const int64_t workers = std::min<int64_t>(tasks.count, context.team->threads());
  const auto attend = [&](AttentionTile tile, std::span<float> own) {
    // Tokens of one sequence at a time.
    for (const int64_t end = tile.token_end; tile.token_begin < end; tile.token_begin = tile.token_end) {
      const auto pages_of = [&](int64_t token) { return args.tokens[static_cast<size_t>(token)].pages; };
      tile.token_end = tile.token_begin + 1;
      while (tile.token_end < end && pages_of(tile.token_end) == pages_of(tile.token_begin)) ++tile.token_end;
      context.kernels->attention(args, tile, own);
    }
  };
  // Tasks differ in length: each worker takes the next one. Late tokens, which see most, come first.
  context.team->ParallelFor(workers, 1, [&](int64_t begin, int64_t end) {
    for (int64_t worker = begin; worker < end; ++worker) {
      for (int64_t task = next++; task < tasks.count; task = next++)
        attend(tasks.Tile(tasks.count - 1 - task), scratch.row(worker));
    }
  });
}

void AddRows(const CpuContext& context, MatrixView<const float> y, MatrixView<float> x) {
  context.team->ParallelFor(x.rows, ElementwiseGrain(x.cols), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) context.kernels->add(y.row(t), x.row(t));
  });
}

}  // namespace thermocline
