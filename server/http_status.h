// The one place where absl::Status becomes an HTTP status and the JSON of an error, as OpenAI's API has it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/status.h"

namespace thermocline {

struct HttpError {
  int status = 500;
  std::string type;  // "invalid_request_error"
  std::string message;
  std::string param;                // the field at fault; empty: none
  std::string code;                 // for programs, "model_not_found"; empty: none
  int64_t retry_after_seconds = 0;  // 0: is not said
};

HttpError ToHttpError(const absl::Status& status);
// An error of the protocol, which no status stands for; the type follows from `status`, and 429 and 503 say
// to try again in a second.
HttpError MakeHttpError(int status, std::string message, std::string code = "", std::string param = "");

// {"error": {"message", "type", "param", "code"}}; absent ones are null.
std::string ErrorBody(const HttpError& error);

// Gives an error the `code` that its ToHttpError will have.
absl::Status WithErrorCode(absl::Status status, std::string_view code);

// "Not Found"; empty for a status that this server never answers with.
std::string_view ReasonPhrase(int status);

}  // namespace thermocline
