// ModelRunner: what the scheduler drives; the real one is the Transformer, tests use a puppet.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include "core/status.h"
#include "model/tokenizer.h"

namespace thermocline {

// One sequence at a time. Not thread-safe: only the scheduler's thread calls it.
class ModelRunner {
 public:
  virtual ~ModelRunner() = default;

  virtual int64_t context_length() const = 0;
  virtual int64_t n_vocab() const = 0;
  // Most tokens that one Forward takes.
  virtual int64_t max_step_tokens() const = 0;

  // Computes `tokens` at positions first_position, first_position + 1, ... of the sequence. What earlier
  // calls computed below first_position is the context; positions from first_position on are overwritten.
  // Writes the logits of the last token. tokens: 1 to max_step_tokens(); logits: (n_vocab).
  virtual absl::Status Forward(std::span<const TokenId> tokens, int64_t first_position,
                               std::span<float> logits) = 0;
};

}  // namespace thermocline
