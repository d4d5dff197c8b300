// The tiled products, whose tile instructions are emulated here: few processors have them.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#if defined(__x86_64__)
#include <array>
#include <vector>

#include "core/thread_team.h"
#include "kernels_cpu/extended_targets.h"
#include "kernels_cpu/kernel_table.h"
#include "kernels_cpu/parallel.h"
#include "tests/support/reference.h"
#include "tests/support/reference_data.h"

namespace thermocline {
namespace emulated_tiles {

// As the architecture manual defines them: 8 registers of up to 16 rows of 64 bytes.
struct Tiles {
  bool configured = false;
  std::array<int64_t, 8> rows{}, row_bytes{};
  std::array<std::array<std::array<int8_t, 64>, 16>, 8> data{};

  void Config(const void* memory) {
    const auto* bytes = static_cast<const uint8_t*>(memory);
    ASSERT_EQ(bytes[0], 1);  // the palette
    for (size_t t = 0; t < 8; ++t) {
      row_bytes[t] = bytes[16 + 2 * t] | bytes[17 + 2 * t] << 8;
      rows[t] = bytes[48 + t];
      ASSERT_LE(row_bytes[t], 64);
      ASSERT_LE(rows[t], 16);
    }
    configured = true;
  }
  void Zero(size_t t) {
    ASSERT_TRUE(configured);
    data[t] = {};
  }
  void Load(size_t t, const void* base, int64_t stride) {
    Zero(t);
    for (int64_t r = 0; r < rows[t]; ++r)
      std::memcpy(data[t][static_cast<size_t>(r)].data(), static_cast<const std::byte*>(base) + r * stride,
                  static_cast<size_t>(row_bytes[t]));
  }
  void Store(size_t t, void* base, int64_t stride) const {
    ASSERT_TRUE(configured);
    for (int64_t r = 0; r < rows[t]; ++r)
      std::memcpy(static_cast<std::byte*>(base) + r * stride, data[t][static_cast<size_t>(r)].data(),
                  static_cast<size_t>(row_bytes[t]));
  }
  // sum(m, n) += a(m, 4k + i) * b(k, 4n + i) over k and i.
  void Dot(size_t sum, size_t a, size_t b) {
    ASSERT_EQ(row_bytes[a], 4 * rows[b]);
    ASSERT_EQ(row_bytes[b], row_bytes[sum]);
    ASSERT_EQ(rows[a], rows[sum]);
    for (size_t m = 0; m < static_cast<size_t>(rows[sum]); ++m) {
      for (size_t n = 0; n < static_cast<size_t>(row_bytes[sum]) / 4; ++n) {
        int32_t value;
        std::memcpy(&value, &data[sum][m][4 * n], 4);
        for (size_t k = 0; k < static_cast<size_t>(rows[b]); ++k)
          for (size_t i = 0; i < 4; ++i) value += data[a][m][4 * k + i] * data[b][k][4 * n + i];
        std::memcpy(&data[sum][m][4 * n], &value, 4);
      }
    }
  }
};
Tiles tiles;

}  // namespace emulated_tiles
}  // namespace thermocline

#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")
#define THERMOCLINE_TILES emulated_tiles
#include "kernels_cpu/packed_vnni-inl.h"
// Over those operations.
#include "kernels_cpu/packed_tiles-inl.h"
#define THERMOCLINE_TILE_CONFIG(memory) tiles.Config(memory)
#define THERMOCLINE_TILE_RELEASE() tiles.configured = false
#define THERMOCLINE_TILE_ZERO(tile) tiles.Zero(tile)
#define THERMOCLINE_TILE_LOAD(tile, base, stride) tiles.Load(tile, base, stride)
#define THERMOCLINE_TILE_STORE(tile, base, stride) tiles.Store(tile, base, stride)
#define THERMOCLINE_TILE_DOT(sum, a, b) tiles.Dot(sum, a, b)
#include "kernels_cpu/packed_amx-inl.h"

namespace thermocline {
namespace {
void MatMulEmulated(const PackedView& w, const QuantizedActivations& x, MatrixView<float> y) {
  std::vector<uint8_t> room(static_cast<size_t>(w.cols * kPanelRows));
  emulated_tiles::MatMulTiled(w, x, room.data(), y);
}
}  // namespace
}  // namespace thermocline
#pragma GCC pop_options

namespace thermocline {
namespace {

using reference::FloatMatrix;
using reference::RandomWeights;

class PackedAmxTest : public testing::TestWithParam<ElementType> {};
INSTANTIATE_TEST_SUITE_P(All, PackedAmxTest,
                         testing::Values(ElementType::kQ4_0, ElementType::kQ4_1, ElementType::kQ8_0,
                                         ElementType::kQ4_K),
                         [](const auto& type) { return std::string(NameOf(type.param)); });

TEST_P(PackedAmxTest, HasTheBitsOfTheVectors) {
  if (!HasVnni()) GTEST_SKIP() << "this processor has no AVX-512 with VNNI";
  const auto team = *ThreadTeam::Create(1);
  for (const int64_t units : {1, 3}) {
    for (const int64_t rows : {5, 48, 50}) {
      for (const int64_t tokens : {1, 3, 4, 15, 16, 17, 37}) {
        const int64_t cols = units * InfoOf(GetParam()).block_elements, n_blocks = cols / kActivationBlock;
        const RandomWeights w(GetParam(), rows, cols, 1);
        const PackedMatrix packed =
            *PackedMatrix::Create({.team = team.get(), .kernels = &BestKernels()}, w.view());
        const FloatMatrix x = FloatMatrix::Random(tokens, cols, 2);
        std::vector<int8_t> values(static_cast<size_t>(tokens * cols));
        std::vector<ActivationBlock> blocks(static_cast<size_t>(tokens * n_blocks));
        BestKernels().quantize_activations(x.view(), {values.data(), tokens, cols, cols},
                                           {blocks.data(), tokens, n_blocks, n_blocks});
        const QuantizedActivations rounded{{values.data(), tokens, cols, cols},
                                           {blocks.data(), tokens, n_blocks, n_blocks}};
        FloatMatrix expected = FloatMatrix::Poisoned(tokens, rows), y = FloatMatrix::Poisoned(tokens, rows);
        MatMulPackedVnni(packed.view(), rounded, expected.view());
        MatMulEmulated(packed.view(), rounded, y.view());
        ASSERT_TRUE(reference::SameBits(y.view(), expected.view())) << rows << "x" << cols << ", " << tokens;
      }
    }
  }
}

}  // namespace
}  // namespace thermocline
#endif
