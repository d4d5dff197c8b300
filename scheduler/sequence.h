// Sequence: one admitted request: its tokens, how many of them are computed, and its answer.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <limits>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "scheduler/completion.h"
#include "scheduler/completion_observer.h"
#include "scheduler/kv_pages.h"
#include "scheduler/step_plan.h"

namespace thermocline {

// The scheduler's thread owns everything but `interrupt` from the moment the request is queued.
struct Sequence {
  enum class Interrupt { kNone, kCancel, kShutdown };

  Sequence(RequestHandle the_handle, CompletionRequest the_request,
           std::shared_ptr<CompletionObserver> the_observer, const Tokenizer& tokenizer,
           const RequestLimits& limits, std::chrono::steady_clock::time_point arrival);

  int64_t n_prompt() const { return static_cast<int64_t>(request.prompt.size()); }
  SequenceProgress progress() const {
    return {
        .n_prompt = n_prompt(), .n_tokens = static_cast<int64_t>(tokens.size()), .n_computed = n_computed};
  }
  // Tokens from the start whose keys and values are those of the dense model, up to rounding, and so may
  // serve any request with the same text: what prefill steps and exact decode steps compute. What a decode
  // step that leaves neurons out computes is this request's alone.
  int64_t n_publishable() const {
    return completion.quality() == Quality::kExact ? std::numeric_limits<int64_t>::max() : n_prompt();
  }
  // For the request's trace, where there is one.
  void EnterPhase(std::string_view name, std::chrono::steady_clock::time_point now);
  // Why the request must end now; OK when it may go on.
  absl::Status CheckInterrupt(std::chrono::steady_clock::time_point now) const;

  const RequestHandle handle;
  const CompletionRequest request;
  const std::shared_ptr<CompletionObserver> observer;
  std::atomic<Interrupt> interrupt = Interrupt::kNone;

  std::vector<TokenId> tokens;  // prompt and completion
  int64_t n_computed = 0;       // of them, whose keys and values lie in `pages`
  std::vector<KvPage> pages;
  int64_t n_published = 0;  // of the pages, from the first on
  Completion completion;
};

// A request that is over, which its observer has yet to hear.
struct EndedSequence {
  std::shared_ptr<Sequence> sequence;
  absl::Status status;  // OK: its completion is done, or its time is up
};

}  // namespace thermocline
