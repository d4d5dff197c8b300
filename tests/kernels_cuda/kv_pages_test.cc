// Storing keys and values: each element in its place of its page, and nothing else written.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/kernels_cuda/gpu_fixture.h"
#include "tests/support/reference_data.h"
#include "tests/support/refusal.h"

namespace thermocline {
namespace {

using reference::FloatMatrix;

class GpuKvPagesTest : public GpuTest {};
INSTANTIATE_TEST_SUITE_P(All, GpuKvPagesTest, EveryGpu(), GpuName);

TEST_P(GpuKvPagesTest, StoresEveryElementWhereThePageTableSays) {
  constexpr int64_t kPages = 7, kPageTokens = 4, kHeads = 3, kWidth = 101;
  const std::vector<int32_t> positions = {0, 3, 4, 9, 10, 7}, slices = {1, 1, 0, 2, 2, 0};
  const std::vector<int32_t> table = {5, 1, -1, 6, 3, -1, 0, 2, 4};  // (3 slices, 3 pages)
  const FloatMatrix keys = FloatMatrix::Random(6, kHeads * kWidth, 1, 2);
  const FloatMatrix values = FloatMatrix::Random(6, kHeads * kWidth, 2);
  constexpr int64_t kFloats = kPages * 2 * kHeads * kPageTokens * kWidth;
  float* const pages = PoisonedArray<float>(kFloats).data;
  const GpuKvPages cache{pages, kPages, kPageTokens, kHeads, kWidth};
  const GpuStepView step{6, Upload(positions).data, Upload(slices).data, {Upload(table).data, 3, 3, 3}};
  ASSERT_EQ(gpu().kernels().store_kv(Upload(keys.view()).view(), Upload(values.view()).view(), cache, step,
                                     stream()),
            absl::OkStatus());

  const std::vector<float> stored = Download(DeviceArray<float>{pages, kFloats});
  std::vector<bool> expected_written(stored.size(), false);
  for (int64_t t = 0; t < 6; ++t) {
    const int64_t position = positions[static_cast<size_t>(t)];
    const int64_t page =
        table[static_cast<size_t>(slices[static_cast<size_t>(t)] * 3 + position / kPageTokens)];
    for (const bool is_value : {false, true}) {
      const float* const row = (is_value ? values : keys).view().row_data(t);
      for (int64_t h = 0; h < kHeads; ++h) {
        for (int64_t i = 0; i < kWidth; ++i) {
          const int64_t at = ((page * 2 + is_value) * kHeads + h) * kPageTokens * kWidth +
                             position % kPageTokens * kWidth + i;
          ASSERT_EQ(stored[static_cast<size_t>(at)], row[h * kWidth + i]) << "token " << t << " head " << h;
          expected_written[static_cast<size_t>(at)] = true;
        }
      }
    }
  }
  for (size_t i = 0; i < stored.size(); ++i) ASSERT_EQ(!std::isnan(stored[i]), expected_written[i]) << i;
}

TEST_P(GpuKvPagesTest, RefusesShapesThatDoNotFit) {
  const MatrixView<float> rows = Upload(FloatMatrix::Random(2, 8, 3).view()).view();
  const GpuKvPages cache{PoisonedArray<float>(64).data, 2, 2, 2, 4};
  const std::vector<int32_t> zeros(2);
  const GpuStepView step{2, Upload(zeros).data, Upload(zeros).data, {Upload(zeros).data, 1, 2, 2}};
  const auto refused = [&](MatrixView<const float> keys, MatrixView<const float> values, const GpuKvPages& to,
                           const GpuStepView& at, const std::vector<std::string>& words) {
    ExpectRefusal(gpu().kernels().store_kv(keys, values, to, at, stream()), words);
  };
  refused(rows.Columns(0, 7), rows, cache, step, {"keys is 2 x 7", "needed is 2 x 8"});
  refused(rows, rows.Rows(0, 1), cache, step, {"values is 1 x 8", "needed is 2 x 8"});
  refused(rows, rows, {cache.data, 2, 0, 2, 4}, step, {"2 KV pages of 0 positions"});
  refused(rows, rows, {nullptr, 2, 2, 2, 4}, step, {"KV pages lie at"});
  refused(rows, rows, cache, {2, step.positions, nullptr, step.pages}, {"slices lies at"});
}

}  // namespace
}  // namespace thermocline
