// KvPages: keys and values of one layer, in pages of a fixed number of positions that sequences hold by
// number.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include "core/buffer.h"
#include "core/matrix.h"
#include "core/status.h"
#include "kernels_cpu/kv_layout.h"
#include "model/config.h"
#include "model/plan.h"

namespace thermocline {

// The number of a page: the same page of every layer belongs to the same positions of a sequence.
using KvPage = int32_t;

// Pages that hold n_tokens positions.
constexpr int64_t PagesFor(int64_t n_tokens) { return (n_tokens + kKvPageTokens - 1) / kKvPageTokens; }

// "f32", "f16" or "q8_0" in any case; InvalidArgument naming the text and the three.
absl::StatusOr<ElementType> ParseKvType(std::string_view text);
// InvalidArgument when the model's heads cannot be held in the type.
absl::Status CheckKvType(ElementType type, const ModelConfig& config);
// What a device holds where `type` was chosen: a GPU's kernels read F32.
constexpr ElementType KvTypeOn(DeviceKind device, ElementType type) {
  return device == DeviceKind::kCuda ? ElementType::kF32 : type;
}

// Bytes of one position's keys and values in all layers; plan: nullptr where all are on the CPU.
int64_t KvTokenBytes(const ModelConfig& config, ElementType type, const Plan* plan);

class KvPages {
 public:
  // ResourceExhausted, naming the size of all layers' pages, when the memory is not to be had. The type has
  // passed CheckKvType.
  static absl::StatusOr<KvPages> Create(const ModelConfig& config, ElementType type, int64_t n_pages);
  static int64_t SizeBytes(const ModelConfig& config, ElementType type, int64_t n_pages);  // of one layer

  const std::byte* data() const { return storage_.data(); }
  const KvLayout& layout() const { return layout_; }

  // Writes the keys and values of consecutive tokens, (n_tokens, n_kv_heads * d_head) each, rounded to the
  // type, to first_position and up of the sequence that holds `pages`. F16 rounds to nearest even, what is
  // above its range to its largest; Q8_0 to multiples of a 127th of the largest of 32 columns. Threads may
  // store different positions at once.
  void Store(std::span<const KvPage> pages, int64_t first_position, MatrixView<const float> keys,
             MatrixView<const float> values);

 private:
  AlignedBuffer storage_;
  int64_t n_pages_ = 0;
  KvLayout layout_;
};

}  // namespace thermocline
