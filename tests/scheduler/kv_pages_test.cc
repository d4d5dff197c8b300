// What KvPages stores, element by element, and what a cache of each type weighs.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/kv_pages.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/half.h"
#include "tests/support/reference.h"
#include "tests/support/reference_data.h"

namespace thermocline {
namespace {

using reference::FloatMatrix;

ModelConfig Config(int64_t d_head) {
  ModelConfig config;
  config.n_layers = 3;
  config.n_heads = 4;
  config.n_kv_heads = 2;
  config.d_head = d_head;
  return config;
}

constexpr KvPage kPages[] = {4, 1, 3};

// Tokens at positions 13 to 36, over three pages, and a position of the first page that nobody stored.
class KvPagesTest : public testing::TestWithParam<ElementType> {
 protected:
  static constexpr int64_t kFirst = 13, kTokens = 24;

  float Stored(const KvPages& cache, bool value, int64_t position, int64_t element) {
    const KvLayout& layout = cache.layout();
    const std::byte* page = cache.data() + kPages[position / kKvPageTokens] * layout.page_bytes();
    return reference::KvElement(layout, page, value, element / layout.d_head, position % kKvPageTokens,
                                element % layout.d_head);
  }

  FloatMatrix keys_ = FloatMatrix::Random(kTokens, 2 * 64, 1, 3);
  FloatMatrix values_ = FloatMatrix::Random(kTokens, 2 * 64, 2, 5);
};
INSTANTIATE_TEST_SUITE_P(All, KvPagesTest,
                         testing::Values(ElementType::kF32, ElementType::kF16, ElementType::kQ8_0),
                         [](const auto& param_info) { return std::string(NameOf(param_info.param)); });

TEST_P(KvPagesTest, GivesBackWhatItStored) {
  KvPages cache = *KvPages::Create(Config(64), GetParam(), 5);
  cache.Store(kPages, kFirst, keys_.view(), values_.view());
  for (int64_t t = 0; t < kTokens; ++t) {
    for (const bool value : {false, true}) {
      const auto row = (value ? values_ : keys_).view().row(t);
      for (int64_t i = 0; i < 128; ++i) {
        const float original = row[static_cast<size_t>(i)], stored = Stored(cache, value, kFirst + t, i);
        if (GetParam() == ElementType::kF32) {
          ASSERT_EQ(stored, original);
        } else if (GetParam() == ElementType::kF16) {
          ASSERT_EQ(stored, HalfToFloat(FloatToHalf(original)));
        } else {
          float largest = 0;
          for (const float x : row.subspan(static_cast<size_t>(i / 32 * 32), 32))
            largest = std::max(largest, std::abs(x));
          // Half a step, a step being the scale rounded to binary16; the largest may lose its last step.
          const float step = HalfToFloat(FloatToHalf(largest / 127));
          ASSERT_NEAR(stored, original, 0.5 * step + 127 * 0x1p-11 * step) << t << " " << i;
        }
      }
    }
  }
  for (int64_t i = 0; i < 128; ++i) EXPECT_EQ(Stored(cache, false, kFirst - 1, i), 0) << "not stored";
}

TEST_P(KvPagesTest, OneTokenAtATimeStoresTheSameBytes) {
  KvPages together = *KvPages::Create(Config(64), GetParam(), 5),
          apart = *KvPages::Create(Config(64), GetParam(), 5);
  together.Store(kPages, kFirst, keys_.view(), values_.view());
  for (int64_t t = kTokens; t-- > 0;)
    apart.Store(kPages, kFirst + t, keys_.view().Rows(t, 1), values_.view().Rows(t, 1));
  const auto bytes = static_cast<size_t>(KvPages::SizeBytes(Config(64), GetParam(), 5));
  EXPECT_TRUE(std::equal(together.data(), together.data() + bytes, apart.data()));
}

TEST(KvTypes, ValuesBeyondTheRangeOfHalvesStayFinite) {
  KvPages cache = *KvPages::Create(Config(2), ElementType::kF16, 1);
  const std::vector<float> row = {1e6f, -1e6f, 65520.0f, -3.0f};
  const MatrixView<const float> view{row.data(), 1, 4, 4};
  const KvPage page = 0;
  cache.Store({&page, 1}, 0, view, view);
  const auto stored = [&](int64_t head, int64_t column) {
    return reference::KvElement(cache.layout(), cache.data(), true, head, 0, column);
  };
  EXPECT_EQ(stored(0, 0), 65504);
  EXPECT_EQ(stored(0, 1), -65504);
  EXPECT_EQ(stored(1, 0), 65504);
  EXPECT_EQ(stored(1, 1), -3);
}

TEST(KvTypes, ZerosAndSmallestValuesAreStoredInBytes) {
  KvPages cache = *KvPages::Create(Config(32), ElementType::kQ8_0, 1);
  std::vector<float> row(64, 0.0f);
  row[40] = 1e-30f;
  const MatrixView<const float> view{row.data(), 1, 64, 64};
  const KvPage page = 0;
  cache.Store({&page, 1}, 0, view, view);
  for (int64_t i = 0; i < 64; ++i)
    EXPECT_EQ(reference::KvElement(cache.layout(), cache.data(), true, i / 32, 0, i % 32), 0);
}

TEST(KvTypes, WeighWhatTheyShould) {
  const ModelConfig config = Config(64);
  const int64_t values = 2 * 2 * 64 * kKvPageTokens * 7;
  EXPECT_EQ(KvPages::SizeBytes(config, ElementType::kF32, 7), 4 * values);
  EXPECT_EQ(KvPages::SizeBytes(config, ElementType::kF16, 7), 2 * values);
  EXPECT_EQ(KvPages::SizeBytes(config, ElementType::kQ8_0, 7), values / 32 * 34);
  EXPECT_EQ(KvTokenBytes(config, ElementType::kF16, nullptr), 3 * 2 * 2 * 64 * 2);
  Plan plan;
  plan.devices = {{.kind = DeviceKind::kCpu}, {.kind = DeviceKind::kCuda}};
  plan.layers.resize(3);
  plan.layers[1].kv_cache_device = 1;  // in F32
  EXPECT_EQ(KvTokenBytes(config, ElementType::kF16, &plan), (2 + 4 + 2) * 2 * 2 * 64);
  plan.devices[1].kind = DeviceKind::kHost;
  EXPECT_EQ(KvTokenBytes(config, ElementType::kF16, &plan), 3 * 2 * 2 * 64 * 2);
}

TEST(KvTypes, UnknownOnesAndHeadsThatDoNotFitAreRefused) {
  EXPECT_EQ(*ParseKvType("q8_0"), ElementType::kQ8_0);
  EXPECT_EQ(*ParseKvType("F16"), ElementType::kF16);
  EXPECT_EQ(*ParseKvType("f32"), ElementType::kF32);
  for (const char* text : {"q4_0", "bf16", "", "half"})
    EXPECT_EQ(ParseKvType(text).status().code(), absl::StatusCode::kInvalidArgument) << text;
  EXPECT_TRUE(CheckKvType(ElementType::kQ8_0, Config(96)).ok());
  EXPECT_TRUE(CheckKvType(ElementType::kF16, Config(80)).ok());
  const absl::Status refused = CheckKvType(ElementType::kQ8_0, Config(80));
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(refused.message().find("d_head is 80"), absl::string_view::npos) << refused;
}

}  // namespace
}  // namespace thermocline
