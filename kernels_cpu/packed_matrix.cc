// Packing of weights into panels.
// SPDX-License-Identifier: Apache-2.0
#include "kernels_cpu/packed_matrix.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "core/checked.h"
#include "core/half.h"
#include "kernels_cpu/parallel.h"

namespace thermocline {
namespace {

constexpr int64_t kBlock = 32;
constexpr int64_t kSubBlocks = 8;  // of a Q4_K block
constexpr int64_t kLine = 64;

// Vectors of 16 bytes, which every processor of this program has.
using Bytes = uint8_t __attribute__((vector_size(16)));
using Words = uint32_t __attribute__((vector_size(16)));
using DoubleWords = uint64_t __attribute__((vector_size(16)));

template <typename Vector>
Vector LoadVector(const void* source) {
  Vector vector;
  std::memcpy(&vector, source, sizeof vector);
  return vector;
}

// The same place in each of a panel's rows.
using RowPointers = std::array<const uint8_t*, kPanelRows>;

// Four words of every row, `offset` bytes on: word 0 of all rows, then word 1 of all rows, ...
void PutWords(const RowPointers& rows, int64_t offset, std::byte* target) {
  for (size_t r = 0; r < kPanelRows; r += 4) {
    const auto a = LoadVector<Words>(rows[r] + offset), b = LoadVector<Words>(rows[r + 1] + offset);
    const auto c = LoadVector<Words>(rows[r + 2] + offset), d = LoadVector<Words>(rows[r + 3] + offset);
    const auto low_ab = reinterpret_cast<DoubleWords>(__builtin_shufflevector(a, b, 0, 4, 1, 5));
    const auto low_cd = reinterpret_cast<DoubleWords>(__builtin_shufflevector(c, d, 0, 4, 1, 5));
    const auto high_ab = reinterpret_cast<DoubleWords>(__builtin_shufflevector(a, b, 2, 6, 3, 7));
    const auto high_cd = reinterpret_cast<DoubleWords>(__builtin_shufflevector(c, d, 2, 6, 3, 7));
    const DoubleWords words[4] = {
        __builtin_shufflevector(low_ab, low_cd, 0, 2), __builtin_shufflevector(low_ab, low_cd, 1, 3),
        __builtin_shufflevector(high_ab, high_cd, 0, 2), __builtin_shufflevector(high_ab, high_cd, 1, 3)};
    for (size_t w = 0; w < 4; ++w)
      std::memcpy(target + (w * kPanelRows + r) * sizeof(uint32_t), &words[w], sizeof words[w]);
  }
}

// A half of every row, `offset` bytes on.
void PutHalves(const RowPointers& rows, int64_t offset, std::byte* target) {
  std::array<uint16_t, kPanelRows> halves;
  for (size_t r = 0; r < kPanelRows; ++r) std::memcpy(&halves[r], rows[r] + offset, sizeof halves[r]);
  std::memcpy(target, halves.data(), sizeof halves);
}

// A block of Q8_0, Q4_0 or Q4_1 of every row.
template <int kHalves, int64_t kQuantBytes>
void PackBlock(const RowPointers& rows, std::byte* quants, std::byte* scales) {
  for (int64_t half = 0; half < kHalves; ++half) PutHalves(rows, 2 * half, scales + 2 * half * kPanelRows);
  for (int64_t byte = 0; byte < kQuantBytes; byte += 16)
    PutWords(rows, 2 * kHalves + byte, quants + byte * kPanelRows);
}

// Scale and minimum s of the 8 + 8 of 6 bits in 12 bytes.
uint8_t SubScale(const uint8_t* packed, int64_t s) {
  if (s < 4) return packed[s] & 63;
  return static_cast<uint8_t>((packed[s + 4] & 15) | (packed[s - 4] >> 6 << 4));
}
uint8_t SubMinimum(const uint8_t* packed, int64_t s) {
  if (s < 4) return packed[s + 4] & 63;
  return static_cast<uint8_t>((packed[s + 4] >> 4) | (packed[s] >> 6 << 4));
}

// A block of Q4_K of every row: 8 blocks of 32 columns with one record of scales.
void PackSuperBlock(const RowPointers& rows, std::byte* quants, std::byte* scales) {
  PutHalves(rows, 0, scales);
  PutHalves(rows, 2, scales + 2 * kPanelRows);
  scales += 4 * kPanelRows;
  // Byte j of a sub-block is to hold columns j and j + 16, as in the other types of 4 bits.
  std::array<std::array<Bytes, kSubBlocks>, kPanelRows> nibbles;
  for (size_t r = 0; r < kPanelRows; ++r) {
    for (int64_t s = 0; s < kSubBlocks; ++s) {
      scales[s * kPanelRows + static_cast<int64_t>(r)] = std::byte{SubScale(rows[r] + 4, s)};
      scales[(kSubBlocks + s) * kPanelRows + static_cast<int64_t>(r)] = std::byte{SubMinimum(rows[r] + 4, s)};
    }
    for (size_t pair = 0; pair < kSubBlocks / 2; ++pair) {  // two sub-blocks share 32 bytes
      const auto first = LoadVector<Bytes>(rows[r] + 16 + pair * 32);
      const auto second = LoadVector<Bytes>(rows[r] + 32 + pair * 32);
      nibbles[r][2 * pair] = (first & 15) | (second << 4);
      nibbles[r][2 * pair + 1] = (first >> 4) | (second & 240);
    }
  }
  for (size_t s = 0; s < kSubBlocks; ++s) {
    RowPointers sub_blocks;
    for (size_t r = 0; r < kPanelRows; ++r) sub_blocks[r] = reinterpret_cast<const uint8_t*>(&nibbles[r][s]);
    PutWords(sub_blocks, 0, quants + s * 16 * kPanelRows);
  }
}

using BlockPacker = void (*)(const RowPointers& rows, std::byte* quants, std::byte* scales);

BlockPacker PackerOf(ElementType type) {
  switch (type) {
    case ElementType::kQ8_0:
      return PackBlock<1, 32>;
    case ElementType::kQ4_0:
      return PackBlock<1, 16>;
    case ElementType::kQ4_1:
      return PackBlock<2, 16>;
    default:
      return PackSuperBlock;
  }
}

// Some columns of a panel's rows as floats, as integers and with the scales of these.
class Int16Strip {
 public:
  // Rows [row, row + kPanelRows) of w as far as there are such, columns [column, column + count).
  void Round(const KernelTable& kernels, const WeightView& w, int64_t row, int64_t column, int64_t count) {
    const ElementTypeInfo& type = InfoOf(w.type);
    for (int64_t r = 0; r < kPanelRows; ++r) {
      float* target = floats_.data() + r * kColumns;
      if (row + r < w.rows) {
        kernels.dequantize(w.type, w.row_data(row + r) + column * type.block_bytes, count, target);
      } else {
        std::fill_n(target, count, 0.0f);
      }
    }
    kernels.quantize_int16({floats_.data(), kPanelRows, count, kColumns},
                           {values_.data(), kPanelRows, count, kColumns},
                           {scales_.data(), kPanelRows, count / kBlock, kColumns / kBlock});
  }

