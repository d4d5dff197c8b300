// CompletionService: the calls of thermocline.v1.CompletionService, each handed to the scheduler.
// SPDX-License-Identifier: Apache-2.0
#include "server/completion_service.h"

#include <grpc/support/time.h>

#include <chrono>
#include <deque>
#include <mutex>
#include <optional>
#include <utility>

#include "server/completion_conversion.h"
#include "server/grpc_status.h"

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

// One completion: gRPC's reactor and the scheduler's observer in one object. The scheduler holds it until
// OnFinish, it holds itself until OnDone, so that whichever comes last destroys it.
template <typename Reactor>
class CompletionCall : public Reactor,
                       public CompletionObserver,
                       public std::enable_shared_from_this<CompletionCall<Reactor>> {
 public:
  CompletionCall(grpc::CallbackServerContext& context, Scheduler& scheduler,
                 std::shared_ptr<CallCounter> calls)
      : context_(context), scheduler_(scheduler), calls_(std::move(calls)) {
    calls_->Begin();
  }
  ~CompletionCall() override { calls_->End(); }

  // To be called once, from the call's handler: gRPC calls OnCancel and OnDone only after that has returned.
  void Submit(absl::StatusOr<CompletionRequest> request) {
    {
      const std::lock_guard lock(mutex_);
      self_ = this->shared_from_this();
    }
    if (!request.ok()) return OnFinish(std::move(request).status());
    request->deadline = DeadlineOf(context_);
    absl::StatusOr<RequestHandle> handle = scheduler_.Submit(*std::move(request), this->shared_from_this());
    if (!handle.ok()) return OnFinish(std::move(handle).status());
    const std::lock_guard lock(mutex_);
    handle_ = *handle;
  }

  void OnCancel() final {
    CancelCompletion();
    calls_->CountCancelled();
  }

  void OnDone() final {
    std::shared_ptr<CompletionCall> last;  // outlives the lock
    const std::lock_guard lock(mutex_);
    last = std::move(self_);
  }

 protected:
  // Not to be called under the lock: a request that still waits gets its OnFinish from within.
  void CancelCompletion() {
    RequestHandle handle = 0;
    {
      const std::lock_guard lock(mutex_);
      handle = handle_;
    }
    scheduler_.Cancel(handle);
  }

  grpc::CallbackServerContext& context_;
  // Every reaction takes it before it touches anything, so that no order between them that gRPC promises has
  // to be relied on.
  std::mutex mutex_;

 private:
  Scheduler& scheduler_;
  const std::shared_ptr<CallCounter> calls_;
  std::shared_ptr<CompletionCall> self_;  // guarded by mutex_
  RequestHandle handle_ = 0;              // guarded by mutex_; no request has 0
};

class UnaryCompletion final : public CompletionCall<grpc::ServerUnaryReactor> {
 public:
  UnaryCompletion(grpc::CallbackServerContext& context, Scheduler& scheduler,
                  std::shared_ptr<CallCounter> calls, v1::CompleteResponse& response)
      : CompletionCall(context, scheduler, std::move(calls)), response_(response) {}

  void OnDelta(CompletionDelta delta) override { AppendDelta(std::move(delta), response_); }

  void OnFinish(absl::StatusOr<CompletionSummary> result) override {
    if (result.ok()) *response_.mutable_summary() = ToMessage(*result);
    Finish(FinishStatus(result.status(), context_));
  }

 private:
  v1::CompleteResponse& response_;  // gRPC's, until OnDone
};

class StreamCompletion final : public CompletionCall<grpc::ServerWriteReactor<v1::StreamCompleteResponse>> {
 public:
  using CompletionCall::CompletionCall;

  void OnDelta(CompletionDelta delta) override {
    v1::StreamCompleteResponse message;
    *message.mutable_delta() = ToMessage(std::move(delta));
    {
      const std::lock_guard lock(mutex_);
      if (broken_) return;
      queue_.push_back(std::move(message));
    }
    Advance();
  }

  void OnFinish(absl::StatusOr<CompletionSummary> result) override {
    {
      const std::lock_guard lock(mutex_);
      result_ = result.status();
      if (result.ok() && !broken_) *queue_.emplace_back().mutable_summary() = ToMessage(*result);
    }
    Advance();
  }

  void OnWriteDone(bool ok) override {
    {
      const std::lock_guard lock(mutex_);
      writing_ = false;
      queue_.pop_front();
      if (!ok) {
        broken_ = true;
        queue_.clear();
      }
    }
    if (!ok) CancelCompletion();
    Advance();
  }

