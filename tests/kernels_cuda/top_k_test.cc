// The k likeliest: against a sort, with ties, NaN, infinities, short rows and rows of many pieces.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "tests/kernels_cuda/gpu_fixture.h"
#include "tests/support/refusal.h"

namespace thermocline {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Ids of a row, likeliest first, then -1.
std::vector<int32_t> Expected(const float* row, int64_t cols, int64_t k) {
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < cols; ++i)
    if (!std::isnan(row[i])) ids.push_back(i);
  std::stable_sort(ids.begin(), ids.end(), [&](int32_t a, int32_t b) { return row[a] > row[b]; });
  ids.resize(static_cast<size_t>(k), -1);
  return ids;
}

class GpuTopKTest : public GpuTest {
 protected:
  // Rows of a packed matrix, uploaded `gap` floats apart.
  void ExpectTopK(const std::vector<float>& logits, int64_t rows, int64_t k, int64_t gap = 0) {
    const int64_t cols = static_cast<int64_t>(logits.size()) / rows;
    std::vector<float> padded(static_cast<size_t>(rows * (cols + gap)), kInfinity);  // would win
    for (int64_t r = 0; r < rows; ++r)
      std::copy_n(logits.begin() + r * cols, cols, padded.begin() + r * (cols + gap));
    const int64_t scratch = GpuTopKScratch(rows, cols, k);
    int32_t* const ids = PoisonedArray<int32_t>(rows * k).data;
    float* const values = PoisonedArray<float>(rows * k).data;
    ASSERT_EQ(gpu().kernels().top_k(
                  {Upload(padded).data, rows, cols, cols + gap}, {ids, rows, k, k}, {values, rows, k, k},
                  {PoisonedArray<float>(scratch).data, static_cast<size_t>(scratch)}, stream()),
              absl::OkStatus());
    const std::vector<int32_t> found = Download(DeviceArray<int32_t>{ids, rows * k});
    const std::vector<float> found_values = Download(DeviceArray<float>{values, rows * k});
    for (int64_t r = 0; r < rows; ++r) {
      const float* const row = logits.data() + r * cols;
      const std::vector<int32_t> expected = Expected(row, cols, k);
      for (int64_t i = 0; i < k; ++i) {
        const int32_t id = expected[static_cast<size_t>(i)];
        ASSERT_EQ(found[static_cast<size_t>(r * k + i)], id)
            << cols << " columns, row " << r << ", place " << i;
        ASSERT_EQ(found_values[static_cast<size_t>(r * k + i)], id < 0 ? -kInfinity : row[id]);
      }
    }
  }
};
INSTANTIATE_TEST_SUITE_P(All, GpuTopKTest, EveryGpu(), GpuName);

std::vector<float> RandomLogits(int64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, 5.0f);
  std::vector<float> logits(static_cast<size_t>(count));
  for (float& value : logits) value = normal(random);
  return logits;
}

TEST_P(GpuTopKTest, EqualsASort) {
  for (const int64_t cols : {1, 5, 64, 4095, 4096, 4097, 13001})
    for (const int64_t k : {1, 3, 64}) ExpectTopK(RandomLogits(3 * cols, 1), 3, k, k == 3 ? 3 : 0);
}

TEST_P(GpuTopKTest, VocabulariesOfHundredsOfThousands) {
  ExpectTopK(RandomLogits(300001, 2), 1, 1);
  std::vector<float> ascending(150000);
  for (size_t i = 0; i < ascending.size(); ++i) ascending[i] = static_cast<float>(i / 3);
  ExpectTopK(ascending, 1, 7);  // all of the last piece, in threes of a kind
}

TEST_P(GpuTopKTest, TiesGoToTheLowerId) {
  ExpectTopK(std::vector<float>(9000, 1.5f), 1, 40);
  std::vector<float> zeros(200);
  for (size_t i = 0; i < zeros.size(); ++i)
    if (i % 8 < 4) zeros[i] = -0.0f;  // equals 0
  ExpectTopK(zeros, 1, 64);
}

TEST_P(GpuTopKTest, NanIsNeverTakenAndInfinitiesAre) {
  std::vector<float> logits = RandomLogits(6000, 3);
  for (size_t i = 0; i < logits.size(); i += 3) logits[i] = i % 2 == 0 ? kNan : -kNan;
  logits[17] = kInfinity;
  logits[5000] = kInfinity;
  ExpectTopK(logits, 1, 20);
  std::vector<float> few(5000, kNan);  // fewer than k
  few[4999] = -kInfinity;
  few[3] = -1.0f;
  ExpectTopK(few, 1, 5);
  ExpectTopK(std::vector<float>(10, kNan), 1, 2);
  ExpectTopK(std::vector<float>(10, -kInfinity), 1, 64);
}

TEST_P(GpuTopKTest, RefusesWhatItCannotRank) {
  const std::vector<float> some(400);
  const float* const logits = Upload(some).data;
  const MatrixView<int32_t> ids{PoisonedArray<int32_t>(130).data, 2, 65, 65};
  const MatrixView<float> values{PoisonedArray<float>(130).data, 2, 65, 65};
  const std::span<float> scratch{PoisonedArray<float>(512).data, 512};
  const auto refused = [&](MatrixView<const float> rows, int64_t k, std::span<float> with,
                           const std::vector<std::string>& words) {
    ExpectRefusal(gpu().kernels().top_k(rows, ids.Columns(0, k), values.Columns(0, k), with, stream()),
                  words);
  };
  refused({logits, 2, 200, 200}, 0, scratch, {"k is 0, allowed are 1 to 64"});
  refused({logits, 2, 200, 200}, 65, scratch, {"k is 65, allowed are 1 to 64"});
  refused({logits, 1, 200, 200}, 2, scratch, {"ids is 2 x 2, needed is 1 x 2"});
  refused({logits, 2, (1 << 20) + 1, 1 << 21}, 1, scratch, {"1048577 columns, allowed are 1 to 1048576"});
  refused({logits, 2, 200, 200}, 2, scratch.first(7), {"scratch of 7 floats, needed are 8"});
  refused({nullptr, 2, 200, 200}, 2, scratch, {"logits lies at"});
}

}  // namespace
}  // namespace thermocline
