// Packing of weights into columns.
// SPDX-License-Identifier: Apache-2.0
#include "kernels_cpu/column_matrix.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "core/checked.h"

namespace thermocline {
namespace {

constexpr int64_t kSuperBlocks = 8;  // blocks of 32 in a file's block of 256
constexpr int64_t kLineBytes = 64;
constexpr int64_t kPackedColumns = 256;  // by one thread at a time: a block of every type
constexpr int64_t kFewChunks = 16;       // so few are not padded to an odd number

int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

// One block of the file: 32 or 256 columns of one row.
struct RowBlock {
  std::array<uint8_t, 256> codes{};
  uint16_t scale = 0;
  uint16_t minimum = 0;
  std::array<uint8_t, 16> sub_scales{};
  std::array<uint8_t, 8> sub_minima{};
};

uint16_t HalfAt(const uint8_t* source) {
  uint16_t bits;
  std::memcpy(&bits, source, sizeof bits);
  return bits;
}

// Column j of the 32 whose nibbles are 16 bytes, and of the 32 fifth bits of a word.
uint8_t Nibble(const uint8_t* quants, int64_t j) {
  return static_cast<uint8_t>((quants[j % 16] >> (j / 16 * 4)) & 15);
}
uint8_t FifthBit(const uint8_t* bits, int64_t j) {
  return static_cast<uint8_t>(((bits[j / 8] >> (j % 8)) & 1) << 4);
}

// Scale and minimum s of the 8 + 8 of 6 bits in 12 bytes.
void UnpackSubScales(const uint8_t* packed, RowBlock& block) {
  for (size_t s = 0; s < 4; ++s) {
    block.sub_scales[s] = packed[s] & 63;
    block.sub_minima[s] = packed[s + 4] & 63;
    block.sub_scales[s + 4] = static_cast<uint8_t>((packed[s + 8] & 15) | (packed[s] >> 6 << 4));
    block.sub_minima[s + 4] = static_cast<uint8_t>((packed[s + 8] >> 4) | (packed[s + 4] >> 6 << 4));
  }
}

void UnpackQ4_K(const uint8_t* source, RowBlock& block) {
  UnpackSubScales(source + 4, block);
  for (size_t c = 0; c < 256; ++c)
    block.codes[c] = static_cast<uint8_t>((source[16 + c / 64 * 32 + c % 32] >> (c / 32 % 2 * 4)) & 15);
}

void UnpackQ5_K(const uint8_t* source, RowBlock& block) {
  UnpackSubScales(source + 4, block);
  for (size_t c = 0; c < 256; ++c) {
    const int low = (source[48 + c / 64 * 32 + c % 32] >> (c / 32 % 2 * 4)) & 15;
    const int high = (source[16 + c % 32] >> (c / 32)) & 1;
    block.codes[c] = static_cast<uint8_t>(low | high << 4);
  }
}

void UnpackQ6_K(const uint8_t* source, RowBlock& block) {
  block.scale = HalfAt(source + 208);
  for (size_t s = 0; s < 16; ++s) block.sub_scales[s] = source[192 + s] ^ 128;  // 128 added
  for (size_t c = 0; c < 256; ++c) {
    const size_t half = c / 128, quarter = c % 128 / 32;
    const int low = (source[half * 64 + quarter % 2 * 32 + c % 32] >> (quarter / 2 * 4)) & 15;
    const int high = (source[128 + half * 32 + c % 32] >> (quarter * 2)) & 3;
    block.codes[c] = static_cast<uint8_t>((low | high << 4) - 32);
  }
}

void Unpack(ElementType type, const uint8_t* source, RowBlock& block) {
  block.scale = HalfAt(source);
  block.minimum = HalfAt(source + 2);  // of the types that have one
  switch (type) {
    case ElementType::kQ4_0:
      for (int64_t j = 0; j < 32; ++j) block.codes[static_cast<size_t>(j)] = Nibble(source + 2, j);
      break;
    case ElementType::kQ4_1:
      for (int64_t j = 0; j < 32; ++j) block.codes[static_cast<size_t>(j)] = Nibble(source + 4, j);
      break;
    case ElementType::kQ5_0:
      for (int64_t j = 0; j < 32; ++j)
        block.codes[static_cast<size_t>(j)] =
            static_cast<uint8_t>((Nibble(source + 6, j) | FifthBit(source + 2, j)) - 16);
      break;
    case ElementType::kQ5_1:
      for (int64_t j = 0; j < 32; ++j)
        block.codes[static_cast<size_t>(j)] = Nibble(source + 8, j) | FifthBit(source + 4, j);
      break;
    case ElementType::kQ8_0:
      std::memcpy(block.codes.data(), source + 2, 32);
      break;
    case ElementType::kQ4_K:
      return UnpackQ4_K(source, block);
    case ElementType::kQ5_K:
      return UnpackQ5_K(source, block);
    default:
      return UnpackQ6_K(source, block);
  }
}

// Row of byte j of a line, in those of one nibble: column_tiles-inl.h.
constexpr std::array<uint8_t, kLineBytes> kRowOfByte = [] {
  std::array<uint8_t, kLineBytes> rows{};
  for (size_t j = 0; j < rows.size(); ++j)
    rows[j] = static_cast<uint8_t>(16 * (j % 16 / 4) + 4 * (j / 16) + j % 4);
  return rows;
}();

template <typename Value>
void Put(std::byte* target, int64_t index, Value value) {
  std::memcpy(target + index * static_cast<int64_t>(sizeof value), &value, sizeof value);
}

// One chunk of rows of a matrix.
class ChunkPacker {
 public:
  ChunkPacker(std::byte* matrix, const ColumnLayout& layout, const WeightView& w, int64_t chunk)
      : layout_(layout),
        w_(w),
        begin_(chunk * kChunkRows),
        rows_(std::min(kChunkRows, w.rows - begin_)),
        chunk_(chunk),
        matrix_(matrix) {}

