// Attention over pages: shapes of real models and odd ones, borders of pages and splits, long contexts,
// replay.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "tests/kernels_cpu/isa_test_support.h"
#include "tests/kernels_cuda/gpu_fixture.h"
#include "tests/support/reference.h"
#include "tests/support/reference_data.h"
#include "tests/support/refusal.h"

namespace thermocline {
namespace {

using reference::FloatMatrix;

struct Shape {
  int64_t n_heads;
  int64_t n_kv_heads;
  int64_t d_head;
  int64_t width() const { return n_heads * d_head; }
};

struct Token {
  int32_t slice;
  int32_t position;
};

// Keys and values of some sequences, which begin with the same `shared` positions: rows for the reference,
// and pages in random order for the device, where all that no position holds is NaN.
class Cache {
 public:
  Cache(Shape shape, int64_t page_tokens, int64_t sequences, int64_t positions, int64_t shared = 0)
      : shape_(shape),
        page_tokens_(page_tokens),
        positions_(positions),
        most_pages_((positions + page_tokens - 1) / page_tokens + 1) {
    const int64_t whole_shared = shared / page_tokens;
    n_pages_ = sequences * most_pages_ + 3;
    std::vector<int32_t> order(static_cast<size_t>(n_pages_));
    std::iota(order.begin(), order.end(), 0);
    std::mt19937 random(7);
    std::shuffle(order.begin(), order.end(), random);
    pages_.assign(static_cast<size_t>(n_pages_ * PageFloats()), std::numeric_limits<float>::quiet_NaN());
    for (int64_t s = 0; s < sequences; ++s) {
      keys_.push_back(FloatMatrix::Random(shape.n_kv_heads, positions * shape.d_head, 100 + 2 * s));
      values_.push_back(FloatMatrix::Random(shape.n_kv_heads, positions * shape.d_head, 101 + 2 * s));
      for (int64_t i = 0; i < most_pages_; ++i) {
        const bool share = s > 0 && i < whole_shared;
        table_.push_back(share ? table_[static_cast<size_t>(i)]
                               : order[static_cast<size_t>(s * most_pages_ + i)]);
      }
      for (int64_t h = 0; h < shape.n_kv_heads; ++h) {
        const auto shared_floats = static_cast<size_t>(whole_shared * page_tokens * shape.d_head);
        std::copy_n(keys_[0].view().row_data(h), shared_floats, keys_.back().view().row_data(h));
        std::copy_n(values_[0].view().row_data(h), shared_floats, values_.back().view().row_data(h));
        for (int64_t p = 0; p < positions; ++p) {
          Put(s, 0, h, p, keys_.back().view().row_data(h) + p * shape.d_head);
          Put(s, 1, h, p, values_.back().view().row_data(h) + p * shape.d_head);
        }
      }
    }
  }

  const Shape& shape() const { return shape_; }
  int64_t positions() const { return positions_; }
  int64_t most_pages() const { return most_pages_; }
  const std::vector<int32_t>& table() const { return table_; }
  const std::vector<float>& pages() const { return pages_; }

  GpuKvPages View(float* device) const {
    return {.data = device,
            .n_pages = n_pages_,
            .page_tokens = page_tokens_,
            .n_kv_heads = shape_.n_kv_heads,
            .d_head = shape_.d_head};
  }

  // What a token's heads should be.
  std::vector<double> Expected(const Token& token, const float* query, int64_t head, float scale) const {
    const int64_t kv_head = head / (shape_.n_heads / shape_.n_kv_heads);
    const int64_t head_floats = page_tokens_ * shape_.d_head;
    reference::HeadCache seen;
    for (int64_t p = 0; p <= token.position; ++p) {
      const int64_t page = table_[static_cast<size_t>(token.slice * most_pages_ + p / page_tokens_)];
      seen.keys.push_back(pages_.data() + page * PageFloats() + kv_head * head_floats +
                          p % page_tokens_ * shape_.d_head);
      seen.values.push_back(seen.keys.back() + shape_.n_kv_heads * head_floats);
    }
    const std::span<const float> row(query, static_cast<size_t>(shape_.width()));
    return reference::AttendHead(
        row.subspan(static_cast<size_t>(head * shape_.d_head), static_cast<size_t>(shape_.d_head)), seen,
        scale);
  }

