// Attention of tiles of tokens and heads: shapes of real models and odd ones, every type of keys and values.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "core/half.h"
#include "tests/kernels_cpu/isa_test_support.h"
#include "tests/support/reference.h"
#include "tests/support/reference_data.h"

namespace thermocline {
namespace {

using reference::FloatMatrix;

class AttentionTest : public IsaTest {};
INSTANTIATE_TEST_SUITE_P(All, AttentionTest, EveryIsa(), IsaName);

constexpr ElementType kKvTypes[] = {ElementType::kF32, ElementType::kF16, ElementType::kQ8_0};

struct Shape {
  int64_t n_heads;
  int64_t n_kv_heads;
  int64_t d_head;
};

// Elements within (-1, 1). Q8_0: any bytes, scales up to 1/128.
void Fill(const KvLayout& layout, std::span<std::byte> pages, uint32_t seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> unit(-1.0f, 1.0f);
  if (layout.type == ElementType::kQ8_0) {
    for (KvBlock& block :
         std::span(reinterpret_cast<KvBlock*>(pages.data()), pages.size() / sizeof(KvBlock))) {
      for (uint16_t& scale : block.scales) scale = FloatToHalf(unit(random) / 128);
      for (int8_t& byte : block.bytes) byte = static_cast<int8_t>(random() % 255) - 127;
    }
  } else if (layout.type == ElementType::kF16) {
    for (uint16_t& half : std::span(reinterpret_cast<uint16_t*>(pages.data()), pages.size() / 2))
      half = FloatToHalf(unit(random));
  } else {
    for (float& value : std::span(reinterpret_cast<float*>(pages.data()), pages.size() / 4))
      value = unit(random);
  }
}

// A cache whose pages lie in descending order, a page of NaN between them that belongs to nobody.
struct Case {
  Case(ElementType type, Shape shape, int64_t first_position, int64_t n_tokens, float spread = 4.0f)
      : positions(first_position + n_tokens),
        queries(FloatMatrix::Random(n_tokens, shape.n_heads * shape.d_head, 1)),
        output(FloatMatrix::Poisoned(n_tokens, shape.n_heads * shape.d_head, 3)),
        layout{type, shape.n_kv_heads, shape.d_head} {
    const int64_t count = (positions + kKvPageTokens - 1) / kKvPageTokens;
    const auto page_bytes = static_cast<size_t>(layout.page_bytes());
    cache.assign(static_cast<size_t>(2 * count) * page_bytes + kKvSlackBytes, std::byte{0xFF});
    for (int64_t page = count; page-- > 0;) {
      pages.push_back(static_cast<int32_t>(2 * page + 1));
      Fill(layout, std::span(cache).subspan(static_cast<size_t>(2 * page + 1) * page_bytes, page_bytes),
           static_cast<uint32_t>(page + 2));
    }
    for (int64_t t = 0; t < n_tokens; ++t) tokens.push_back({pages.data(), first_position + t + 1});
    args = {.queries = queries.view(),
            .output = output.view(),
            .tokens = tokens,
            .cache = cache.data(),
            .layout = layout,
            .n_heads = shape.n_heads,
            .scale = spread / std::sqrt(static_cast<float>(shape.d_head))};
  }

  void Run(const KernelTable& kernels, const AttentionTile& tile) {
    FloatMatrix scratch = FloatMatrix::Poisoned(1, AttentionScratchSize(layout.d_head));
    kernels.attention(args, tile, scratch.view().row(0));
  }
  // All tokens and heads, in tiles of so many tokens and heads at most.
  void RunTiles(const KernelTable& kernels, int64_t tile_tokens, int64_t tile_heads) {
    const int64_t n_tokens = queries.view().rows, group = args.n_heads / layout.n_kv_heads;
    for (int64_t head = 0; head < args.n_heads;) {
      const int64_t head_end = std::min(head / group * group + group, head + tile_heads);
      for (int64_t t = 0; t < n_tokens; t += tile_tokens)
        Run(kernels, {t, std::min(n_tokens, t + tile_tokens), head, head_end});
      head = head_end;
    }
  }
  std::vector<float> Output() {
    std::vector<float> all;
    for (int64_t t = 0; t < output.view().rows; ++t)
      all.insert(all.end(), output.view().row(t).begin(), output.view().row(t).end());
    return all;
  }

