// OpenAiCompletion: one call's choices while the scheduler works on them, and their answer.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "scheduler/scheduler.h"
#include "server/call_counter.h"
#include "server/http_call.h"
#include "server/openai_request.h"
#include "server/openai_response.h"
#include "server/request_traces.h"

namespace thermocline {

struct OpenAiParts;

// Everything but the observers' calls, which post what they hear, happens on the call's strand. Held by the
// observers, thus by the scheduler, until the last choice has ended, and by the call until the client is
// gone.
class OpenAiCompletion : public std::enable_shared_from_this<OpenAiCompletion> {
 public:
  // Submits all choices, or answers with the refusal. On the call's strand.
  static void Start(std::shared_ptr<HttpCall> call, OpenAiRequest request, OpenAiEnvelope envelope,
                    const OpenAiParts& parts, std::shared_ptr<CallCounter> counter);

 private:
  class Observer;
  struct Choice {
    LogprobWriter logprob_writer;
    std::string text;                    // of a whole answer, and for logs
    std::vector<TokenLogprob> logprobs;  // of a whole answer
    std::optional<CompletionSummary> summary;
  };

  OpenAiCompletion(std::shared_ptr<HttpCall> call, OpenAiRequest request, OpenAiEnvelope envelope,
                   const OpenAiParts& parts, std::shared_ptr<CallCounter> counter);
  void Submit();
  void Refuse(const absl::Status& status);  // what is not admitted
  void OnDelta(size_t index, CompletionDelta delta);
  void OnFinish(size_t index, absl::StatusOr<CompletionSummary> result);
  void OnGone();

  void WriteEvent(nlohmann::json choice);
  void FailWith(const absl::Status& status);
  void Conclude();  // every choice has ended well
  void CancelAll();
  nlohmann::json WithTrace(size_t index, nlohmann::json choice);
  void FillRecord(std::span<const CompletionSummary> summaries);

  const CountedCall counted_;
  const std::shared_ptr<HttpCall> call_;
  OpenAiRequest request_;  // without the choices once they are submitted
  const OpenAiEnvelope envelope_;
  const OpenAiParts& parts_;
  const bool wants_logprobs_;
  std::vector<Choice> choices_;
  std::vector<RequestHandle> handles_;
  std::unique_ptr<const HeldTrace> trace_;  // of the first choice, until it is written; nullptr: nobody asked
  size_t unfinished_ = 0;
  bool ended_ = false;  // what still comes is ignored
};

}  // namespace thermocline
