// Attention of single heads: shapes of real models and odd ones, short and long caches.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "tests/kernels_cpu/isa_test_support.h"
#include "tests/support/reference.h"
#include "tests/support/reference_data.h"

namespace thermocline {
namespace {

using reference::FloatMatrix;

class AttentionTest : public IsaTest {};
INSTANTIATE_TEST_SUITE_P(All, AttentionTest, EveryIsa(), IsaName);

struct Shape {
  int64_t n_heads;
  int64_t n_kv_heads;
  int64_t d_head;
};

// A cache whose pages lie in descending order, a page between them that belongs to nobody.
struct Case {
  Case(Shape shape, int64_t first_position, int64_t n_tokens, float spread)
      : positions(first_position + n_tokens),
        queries(FloatMatrix::Random(n_tokens, shape.n_heads * shape.d_head, 1)),
        output(FloatMatrix::Poisoned(n_tokens, shape.n_heads * shape.d_head, 3)),
        cache(FloatMatrix::Random(2 * PageCount(positions), 2 * shape.n_kv_heads * kPageTokens * shape.d_head,
                                  2)) {
    for (int64_t page = PageCount(positions); page-- > 0;)
      pages.push_back(static_cast<int32_t>(2 * page + 1));
    for (int64_t t = 0; t < n_tokens; ++t) tokens.push_back({pages.data(), first_position + t + 1});
    args = {.queries = queries.view(),
            .output = output.view(),
            .tokens = tokens,
            .cache = cache.view().data,
            .page_tokens = kPageTokens,
            .page_stride = 2 * shape.n_kv_heads * kPageTokens * shape.d_head,
            .head_stride = kPageTokens * shape.d_head,
            .value_offset = shape.n_kv_heads * kPageTokens * shape.d_head,
            .n_heads = shape.n_heads,
            .n_kv_heads = shape.n_kv_heads,
            .d_head = shape.d_head,
            .scale = spread / std::sqrt(static_cast<float>(shape.d_head))};
  }
  static constexpr int64_t kPageTokens = 16;
  static int64_t PageCount(int64_t positions) { return (positions + kPageTokens - 1) / kPageTokens; }

  int64_t positions;
  FloatMatrix queries, output, cache;
  std::vector<int32_t> pages;
  std::vector<AttentionToken> tokens;
  AttentionArgs args;
};

void ExpectAttention(const Case& c, int64_t token, int64_t head) {
  const std::vector<double> expected = reference::AttendHead(c.args, token, head);
  // An error of the score shifts its weight by the same share: products of d_head terms below one in
  // magnitude, times the scale. Values are below one, weights sum to one.
  const auto d_head = static_cast<double>(c.args.d_head);
  const double score_error = c.args.scale * SumTolerance(c.args.d_head, d_head);
  const double tolerance = 2.0 * score_error + SumTolerance(c.positions, 1.0) + 4 * 0x1p-23;
  for (int64_t i = 0; i < c.args.d_head; ++i)
    ASSERT_NEAR(c.args.output.row_data(token)[head * c.args.d_head + i], expected[static_cast<size_t>(i)],
                tolerance)
        << "token " << token << " head " << head << " element " << i << " d_head " << c.args.d_head;
}

TEST_P(AttentionTest, EqualsTheReferenceForAllShapesAndPositions) {
  for (const Shape shape : {Shape{9, 3, 64}, Shape{4, 4, 32}, Shape{3, 1, 80}, Shape{2, 1, 128},
                            Shape{5, 5, 33}, Shape{1, 1, 1}, Shape{2, 2, 7}, Shape{2, 1, 256}}) {
    for (const int64_t first : {0, 1, 2, 3, 4, 7, 15, 16, 17, 100, 600}) {
      const int64_t n_tokens = first == 0 ? 5 : 1;
      Case c(shape, first, n_tokens, 4.0f);
      const auto scores = std::make_unique<float[]>(static_cast<size_t>(first + n_tokens));
      for (int64_t t = 0; t < n_tokens; ++t)
        kernels().attention(c.args, t, 0, shape.n_heads, {scores.get(), static_cast<size_t>(first + t + 1)});
      for (int64_t t = 0; t < n_tokens; ++t)
        for (int64_t head = 0; head < shape.n_heads; ++head) ExpectAttention(c, t, head);
    }
  }
}

TEST_P(AttentionTest, SlidingWindowsAndSoftCapsEqualTheReference) {
  const Shape shape{4, 2, 40};
  for (const int64_t window : {1, 3, 15, 16, 17, 50}) {
    for (const float soft_cap : {0.0f, 2.0f}) {
      Case c(shape, 70, 1, 4.0f);
      c.tokens[0].first_position = 71 - window;
      c.args.soft_cap = soft_cap;
      std::vector<float> scores(71, NAN);
      kernels().attention(c.args, 0, 0, shape.n_heads, scores);
      for (int64_t head = 0; head < shape.n_heads; ++head) ExpectAttention(c, 0, head);
      for (int64_t p = 0; p < 71 - window; ++p) EXPECT_TRUE(std::isnan(scores[static_cast<size_t>(p)])) << p;
    }
  }
}

TEST_P(AttentionTest, WritesOnlyTheHeadsAskedFor) {
  Case c({4, 2, 32}, 10, 1, 1.0f);
  std::vector<float> scores(11);
  kernels().attention(c.args, 0, 1, 3, scores);
  for (int64_t i = 0; i < 4 * 32; ++i) EXPECT_EQ(std::isnan(c.args.output.data[i]), i < 32 || i >= 96) << i;
}

TEST_P(AttentionTest, LargeScoresDoNotOverflow) {
  Case c({1, 1, 64}, 40, 1, 4000.0f);
  std::vector<float> scores(41);
  kernels().attention(c.args, 0, 0, 1, scores);
  for (int64_t i = 0; i < 64; ++i) {
    EXPECT_TRUE(std::isfinite(c.args.output.data[i]));
    EXPECT_LE(std::abs(c.args.output.data[i]), 1.0f + 0x1p-20f);
  }
}

TEST_P(AttentionTest, OnePositionReturnsItsValue) {
  Case c({2, 2, 40}, 0, 1, 1.0f);
  std::vector<float> scores(1);
  kernels().attention(c.args, 0, 0, 2, scores);
  for (int64_t head = 0; head < 2; ++head)
    for (int64_t i = 0; i < 40; ++i)
      EXPECT_EQ(
          c.args.output.data[head * 40 + i],
          c.args
              .cache[c.pages[0] * c.args.page_stride + c.args.value_offset + head * c.args.head_stride + i]);
}

}  // namespace
}  // namespace thermocline