  // Block b of the strip.
  void Pack(int64_t b, std::byte* quants, std::byte* scales) const {
    RowPointers rows;
    std::array<uint16_t, kPanelRows> halves;
    for (size_t r = 0; r < kPanelRows; ++r) {
      rows[r] = reinterpret_cast<const uint8_t*>(values_.data() + r * kColumns + b * kBlock);
      // Exact: scales are bfloat16 already.
      halves[r] = FloatToBFloat16(scales_[r * (kColumns / kBlock) + static_cast<size_t>(b)]);
    }
    for (int64_t byte = 0; byte < kBlock * 2; byte += 16) PutWords(rows, byte, quants + byte * kPanelRows);
    std::memcpy(scales, halves.data(), sizeof halves);
  }

  static constexpr int64_t kColumns = 256;

 private:
  alignas(64) std::array<float, kPanelRows * kColumns> floats_;
  alignas(64) std::array<int16_t, kPanelRows * kColumns> values_;
  std::array<float, kPanelRows * kColumns / kBlock> scales_;
};

void PackInt16Panels(const KernelTable& kernels, const WeightView& w, std::byte* panels) {
  const PanelLayout layout = PanelLayoutOf(w.type, w.cols);
  Int16Strip strip;
  for (int64_t row = 0; row < w.rows; row += kPanelRows, panels += layout.panel_bytes) {
    std::byte* quants = panels;
    std::byte* scales = panels + layout.scales_offset;
    for (int64_t column = 0; column < w.cols; column += Int16Strip::kColumns) {
      const int64_t count = std::min(Int16Strip::kColumns, w.cols - column);
      strip.Round(kernels, w, row, column, count);
      for (int64_t b = 0; b < count / kBlock; ++b, quants += layout.quant_bytes, scales += layout.scale_bytes)
        strip.Pack(b, quants, scales);
    }
  }
}

}  // namespace

bool HasPanels(ElementType type, int64_t cols) {
  if (TakesInt16(type)) return cols % kBlock == 0;
  return type == ElementType::kQ4_0 || type == ElementType::kQ4_1 || type == ElementType::kQ8_0 ||
         type == ElementType::kQ4_K;
}

bool TakesInt16(ElementType type) { return type == ElementType::kF16 || type == ElementType::kBF16; }

PanelLayout PanelLayoutOf(ElementType type, int64_t cols) {
  PanelLayout layout{.quant_bytes = kPanelRows * 16, .scale_columns = kBlock, .scale_bytes = 32};
  if (type == ElementType::kQ8_0) layout.quant_bytes = kPanelRows * kBlock;
  if (TakesInt16(type)) layout.quant_bytes = kPanelRows * kBlock * static_cast<int64_t>(sizeof(int16_t));
  if (type == ElementType::kQ4_1) layout.scale_bytes = 64;
  if (type == ElementType::kQ4_K) {
    layout.scale_columns = kSubBlocks * kBlock;
    layout.scale_bytes = 64 + 2 * kSubBlocks * kPanelRows;
  }
  layout.scales_offset = cols / kBlock * layout.quant_bytes;
  const int64_t size = layout.scales_offset + cols / layout.scale_columns * layout.scale_bytes;
  layout.panel_bytes = (size + kLine - 1) / kLine * kLine;
  return layout;
}

void PackPanels(const KernelTable& kernels, const WeightView& w, std::byte* panels) {
  if (TakesInt16(w.type)) return PackInt16Panels(kernels, w, panels);
  static constexpr std::array<uint8_t, 256> kZeros = {};  // a block of a row past the last
  const ElementTypeInfo& type = InfoOf(w.type);
  const PanelLayout layout = PanelLayoutOf(w.type, w.cols);
  const BlockPacker pack = PackerOf(w.type);
  const int64_t quant_bytes = layout.quant_bytes * (type.block_elements / kBlock);
  for (int64_t first = 0; first < w.rows; first += kPanelRows, panels += layout.panel_bytes) {
    RowPointers rows;
    std::array<int64_t, kPanelRows> step;
    for (int64_t r = 0; r < kPanelRows; ++r) {
      const bool there = first + r < w.rows;
      rows[static_cast<size_t>(r)] =
          there ? reinterpret_cast<const uint8_t*>(w.row_data(first + r)) : kZeros.data();
      step[static_cast<size_t>(r)] = there ? type.block_bytes : 0;
    }
    std::byte* quants = panels;
    std::byte* scales = panels + layout.scales_offset;
    for (int64_t b = 0; b < w.cols / type.block_elements; ++b) {
      pack(rows, quants, scales);
      quants += quant_bytes;
      scales += layout.scale_bytes;
      for (size_t r = 0; r < kPanelRows; ++r) rows[r] += step[r];
    }
  }
}

absl::StatusOr<PackedMatrix> PackedMatrix::Create(const CpuContext& context, const WeightView& w) {
  PackedMatrix packed;
  PackedView& view = packed.view_;
  view = {nullptr, w.type, w.rows, w.cols, PanelLayoutOf(w.type, w.cols)};
  TC_ASSIGN_OR_RETURN(packed.storage_, AlignedBuffer::CreateToFill(view.size_bytes()));
  view.data = packed.storage_.data();
  context.team->ParallelFor(view.panels(), 1, [&](int64_t begin, int64_t end) {
    const int64_t row = begin * kPanelRows, rows = std::min(end * kPanelRows, w.rows) - row;
    PackPanels(*context.kernels, w.Rows(row, rows), packed.storage_.data() + begin * view.layout.panel_bytes);
  });
  return packed;
}

}  // namespace thermocline
