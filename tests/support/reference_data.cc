// Random inputs for kernel tests and benchmarks.
// SPDX-License-Identifier: Apache-2.0
#include "tests/support/reference_data.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "core/half.h"

namespace thermocline::reference {
namespace {

void PutHalf(std::byte* target, float value) {
  const uint16_t bits = FloatToHalf(value);
  std::memcpy(target, &bits, sizeof bits);
}

// Where a quantised block keeps its F16 fields, -1 for none. The rest of a block takes any bytes.
struct HalfFields {
  int64_t scale;
  int64_t minimum;
};
HalfFields HalfFieldsOf(ElementType type) {
  switch (type) {
    case ElementType::kF32:
    case ElementType::kF16:
    case ElementType::kBF16:
      return {-1, -1};
    case ElementType::kQ4_0:
    case ElementType::kQ5_0:
    case ElementType::kQ8_0:
      return {0, -1};
    case ElementType::kQ4_1:
    case ElementType::kQ5_1:
    case ElementType::kQ4_K:
    case ElementType::kQ5_K:
      return {0, 2};
    case ElementType::kQ6_K:
      return {208, -1};
  }
  TC_CHECK(false);
}

void FillBlock(ElementType type, std::mt19937& random, std::byte* block) {
  std::uniform_real_distribution<float> value(-1.0f, 1.0f);
  if (type == ElementType::kF32) {
    const float element = value(random);
    std::memcpy(block, &element, sizeof element);
  } else if (type == ElementType::kF16) {
    PutHalf(block, value(random));
  } else if (type == ElementType::kBF16) {
    const uint16_t bits = FloatToBFloat16(value(random));
    std::memcpy(block, &bits, sizeof bits);
  } else {
    for (int64_t i = 0; i < InfoOf(type).block_bytes; ++i) block[i] = static_cast<std::byte>(random() & 255);
    const HalfFields fields = HalfFieldsOf(type);
    PutHalf(block + fields.scale, value(random) / 64.0f);
    if (fields.minimum >= 0) PutHalf(block + fields.minimum, value(random) / 64.0f);
  }
}

void FillRow(ElementType type, std::mt19937& random, int64_t cols, std::byte* row) {
  const int64_t row_bytes = RowBytes(type, cols).value();
  for (int64_t byte = 0; byte < row_bytes; byte += InfoOf(type).block_bytes)
    FillBlock(type, random, row + byte);
}

}  // namespace

RandomWeights::RandomWeights(ElementType type, int64_t rows, int64_t cols, uint32_t seed, int64_t offset,
                             int64_t row_gap_bytes) {
  const int64_t row_bytes = RowBytes(type, cols).value();
  const int64_t stride = row_bytes + row_gap_bytes;
  storage_ = std::make_unique<std::byte[]>(static_cast<size_t>(offset + stride * (rows - 1) + row_bytes));
  std::mt19937 random(seed);
  std::byte* data = storage_.get() + offset;
  for (int64_t r = 0; r < rows; ++r) FillRow(type, random, cols, data + r * stride);
  view_ = {data, type, rows, cols, stride};
}

RandomBundles::RandomBundles(const Types& types, bool gated, int64_t n_neurons, int64_t d_model,
                             uint32_t seed, int64_t gap_bytes) {
  const auto row_bytes = [d_model](ElementType type) { return RowBytes(type, d_model).value(); };
  view_ = {.n_neurons = n_neurons,
           .d_model = d_model,
           .gate_type = types.gate,
           .up_type = types.up,
           .down_type = types.down,
           .gated = gated};
  view_.up_offset_bytes = row_bytes(types.gate) + gap_bytes;
  view_.down_offset_bytes = view_.up_offset_bytes + (gated ? row_bytes(types.up) + gap_bytes : 0);
  const int64_t bundle_bytes = view_.down_offset_bytes + row_bytes(types.down);
  view_.stride_bytes = bundle_bytes + gap_bytes;
  storage_ =
      std::make_unique<std::byte[]>(static_cast<size_t>(view_.stride_bytes * (n_neurons - 1) + bundle_bytes));
  view_.data = storage_.get();
  std::mt19937 random(seed);
  for (int64_t i = 0; i < n_neurons; ++i) {
    FillRow(types.gate, random, d_model, bundle(i));
    if (gated) FillRow(types.up, random, d_model, bundle(i) + view_.up_offset_bytes);
    FillRow(types.down, random, d_model, bundle(i) + view_.down_offset_bytes);
  }
}

void RandomBundles::PoisonGate(int64_t i) {
  std::memset(bundle(i), 0xFF, static_cast<size_t>(RowBytes(view_.gate_type, view_.d_model).value()));
}

void RandomBundles::PoisonUpAndDown(int64_t i) {
  const int64_t end = view_.down_offset_bytes + RowBytes(view_.down_type, view_.d_model).value();
  std::memset(bundle(i) + view_.up_offset_bytes, 0xFF, static_cast<size_t>(end - view_.up_offset_bytes));
}

FloatMatrix::FloatMatrix(int64_t rows, int64_t cols, int64_t gap) : rows_(rows), cols_(cols), gap_(gap) {
  const int64_t count = (cols + gap) * (rows - 1) + cols;
  data_ = std::make_unique<float[]>(static_cast<size_t>(count));
  std::fill_n(data_.get(), count, std::numeric_limits<float>::quiet_NaN());
}

FloatMatrix FloatMatrix::Random(int64_t rows, int64_t cols, uint32_t seed, int64_t gap) {
  FloatMatrix matrix(rows, cols, gap);
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> value(-1.0f, 1.0f);
  for (int64_t r = 0; r < rows; ++r)
    for (float& element : matrix.view().row(r)) element = value(random);
  return matrix;
}

FloatMatrix FloatMatrix::Poisoned(int64_t rows, int64_t cols, int64_t gap) {
  return FloatMatrix(rows, cols, gap);
}

bool SameBits(MatrixView<const float> a, MatrixView<const float> b) {
  if (a.rows != b.rows || a.cols != b.cols) return false;
  for (int64_t r = 0; r < a.rows; ++r)
    if (std::memcmp(a.row_data(r), b.row_data(r), static_cast<size_t>(a.cols) * sizeof(float)) != 0)
      return false;
  return true;
}

bool SameBits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace thermocline::reference
