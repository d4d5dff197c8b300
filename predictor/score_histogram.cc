// Histograms of scores over the order of floats.
// SPDX-License-Identifier: Apache-2.0
#include "predictor/score_histogram.h"

#include <bit>
#include <cmath>

#include "core/status.h"

namespace thermocline {
namespace {

constexpr int kDroppedBits = 12;
constexpr uint32_t kSign = 0x80000000u;

// Ascends with the score. Both zeros are one.
uint32_t BinOf(float score) {
  const auto bits = std::bit_cast<uint32_t>(score + 0.0f);
  return ((bits & kSign) != 0 ? ~bits : bits | kSign) >> kDroppedBits;
}

// The least float of the bin.
float EdgeOf(uint32_t bin) {
  const uint32_t ordered = bin << kDroppedBits;
  return std::bit_cast<float>((ordered & kSign) != 0 ? ordered & ~kSign : ~ordered);
}

}  // namespace

ScoreHistogram::ScoreHistogram()
    : active_(size_t{1} << (32 - kDroppedBits)), silent_(size_t{1} << (32 - kDroppedBits)) {}

void ScoreHistogram::Add(MatrixView<const float> scores, MatrixView<const uint64_t> active) {
  for (int64_t t = 0; t < scores.rows; ++t) {
    for (int64_t i = 0; i < scores.cols; ++i) {
      const bool is_active = (active.row_data(t)[i / 64] >> (i % 64) & 1u) != 0;
      (is_active ? active_ : silent_)[BinOf(scores.row_data(t)[i])] += 1;
      (is_active ? n_active_ : n_silent_) += 1;
    }
  }
}

float ScoreHistogram::ThresholdFor(double recall) const {
  TC_CHECK(recall > 0 && recall <= 1);
  const auto wanted = static_cast<uint64_t>(std::ceil(recall * static_cast<double>(n_active_)));
  uint64_t marked = 0;
  for (size_t bin = active_.size(); bin-- > 0;) {
    if (wanted == 0 && silent_[bin] > 0) return EdgeOf(static_cast<uint32_t>(bin) + 1);
    marked += active_[bin];
    if (wanted > 0 && marked >= wanted) return EdgeOf(static_cast<uint32_t>(bin));
  }
  return 0;  // no scores at all
}

PredictorFigures ScoreHistogram::FiguresAt(float threshold) const {
  uint64_t hits = 0, marked = 0;
  for (size_t bin = BinOf(threshold); bin < active_.size(); ++bin) {
    hits += active_[bin];
    marked += active_[bin] + silent_[bin];
  }
  const auto share = [](uint64_t part, uint64_t whole, double of_none) {
    return whole == 0 ? of_none : static_cast<double>(part) / static_cast<double>(whole);
  };
  return {.recall = share(hits, n_active_, 1),
          .precision = share(hits, marked, 1),
          .marked = share(marked, n_active_ + n_silent_, 0)};
}

}  // namespace thermocline
