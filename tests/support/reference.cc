// Scalar reference of every CPU kernel.
// SPDX-License-Identifier: Apache-2.0
#include "tests/support/reference.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/half.h"

namespace thermocline::reference {
namespace {

// The bytes of one block, read field by field.
class Block {
 public:
  explicit Block(const std::byte* data) : data_(data) {}
  int Byte(int64_t offset) const { return std::to_integer<int>(data_[offset]); }
  int Signed(int64_t offset) const { return Byte(offset) < 128 ? Byte(offset) : Byte(offset) - 256; }
  float Half(int64_t offset) const { return HalfToFloat(static_cast<uint16_t>(Word(offset))); }
  float BFloat16(int64_t offset) const { return BFloat16ToFloat(static_cast<uint16_t>(Word(offset))); }
  float Float(int64_t offset) const {
    float value;
    std::memcpy(&value, data_ + offset, sizeof value);
    return value;
  }
  // Bit `index` of the little-endian bit string at `offset`.
  int Bit(int64_t offset, int64_t index) const { return (Byte(offset + index / 8) >> (index % 8)) & 1; }
  // Of 16 bytes at `offset`: element j < 16 is the low half of byte j, element j + 16 its high half.
  int Nibble(int64_t offset, int64_t element) const {
    return element < 16 ? Byte(offset + element) & 15 : Byte(offset + element - 16) >> 4;
  }

 private:
  int Word(int64_t offset) const { return Byte(offset) | (Byte(offset + 1) << 8); }
  const std::byte* data_;
};

// Six-bit scale and minimum of sub-block s (0-7) in the 12 bytes at `offset` of a K block: sub-blocks 0-3 lie
// in the low six bits of bytes s and s + 4; 4-7 have four bits in byte s + 4 and two on top of bytes s - 4
// and s.
struct ScaleMin {
  int scale;
  int minimum;
};
ScaleMin SubBlock(const Block& block, int64_t offset, int64_t s) {
  if (s < 4) return {block.Byte(offset + s) & 63, block.Byte(offset + s + 4) & 63};
  return {(block.Byte(offset + s + 4) & 15) | ((block.Byte(offset + s - 4) >> 6) << 4),
          (block.Byte(offset + s + 4) >> 4) | ((block.Byte(offset + s) >> 6) << 4)};
}

// Four-bit quant of element j (0-255) of a K block: each 32 bytes serve two sub-blocks, low halves first.
int KNibble(const Block& block, int64_t offset, int64_t j) {
  const int byte = block.Byte(offset + j / 64 * 32 + j % 32);
  return j / 32 % 2 == 0 ? byte & 15 : byte >> 4;
}

float KValue(const Block& block, int64_t j, int quant) {
  const ScaleMin sub = SubBlock(block, 4, j / 32);
  const double scale = static_cast<double>(block.Half(0)) * sub.scale;
  const double minimum = static_cast<double>(block.Half(2)) * sub.minimum;
  return static_cast<float>(scale * quant - minimum);
}

int Q6Quant(const Block& block, int64_t j) {
  const int64_t half = j / 128, in_half = j % 128;
  const int low_byte = block.Byte(half * 64 + in_half % 64);
  const int low = in_half < 64 ? low_byte & 15 : low_byte >> 4;
  const int high = (block.Byte(128 + half * 32 + j % 32) >> (in_half / 32 * 2)) & 3;
  return (low | (high << 4)) - 32;
}

// Rounds scale * quant + offset once.
float Affine(float scale, int quant, float offset) {
  return static_cast<float>(static_cast<double>(scale) * quant + static_cast<double>(offset));
}

}  // namespace

float Element(ElementType type, const std::byte* row, int64_t index) {
  const ElementTypeInfo& info = InfoOf(type);
  const Block block(row + index / info.block_elements * info.block_bytes);
  const int64_t j = index % info.block_elements;
  switch (type) {
    case ElementType::kF32:
      return block.Float(0);
    case ElementType::kF16:
      return block.Half(0);
    case ElementType::kBF16:
      return block.BFloat16(0);
    case ElementType::kQ4_0:
      return Affine(block.Half(0), block.Nibble(2, j) - 8, 0.0f);
    case ElementType::kQ4_1:
      return Affine(block.Half(0), block.Nibble(4, j), block.Half(2));
    case ElementType::kQ5_0:
      return Affine(block.Half(0), block.Nibble(6, j) + 16 * block.Bit(2, j) - 16, 0.0f);
    case ElementType::kQ5_1:
      return Affine(block.Half(0), block.Nibble(8, j) + 16 * block.Bit(4, j), block.Half(2));
    case ElementType::kQ8_0:
      return Affine(block.Half(0), block.Signed(2 + j), 0.0f);
    case ElementType::kQ4_K:
      return KValue(block, j, KNibble(block, 16, j));
    case ElementType::kQ5_K:
      return KValue(block, j, KNibble(block, 48, j) + 16 * block.Bit(16 + j % 32, j / 32));
    case ElementType::kQ6_K:
      return Affine(block.Half(208) * static_cast<float>(block.Signed(192 + j / 16)), Q6Quant(block, j),
                    0.0f);
  }
  TC_CHECK(false);
}

std::vector<float> Dequantize(ElementType type, const std::byte* row, int64_t count) {
  std::vector<float> values;
  for (int64_t i = 0; i < count; ++i) values.push_back(Element(type, row, i));
  return values;
}

Sum Dot(const WeightView& w, int64_t row, std::span<const float> x) {
  Sum sum;
  for (int64_t c = 0; c < w.cols; ++c) {
    const double term = static_cast<double>(Element(w.type, w.row_data(row), c)) * x[static_cast<size_t>(c)];
    sum.value += term;
    sum.magnitude += std::abs(term);
  }
  return sum;
}

Sum AccumulateColumn(const WeightView& w, std::span<const float> h, int64_t column, float start) {
  Sum sum{start, std::abs(start)};
  for (int64_t i = 0; i < w.rows; ++i) {
    const double factor = h[static_cast<size_t>(i)];
    if (factor == 0.0) continue;
    const double term = factor * Element(w.type, w.row_data(i), column);
    sum.value += term;
    sum.magnitude += std::abs(term);
  }
  return sum;
}

std::vector<double> RmsNorm(std::span<const float> x, std::span<const float> weight, float epsilon) {
  double squares = 0.0;
  for (const float value : x) squares += static_cast<double>(value) * value;
  const double root = std::sqrt(squares / static_cast<double>(x.size()) + epsilon);
  std::vector<double> out;
  for (size_t i = 0; i < x.size(); ++i) out.push_back(x[i] / root * weight[i]);
  return out;
}

std::vector<double> Rope(std::span<const float> head, std::span<const float> cos, std::span<const float> sin,
                         bool half) {
  std::vector<double> out(head.begin(), head.end());
  const size_t pairs = cos.size();
  for (size_t i = 0; i < pairs; ++i) {
    const size_t first = half ? i : 2 * i;
    const size_t second = half ? i + pairs : 2 * i + 1;
    const double a = head[first], b = head[second];
    out[first] = a * cos[i] - b * sin[i];
    out[second] = a * sin[i] + b * cos[i];
  }
  return out;
}

double Activate(ActivationFunction activation, double x) {
  switch (activation.kind) {
    case Activation::kRelu:
      return x < 0.0 ? 0.0 : x;
    case Activation::kSilu:
      return x / (1.0 + std::exp(-x));
    case Activation::kFatRelu:
      return x < activation.threshold ? 0.0 : x;
    case Activation::kGelu:
      return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
    case Activation::kGeluTanh:
      return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / std::acos(-1.0)) * (x + 0.044715 * x * x * x)));
    case Activation::kRelu2:
      return x < 0.0 ? 0.0 : x * x;
    case Activation::kDRelu:
      return x < 0.0 ? 0.0 : x;
  }
  TC_CHECK(false);
}

