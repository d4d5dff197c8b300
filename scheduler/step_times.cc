// StepTimes.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/step_times.h"

#include <algorithm>
#include <cmath>

#include "scheduler/kv_pages.h"

namespace thermocline {

void StepTimes::Record(StepPhase phase, int64_t n_tokens, double seconds) {
  if (phase != StepPhase::kDecode) {
    last_[static_cast<size_t>(phase)] = {.n_tokens = n_tokens, .seconds = seconds};
  } else if (decode_step_seconds_ == 0) {
    decode_step_seconds_ = seconds;
  } else {
    const double counted = std::min(seconds, kLongest * decode_step_seconds_);
    decode_step_seconds_ += kNewest * (counted - decode_step_seconds_);
  }
}

// A step's time grows with its tokens, from some time that even one token takes. Scaling the last chunk by
// the ratio of times therefore never overshoots when it grows, and chunk after chunk it comes to the time
// wanted. Rounding up lets even a chunk of one token grow.
int64_t StepTimes::ChunkTokens(StepPhase phase) const {
  const Chunk& last = last_[static_cast<size_t>(phase)];
  if (last.n_tokens == 0 || last.seconds <= 0 || decode_step_seconds_ <= 0) return kKvPageTokens;
  const double wanted = kChunkInDecodeSteps * decode_step_seconds_;
  constexpr double kMost = 1 << 20;  // above any step's limit
  const double scaled = static_cast<double>(last.n_tokens) * wanted / last.seconds;
  const double tokens = last.seconds > wanted ? std::floor(scaled) : std::ceil(scaled);
  return static_cast<int64_t>(std::clamp(tokens, 1.0, kMost));
}

}  // namespace thermocline
