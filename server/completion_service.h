// CompletionService: the calls of thermocline.v1.CompletionService, each handed to the scheduler.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <memory>

#include "core/status.h"
#include "model/tokenizer.h"
#include "scheduler/scheduler.h"
#include "server/call_counter.h"
#include "server/completion_server.h"
#include "thermocline/v1/completion.grpc.pb.h"

namespace thermocline {

class CompletionService final : public v1::CompletionService::CallbackService {
 public:
  CompletionService(Scheduler& scheduler, const Tokenizer& tokenizer, const ServedModel& model);

  grpc::ServerUnaryReactor* Complete(grpc::CallbackServerContext* context, const v1::CompleteRequest* request,
                                     v1::CompleteResponse* response) override;
  grpc::ServerWriteReactor<v1::StreamCompleteResponse>* StreamComplete(
      grpc::CallbackServerContext* context, const v1::StreamCompleteRequest* request) override;
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context, const v1::TokenizeRequest* request,
                                     v1::TokenizeResponse* response) override;
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* context,
                                       const v1::DetokenizeRequest* request,
                                       v1::DetokenizeResponse* response) override;
  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context, const v1::GetModelRequest* request,
                                     v1::GetModelResponse* response) override;

  // Every new call is refused with Unavailable from now on.
  void RefuseNewCalls() { draining_ = true; }
  CallCounter& calls() { return *calls_; }

 private:
  absl::Status Admit() const;
  // Puts the result into the response, or its status into the call's.
  template <typename Request, typename Response>
  grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* context, const Request& request,
                                   Response* response,
                                   absl::StatusOr<Response> (*answer)(const Request&, const Tokenizer&));

  Scheduler& scheduler_;
  const Tokenizer& tokenizer_;
  const v1::GetModelResponse model_;
  const std::shared_ptr<CallCounter> calls_ = std::make_shared<CallCounter>();
  std::atomic<bool> draining_ = false;
};

}  // namespace thermocline