  // Columns [begin, end), a multiple of the type's block and of 32 or the width.
  void Pack(int64_t begin, int64_t end) {
    const ElementTypeInfo& type = InfoOf(w_.type);
    if (!type.quantized()) return PackFloats(begin, end, type.block_bytes);
    for (int64_t unit = begin / type.block_elements; unit < end / type.block_elements; ++unit) {
      for (int64_t r = 0; r < rows_; ++r)
        Unpack(w_.type, reinterpret_cast<const uint8_t*>(w_.row_data(begin_ + r)) + unit * type.block_bytes,
               blocks_[static_cast<size_t>(r)]);
      PackUnit(unit, type.block_elements / kColumnBlock);
    }
  }

 private:
  uint8_t Code(int64_t row, int64_t column) const {
    return blocks_[static_cast<size_t>(row)].codes[static_cast<size_t>(column)];
  }

  // `n_blocks` blocks of 32 columns of all rows, from blocks_.
  void PackUnit(int64_t unit, int64_t n_blocks) {
    std::byte* at =
        matrix_ + unit * layout_.stride_rows * (layout_.super_bytes + n_blocks * layout_.block_bytes());
    std::byte* super = at + chunk_ * kChunkRows * layout_.super_bytes;
    if (layout_.super_bytes > 0) PutHalves(super, layout_.super_bytes > 2);
    at += layout_.stride_rows * layout_.super_bytes;
    for (int64_t b = 0; b < n_blocks; ++b, at += layout_.stride_rows * layout_.block_bytes()) {
      std::byte* scales = at + chunk_ * kChunkRows * layout_.scale_bytes;
      if (layout_.super_bytes == 0) {
        PutHalves(scales, layout_.scale_bytes > 2);
      } else {
        PutSubScales(scales, b);
      }
      PutCodes(at + layout_.stride_rows * layout_.scale_bytes, b);
    }
  }

  void PutHalves(std::byte* target, bool minima) {
    for (int64_t r = 0; r < kChunkRows; ++r) {
      Put(target, r, blocks_[static_cast<size_t>(r)].scale);
      if (minima) Put(target, kChunkRows + r, blocks_[static_cast<size_t>(r)].minimum);
    }
  }

  void PutSubScales(std::byte* target, int64_t block) {
    const auto b = static_cast<size_t>(block);
    for (int64_t r = 0; r < kChunkRows; ++r) {
      const RowBlock& row = blocks_[static_cast<size_t>(r)];
      const bool pairs = layout_.group_columns == 16;
      Put(target, r, row.sub_scales[pairs ? 2 * b : b]);
      Put(target, kChunkRows + r, pairs ? row.sub_scales[2 * b + 1] : row.sub_minima[b]);
    }
  }

