// Products that read only the columns or rows that a step needs, split over a thread team.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels_cpu/parallel.h"

namespace thermocline {
namespace {

// Columns are split into ranges that each sum on their own, at most kMostRanges, of kRangeBlocks blocks or
// more: fixed by the matrix, so that the order of the sums is. Rows would be shorter runs of memory, which is
// read slower (column_matrix.h).
constexpr int64_t kMostRanges = 16;
constexpr int64_t kRangeBlocks = 8;
constexpr int64_t kSummedElements = 8 * 1024;  // by a piece of work at least
constexpr int64_t kPieceBytes = 256 * 1024;    // weights read by a piece of work at least
constexpr int64_t kListedBlocks = 128;         // of 32 columns, listed by one
constexpr int64_t kQuad = 4;                   // 8-bit values that one instruction multiplies

int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Room for what one product lists, kept by the thread that asks for products.
class ListRoom {
 public:
  struct Views {
    MatrixView<int8_t> values;
    MatrixView<float> exact;
    MatrixView<uint8_t> places;
    MatrixView<ListedGroup> groups;
    MatrixView<ActivationBlock> blocks;
    MatrixView<float> sums;  // (ranges * n_tokens, rows in whole chunks)
  };
  Views For(const ColumnView& w, int64_t n_tokens, int64_t ranges) {
    const auto grow = [n_tokens](auto& vector, int64_t width) {
      vector.resize(std::max(vector.size(), static_cast<size_t>(n_tokens * width)));
      return MatrixView<typename std::decay_t<decltype(vector)>::value_type>{vector.data(), n_tokens, width,
                                                                             width};
    };
    const int64_t cols = w.cols;
    Views views{.places = grow(places_, cols), .groups = grow(groups_, w.groups())};
    const int64_t rows = w.chunks() * kChunkRows;
    views.sums = grow(sums_, ranges * rows);
    views.sums = {views.sums.data, ranges * n_tokens, rows, rows};
    if (InfoOf(w.type).quantized()) {
      views.values = grow(values_, cols);
      views.blocks = grow(blocks_, cols / kActivationBlock);
    } else {
      views.exact = grow(exact_, cols);
    }
    return views;
  }

