// Packing of quantised weights into panels.
// SPDX-License-Identifier: Apache-2.0
#include "kernels_cpu/packed_matrix.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "core/checked.h"

namespace thermocline {
namespace {

constexpr int64_t kBlock = 32;
constexpr int64_t kSubBlocks = 8;  // of a Q4_K block
constexpr int64_t kLine = 64;

// The 32 nibbles of a block in the order of the 4-bit types: byte j holds columns j and j + 16.
using Nibbles = std::array<uint8_t, 16>;

// Where the quants of block b of one row of a panel go; they lie kPanelRows words apart.
class PanelRow {
 public:
  PanelRow(std::byte* panel, const PanelLayout& layout, int64_t row)
      : panel_(panel), layout_(layout), row_(row) {}

  void PutQuants(int64_t block, const void* quants, int64_t bytes) {
    const auto* source = static_cast<const std::byte*>(quants);
    for (int64_t word = 0; word < bytes / 4; ++word)
      std::memcpy(panel_ + block * layout_.quant_bytes + (word * kPanelRows + row_) * 4, source + word * 4,
                  4);
  }
  // Into field `field` of a record of scales: 16 values of the value's size.
  template <typename Value>
  void PutScale(int64_t record, int64_t field_offset, Value value) {
    std::memcpy(panel_ + layout_.scales_offset + record * layout_.scale_bytes + field_offset +
                    row_ * static_cast<int64_t>(sizeof(Value)),
                &value, sizeof(Value));
  }

 private:
  std::byte* panel_;
  const PanelLayout& layout_;
  const int64_t row_;
};

uint16_t HalfAt(const uint8_t* source) {
  uint16_t bits;
  std::memcpy(&bits, source, sizeof bits);
  return bits;
}

void PackQ8_0(const uint8_t* source, int64_t block, PanelRow& row) {
  row.PutScale(block, 0, HalfAt(source));
  row.PutQuants(block, source + 2, 32);
}

void PackQ4_0(const uint8_t* source, int64_t block, PanelRow& row) {
  row.PutScale(block, 0, HalfAt(source));
  row.PutQuants(block, source + 2, 16);
}

void PackQ4_1(const uint8_t* source, int64_t block, PanelRow& row) {
  row.PutScale(block, 0, HalfAt(source));
  row.PutScale(block, 32, HalfAt(source + 2));
  row.PutQuants(block, source + 4, 16);
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

void PackQ4_K(const uint8_t* source, int64_t super_block, PanelRow& row) {
  row.PutScale(super_block, 0, HalfAt(source));
  row.PutScale(super_block, 32, HalfAt(source + 2));
  for (int64_t s = 0; s < kSubBlocks; ++s) {
    row.PutScale(super_block, 64 + s * kPanelRows, SubScale(source + 4, s));
    row.PutScale(super_block, 64 + (kSubBlocks + s) * kPanelRows, SubMinimum(source + 4, s));
    const uint8_t* quants = source + 16 + s / 2 * 32;  // two sub-blocks share 32 bytes
    const int shift = s % 2 * 4;
    Nibbles nibbles;
    for (size_t j = 0; j < 16; ++j)
      nibbles[j] =
          static_cast<uint8_t>(((quants[j] >> shift) & 15) | (((quants[j + 16] >> shift) & 15) << 4));
    row.PutQuants(super_block * kSubBlocks + s, nibbles.data(), 16);
  }
}

using PackBlock = void (*)(const uint8_t* source, int64_t block, PanelRow& row);

PackBlock PackerOf(ElementType type) {
  switch (type) {
    case ElementType::kQ8_0:
      return PackQ8_0;
    case ElementType::kQ4_0:
      return PackQ4_0;
    case ElementType::kQ4_1:
      return PackQ4_1;
    default:
      return PackQ4_K;
  }
}

}  // namespace

bool HasPanels(ElementType type) {
  return type == ElementType::kQ4_0 || type == ElementType::kQ4_1 || type == ElementType::kQ8_0 ||
         type == ElementType::kQ4_K;
}

PanelLayout PanelLayoutOf(ElementType type, int64_t cols) {
  const bool bytes = type == ElementType::kQ8_0;
  PanelLayout layout{
      .quant_bytes = kPanelRows * (bytes ? 32 : 16), .scale_columns = kBlock, .scale_bytes = 32};
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

absl::StatusOr<PackedMatrix> PackedMatrix::Create(const ThreadTeam& team, const WeightView& w) {
  PackedMatrix packed;
  PackedView& view = packed.view_;
  view = {nullptr, w.type, w.rows, w.cols, PanelLayoutOf(w.type, w.cols)};
  TC_ASSIGN_OR_RETURN(packed.storage_, AlignedBuffer::CreateToFill(view.size_bytes()));
  view.data = packed.storage_.data();
  const ElementTypeInfo& type = InfoOf(w.type);
  const PackBlock pack = PackerOf(w.type);
  team.ParallelFor(view.panels(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      std::byte* panel = packed.storage_.data() + p * view.layout.panel_bytes;
      for (int64_t r = p * kPanelRows; r < std::min(w.rows, (p + 1) * kPanelRows); ++r) {
        PanelRow row(panel, view.layout, r - p * kPanelRows);
        const auto* source = reinterpret_cast<const uint8_t*>(w.row_data(r));
        for (int64_t b = 0; b < w.cols / type.block_elements; ++b, source += type.block_bytes)
          pack(source, b, row);
      }
    }
  });
  return packed;
}

}  // namespace thermocline
