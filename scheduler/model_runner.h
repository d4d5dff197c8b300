// ModelRunner: what the scheduler drives; the real one is the Transformer, tests use a puppet.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include "core/status.h"
#include "model/tokenizer.h"
#include "predictor/quality.h"
#include "scheduler/execution_stats.h"
#include "scheduler/step_figures.h"

namespace thermocline {

enum class StepKind {
  kPrefill,  // tokens of a prompt, of which nearly all neurons are needed: dense
  kDecode,   // in the runner's mode
};

struct StepInput {
  std::span<const TokenId> tokens;  // 1 to max_step_tokens()
  int64_t first_position = 0;       // of tokens[0] in the sequence
  StepKind kind = StepKind::kDecode;
  Quality quality = Quality::kExact;  // of a decode step; other than kExact only where predicts()
};

// One sequence at a time. Not thread-safe: only the scheduler's thread calls it.
class ModelRunner {
 public:
  virtual ~ModelRunner() = default;

  virtual int64_t context_length() const = 0;
  virtual int64_t n_vocab() const = 0;
  // Most tokens that one Forward takes.
  virtual int64_t max_step_tokens() const = 0;
  // Whether qualities besides kExact are to be had.
  virtual bool predicts() const = 0;

  // Computes the tokens at positions first_position, first_position + 1, ... of the sequence. What earlier
  // calls computed below first_position is the context; positions from first_position on are overwritten.
  // Writes the logits of the last token: (n_vocab).
  virtual absl::Status Forward(const StepInput& step, std::span<float> logits) = 0;

  // The same for a decode step of one token and a quality besides kExact, and compares it with the exact
  // step. Context and logits are those that Forward would leave.
  virtual absl::StatusOr<AuditFigures> ForwardAudited(const StepInput& step, std::span<float> logits) = 0;

  // Of the last Forward; of ForwardAudited's step as asked for.
  virtual StepFigures last_step() const = 0;
  // Sums over every step so far; empty where operators are not timed.
  virtual const ExecutionStats& execution_stats() const = 0;
};

}  // namespace thermocline
