// StepTimes: how long a chunk of a prompt may be so that those who decode meanwhile hardly notice.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>

#include "scheduler/step_plan.h"

namespace thermocline {

// Learns from measured steps. A chunk between two decode steps lengthens one gap between tokens from a decode
// step to a decode step and the chunk, so a chunk of 1.25 decode steps keeps every gap at 2.25 times the
// usual one, with room for chance below three times.
class StepTimes {
 public:
  void Record(StepPhase phase, int64_t n_tokens, double seconds);
  // Tokens of the next chunk, of phase kPrefill or kReplay; at least 1. kKvPageTokens while nothing is known.
  int64_t ChunkTokens(StepPhase phase) const;

 private:
  static constexpr double kChunkInDecodeSteps = 1.25;
  static constexpr double kNewest = 0.25;  // weight of the newest decode step in their mean
  // A step that took longer than so many means counts as that many: one that was held up by chance must not
  // make the chunks after it long.
  static constexpr double kLongest = 2;

  struct Chunk {
    int64_t n_tokens = 0;  // 0: none was measured
    double seconds = 0;
  };
  std::array<Chunk, 2> last_;       // by phase: kPrefill, kReplay
  double decode_step_seconds_ = 0;  // 0: none was measured
};

}  // namespace thermocline