 private:
  std::vector<int8_t> values_;
  std::vector<float> exact_;
  std::vector<uint8_t> places_;
  std::vector<ListedGroup> groups_;
  std::vector<ActivationBlock> blocks_;
  std::vector<float> sums_;
};

// Moves the values that are not 0 to the front, in place.
void ListGroup(float scale, std::span<int8_t> values, std::span<uint8_t> places, ListedGroup& group) {
  int32_t sum = 0;
  size_t listed = 0;
  for (size_t c = 0; c < values.size(); ++c) {
    const int8_t value = values[c];
    values[listed] = value;
    places[listed] = static_cast<uint8_t>(c);
    listed += value != 0;
    sum += value;
  }
  // What is not finite has zeros for values and must reach the result by the scale.
  if (listed == 0 && std::isnan(scale)) places[listed++] = 0;
  const uint8_t last = listed > 0 ? places[listed - 1] : uint8_t{0};
  for (; listed % kQuad != 0; ++listed) {
    values[listed] = 0;
    places[listed] = last;
  }
  group = {static_cast<int32_t>(listed), sum, scale, scale * static_cast<float>(sum)};
}

void ListExactGroup(std::span<const float> x, std::span<float> exact, std::span<uint8_t> places,
                    ListedGroup& group) {
  size_t listed = 0;
  for (size_t c = 0; c < x.size(); ++c) {
    exact[listed] = x[c];
    places[listed] = static_cast<uint8_t>(c);
    listed += x[c] != 0.0f;
  }
  group.listed = static_cast<int32_t>(listed);
}

// Lists groups [begin, end) of one token.
void ListQuantized(const CpuContext& context, MatrixView<const float> x, const ListRoom::Views& room,
                   int64_t group_columns, int64_t token, int64_t begin, int64_t end) {
  const int64_t column = begin * group_columns, count = (end - begin) * group_columns;
  const auto part = [&](auto view, int64_t unit) {
    return view.Rows(token, 1).Columns(column / unit, count / unit);
  };
  context.kernels->quantize_activations(part(x, 1), part(room.values, 1),
                                        part(room.blocks, kActivationBlock));
  for (int64_t g = begin; g < end; ++g) {
    const auto first = static_cast<size_t>(g * group_columns), width = static_cast<size_t>(group_columns);
    ListGroup(room.blocks.row_data(token)[g * group_columns / kActivationBlock].scale,
              room.values.row(token).subspan(first, width), room.places.row(token).subspan(first, width),
              room.groups.row_data(token)[g]);
  }
}

void ListExact(MatrixView<const float> x, const ListRoom::Views& room, int64_t token, int64_t begin,
               int64_t end) {
  for (int64_t g = begin; g < end; ++g) {
    const auto first = static_cast<size_t>(g * kColumnBlock);
    const auto width = static_cast<size_t>(std::min(kColumnBlock, x.cols - g * kColumnBlock));
    ListExactGroup(x.row(token).subspan(first, width), room.exact.row(token).subspan(first, width),
                   room.places.row(token).subspan(first, width), room.groups.row_data(token)[g]);
  }
}

}  // namespace

int64_t SelectColumns(const CpuContext& context, MatrixView<float> x, float threshold,
                      std::span<uint32_t> columns) {
  return context.kernels->select_columns(x, threshold, columns);
}

void MatMulColumns(const CpuContext& context, const ColumnView& w, MatrixView<const float> x,
                   MatrixView<float> y) {
  static thread_local ListRoom room_of_thread;
  const bool quantized = InfoOf(w.type).quantized();
  const int64_t group_columns = w.layout.group_columns, n_groups = w.groups();
  const int64_t blocks = CeilDivide(w.cols, kColumnBlock), groups_of_block = kColumnBlock / group_columns;
  const int64_t ranges = std::clamp<int64_t>(blocks / kRangeBlocks, 1, kMostRanges);
  const ListRoom::Views room = room_of_thread.For(w, x.rows, ranges);
  const int64_t pieces = CeilDivide(blocks, kListedBlocks);  // of a token
  context.team->ParallelFor(x.rows * pieces, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t token = i / pieces, first = i % pieces * kListedBlocks * groups_of_block;
      const int64_t last = std::min(n_groups, first + kListedBlocks * groups_of_block);
      if (quantized) {
        ListQuantized(context, x, room, group_columns, token, first, last);
      } else {
        ListExact(x, room, token, first, last);
      }
    }
  });
  const ListedActivations listed{room.values, room.exact, room.places, room.groups};
  const auto multiply = quantized ? context.kernels->mat_mul_columns : context.kernels->mat_mul_float_columns;
  context.team->ParallelFor(ranges, 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      multiply(w, blocks * r / ranges * groups_of_block,
               std::min(n_groups, blocks * (r + 1) / ranges * groups_of_block), listed,
               room.sums.Rows(r * x.rows, x.rows));
  });
  const int64_t row_elements = std::max<int64_t>(1, x.rows * ranges);
  const int64_t grain = std::max(kChunkRows, kSummedElements / row_elements / kChunkRows * kChunkRows);
  context.team->ParallelFor(w.rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t t = 0; t < x.rows; ++t) {
      const auto part = [&](int64_t r) {
        return room.sums.row(r * x.rows + t)
            .subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
      };
      std::ranges::copy(part(0), y.row_data(t) + begin);
      for (int64_t r = 1; r < ranges; ++r)
        context.kernels->add(part(r), {y.row_data(t) + begin, static_cast<size_t>(end - begin)});
    }
  });
}

void MatMulRows(const CpuContext& context, const WeightView& w, MatrixView<const float> x,
                std::span<const uint32_t> rows, MatrixView<float> y) {
  for (int64_t t = 0; t < y.rows; ++t) std::ranges::fill(y.row(t), 0.0f);
  const ElementTypeInfo& type = InfoOf(w.type);
  const int64_t row_bytes = std::max<int64_t>(1, w.cols / type.block_elements * type.block_bytes);
  context.team->ParallelFor(
      std::ssize(rows), CeilDivide(kPieceBytes, row_bytes), [&](int64_t begin, int64_t end) {
        const auto part = rows.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
        context.kernels->mat_mul_rows(w, part, x, y);
      });
}

}  // namespace thermocline