 private:
  // Starts the next write, or ends the call after the last one. What to do is decided under the lock and done
  // outside it, since gRPC may call OnWriteDone from within.
  void Advance() {
    const v1::StreamCompleteResponse* next = nullptr;
    {
      const std::lock_guard lock(mutex_);
      if (writing_ || ended_) return;
      if (!queue_.empty()) {
        next = &queue_.front();  // stays where it is while others are appended
        writing_ = true;
      } else if (result_) {
        ended_ = true;
      } else {
        return;
      }
    }
    if (next != nullptr) {
      StartWrite(next);
    } else {
      Finish(FinishStatus(*result_, context_));
    }
  }

  // All guarded by mutex_; result_ no longer changes once it is set.
  std::deque<v1::StreamCompleteResponse> queue_;  // the front one is being written while writing_
  std::optional<absl::Status> result_;            // set once the scheduler is done
  bool writing_ = false;
  bool broken_ = false;  // the client takes no more
  bool ended_ = false;
};

v1::GetModelResponse ToMessage(const ServedModel& served, const RequestLimits& limits,
                               const Tokenizer& tokenizer) {
  v1::GetModelResponse response;
  v1::Model& model = *response.mutable_model();
  model.set_name(served.name);
  model.set_architecture(served.architecture);
  model.set_activation(served.activation);
  v1::ModelShape& shape = *model.mutable_shape();
  shape.set_n_layers(served.n_layers);
  shape.set_d_model(served.d_model);
  shape.set_d_ff(served.d_ff);
  shape.set_n_heads(served.n_heads);
  shape.set_n_kv_heads(served.n_kv_heads);
  shape.set_d_head(served.d_head);
  shape.set_gated(served.gated);
  model.set_context_length(limits.context_length);
  model.set_vocabulary_size(limits.n_vocab);
  model.set_tokenizer_kind(std::string(tokenizer.kind()));
  for (const std::string& type : served.weight_types) model.add_weight_types(type);
  model.set_weight_bytes(served.weight_bytes);
  model.set_mode(served.mode);
  for (const Quality quality : OfferedQualities(limits.predicts)) model.add_qualities(ToMessage(quality));
  return response;
}

}  // namespace

CompletionService::CompletionService(Scheduler& scheduler, const Tokenizer& tokenizer,
                                     const ServedModel& model)
    : scheduler_(scheduler), tokenizer_(tokenizer), model_(ToMessage(model, scheduler.limits(), tokenizer)) {}

absl::Status CompletionService::Admit() const {
  if (draining_) return Unavailable("the server is shutting down and takes no new calls");
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* CompletionService::Complete(grpc::CallbackServerContext* context,
                                                      const v1::CompleteRequest* request,
                                                      v1::CompleteResponse* response) {
  const auto call = std::make_shared<UnaryCompletion>(*context, scheduler_, calls_, *response);
  const absl::Status admitted = Admit();
  call->Submit(admitted.ok() ? ToCompletionRequest(*request, tokenizer_) : admitted);
  return call.get();
}

grpc::ServerWriteReactor<v1::StreamCompleteResponse>* CompletionService::StreamComplete(
    grpc::CallbackServerContext* context, const v1::StreamCompleteRequest* request) {
  const auto call = std::make_shared<StreamCompletion>(*context, scheduler_, calls_);
  const absl::Status admitted = Admit();
  call->Submit(admitted.ok() ? ToCompletionRequest(*request, tokenizer_) : admitted);
  return call.get();
}

template <typename Request, typename Response>
grpc::ServerUnaryReactor* CompletionService::Answer(grpc::CallbackServerContext* context,
                                                    const Request& request, Response* response,
                                                    absl::StatusOr<Response> (*answer)(const Request&,
                                                                                       const Tokenizer&)) {
  absl::Status status = Admit();
  if (status.ok()) {
    absl::StatusOr<Response> result = answer(request, tokenizer_);
    status = result.status();
    if (result.ok()) *response = *std::move(result);
  }
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  reactor->Finish(FinishStatus(status, *context));
  return reactor;
}

grpc::ServerUnaryReactor* CompletionService::Tokenize(grpc::CallbackServerContext* context,
                                                      const v1::TokenizeRequest* request,
                                                      v1::TokenizeResponse* response) {
  return Answer(context, *request, response, &thermocline::Tokenize);
}

grpc::ServerUnaryReactor* CompletionService::Detokenize(grpc::CallbackServerContext* context,
                                                        const v1::DetokenizeRequest* request,
                                                        v1::DetokenizeResponse* response) {
  return Answer(context, *request, response, &thermocline::Detokenize);
}

grpc::ServerUnaryReactor* CompletionService::GetModel(grpc::CallbackServerContext* context,
                                                      const v1::GetModelRequest*,
                                                      v1::GetModelResponse* response) {
  const absl::Status admitted = Admit();
  if (admitted.ok()) *response = model_;
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  reactor->Finish(FinishStatus(admitted, *context));
  return reactor;
}

}  // namespace thermocline