 private:
  int64_t PageFloats() const { return 2 * shape_.n_kv_heads * page_tokens_ * shape_.d_head; }
  void Put(int64_t sequence, int64_t which, int64_t head, int64_t position, const float* row) {
    const int64_t page = table_[static_cast<size_t>(sequence * most_pages_ + position / page_tokens_)];
    const int64_t at =
        ((page * 2 + which) * shape_.n_kv_heads + head) * page_tokens_ + position % page_tokens_;
    std::copy_n(row, shape_.d_head, pages_.begin() + at * shape_.d_head);
  }

  Shape shape_;
  int64_t page_tokens_, positions_, most_pages_, n_pages_;
  std::vector<int32_t> table_;
  std::vector<float> pages_;
  std::vector<FloatMatrix> keys_, values_;
};

class GpuAttentionTest : public GpuTest {
 protected:
  // A step on the device, whose positions can be changed.
  struct Step {
    GpuAttentionArgs args;
    int32_t* positions = nullptr;
  };

  FloatMatrix Queries(const Cache& cache, int64_t n_tokens, uint32_t seed = 1) {
    return FloatMatrix::Random(n_tokens, cache.shape().width(), seed, 5);
  }

  Step Prepare(const Cache& cache, const std::vector<Token>& tokens, const FloatMatrix& queries, float scale,
               int64_t most_positions) {
    const auto n = static_cast<int64_t>(tokens.size());
    const Shape& shape = cache.shape();
    std::vector<int32_t> positions, slices;
    for (const Token& token : tokens) {
      positions.push_back(token.position);
      slices.push_back(token.slice);
    }
    Step step;
    step.positions = Upload(positions).data;
    const int64_t scratch = GpuAttentionScratch(n, shape.n_heads, shape.d_head, most_positions);
    step.args = {.queries = Upload(queries.view()).view(),
                 .output = Poisoned<float>(n, shape.width(), 3).view(),
                 .cache = cache.View(Upload(cache.pages()).data),
                 .step = {.n_tokens = n,
                          .positions = step.positions,
                          .slices = Upload(slices).data,
                          .pages = {Upload(cache.table()).data,
                                    static_cast<int64_t>(cache.table().size()) / cache.most_pages(),
                                    cache.most_pages(), cache.most_pages()}},
                 .n_heads = shape.n_heads,
                 .most_positions = most_positions,
                 .scale = scale,
                 .scratch = PoisonedArray<float>(scratch).span()};
    return step;
  }

  std::vector<float> Attend(const Cache& cache, const std::vector<Token>& tokens, const FloatMatrix& queries,
                            float scale, int64_t most_positions) {
    const Step step = Prepare(cache, tokens, queries, scale, most_positions);
    EXPECT_EQ(gpu().kernels().attention(step.args, stream()), absl::OkStatus());
    return Download(step.args.output);
  }