  void PutCodes(std::byte* target, int64_t block) {
    const int64_t column_bytes = layout_.stride_rows * layout_.code_bits / 8;
    const int64_t chunk_bytes = kChunkRows * layout_.code_bits / 8;
    for (int64_t c = 0; c < kColumnBlock; ++c) {
      std::byte* line = target + c * column_bytes + chunk_ * chunk_bytes;
      const int64_t column = block * kColumnBlock + c;
      for (int64_t j = 0; j < kLineBytes; ++j) {
        const int64_t row = kRowOfByte[static_cast<size_t>(j)];
        const uint8_t first = Code(row, column), second = Code(row + 64, column);
        if (layout_.code_bits == 4) {
          Put(line, j, static_cast<uint8_t>(first | second << 4));
        } else {
          Put(line, j, first);
          Put(line, kLineBytes + j, second);
        }
      }
    }
  }

  void PackFloats(int64_t begin, int64_t end, int64_t bytes) {
    for (int64_t c = begin; c < end; ++c) {
      std::byte* column = matrix_ + (c * layout_.stride_rows + chunk_ * kChunkRows) * bytes;
      for (int64_t r = 0; r < rows_; ++r)
        std::memcpy(column + r * bytes, w_.row_data(begin_ + r) + c * bytes, static_cast<size_t>(bytes));
      std::memset(column + rows_ * bytes, 0, static_cast<size_t>((kChunkRows - rows_) * bytes));
    }
  }

  const ColumnLayout& layout_;
  const WeightView& w_;
  const int64_t begin_, rows_;
  const int64_t chunk_;
  std::byte* const matrix_;
  std::array<RowBlock, kChunkRows> blocks_;  // rows past the matrix stay zeros
};

}  // namespace

bool HasColumns(ElementType) { return true; }

ColumnLayout ColumnLayoutOf(ElementType type, int64_t rows, int64_t cols) {
  ColumnLayout layout{.code_bits = 8, .scale_bytes = 2, .group_columns = kColumnBlock};
  switch (type) {
    case ElementType::kF32:
      layout = {.code_bits = 32, .group_columns = kColumnBlock};
      break;
    case ElementType::kF16:
    case ElementType::kBF16:
      layout = {.code_bits = 16, .group_columns = kColumnBlock};
      break;
    case ElementType::kQ4_0:
      layout.code_bits = 4;
      break;
    case ElementType::kQ4_1:
      layout.code_bits = 4;
      layout.scale_bytes = 4;
      break;
    case ElementType::kQ5_1:
      layout.scale_bytes = 4;
      break;
    case ElementType::kQ4_K:
      layout.code_bits = 4;
      layout.super_bytes = 4;
      break;
    case ElementType::kQ5_K:
      layout.super_bytes = 4;
      break;
    case ElementType::kQ6_K:
      layout.super_bytes = 2;
      layout.group_columns = 16;
      break;
    case ElementType::kQ5_0:
    case ElementType::kQ8_0:
      break;
  }
  layout.row_bytes = cols * layout.code_bits / 8 + cols / kColumnBlock * layout.scale_bytes +
                     cols / (kSuperBlocks * kColumnBlock) * layout.super_bytes;
  const int64_t chunks = CeilDivide(rows, kChunkRows);
  layout.stride_rows = (chunks < kFewChunks ? chunks : chunks | 1) * kChunkRows;
  return layout;
}

int64_t ColumnBytes(const ColumnView& w, int64_t n_columns) {
  return w.rows * (w.layout.row_bytes - (w.cols - n_columns) * w.layout.code_bits / 8);
}

absl::StatusOr<ColumnMatrix> ColumnMatrix::Create(const ThreadTeam& team, const WeightView& w) {
  ColumnMatrix matrix;
  ColumnView& view = matrix.view_;
  view = {nullptr, w.type, w.rows, w.cols, ColumnLayoutOf(w.type, w.rows, w.cols)};
  TC_ASSIGN_OR_RETURN(matrix.storage_, AlignedBuffer::CreateToFill(view.size_bytes()));
  view.data = matrix.storage_.data();
  // Threads take columns, as they do in products: the pages of each come near the thread that reads them.
  team.ParallelFor(CeilDivide(w.cols, kPackedColumns), 1, [&](int64_t begin, int64_t end) {
    for (int64_t piece = begin; piece < end; ++piece) {
      const int64_t first = piece * kPackedColumns, last = std::min(w.cols, first + kPackedColumns);
      for (int64_t chunk = 0; chunk < view.chunks(); ++chunk)
        ChunkPacker(matrix.storage_.data(), view.layout, w, chunk).Pack(first, last);
    }
  });
  return matrix;
}

}  // namespace thermocline
