// ModelRunner: what the scheduler drives; the real one is the Transformer, tests use a puppet.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include "core/matrix.h"
#include "core/status.h"
#include "model/tokenizer.h"
#include "predictor/quality.h"
#include "scheduler/execution_stats.h"
#include "scheduler/kv_pages.h"
#include "scheduler/step_figures.h"

namespace thermocline {

enum class StepKind {
  kPrefill,      // tokens of a prompt, of which nearly all neurons are needed: dense
  kDecode,       // in the runner's mode
  kDenseDecode,  // as in the dense mode, whatever the runner's: to compare with
};

// Consecutive tokens of one sequence within a step.
struct SequenceSlice {
  int64_t n_tokens = 0;        // at least 1
  int64_t first_position = 0;  // of the first of them in the sequence
  // Where the sequence's keys and values lie: at least PagesFor(first_position + n_tokens). Empty: in the
  // runner's pages 0, 1, 2, ..., for a sequence that is alone.
  std::span<const KvPage> pages;
  Quality quality = Quality::kExact;  // of a decode step; other than kExact only where predicts()
  bool wants_logits = true;           // of its last token
};

struct BatchStep {
  std::span<const TokenId> tokens;  // of all slices, one slice after another; 1 to max_step_tokens()
  std::span<const SequenceSlice> slices;
  StepKind kind = StepKind::kDecode;
  OperatorObserver* observer = nullptr;  // hears of the operators where they are timed; nullptr: nobody does
};

// A step of a sequence that is alone.
struct StepInput {
  std::span<const TokenId> tokens;
  int64_t first_position = 0;  // of tokens[0] in the sequence
  StepKind kind = StepKind::kDecode;
  Quality quality = Quality::kExact;
};

// Not thread-safe: only the scheduler's thread calls it.
class ModelRunner {
 public:
  virtual ~ModelRunner() = default;

  virtual int64_t context_length() const = 0;  // most positions of a sequence
  virtual int64_t n_vocab() const = 0;
  virtual int64_t n_kv_pages() const = 0;  // at least PagesFor(context_length())
  // Most tokens that one step takes.
  virtual int64_t max_step_tokens() const = 0;
  // Whether qualities besides kExact are to be had.
  virtual bool predicts() const = 0;

  // Computes every slice's tokens at its positions first_position, first_position + 1, ... What earlier steps
  // put into its pages for the positions below is the context; keys and values of the step's positions are
  // written. No two slices are of one sequence, and pages that slices share lie below all their positions. A
  // token's logits do not depend on its companions. logits: (slices that want them, n_vocab), in order.
  //
  // An error other than InvalidArgument, OutOfRange and ResourceExhausted is a device's: see health().
  virtual absl::Status ForwardBatch(const BatchStep& step, MatrixView<float> logits) = 0;

  // The same for a decode step of one slice of one token and a quality besides kExact, and compares it with
  // the exact step. Context and logits are those that ForwardBatch would leave.
  virtual absl::StatusOr<AuditFigures> ForwardBatchAudited(const BatchStep& step,
                                                           MatrixView<float> logits) = 0;

  // Not OK, for good, once a device is lost: no step can be computed any more.
  virtual absl::Status health() const = 0;

  // Of the last step; of an audit's step as asked for.
  virtual StepFigures last_step() const = 0;
  // Sums over every step so far; empty where operators are not timed.
  virtual const ExecutionStats& execution_stats() const = 0;

  // For a sequence that is alone. Writes the logits of the last token: (n_vocab).
  absl::Status Forward(const StepInput& step, std::span<float> logits);
  absl::StatusOr<AuditFigures> ForwardAudited(const StepInput& step, std::span<float> logits);
};

}  // namespace thermocline
