// The two kinds of gRPC completions, while the scheduler works on them: answered whole, and piece by piece.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "scheduler/scheduler.h"
#include "server/call_counter.h"
#include "server/completion_server.h"
#include "server/grpc_call.h"
#include "server/request_traces.h"
#include "thermocline/v1/completion.pb.h"

namespace thermocline {

// What both kinds share. The observers of its choices, thus the scheduler, hold it until they have ended, and
// it holds itself until gRPC is done with it, so that whichever comes last destroys it.
class CompletionCall : public std::enable_shared_from_this<CompletionCall> {
 public:
  virtual ~CompletionCall() = default;
  CompletionCall(const CompletionCall&) = delete;
  CompletionCall& operator=(const CompletionCall&) = delete;

  GrpcCall& call() { return call_; }
  // To be called once, from the call's handler: gRPC calls its reactor only after that has returned.
  // wants_trace: of the first choice.
  void Submit(absl::StatusOr<std::vector<CompletionRequest>> choices, bool wants_trace);

 protected:
  CompletionCall(grpc::CallbackServerContext& context, const char* method, const CompletionServerParts& parts,
                 std::shared_ptr<CallCounter> counter);

  void Cancelled();  // by the client, its deadline or its connection
  void Done();       // gRPC takes nothing more

  // Results of one choice, under the lock, and not after the call has ended.
  virtual void TakeDelta(int index, CompletionDelta delta) = 0;
  virtual void TakeSummary(int index, const CompletionSummary& summary) = 0;
  // Goes on with what there is; ends the call after the last. Not under the lock, since gRPC may call the
  // reactor from within.
  virtual void Advance() = 0;

  // All under the lock. The status to end the call with, when there is nothing more to wait for; and what to
  // give gRPC's Finish then, once.
  std::optional<absl::Status> Result() const;
  v1::CompletionSummary SummaryMessage(int index, const CompletionSummary& summary) const;
  grpc::Status End(const absl::Status& status);
  bool ended() const { return ended_; }
  bool admitted() const { return admitted_; }

  // Not under the lock: a request that still waits gets its OnFinish from within.
  void CancelAll();

  // Every reaction takes it before it touches anything, so that no order between them that gRPC promises has
  // to be relied on.
  std::mutex mutex_;

 private:
  class Choice;
  // To the scheduler.
  absl::StatusOr<std::vector<RequestHandle>> Hand(std::vector<CompletionRequest> choices, bool wants_trace);
  void OnDelta(int index, CompletionDelta delta);
  void OnFinish(int index, absl::StatusOr<CompletionSummary> result);

  const CountedCall counted_;
  grpc::CallbackServerContext& context_;
  const CompletionServerParts& parts_;
  // All guarded by mutex_.
  GrpcCall call_;
  std::shared_ptr<CompletionCall> self_;
  std::vector<RequestHandle> handles_;
  std::vector<CompletionSummary> summaries_;  // (choices)
  std::string text_;                          // of the first choice, for logs that show it
  // Of the first choice; nullptr: nobody asked. Held to the call's end, so that readers that are slow count.
  std::unique_ptr<const HeldTrace> trace_;
  size_t unfinished_ = 0;
  absl::Status failure_;   // the first one's
  bool admitted_ = false;  // or refused; before, nothing is answered
  bool ended_ = false;
};

class UnaryCompletion final : public grpc::ServerUnaryReactor, public CompletionCall {
 public:
  UnaryCompletion(grpc::CallbackServerContext& context, const CompletionServerParts& parts,
                  std::shared_ptr<CallCounter> counter, v1::CompleteResponse& response);
  void OnCancel() override { Cancelled(); }
  void OnDone() override { Done(); }

 private:
  void TakeDelta(int index, CompletionDelta delta) override;
  void TakeSummary(int index, const CompletionSummary& summary) override;
  void Advance() override;
  v1::CompletionChoice& Other(int index);

  v1::CompleteResponse& response_;  // gRPC's, until OnDone
};

class StreamCompletion final : public grpc::ServerWriteReactor<v1::StreamCompleteResponse>,
                               public CompletionCall {
 public:
  StreamCompletion(grpc::CallbackServerContext& context, const CompletionServerParts& parts,
                   std::shared_ptr<CallCounter> counter);
  void OnCancel() override { Cancelled(); }
  void OnDone() override { Done(); }
  void OnWriteDone(bool ok) override;

 private:
  void TakeDelta(int index, CompletionDelta delta) override;
  void TakeSummary(int index, const CompletionSummary& summary) override;
  void Advance() override;

  // All guarded by mutex_.
  std::deque<v1::StreamCompleteResponse> queue_;  // the front one is being written while writing_
  bool writing_ = false;
  bool broken_ = false;  // the client takes no more
};

}  // namespace thermocline
