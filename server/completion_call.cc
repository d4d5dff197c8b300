// From the scheduler's threads to gRPC's, completion by completion.
// SPDX-License-Identifier: Apache-2.0
#include "server/completion_call.h"

#include <grpc/support/time.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <utility>

#include "server/completion_conversion.h"
#include "server/group_admission.h"
#include "server/measured_observer.h"
#include "server/prompt_text.h"

namespace thermocline {
namespace {

// A client without a deadline shows as one ages away; gRPC's arithmetic saturates, that of std::chrono does
// not.
std::optional<std::chrono::steady_clock::time_point> DeadlineOf(const grpc::CallbackServerContext& context) {
  constexpr int64_t kLongestSeconds = int64_t{365} * 24 * 3600;
  const gpr_timespec deadline = gpr_convert_clock_type(context.raw_deadline(), GPR_CLOCK_MONOTONIC);
  const gpr_timespec left = gpr_time_sub(deadline, gpr_now(GPR_CLOCK_MONOTONIC));
  if (left.tv_sec > kLongestSeconds) return std::nullopt;
  return std::chrono::steady_clock::now() + std::chrono::seconds(std::max<int64_t>(left.tv_sec, -1)) +
         std::chrono::nanoseconds(left.tv_nsec);
}

}  // namespace

// ---- What both kinds share ----

class CompletionCall::Choice final : public CompletionObserver {
 public:
  Choice(std::shared_ptr<CompletionCall> call, int index) : call_(std::move(call)), index_(index) {}
  void OnDelta(CompletionDelta delta) override { call_->OnDelta(index_, std::move(delta)); }
  void OnFinish(absl::StatusOr<CompletionSummary> result) override {
    call_->OnFinish(index_, std::move(result));
  }

