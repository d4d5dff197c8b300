// The one place where absl::Status becomes an HTTP status and the JSON of an error.
// SPDX-License-Identifier: Apache-2.0
#include "server/http_status.h"

#include <absl/strings/cord.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <utility>

#include "scheduler/request.h"

namespace thermocline {
namespace {

constexpr char kCodePayload[] = "thermocline/error-code";

int StatusOf(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
      return 400;
    case absl::StatusCode::kUnauthenticated:
      return 401;
    case absl::StatusCode::kPermissionDenied:
      return 403;
    case absl::StatusCode::kNotFound:
      return 404;
    case absl::StatusCode::kResourceExhausted:
      return 429;
    case absl::StatusCode::kUnimplemented:
      return 501;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kCancelled:  // by the server, since a client that has gone gets no answer
      return 503;
    case absl::StatusCode::kDeadlineExceeded:
      return 504;
    default:
      return 500;
  }
}

std::string_view TypeOf(int status) {
  if (status == 401) return "authentication_error";
  if (status == 403) return "permission_error";
  if (status == 429) return "rate_limit_error";
  if (status == 503) return "unavailable_error";
  return status < 500 ? "invalid_request_error" : "server_error";
}

std::string_view CodeOf(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kUnauthenticated:
      return "invalid_api_key";
    case absl::StatusCode::kResourceExhausted:
      return "rate_limit_exceeded";
    default:
      return "";
  }
}

nlohmann::json OrNull(const std::string& text) {
  return text.empty() ? nlohmann::json(nullptr) : nlohmann::json(text);
}

}  // namespace

HttpError ToHttpError(const absl::Status& status) {
  std::string code(CodeOf(status.code()));
  if (const auto payload = status.GetPayload(kCodePayload)) code = std::string(*payload);
  HttpError error = MakeHttpError(StatusOf(status.code()), std::string(MessageOf(status)), std::move(code),
                                  FieldOf(status));
  if (const auto delay = RetryDelayOf(status)) {
    error.retry_after_seconds = std::max<int64_t>(1, std::chrono::ceil<std::chrono::seconds>(*delay).count());
  }
  return error;
}

HttpError MakeHttpError(int status, std::string message, std::string code, std::string param) {
  return {.status = status,
          .type = std::string(TypeOf(status)),
          .message = std::move(message),
          .param = std::move(param),
          .code = std::move(code),
          .retry_after_seconds = status == 429 || status == 503 ? 1 : 0};
}

std::string ErrorBody(const HttpError& error) {
  const nlohmann::json body = {{"error",
                                {{"message", error.message},
                                 {"type", error.type},
                                 {"param", OrNull(error.param)},
                                 {"code", OrNull(error.code)}}}};
  // Messages may quote what clients sent.
  return body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

absl::Status WithErrorCode(absl::Status status, std::string_view code) {
  status.SetPayload(kCodePayload, absl::Cord(absl::string_view(code.data(), code.size())));
  return status;
}

std::string_view ReasonPhrase(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 413:
      return "Content Too Large";
    case 415:
      return "Unsupported Media Type";
    case 417:
      return "Expectation Failed";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "";
  }
}

}  // namespace thermocline
