// KvPages.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/kv_pages.h"

#include <algorithm>

namespace thermocline {

int64_t KvPages::SizeBytes(const ModelConfig& config, int64_t n_pages) {
  return 2 * config.n_kv_heads * config.d_head * kKvPageTokens * n_pages *
         static_cast<int64_t>(sizeof(float));
}

absl::StatusOr<KvPages> KvPages::Create(const ModelConfig& config, int64_t n_pages) {
  KvPages cache;
  cache.n_pages_ = n_pages;
  cache.n_kv_heads_ = config.n_kv_heads;
  cache.d_head_ = config.d_head;
  const int64_t size_bytes = SizeBytes(config, n_pages);
  auto storage = AlignedBuffer::Create(size_bytes);
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
  auto* const data = reinterpret_cast<float*>(storage_.data());
  for (int64_t t = 0; t < keys.rows; ++t) {
    const int64_t position = first_position + t;
    const int64_t page = pages[static_cast<size_t>(position / kKvPageTokens)];
    TC_CHECK(page >= 0 && page < n_pages_);
    float* to = data + page * page_stride() + position % kKvPageTokens * d_head_;
    for (int64_t head = 0; head < n_kv_heads_; ++head, to += head_stride()) {
      std::copy_n(keys.row_data(t) + head * d_head_, d_head_, to);
      std::copy_n(values.row_data(t) + head * d_head_, d_head_, to + value_offset());
    }
  }
}

}  // namespace thermocline
