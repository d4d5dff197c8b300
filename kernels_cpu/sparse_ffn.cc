// Neuron-aware operators over a thread team.
// SPDX-License-Identifier: Apache-2.0
#include "kernels_cpu/sparse_ffn.h"

#include <algorithm>
#include <array>

#include "kernels_cpu/neuron_ranges.h"

namespace thermocline {
namespace {

constexpr int64_t kMostPieces = 32;          // of one selection
constexpr int64_t kPieceScores = 32 * 1024;  // compared at least, where there are as many
constexpr int64_t kPieceWords = 32 * 1024;   // of sign bits: a piece's 256 KiB

int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The work of candidates [begin, end), whose sums go to `y`.
SparseFfnArgs Part(const SparseFfnArgs& args, size_t begin, size_t end, MatrixView<float> y) {
  SparseFfnArgs part = args;
  part.candidates.rows = args.candidates.rows.subspan(begin, end - begin);
  if (!args.candidates.tokens.empty())
    part.candidates.tokens = args.candidates.tokens.subspan(begin, end - begin);
  part.fired = args.fired.subspan(begin, end - begin);
  part.y = y;
  return part;
}

}  // namespace

int64_t SparseFfnScratchSize(int64_t n_neurons, int64_t d_model, int64_t n_tokens) {
  return std::min(n_neurons, kNeuronRanges) * n_tokens * d_model;
}

NeuronReads SparseFeedForward(const CpuContext& context, const SparseFfnArgs& args,
                              std::span<float> scratch) {
  const int64_t n_tokens = args.x.rows, d_model = args.bundles.d_model;
  // What each range with candidates does; the others cost their search in the list.
  std::array<SparseFfnArgs, kNeuronRanges> work;
  std::array<NeuronReads, kNeuronRanges> reads;
  int64_t n_work = 0;
  const std::span<const uint32_t> rows = args.candidates.rows;
  size_t begin = 0;
  for (int64_t r = 0; r < kNeuronRanges && begin < rows.size(); ++r) {
    const NeuronRange range = RangeOfNeurons(args.bundles.n_neurons, r);
    const auto after = std::ranges::lower_bound(rows.subspan(begin), range.begin + range.count);
    const size_t end = begin + static_cast<size_t>(after - rows.subspan(begin).begin());
    if (end == begin) continue;
    work[static_cast<size_t>(n_work)] =
        Part(args, begin, end, {scratch.data() + n_work * n_tokens * d_model, n_tokens, d_model, d_model});
    ++n_work;
    begin = end;
  }
  context.team->ParallelFor(n_work, 1, [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) {
      const SparseFfnArgs& part = work[static_cast<size_t>(i)];
      std::fill_n(part.y.data, n_tokens * d_model, 0.0f);
      const std::span<const uint32_t> next_rows =
          i + 1 < to ? work[static_cast<size_t>(i + 1)].candidates.rows : std::span<const uint32_t>();
      reads[static_cast<size_t>(i)] = context.kernels->accumulate_neurons(part, next_rows);
    }
  });
  std::array<int64_t, kNeuronRanges> added;  // sums that are not zero
  int64_t n_added = 0;
  NeuronReads total;
  for (int64_t i = 0; i < n_work; ++i) {
    total += reads[static_cast<size_t>(i)];
    if (reads[static_cast<size_t>(i)].down_rows > 0) added[static_cast<size_t>(n_added++)] = i;
  }
  SumRanges(context, {scratch.data(), n_work * n_tokens, d_model, d_model},
            {added.data(), static_cast<size_t>(n_added)}, args.y);
  return total;
}

int64_t SelectActive(const CpuContext& context, MatrixView<const float> scores,
                     std::span<const float> thresholds, MatrixView<uint64_t> bits, std::span<uint32_t> rows,
                     std::span<TokenMask> tokens) {
  const int64_t n = scores.cols;
  const int64_t wanted =
      std::max(CeilDivide(kPieceScores, std::max<int64_t>(1, scores.rows)), CeilDivide(n, kMostPieces));
  const int64_t piece = CeilDivide(wanted, 64) * 64;  // whole words
  const int64_t pieces = CeilDivide(n, piece);
  std::array<int64_t, kMostPieces> listed;
  // Each piece lists at the place of its first neuron; then the lists are moved together.
  context.team->ParallelFor(pieces, 1, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      const int64_t first = p * piece, count = std::min(piece, n - first);
      const auto at = static_cast<size_t>(first), room = static_cast<size_t>(count);
      listed[static_cast<size_t>(p)] = context.kernels->select_active(
          scores.Columns(first, count), thresholds, bits.Columns(first / 64, BitWords(count)),
          static_cast<uint32_t>(first), rows.subspan(at, room), tokens.subspan(at, room));
    }
  });
  int64_t total = 0;
  for (int64_t p = 0; p < pieces; ++p) {
    const int64_t count = listed[static_cast<size_t>(p)];
    if (total < p * piece) {
      std::copy_n(rows.begin() + p * piece, count, rows.begin() + total);
      std::copy_n(tokens.begin() + p * piece, count, tokens.begin() + total);
    }
    total += count;
  }
  return total;
}

void PackSigns(const CpuContext& context, std::span<const float> row, std::span<uint64_t> words) {
  context.kernels->pack_signs(row, words);
}

void SignAgreement(const CpuContext& context, MatrixView<const uint64_t> signs,
                   MatrixView<const uint64_t> inputs, int64_t cols, MatrixView<float> scores) {
  const int64_t words_of_row = std::max<int64_t>(1, signs.cols * inputs.rows);
  context.team->ParallelFor(signs.rows, std::max<int64_t>(1, kPieceWords / words_of_row),
                            [&](int64_t begin, int64_t end) {
                              context.kernels->sign_agreement(signs.Rows(begin, end - begin), inputs, cols,
                                                              scores.Columns(begin, end - begin));
                            });
}

}  // namespace thermocline
