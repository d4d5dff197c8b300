// One call's choices while the scheduler works on them, and their answer.
// SPDX-License-Identifier: Apache-2.0
#include "server/openai_completion.h"

#include <iterator>
#include <utility>

#include "server/group_admission.h"
#include "server/measured_observer.h"
#include "server/openai_service.h"
#include "server/prompt_text.h"

namespace thermocline {

// Takes what the scheduler says of one choice to the call's strand. What is not streamed is gathered until
// the end: a thread woken for each token would take the processor from the step that runs.
class OpenAiCompletion::Observer final : public CompletionObserver {
 public:
  Observer(std::shared_ptr<OpenAiCompletion> completion, size_t index)
      : completion_(std::move(completion)), index_(index), stream_(completion_->request_.stream) {}

  void OnDelta(CompletionDelta delta) override {
    if (stream_) return Post(std::move(delta));
    gathered_.text += delta.text;
    gathered_.logprobs.insert(gathered_.logprobs.end(), std::make_move_iterator(delta.logprobs.begin()),
                              std::make_move_iterator(delta.logprobs.end()));
  }
  void OnFinish(absl::StatusOr<CompletionSummary> result) override {
    if (!stream_) Post(std::move(gathered_));
    completion_->call_->Post(
        [completion = completion_, index = index_, result = std::move(result)]() mutable {
          completion->OnFinish(index, std::move(result));
        });
  }

 private:
  void Post(CompletionDelta delta) {
    completion_->call_->Post([completion = completion_, index = index_, delta = std::move(delta)]() mutable {
      completion->OnDelta(index, std::move(delta));
    });
  }

