// Sequence.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/sequence.h"

#include "scheduler/request_trace.h"

namespace thermocline {

Sequence::Sequence(RequestHandle the_handle, CompletionRequest the_request,
                   std::shared_ptr<CompletionObserver> the_observer, const Tokenizer& tokenizer,
                   const RequestLimits& limits, std::chrono::steady_clock::time_point arrival)
    : handle(the_handle),
      request(std::move(the_request)),
      observer(std::move(the_observer)),
      tokens(request.prompt),
      completion(request, *observer, tokenizer, limits, arrival) {
  EnterPhase("queued", arrival);
}

void Sequence::EnterPhase(std::string_view name, std::chrono::steady_clock::time_point now) {
  if (request.trace) request.trace->EnterPhase(name, now);
}

absl::Status Sequence::CheckInterrupt(std::chrono::steady_clock::time_point now) const {
  switch (interrupt.load(std::memory_order_relaxed)) {
    case Interrupt::kCancel:
      return Cancelled("the request was cancelled");
    case Interrupt::kShutdown:
      return Unavailable("the server is shutting down");
    case Interrupt::kNone:
      break;
  }
  if (request.deadline && now >= *request.deadline)
    return DeadlineExceeded("the request's deadline has passed");
  return absl::OkStatus();
}

}  // namespace thermocline
