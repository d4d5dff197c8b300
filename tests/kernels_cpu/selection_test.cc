// Lists of selected neurons, sign bits and their agreement, on every instruction set.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "kernels_cpu/sparse_ffn.h"
#include "tests/kernels_cpu/isa_test_support.h"
#include "tests/support/reference_data.h"

namespace thermocline {
namespace {

using reference::FloatMatrix;

class SelectionTest : public IsaTest {};
INSTANTIATE_TEST_SUITE_P(All, SelectionTest, EveryIsa(), IsaName);

// Widths around words, vectors and, for 16 tokens, the pieces of a team.
const std::vector<int64_t> kWidths = {1, 3, 15, 16, 17, 63, 64, 65, 127, 128, 130, 1000, 4999, 33000};

struct Selected {
  std::vector<uint32_t> rows;
  std::vector<TokenMask> tokens;
  std::vector<uint64_t> bits;  // (n_tokens, BitWords(n))
  bool operator==(const Selected&) const = default;
};

Selected SelectByLoop(MatrixView<const float> scores, std::span<const float> thresholds) {
  Selected selected;
  const int64_t words = BitWords(scores.cols);
  selected.bits.resize(static_cast<size_t>(scores.rows * words));
  for (int64_t i = 0; i < scores.cols; ++i) {
    uint32_t mask = 0;
    for (int64_t t = 0; t < scores.rows; ++t) {
      if (!(scores.row_data(t)[i] >= thresholds[static_cast<size_t>(t)])) continue;
      mask |= 1u << t;
      selected.bits[static_cast<size_t>(t * words + i / 64)] |= uint64_t{1} << (i % 64);
    }
    if (mask == 0) continue;
    selected.rows.push_back(static_cast<uint32_t>(i));
    selected.tokens.push_back(static_cast<TokenMask>(mask));
  }
  return selected;
}

Selected Select(const CpuContext& context, MatrixView<const float> scores,
                std::span<const float> thresholds) {
  const auto n = static_cast<size_t>(scores.cols);
  const int64_t words = BitWords(scores.cols);
  Selected selected{std::vector<uint32_t>(n, UINT32_MAX), std::vector<TokenMask>(n, 0xFFFF),
                    std::vector<uint64_t>(static_cast<size_t>(scores.rows * words), UINT64_MAX)};
  const int64_t count =
      SelectActive(context, scores, thresholds, {selected.bits.data(), scores.rows, words, words},
                   selected.rows, selected.tokens);
  selected.rows.resize(static_cast<size_t>(count));
  selected.tokens.resize(static_cast<size_t>(count));
  return selected;
}

TEST_P(SelectionTest, EqualsALoopOverNeurons) {
  for (const int threads : {1, 3}) {
    const auto team = *ThreadTeam::Create(threads);
    const CpuContext context{team.get(), &kernels()};
    uint32_t seed = 1;
    for (const int64_t width : kWidths) {
      for (const int64_t tokens : {1, 2, 16}) {
        const FloatMatrix scores = FloatMatrix::Random(tokens, width, ++seed, /*gap=*/3);
        // From all neurons to hardly one, another share for every token; 0 would take a padded lane for one.
        for (const float threshold : {-1.5f, -0.5f, 0.0f, 0.9f, 0.999f}) {
          std::vector<float> thresholds;
          for (int64_t t = 0; t < tokens; ++t)
            thresholds.push_back(threshold + 0.01f * static_cast<float>(t % 3));
          ASSERT_EQ(Select(context, scores.view(), thresholds), SelectByLoop(scores.view(), thresholds))
              << width << " neurons, " << tokens << " tokens, threshold " << threshold;
        }
      }
    }
  }
}

TEST_P(SelectionTest, AScoreThatEqualsItsThresholdIsSelectedAndNotANumberNever) {
  const auto team = *ThreadTeam::Create(1);
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> scores = {0.5f, std::nextafter(0.5f, 0.0f), NAN, inf, -inf};
  const MatrixView<const float> view{scores.data(), 1, 5, 5};
  const auto rows = [&](float threshold) {
    return Select({team.get(), &kernels()}, view, std::vector<float>{threshold}).rows;
  };
  EXPECT_EQ(rows(0.5f), (std::vector<uint32_t>{0, 3}));
  EXPECT_EQ(rows(-inf), (std::vector<uint32_t>{0, 1, 3, 4}));
  EXPECT_EQ(rows(inf), (std::vector<uint32_t>{3}));
  EXPECT_TRUE(rows(NAN).empty());
}

TEST_P(SelectionTest, SignsAreThoseOfNegativeNumbers) {
  const auto team = *ThreadTeam::Create(1);
  for (const int64_t width : kWidths) {
    FloatMatrix row = FloatMatrix::Random(1, width, static_cast<uint32_t>(width));
    std::span<float> values = row.view().row(0);
    values[0] = -0.0f;
    if (width > 2) values[1] = NAN, values[2] = -std::numeric_limits<float>::infinity();
    std::vector<uint64_t> words(static_cast<size_t>(BitWords(width)), UINT64_MAX);
    PackSigns({team.get(), &kernels()}, values, words);
    for (int64_t c = 0; c < BitWords(width) * 64; ++c) {
      const bool negative = c < width && values[static_cast<size_t>(c)] < 0.0f;
      ASSERT_EQ((words[static_cast<size_t>(c / 64)] >> (c % 64)) & 1, negative ? 1u : 0u) << c;
    }
  }
}

TEST_P(SelectionTest, AgreementCountsEqualSignsLessDifferentOnes) {
  uint32_t seed = 1;
  for (const int64_t cols : {1, 63, 64, 100, 512, 576, 1000, 4096}) {
    const int64_t n = 70;
    for (const int64_t tokens : {1, 3, 16}) {
      const int64_t words = BitWords(cols);
      std::mt19937_64 random(++seed);
      const auto random_bits = [&](int64_t rows) {
        std::vector<uint64_t> bits(static_cast<size_t>(rows * words));
        for (size_t i = 0; i < bits.size(); ++i) {
          bits[i] = random();
          if (cols % 64 != 0 && i % static_cast<size_t>(words) == static_cast<size_t>(words - 1))
            bits[i] &= (uint64_t{1} << (cols % 64)) - 1;
        }
        return bits;
      };
      const std::vector<uint64_t> signs = random_bits(n), inputs = random_bits(tokens);
      for (const int threads : {1, 3}) {
        const auto team = *ThreadTeam::Create(threads);
        FloatMatrix scores = FloatMatrix::Poisoned(tokens, n, 2);
        SignAgreement({team.get(), &kernels()}, {signs.data(), n, words, words},
                      {inputs.data(), tokens, words, words}, cols, scores.view());
        for (int64_t t = 0; t < tokens; ++t) {
          for (int64_t i = 0; i < n; ++i) {
            int64_t expected = 0;
            for (int64_t c = 0; c < cols; ++c) {
              const auto bit = [c, words](const std::vector<uint64_t>& bits, int64_t row) {
                return (bits[static_cast<size_t>(row * words + c / 64)] >> (c % 64)) & 1;
              };
              expected += bit(signs, i) == bit(inputs, t) ? 1 : -1;
            }
            ASSERT_EQ(scores.view().row_data(t)[i], static_cast<float>(expected)) << cols << " " << i;
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace thermocline
