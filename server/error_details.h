// The details of an error as gRPC's clients know them: google.rpc.Status with BadRequest and RetryInfo.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "core/status.h"

namespace thermocline {

// What "grpc-status-details-bin" holds: a serialised google.rpc.Status with the status's code and message, a
// google.rpc.BadRequest where it is a FieldError, a google.rpc.RetryInfo where it says when to come again.
// Empty where there is neither.
std::string ErrorDetails(const absl::Status& status);

}  // namespace thermocline
