// The one place where absl::Status becomes grpc::Status, and back.
// SPDX-License-Identifier: Apache-2.0
#include "server/grpc_status.h"

#include <grpcpp/server_context.h>

#include <string>

#include "scheduler/request.h"
#include "server/error_details.h"

namespace thermocline {
namespace {

// Both libraries number the canonical codes alike, so that a cast maps all of them.
static_assert(static_cast<int>(absl::StatusCode::kOk) == grpc::OK);
static_assert(static_cast<int>(absl::StatusCode::kCancelled) == grpc::CANCELLED);
static_assert(static_cast<int>(absl::StatusCode::kInvalidArgument) == grpc::INVALID_ARGUMENT);
static_assert(static_cast<int>(absl::StatusCode::kUnavailable) == grpc::UNAVAILABLE);
static_assert(static_cast<int>(absl::StatusCode::kUnauthenticated) == grpc::UNAUTHENTICATED);

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return {static_cast<grpc::StatusCode>(status.code()), std::string(status.message())};
}

absl::Status FromGrpcStatus(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

grpc::Status FinishStatus(const absl::Status& status, grpc::ServerContextBase& context) {
  const std::string field = FieldOf(status);
  if (!field.empty()) context.AddTrailingMetadata(kFieldMetadataKey, field);
  if (const auto delay = RetryDelayOf(status)) {
    context.AddTrailingMetadata(kPushbackMetadataKey, std::to_string(delay->count()));
  }
  if (status.ok()) return grpc::Status::OK;
  return {static_cast<grpc::StatusCode>(status.code()), std::string(status.message()), ErrorDetails(status)};
}

}  // namespace thermocline
