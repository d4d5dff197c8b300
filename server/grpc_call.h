// GrpcCall: who makes a gRPC call, and its line in the log.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <grpcpp/support/status.h>

#include <chrono>
#include <string>

#include "core/status.h"
#include "server/credentials.h"
#include "server/request_log.h"

namespace grpc {
class CallbackServerContext;
}

namespace thermocline {

// Not thread-safe; the context must live until Finished(), the log as long as the call.
class GrpcCall {
 public:
  // `method`: "/thermocline.v1.CompletionService/Complete".
  GrpcCall(grpc::CallbackServerContext& context, std::string method, RequestLog& log);

  // What the log will say; handlers fill in what they know. The id is made up until they do.
  RequestRecord& record() { return record_; }
  const RequestRecord& record() const { return record_; }

  // Whether the caller's key opens the scope; Unauthenticated or PermissionDenied. nullptr: everybody may.
  absl::Status CheckKey(const Credentials* credentials, CredentialScope scope);

  // What to give gRPC's Finish. Once.
  grpc::Status Finished(const absl::Status& status);
  // Writes the line. Once, after Finished().
  void Log();

 private:
  grpc::CallbackServerContext& context_;
  RequestLog& log_;
  const std::chrono::steady_clock::time_point arrival_ = std::chrono::steady_clock::now();
  RequestRecord record_;
};

}  // namespace thermocline