  static void ExpectAttention(const Cache& cache, const std::vector<Token>& tokens,
                              const FloatMatrix& queries, float scale, const std::vector<float>& output) {
    const Shape& shape = cache.shape();
    // An error of the score shifts its weight by the same share: products of d_head terms below one in
    // magnitude, times the scale. Values are below one, weights sum to one.
    const double score_error =
        scale * SumTolerance(shape.d_head, static_cast<double>(shape.d_head)) + scale * 0x1p-20;
    for (size_t t = 0; t < tokens.size(); ++t) {
      const double tolerance = 2.0 * score_error + SumTolerance(tokens[t].position + 1, 1.0) + 8 * 0x1p-23;
      for (int64_t head = 0; head < shape.n_heads; ++head) {
        const std::vector<double> expected =
            cache.Expected(tokens[t], queries.view().row_data(static_cast<int64_t>(t)), head, scale);
        for (int64_t i = 0; i < shape.d_head; ++i) {
          ASSERT_NEAR(
              output[t * static_cast<size_t>(shape.width()) + static_cast<size_t>(head * shape.d_head + i)],
              expected[static_cast<size_t>(i)], tolerance)
              << "position " << tokens[t].position << " head " << head << " element " << i << " d_head "
              << shape.d_head;
        }
      }
    }
  }
};
INSTANTIATE_TEST_SUITE_P(All, GpuAttentionTest, EveryGpu(), GpuName);

float ScaleOf(const Shape& shape) { return 4.0f / std::sqrt(static_cast<float>(shape.d_head)); }

TEST_P(GpuAttentionTest, EqualsTheReferenceForAllShapesAndPositions) {
  const std::vector<Token> tokens = {{1, 0},  {0, 3},  {2, 15}, {0, 16},  {1, 62},
                                     {0, 63}, {2, 64}, {1, 65}, {1, 127}, {2, 129}};
  for (const Shape shape :
       {Shape{9, 3, 64}, Shape{4, 4, 32}, Shape{3, 1, 80}, Shape{8, 1, 128}, Shape{5, 5, 33}, Shape{1, 1, 1},
        Shape{4, 2, 7}, Shape{2, 1, 256}, Shape{5, 5, 200}, Shape{20, 2, 20}}) {
    const Cache cache(shape, 16, 3, 130);
    const auto n = static_cast<int64_t>(tokens.size());
    const FloatMatrix queries = Queries(cache, n);
    const std::vector<float> output = Attend(cache, tokens, queries, ScaleOf(shape), 130);
    ExpectAttention(cache, tokens, queries, ScaleOf(shape), output);
  }
}

TEST_P(GpuAttentionTest, PagesOfAnySizeMayBeShared) {
  const Shape shape{4, 2, 24};
  for (const int64_t page_tokens : {1, 5, 64, 100}) {
    const Cache cache(shape, page_tokens, 2, 90, 37);
    const std::vector<Token> tokens = {{0, 36}, {1, 36}, {1, 37}, {0, 89}, {1, 89}};
    const FloatMatrix queries = Queries(cache, 5);
    ExpectAttention(cache, tokens, queries, ScaleOf(shape),
                    Attend(cache, tokens, queries, ScaleOf(shape), 90));
  }
}

TEST_P(GpuAttentionTest, LongContextsMergeManySplits) {
  const Shape shape{2, 1, 8};
  const Cache cache(shape, 16, 1, 17000);  // 266 splits: more than the merge weighs at once
  const std::vector<Token> tokens = {{0, 16999}, {0, 16383}, {0, 5000}};
  const FloatMatrix queries = Queries(cache, 3);
  ExpectAttention(cache, tokens, queries, ScaleOf(shape),
                  Attend(cache, tokens, queries, ScaleOf(shape), 17000));
}

TEST_P(GpuAttentionTest, ChunkOfAPromptIsCausal) {
  const Shape shape{2, 1, 16};
  const Cache cache(shape, 16, 1, 100);
  std::vector<Token> tokens;
  for (int32_t t = 0; t < 64; ++t) tokens.push_back({0, 36 + t});
  const FloatMatrix queries = Queries(cache, 64);
  ExpectAttention(cache, tokens, queries, ScaleOf(shape),
                  Attend(cache, tokens, queries, ScaleOf(shape), 100));
}

TEST_P(GpuAttentionTest, StepsThatNeedSeveralLaunchesEqualTheReference) {
  const Shape shape{128, 1, 4};
  const int64_t most_positions = 64 * 64;
  ASSERT_LT(GpuAttentionScratch(3, 128, 4, most_positions),
            3 * GpuAttentionScratch(1, 128, 4, most_positions));
  const Cache cache(shape, 64, 1, most_positions);
  const std::vector<Token> tokens = {{0, 70}, {0, 3}, {0, 200}};
  const FloatMatrix queries = Queries(cache, 3);
  ExpectAttention(cache, tokens, queries, ScaleOf(shape),
                  Attend(cache, tokens, queries, ScaleOf(shape), most_positions));
}

TEST_P(GpuAttentionTest, ATokensBitsDependOnNothingElse) {
  const Shape shape{6, 2, 40};
  const Cache cache(shape, 16, 2, 150);
  const std::vector<Token> tokens = {{1, 149}, {0, 64}, {1, 20}};
  const FloatMatrix queries = Queries(cache, 3);
  const std::vector<float> together = Attend(cache, tokens, queries, 1.0f, 150);
  EXPECT_TRUE(reference::SameBits(together, Attend(cache, tokens, queries, 1.0f, 150)));
  const auto width = static_cast<size_t>(shape.width());
  for (size_t t = 0; t < tokens.size(); ++t) {
    FloatMatrix alone = Queries(cache, 1);
    std::copy_n(queries.view().row_data(static_cast<int64_t>(t)), width, alone.view().data);
    // More room than needed, or just enough.
    for (const int64_t most_positions : {int64_t{160}, int64_t{tokens[t].position} + 1}) {
      const std::vector<float> output = Attend(cache, {tokens[t]}, alone, 1.0f, most_positions);
      EXPECT_TRUE(reference::SameBits(
          output, std::vector<float>(together.begin() + t * width, together.begin() + (t + 1) * width)))
          << "token " << t;
    }
  }
}

TEST_P(GpuAttentionTest, LargeScoresDoNotOverflow) {
  const Shape shape{2, 1, 64};
  const Cache cache(shape, 16, 1, 200);
  const std::vector<Token> tokens = {{0, 199}};
  const FloatMatrix queries = Queries(cache, 1);
  const float scale = 4000.0f;
  for (const float value : Attend(cache, tokens, queries, scale, 200)) {
    EXPECT_TRUE(std::isfinite(value));
    EXPECT_LE(std::abs(value), 1.0f + 0x1p-20f);
  }
}

TEST_P(GpuAttentionTest, NanOfOneStepDoesNotReachTheNext) {
  const Shape shape{2, 1, 16};
  const Cache cache(shape, 16, 1, 64);
  const std::vector<float> broken = Attend(cache, {{0, 63}}, FloatMatrix::Poisoned(1, 32), 1.0f, 64);
  for (const float value : broken) EXPECT_TRUE(std::isnan(value));
  const FloatMatrix queries = Queries(cache, 1);  // where fewer positions count, in the same shared memory
  ExpectAttention(cache, {{0, 40}}, queries, 1.0f, Attend(cache, {{0, 40}}, queries, 1.0f, 64));
}

TEST_P(GpuAttentionTest, OnePositionReturnsItsValue) {
  const Shape shape{2, 2, 40};
  const Cache cache(shape, 16, 1, 1);
  const FloatMatrix queries = Queries(cache, 1);
  const std::vector<float> output = Attend(cache, {{0, 0}}, queries, 1.0f, 1);
  for (int64_t head = 0; head < 2; ++head) {
    const std::vector<double> value = cache.Expected({0, 0}, queries.view().data, head, 1.0f);
    for (size_t i = 0; i < 40; ++i)
      EXPECT_EQ(output[static_cast<size_t>(head) * 40 + i], static_cast<float>(value[i]));
  }
}

TEST_P(GpuAttentionTest, CapturedStepRunsAgainAtLaterPositions) {
  const Shape shape{4, 2, 32};
  const Cache cache(shape, 16, 2, 200);
  const FloatMatrix queries = Queries(cache, 2);
  const Step step = Prepare(cache, {{0, 10}, {1, 63}}, queries, 1.0f, 200);
  ASSERT_EQ(gpu().BeginCapture(stream()), absl::OkStatus());
  ASSERT_EQ(gpu().kernels().attention(step.args, stream()), absl::OkStatus());
  absl::StatusOr<GpuOwned<GpuGraph>> graph = gpu().EndCapture(stream());
  ASSERT_EQ(graph.status(), absl::OkStatus());
  for (const int32_t ahead : {0, 1, 60, 136}) {
    const std::vector<Token> tokens = {{0, 10 + ahead}, {1, 63 + ahead}};
    const int32_t positions[2] = {tokens[0].position, tokens[1].position};
    UploadBytes(reinterpret_cast<std::byte*>(step.positions), reinterpret_cast<const std::byte*>(positions),
                sizeof positions);
    ASSERT_EQ(gpu().Launch(graph->get(), stream()), absl::OkStatus());
    ExpectAttention(cache, tokens, queries, 1.0f, Download(step.args.output));
  }
}

TEST_P(GpuAttentionTest, FailedLaunchesAreTheStatus) {
  if (!emulated()) GTEST_SKIP() << "faults are planned on the emulated device only";
  const Shape shape{2, 1, 16};
  const Cache cache(shape, 16, 1, 20);
  const FloatMatrix queries = Queries(cache, 1);
  const Step step = Prepare(cache, {{0, 19}}, queries, 1.0f, 20);
  for (const int64_t launch : {1, 2}) {  // of the splits, of their merge
    faults()->FailCall("cudaLaunchKernel", launch, EmulatedError::kInvalidValue);
    const absl::Status status = gpu().kernels().attention(step.args, stream());
    EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
    ExpectRefusal(status, {launch == 1 ? "AttendSplit" : "MergeSplits"});
  }
}

TEST_P(GpuAttentionTest, RefusesWhatItCannotCompute) {
  const Shape shape{4, 2, 32};
  const Cache cache(shape, 16, 1, 20);
  const FloatMatrix queries = Queries(cache, 1);
  const GpuAttentionArgs good = Prepare(cache, {{0, 19}}, queries, 1.0f, 20).args;
  const auto refused = [&](auto change, const std::string& message) {
    GpuAttentionArgs args = good;
    change(args);
    const absl::Status status = gpu().kernels().attention(args, stream());
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    ExpectRefusal(status, {message});
  };
  refused([](GpuAttentionArgs& a) { a.cache.d_head = 257; }, "d_head 257 is above the limit of 256");
  refused([](GpuAttentionArgs& a) { a.cache.d_head = 0; }, "d_head 0");
  refused([](GpuAttentionArgs& a) { a.cache.data += 1; }, "KV pages lie at");
  refused([](GpuAttentionArgs& a) { a.n_heads = 3; }, "3 heads");
  refused([](GpuAttentionArgs& a) { a.step.n_tokens = 0; }, "0 tokens");
  refused([](GpuAttentionArgs& a) { a.step.positions = nullptr; }, "positions");
  refused([](GpuAttentionArgs& a) { a.step.pages.data = nullptr; }, "page table");
  refused([](GpuAttentionArgs& a) { a.most_positions = 0; }, "0 positions");
  refused([](GpuAttentionArgs& a) { a.most_positions = 49; }, "49 positions, allowed are 1 to 48");
  refused([](GpuAttentionArgs& a) { a.queries.cols = 127; }, "queries is 1 x 127, needed is 1 x 128");
  refused([](GpuAttentionArgs& a) { a.output.rows = 2; }, "output is 2 x 128, needed is 1 x 128");
  refused([](GpuAttentionArgs& a) { a.scratch = a.scratch.first(a.scratch.size() - 1); }, "scratch of");
  refused([](GpuAttentionArgs& a) { a.scratch = {a.scratch.data() + 1, a.scratch.size()}; }, "not aligned");
}

}  // namespace
}  // namespace thermocline