std::vector<double> AttendHead(std::span<const float> query, const HeadCache& cache, float scale,
                               float soft_cap) {
  std::vector<double> scores;
  const double cap = soft_cap;
  for (const float* key : cache.keys) {
    double score = 0.0;
    for (size_t c = 0; c < query.size(); ++c) score += static_cast<double>(query[c]) * key[c];
    score *= scale;
    scores.push_back(cap > 0 ? cap * std::tanh(score / cap) : score);
  }
  const double maximum = *std::max_element(scores.begin(), scores.end());
  double sum = 0.0;
  for (double& score : scores) sum += score = std::exp(score - maximum);
  std::vector<double> out(query.size(), 0.0);
  for (size_t p = 0; p < scores.size(); ++p)
    for (size_t c = 0; c < out.size(); ++c) out[c] += scores[p] / sum * cache.values[p][c];
  return out;
}

float KvElement(const KvLayout& layout, const std::byte* page, bool value, int64_t kv_head, int64_t place,
                int64_t column) {
  const std::byte* head = page + (value ? layout.value_offset() : 0) + kv_head * layout.head_bytes();
  if (layout.type == ElementType::kQ8_0) {
    const std::byte* block = head + column / 32 * 544;
    const int64_t element = value ? place * 32 + column % 32 : column % 32 * 16 + place;
    return Element(ElementType::kF16, block, place) *
           static_cast<float>(static_cast<int8_t>(block[32 + element]));
  }
  return Element(layout.type, head, value ? place * layout.d_head + column : column * 16 + place);
}

std::vector<double> AttendHead(const AttentionArgs& args, int64_t token, int64_t head) {
  const int64_t d_head = args.layout.d_head, kv_head = head / (args.n_heads / args.layout.n_kv_heads);
  const AttentionToken& seen = args.tokens[static_cast<size_t>(token)];
  const int64_t positions = seen.n_positions - seen.first_position;
  std::vector<float> keys, values;
  for (int64_t p = seen.first_position; p < seen.n_positions; ++p) {
    const std::byte* page = args.cache + seen.pages[p / kKvPageTokens] * args.layout.page_bytes();
    for (int64_t c = 0; c < d_head; ++c) {
      keys.push_back(KvElement(args.layout, page, false, kv_head, p % kKvPageTokens, c));
      values.push_back(KvElement(args.layout, page, true, kv_head, p % kKvPageTokens, c));
    }
  }
  HeadCache cache;
  for (int64_t p = 0; p < positions; ++p) {
    cache.keys.push_back(keys.data() + p * d_head);
    cache.values.push_back(values.data() + p * d_head);
  }
  return AttendHead(
      args.queries.row(token).subspan(static_cast<size_t>(head * d_head), static_cast<size_t>(d_head)), cache,
      args.scale, args.soft_cap);
}

}  // namespace thermocline::reference
