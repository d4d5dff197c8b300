// Expansion of rows and blocks of every element type to floats.
// SPDX-License-Identifier: Apache-2.0
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels_cpu/dequantize.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
// Per-target headers follow it.
#include "kernels_cpu/codecs-inl.h"
#include "kernels_cpu/targets-inl.h"

HWY_BEFORE_NAMESPACE();
namespace thermocline {
namespace HWY_NAMESPACE {
namespace {

// Expands `count` elements and, if asked, zeroes the target up to the next multiple of 32.
template <class Codec>
struct Expand {
  static void Run(const uint8_t* source, int64_t count, bool pad, float* target) {
    F32 w[Codec::kVectors];
    const int64_t blocks = count / Codec::kBlockElements;
    for (int64_t b = 0; b < blocks; ++b, source += Codec::kBlockBytes) {
      const auto block = Codec::Open(source);
      for (int step = 0; step < Codec::kSteps; ++step) {
        Codec::Step(block, step, w);
        for (int k = 0; k < Codec::kVectors; ++k, target += kLanes) hn::StoreU(w[k], F32Tag(), target);
      }
    }
    if constexpr (Codec::kElementBytes > 0) {
      const int64_t tail = count % Codec::kBlockElements;
      if (tail == 0) return;
      DecodeTail<Codec>(source, tail, w);
      HWY_ALIGN float padded[Codec::kBlockElements];
      for (int k = 0; k < Codec::kVectors; ++k) hn::Store(w[k], F32Tag(), padded + k * kLanes);
      std::memcpy(target, padded, static_cast<size_t>(pad ? Codec::kBlockElements : tail) * sizeof(float));
    }
  }
};

}  // namespace

void Dequantize(ElementType type, const std::byte* source, int64_t count, float* target) {
  SelectByType<Expand>(type)(reinterpret_cast<const uint8_t*>(source), count, false, target);
}

void DecodeColumns(ElementType type, const std::byte* row, int64_t begin, int64_t count, float* target) {
  const ElementTypeInfo& info = InfoOf(type);
  const std::byte* source = row + begin / info.block_elements * info.block_bytes;
  SelectByType<Expand>(type)(reinterpret_cast<const uint8_t*>(source), count, true, target);
}

}  // namespace HWY_NAMESPACE
}  // namespace thermocline
HWY_AFTER_NAMESPACE();
