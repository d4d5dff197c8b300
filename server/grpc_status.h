// The one place where absl::Status becomes grpc::Status, and back.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <grpcpp/support/status.h>

#include "core/status.h"

namespace grpc {
class ServerContextBase;
}

namespace thermocline {

// Trailing metadata of a refused request: the name of the field that it is refused for.
inline constexpr char kFieldMetadataKey[] = "thermocline-field";
// Trailing metadata of a refusal for want of room: milliseconds after which gRPC's own retries may try again.
inline constexpr char kPushbackMetadataKey[] = "grpc-retry-pushback-ms";

// Same code, same message.
grpc::Status ToGrpcStatus(const absl::Status& status);
absl::Status FromGrpcStatus(const grpc::Status& status);

// The same, and puts what the status knows besides into the call's details (server/error_details.h) and
// trailing metadata: the field of a FieldError, when to try again. Call it once, before the call's Finish.
grpc::Status FinishStatus(const absl::Status& status, grpc::ServerContextBase& context);

}  // namespace thermocline