  const std::shared_ptr<OpenAiCompletion> completion_;
  const size_t index_;
  const bool stream_;
  CompletionDelta gathered_;  // text and log-probabilities
};

OpenAiCompletion::OpenAiCompletion(std::shared_ptr<HttpCall> call, OpenAiRequest request,
                                   OpenAiEnvelope envelope, const OpenAiParts& parts,
                                   std::shared_ptr<CallCounter> counter)
    : counted_(std::move(counter)),
      call_(std::move(call)),
      request_(std::move(request)),
      envelope_(std::move(envelope)),
      parts_(parts),
      wants_logprobs_(request_.choices.front().logprobs),
      unfinished_(request_.choices.size()) {
  const bool ignore_eos = request_.choices.front().stopping.ignore_eos;
  for (size_t i = 0; i < request_.choices.size(); ++i) {
    choices_.push_back({.logprob_writer = LogprobWriter(request_.endpoint, parts_.tokenizer, ignore_eos)});
  }
}

void OpenAiCompletion::Start(std::shared_ptr<HttpCall> call, OpenAiRequest request, OpenAiEnvelope envelope,
                             const OpenAiParts& parts, std::shared_ptr<CallCounter> counter) {
  const std::shared_ptr<OpenAiCompletion> completion(new OpenAiCompletion(
      std::move(call), std::move(request), std::move(envelope), parts, std::move(counter)));
  completion->Submit();
}

void OpenAiCompletion::Submit() {
  if (parts_.log.options().log_prompts) {
    // Cannot fail, since the tokens are of the vocabulary.
    call_->record().prompt =
        DecodeToText("prompt", request_.choices.front().prompt, parts_.tokenizer).value();
  }
  if (request_.trace) {
    auto trace = RequestTraces::Begin(parts_.traces);
    if (!trace.ok()) return Refuse(trace.status());
    trace_ = *std::move(trace);
    request_.choices.front().trace = trace_->trace();
  }
  std::vector<std::shared_ptr<CompletionObserver>> observers;
  for (size_t i = 0; i < choices_.size(); ++i) {
    const bool first_of_prompt = i % static_cast<size_t>(request_.n) == 0;
    const auto prompt_tokens = static_cast<int64_t>(request_.choices[i].prompt.size());
    observers.push_back(MeasureCompletion(parts_.metrics, first_of_prompt ? prompt_tokens : 0,
                                          std::make_shared<Observer>(shared_from_this(), i)));
  }
  const size_t n_prompt = request_.choices.front().prompt.size();
  auto handles = parts_.scheduler.SubmitAll(std::exchange(request_.choices, {}), std::move(observers));
  if (!handles.ok()) return Refuse(handles.status());
  handles_ = *std::move(handles);
  parts_.log.Admitted(call_->id(), choices_.size(), n_prompt);
  call_->WhenGone([self = shared_from_this()] { self->OnGone(); });
  if (!request_.stream) return;
  call_->StartEvents("");
  if (request_.endpoint == OpenAiEndpoint::kChat) {
    for (size_t i = 0; i < choices_.size(); ++i) WriteEvent(RoleChoice(i));
  }
}

void OpenAiCompletion::Refuse(const absl::Status& status) {
  parts_.metrics.ObserveRefusal(status.code());
  call_->Fail(status);
}

void OpenAiCompletion::OnDelta(size_t index, CompletionDelta delta) {
  if (ended_) return;
  Choice& choice = choices_[index];
  if (!request_.stream || parts_.log.options().log_prompts) choice.text += delta.text;
  if (!request_.stream) {
    choice.logprobs = std::move(delta.logprobs);
    return;
  }
  nlohmann::json logprobs;
  if (!delta.logprobs.empty()) logprobs = choice.logprob_writer.Write(delta.logprobs);
  // A token whose text is held back shows nothing yet.
  if (delta.text.empty() && logprobs.is_null()) return;
  WriteEvent(DeltaChoice(request_.endpoint, index, delta.text, std::move(logprobs)));
}

void OpenAiCompletion::OnFinish(size_t index, absl::StatusOr<CompletionSummary> result) {
  if (ended_) return;
  if (!result.ok()) return FailWith(result.status());
  choices_[index].summary = *std::move(result);
  if (request_.stream)
    WriteEvent(WithTrace(index, LastChoice(request_.endpoint, index, *choices_[index].summary)));
  if (--unfinished_ == 0) Conclude();
}

void OpenAiCompletion::OnGone() {
  if (ended_) return;
  ended_ = true;
  counted_.counter().CountCancelled();
  CancelAll();
}

void OpenAiCompletion::WriteEvent(nlohmann::json choice) {
  nlohmann::json event = StreamAnswer(envelope_, nlohmann::json::array({std::move(choice)}));
  if (request_.include_usage) event["usage"] = nullptr;
  call_->Write(ToEvent(event));
}

// A stream that fails ends with the error and without the last event.
void OpenAiCompletion::FailWith(const absl::Status& status) {
  ended_ = true;
  trace_ = nullptr;
  CancelAll();
  if (!request_.stream) return call_->Fail(status);
  call_->record().status = status;
  call_->Write("data: " + ErrorBody(ToHttpError(status)) + "\n\n");
  call_->Finish();
}

void OpenAiCompletion::Conclude() {
  ended_ = true;
  std::vector<CompletionSummary> summaries;
  for (const Choice& choice : choices_) summaries.push_back(*choice.summary);
  FillRecord(summaries);
  const nlohmann::json usage = Usage(summaries, request_.n);
  if (request_.stream) {
    if (request_.include_usage) {
      nlohmann::json event = StreamAnswer(envelope_, nlohmann::json::array());
      event["usage"] = usage;
      call_->Write(ToEvent(event));
    }
    call_->Write(kLastEvent);
    return call_->Finish();
  }
  nlohmann::json choices = nlohmann::json::array();
  for (size_t i = 0; i < choices_.size(); ++i) {
    nlohmann::json logprobs;
    if (wants_logprobs_) logprobs = choices_[i].logprob_writer.Write(choices_[i].logprobs);
    choices.push_back(
        WithTrace(i, WholeChoice(request_.endpoint, i, choices_[i].text, std::move(logprobs), summaries[i])));
  }
  call_->Respond({.body = ToText(WholeAnswer(envelope_, std::move(choices), usage))});
}

nlohmann::json OpenAiCompletion::WithTrace(size_t index, nlohmann::json choice) {
  if (index > 0 || trace_ == nullptr) return choice;
  choice["thermocline"]["trace"] = nlohmann::json(TraceJson(*trace_->trace(), call_->record(), parts_.model));
  trace_ = nullptr;
  return choice;
}

void OpenAiCompletion::CancelAll() {
  for (const RequestHandle handle : handles_) parts_.scheduler.Cancel(handle);
}

void OpenAiCompletion::FillRecord(std::span<const CompletionSummary> summaries) {
  RequestRecord& record = call_->record();
  record.summary = SummaryOfAll(summaries);
  record.completion = choices_.front().text;  // empty where logs do not show it and the answer was a stream
}

}  // namespace thermocline
