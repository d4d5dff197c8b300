// Reads what a gRPC call's metadata says and writes its line in the log.
// SPDX-License-Identifier: Apache-2.0
#include "server/grpc_call.h"

#include <grpcpp/server_context.h>

#include <utility>

#include "server/grpc_status.h"

namespace thermocline {
namespace {

// Empty where it is absent, or there more than once, since nobody knows which one is meant.
std::string Metadata(const grpc::CallbackServerContext& context, const char* key) {
  const auto [begin, end] = context.client_metadata().equal_range(key);
  if (begin == end || std::next(begin) != end) return "";
  return {begin->second.data(), begin->second.size()};
}

}  // namespace

GrpcCall::GrpcCall(grpc::CallbackServerContext& context, std::string method, RequestLog& log)
    : context_(context), log_(log) {
  record_.trace = TraceOf(Metadata(context, "traceparent"));
  // A trace has many requests, a span is this one.
  record_.request_id = "req-" + record_.trace.span_id;
  record_.protocol = "grpc";
  record_.method = std::move(method);
  record_.peer = context.peer();
}

absl::Status GrpcCall::CheckKey(const Credentials* credentials, CredentialScope scope) {
  if (credentials == nullptr) return absl::OkStatus();
  TC_ASSIGN_OR_RETURN(record_.client,
                      credentials->CheckAuthorization(scope, Metadata(context_, "authorization")));
  return absl::OkStatus();
}

grpc::Status GrpcCall::Finished(const absl::Status& status) {
  record_.status = status;
  return FinishStatus(status, context_);
}

void GrpcCall::Log() {
  using Milliseconds = std::chrono::duration<double, std::milli>;
  record_.duration_ms = Milliseconds(std::chrono::steady_clock::now() - arrival_).count();
  log_.Request(record_);
}

}  // namespace thermocline