  int64_t positions;
  FloatMatrix queries, output;
  KvLayout layout;
  std::vector<std::byte> cache;
  std::vector<int32_t> pages;
  std::vector<AttentionToken> tokens;
  AttentionArgs args;
};

void ExpectAttention(const Case& c, int64_t token, int64_t head) {
  const std::vector<double> expected = reference::AttendHead(c.args, token, head);
  // An error of the score shifts its weight by the same share: products of d_head terms below one in
  // magnitude, times the scale. Values are below one, weights sum to one. The reference decodes the types
  // exactly, so that they add nothing but the rounding of a weight times a scale.
  const int64_t d_head = c.layout.d_head;
  const double score_error = c.args.scale * SumTolerance(d_head, static_cast<double>(d_head));
  const double tolerance = 2.0 * score_error + SumTolerance(c.positions, 1.0) + 8 * 0x1p-23;
  for (int64_t i = 0; i < d_head; ++i)
    ASSERT_NEAR(c.args.output.row_data(token)[head * d_head + i], expected[static_cast<size_t>(i)], tolerance)
        << NameOf(c.layout.type) << " token " << token << " head " << head << " element " << i << " d_head "
        << d_head << " positions " << c.positions;
}

void ExpectAll(const Case& c) {
  for (int64_t t = 0; t < c.args.queries.rows; ++t)
    for (int64_t head = 0; head < c.args.n_heads; ++head) ExpectAttention(c, t, head);
}

TEST_P(AttentionTest, EqualsTheReferenceForAllShapesAndPositions) {
  for (const Shape shape : {Shape{3, 1, 80}, Shape{2, 1, 128}, Shape{2, 2, 33}, Shape{1, 1, 1},
                            Shape{2, 2, 7}, Shape{2, 1, 96}, Shape{1, 1, 256}}) {
    for (const ElementType type : kKvTypes) {
      if (type == ElementType::kQ8_0 && shape.d_head % kKvScaleColumns != 0) continue;
      for (const int64_t first : {0, 1, 3, 15, 16, 17, 63, 64, 65, 300}) {
        Case c(type, shape, first, first == 0 ? 5 : 1);
        c.RunTiles(kernels(), 5, 3);
        ExpectAll(c);
      }
    }
  }
}

TEST_P(AttentionTest, GroupsOfOneToEightHeadsEqualTheReference) {
  for (int64_t group = 1; group <= 8; ++group) {
    for (const ElementType type : kKvTypes) {
      Case c(type, {2 * group, 2, 64}, 60, 6);
      c.RunTiles(kernels(), std::min<int64_t>(6, kAttentionRows / group), group);
      ExpectAll(c);
    }
  }
}

TEST_P(AttentionTest, SlidingWindowsAndSoftCapsEqualTheReference) {
  for (const ElementType type : kKvTypes) {
    for (const int64_t window : {1, 3, 15, 16, 17, 50, 64}) {
      for (const float soft_cap : {0.0f, 2.0f}) {
        Case c(type, {4, 2, 64}, 120, 11);
        for (AttentionToken& token : c.tokens)
          token.first_position = std::max<int64_t>(0, token.n_positions - window);
        c.args.soft_cap = soft_cap;
        // Pages behind every window may hold anything.
        for (int64_t p = 0; p < (121 - window) / kKvPageTokens; ++p) c.pages[static_cast<size_t>(p)] = 0;
        c.RunTiles(kernels(), 11, 2);
        ExpectAll(c);
      }
    }
  }
}

// Rows of different tokens see different positions, and rows share registers in groups of six, four, two and
// one.
TEST_P(AttentionTest, ATokenAloneAndInATileGetTheSameBits) {
  for (const ElementType type : kKvTypes) {
    for (const int64_t window : {1000, 20}) {
      Case c(type, {6, 2, 96}, 50, 23);
      for (AttentionToken& token : c.tokens)
        token.first_position = std::max<int64_t>(0, token.n_positions - window);
      c.RunTiles(kernels(), 1, 1);
      const std::vector<float> alone = c.Output();
      for (const auto& [tile_tokens, tile_heads] :
           {std::pair{1, 3}, {2, 3}, {8, 3}, {5, 2}, {23, 1}, {7, 1}, {12, 2}}) {
        for (int64_t t = 0; t < 23; ++t) std::ranges::fill(c.output.view().row(t), NAN);
        c.RunTiles(kernels(), tile_tokens, tile_heads);
        const std::vector<float> tiled = c.Output();
        EXPECT_EQ(std::memcmp(alone.data(), tiled.data(), alone.size() * sizeof(float)), 0)
            << NameOf(type) << " tiles of " << tile_tokens << " tokens and " << tile_heads << " heads";
      }
    }
  }
}

// Whoever wrote the positions behind the last one, in pages that belong to the sequence or not.
TEST_P(AttentionTest, PositionsThatARowDoesNotSeeLeaveNoTrace) {
  for (const ElementType type : kKvTypes) {
    Case c(type, {2, 1, 32}, 36, 3);
    c.RunTiles(kernels(), 3, 2);
    const std::vector<float> before = c.Output();
    auto* const page = c.cache.data() + c.pages[2] * c.layout.page_bytes();
    for (int64_t column = 0; column < 32; ++column) {
      for (int64_t place = 7; place < kKvPageTokens; ++place) {
        const auto set = [&](int64_t element, int64_t head) {
          if (type == ElementType::kQ8_0) {
            reinterpret_cast<KvBlock*>(page + head)->scales[place] = 0x7E00;
          } else {
            const int64_t bytes = type == ElementType::kF32 ? 4 : 2;
            std::memset(page + head + element * bytes, 0xFF, static_cast<size_t>(bytes));
          }
        };
        set(column * kKvPageTokens + place, 0);
        set(place * 32 + column, c.layout.value_offset());
      }
    }
    c.RunTiles(kernels(), 3, 2);
    EXPECT_EQ(before, c.Output()) << NameOf(type);
  }
}

TEST_P(AttentionTest, WritesOnlyWhatIsAskedFor) {
  Case c(ElementType::kF16, {4, 1, 40}, 10, 3);
  c.Run(kernels(), {1, 2, 1, 3});
  for (int64_t t = 0; t < 3; ++t)
    for (int64_t i = 0; i < 4 * 40; ++i)
      EXPECT_EQ(std::isnan(c.args.output.row_data(t)[i]), t != 1 || i < 40 || i >= 120) << t << " " << i;
}

TEST_P(AttentionTest, LargeScoresDoNotOverflow) {
  Case c(ElementType::kF32, {1, 1, 64}, 200, 1, 4000.0f);
  c.RunTiles(kernels(), 1, 1);
  for (int64_t i = 0; i < 64; ++i) {
    EXPECT_TRUE(std::isfinite(c.args.output.data[i]));
    EXPECT_LE(std::abs(c.args.output.data[i]), 1.0f + 0x1p-20f);
  }
}

TEST_P(AttentionTest, OnePositionReturnsItsValue) {
  for (const ElementType type : kKvTypes) {
    Case c(type, {2, 2, 64}, 0, 1);
    c.RunTiles(kernels(), 1, 1);
    const std::byte* const page = c.cache.data() + c.pages[0] * c.layout.page_bytes();
    for (int64_t i = 0; i < 2 * 64; ++i)
      EXPECT_EQ(c.args.output.data[i], reference::KvElement(c.layout, page, true, i / 64, 0, i % 64));
  }
}

}  // namespace
}  // namespace thermocline
