// KvPages.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/kv_pages.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "core/half.h"

namespace thermocline {
namespace {

constexpr float kLargestHalf = 65504.0f;

uint16_t HalfOf(float value) { return FloatToHalf(std::clamp(value, -kLargestHalf, kLargestHalf)); }

// One position of a head, which is at `place` of its page.
void StoreFloats(std::span<const float> key, std::span<const float> value, int64_t place, std::byte* keys,
                 std::byte* values) {
  auto* const to_key = reinterpret_cast<float*>(keys) + place;
  for (size_t c = 0; c < key.size(); ++c) to_key[c * kKvPageTokens] = key[c];
  std::ranges::copy(value, reinterpret_cast<float*>(values) + place * std::ssize(value));
}

void StoreHalves(std::span<const float> key, std::span<const float> value, int64_t place, std::byte* keys,
                 std::byte* values) {
  auto* const to_key = reinterpret_cast<uint16_t*>(keys) + place;
  constexpr size_t kChunk = 64;
  std::array<uint16_t, kChunk> halves;
  for (size_t begin = 0; begin < key.size(); begin += kChunk) {
    const auto part = key.subspan(begin, std::min(kChunk, key.size() - begin));
    std::ranges::transform(part, halves.begin(), HalfOf);
    for (size_t c = 0; c < part.size(); ++c) to_key[(begin + c) * kKvPageTokens] = halves[c];
  }
  std::ranges::transform(value, reinterpret_cast<uint16_t*>(values) + place * std::ssize(value), HalfOf);
}

// Columns go `stride` bytes apart.
void StoreScaled(std::span<const float> row, int64_t place, int64_t first, int64_t stride,
                 std::byte* blocks) {
  auto* block = reinterpret_cast<KvBlock*>(blocks);
  for (size_t begin = 0; begin < row.size(); begin += kKvScaleColumns, ++block) {
    const auto columns = row.subspan(begin, kKvScaleColumns);
    float largest = 0;
    for (const float x : columns) largest = std::max(largest, std::abs(x));
    const uint16_t scale = HalfOf(largest / 127.0f);
    block->scales[place] = scale;
    const float step = HalfToFloat(scale), inverse = step > 0 ? 1.0f / step : 0.0f;
    int8_t* to = block->bytes + first;
    for (const float x : columns) {
      *to = static_cast<int8_t>(std::lrintf(std::clamp(x * inverse, -127.0f, 127.0f)));
      to += stride;
    }
  }
}

}  // namespace

absl::StatusOr<ElementType> ParseKvType(std::string_view text) {
  const auto type = ParseElementType(text);
  if (type.ok() && (*type == ElementType::kF32 || *type == ElementType::kF16 || *type == ElementType::kQ8_0))
    return *type;
  return InvalidArgument("'{}' is no type of keys and values; f16, f32 and q8_0 are", text);
}

absl::Status CheckKvType(ElementType type, const ModelConfig& config) {
  if (type != ElementType::kQ8_0 || config.d_head % kKvScaleColumns == 0) return absl::OkStatus();
  return InvalidArgument("keys and values of type Q8_0 need heads of a multiple of {} columns, d_head is {}",
                         kKvScaleColumns, config.d_head);
}

int64_t KvTokenBytes(const ModelConfig& config, ElementType type, const Plan* plan) {
  const auto token_bytes = [&](DeviceKind device) {
    return KvPages::SizeBytes(config, KvTypeOn(device, type), 1) / kKvPageTokens;
  };
  if (plan == nullptr) return config.n_layers * token_bytes(DeviceKind::kCpu);
  int64_t bytes = 0;
  for (const auto& layer : plan->layers)
    bytes += token_bytes(plan->devices[static_cast<size_t>(layer.kv_cache_device)].kind);
  return bytes;
}

int64_t KvPages::SizeBytes(const ModelConfig& config, ElementType type, int64_t n_pages) {
  return n_pages *
         KvLayout{.type = type, .n_kv_heads = config.n_kv_heads, .d_head = config.d_head}.page_bytes();
}

absl::StatusOr<KvPages> KvPages::Create(const ModelConfig& config, ElementType type, int64_t n_pages) {
  KvPages cache;
  cache.n_pages_ = n_pages;
  cache.layout_ = {.type = type, .n_kv_heads = config.n_kv_heads, .d_head = config.d_head};
  const int64_t size_bytes = SizeBytes(config, type, n_pages);
  auto storage = AlignedBuffer::Create(size_bytes + kKvSlackBytes);
  if (!storage.ok()) {
    return ResourceExhausted(
        "the KV cache of {} tokens needs {} bytes, which are not to be had; a smaller --context helps",
        n_pages * kKvPageTokens, config.n_layers * size_bytes);
  }
  cache.storage_ = *std::move(storage);
  return cache;
}

void KvPages::Store(std::span<const KvPage> pages, int64_t first_position, MatrixView<const float> keys,
                    MatrixView<const float> values) {
  const auto d_head = static_cast<size_t>(layout_.d_head);
  for (int64_t t = 0; t < keys.rows; ++t) {
    const int64_t position = first_position + t, place = position % kKvPageTokens;
    const int64_t page = pages[static_cast<size_t>(position / kKvPageTokens)];
    TC_CHECK(page >= 0 && page < n_pages_);
    std::byte* to_keys = storage_.data() + page * layout_.page_bytes();
    for (int64_t head = 0; head < layout_.n_kv_heads; ++head, to_keys += layout_.head_bytes()) {
      const auto of_head = [&](MatrixView<const float> rows) {
        return rows.row(t).subspan(static_cast<size_t>(head) * d_head, d_head);
      };
      std::byte* const to_values = to_keys + layout_.value_offset();
      switch (layout_.type) {
        case ElementType::kF32:
          StoreFloats(of_head(keys), of_head(values), place, to_keys, to_values);
          break;
        case ElementType::kQ8_0:
          StoreScaled(of_head(keys), place, place, kKvPageTokens, to_keys);
          StoreScaled(of_head(values), place, place * kKvScaleColumns, 1, to_values);
          break;
        default:
          StoreHalves(of_head(keys), of_head(values), place, to_keys, to_values);
      }
    }
  }
}

}  // namespace thermocline