 private:
  const std::shared_ptr<CompletionCall> call_;
  const int index_;
};

CompletionCall::CompletionCall(grpc::CallbackServerContext& context, const char* method,
                               const CompletionServerParts& parts, std::shared_ptr<CallCounter> counter)
    : counted_(std::move(counter)), context_(context), parts_(parts), call_(context, method, parts.log) {}

void CompletionCall::Submit(absl::StatusOr<std::vector<CompletionRequest>> choices, bool wants_trace) {
  {
    const std::lock_guard lock(mutex_);
    self_ = shared_from_this();
  }
  const auto handles = choices.ok() ? Hand(*std::move(choices), wants_trace)
                                    : absl::StatusOr<std::vector<RequestHandle>>(choices.status());
  bool failed = false;
  {
    const std::lock_guard lock(mutex_);
    admitted_ = true;
    if (handles.ok()) {
      handles_ = *handles;
      failed = !failure_.ok();  // too soon for the others to be known
    } else {
      failure_ = handles.status();
    }
  }
  if (!handles.ok()) parts_.metrics.ObserveRefusal(handles.status().code());
  if (failed) CancelAll();
  Advance();
}

absl::StatusOr<std::vector<RequestHandle>> CompletionCall::Hand(std::vector<CompletionRequest> choices,
                                                                bool wants_trace) {
  {
    const std::lock_guard lock(mutex_);
    unfinished_ = choices.size();
    summaries_.resize(unfinished_);
    if (wants_trace) {
      TC_ASSIGN_OR_RETURN(trace_, RequestTraces::Begin(parts_.traces));
      choices.front().trace = trace_->trace();
    }
    RequestRecord& record = call_.record();
    for (CompletionRequest& choice : choices) choice.id = record.request_id;
    if (parts_.log.options().log_prompts) {
      // Tokens out of range are the scheduler's to refuse.
      record.prompt = DecodeToText("prompt", choices.front().prompt, parts_.tokenizer).value_or("");
    }
  }
  NumberChoices(choices);
  const auto deadline = DeadlineOf(context_);
  std::vector<std::shared_ptr<CompletionObserver>> observers;
  for (CompletionRequest& choice : choices) {
    choice.deadline = deadline;
    const auto index = static_cast<int>(observers.size());
    // The choices have one prompt.
    const auto prompt_tokens = index == 0 ? static_cast<int64_t>(choice.prompt.size()) : 0;
    observers.push_back(MeasureCompletion(parts_.metrics, prompt_tokens,
                                          std::make_shared<Choice>(shared_from_this(), index)));
  }
  const std::string id = call_.record().request_id;
  const size_t n_choices = choices.size(), n_prompt = choices.front().prompt.size();
  TC_ASSIGN_OR_RETURN(std::vector<RequestHandle> handles,
                      parts_.scheduler.SubmitAll(std::move(choices), std::move(observers)));
  parts_.log.Admitted(id, n_choices, n_prompt);
  return handles;
}

void CompletionCall::OnDelta(int index, CompletionDelta delta) {
  {
    const std::lock_guard lock(mutex_);
    if (ended_ || !failure_.ok()) return;
    if (index == 0 && parts_.log.options().log_prompts) text_ += delta.text;
    TakeDelta(index, std::move(delta));
  }
  Advance();
}

void CompletionCall::OnFinish(int index, absl::StatusOr<CompletionSummary> result) {
  bool first_failure = false;
  {
    const std::lock_guard lock(mutex_);
    --unfinished_;
    if (ended_ || !failure_.ok()) return;
    if (result.ok()) {
      TakeSummary(index, *result);
      summaries_[static_cast<size_t>(index)] = *std::move(result);
    } else {
      failure_ = result.status();
      first_failure = true;
    }
  }
  if (first_failure) CancelAll();
  Advance();
}

std::optional<absl::Status> CompletionCall::Result() const {
  if (!admitted_ || ended_) return std::nullopt;
  if (!failure_.ok()) return failure_;
  if (unfinished_ > 0) return std::nullopt;
  return absl::OkStatus();
}

v1::CompletionSummary CompletionCall::SummaryMessage(int index, const CompletionSummary& summary) const {
  v1::CompletionSummary message = ToMessage(summary, index);
  if (index > 0 || trace_ == nullptr) return message;
  message.set_trace(TraceJson(*trace_->trace(), call_.record(), parts_.model)
                        .dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
  return message;
}

grpc::Status CompletionCall::End(const absl::Status& status) {
  ended_ = true;
  RequestRecord& record = call_.record();
  if (status.ok()) record.summary = SummaryOfAll(summaries_);
  record.completion = std::move(text_);
  trace_ = nullptr;  // before the client hears of the end and may ask for the next
  return call_.Finished(status);
}

void CompletionCall::CancelAll() {
  std::vector<RequestHandle> handles;
  {
    const std::lock_guard lock(mutex_);
    handles = handles_;
  }
  for (const RequestHandle handle : handles) parts_.scheduler.Cancel(handle);
}

void CompletionCall::Cancelled() {
  CancelAll();
  counted_.counter().CountCancelled();
}

void CompletionCall::Done() {
  std::shared_ptr<CompletionCall> last;  // outlives the lock
  const std::lock_guard lock(mutex_);
  call_.Log();
  last = std::move(self_);
}

// ---- Answered whole ----

UnaryCompletion::UnaryCompletion(grpc::CallbackServerContext& context, const CompletionServerParts& parts,
                                 std::shared_ptr<CallCounter> counter, v1::CompleteResponse& response)
    : CompletionCall(context, "/thermocline.v1.CompletionService/Complete", parts, std::move(counter)),
      response_(response) {}

v1::CompletionChoice& UnaryCompletion::Other(int index) {
  while (response_.other_choices_size() < index) response_.add_other_choices();
  return *response_.mutable_other_choices(index - 1);
}

void UnaryCompletion::TakeDelta(int index, CompletionDelta delta) {
  if (index == 0) {
    AppendDelta(std::move(delta), response_);
  } else {
    AppendDelta(std::move(delta), Other(index));
  }
}

void UnaryCompletion::TakeSummary(int index, const CompletionSummary& summary) {
  *(index == 0 ? response_.mutable_summary() : Other(index).mutable_summary()) =
      SummaryMessage(index, summary);
}

void UnaryCompletion::Advance() {
  grpc::Status status;
  {
    const std::lock_guard lock(mutex_);
    const std::optional<absl::Status> result = Result();
    if (!result) return;
    status = End(*result);
  }
  Finish(std::move(status));
}

// ---- Piece by piece ----

StreamCompletion::StreamCompletion(grpc::CallbackServerContext& context, const CompletionServerParts& parts,
                                   std::shared_ptr<CallCounter> counter)
    : CompletionCall(context, "/thermocline.v1.CompletionService/StreamComplete", parts, std::move(counter)) {
}

void StreamCompletion::TakeDelta(int index, CompletionDelta delta) {
  if (!broken_) *queue_.emplace_back().mutable_delta() = ToMessage(std::move(delta), index);
}

void StreamCompletion::TakeSummary(int index, const CompletionSummary& summary) {
  if (!broken_) *queue_.emplace_back().mutable_summary() = SummaryMessage(index, summary);
}

void StreamCompletion::OnWriteDone(bool ok) {
  {
    const std::lock_guard lock(mutex_);
    writing_ = false;
    queue_.pop_front();
    if (!ok) {
      broken_ = true;
      queue_.clear();
    }
  }
  if (!ok) CancelAll();
  Advance();
}

// Starts the next write, or ends the call after the last one. What to do is decided under the lock and done
// outside it.
void StreamCompletion::Advance() {
  const v1::StreamCompleteResponse* next = nullptr;
  grpc::Status status;
  {
    const std::lock_guard lock(mutex_);
    if (!admitted() || writing_ || ended()) return;
    if (!queue_.empty()) {
      next = &queue_.front();  // stays where it is while others are appended
      writing_ = true;
    } else if (const std::optional<absl::Status> result = Result()) {
      status = End(*result);
    } else {
      return;
    }
  }
  if (next != nullptr) {
    StartWrite(next);
  } else {
    Finish(std::move(status));
  }
}

}  // namespace thermocline
