// Status macros and formatted error constructors over absl::Status.
// SPDX-License-Identifier: Apache-2.0
//
// Everything that a user, a file or a device can cause returns absl::Status or absl::StatusOr. Messages are
// one line and name the thing and the limit. TC_CHECK is for our own bugs only.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <fmt/format.h>

#include <cstdlib>
#include <string_view>
#include <utility>

namespace thermocline {

// Error constructors with fmt's format strings: InvalidArgument("{}: dimension {} is 0", name, i).
#define TC_DEFINE_ERROR(Name, Code)                                              \
  template <typename... Args>                                                    \
  absl::Status Name(fmt::format_string<Args...> format, Args&&... args) {        \
    return absl::Status(Code, fmt::format(format, std::forward<Args>(args)...)); \
  }
TC_DEFINE_ERROR(Cancelled, absl::StatusCode::kCancelled)
TC_DEFINE_ERROR(DeadlineExceeded, absl::StatusCode::kDeadlineExceeded)
TC_DEFINE_ERROR(FailedPrecondition, absl::StatusCode::kFailedPrecondition)
TC_DEFINE_ERROR(Internal, absl::StatusCode::kInternal)
TC_DEFINE_ERROR(InvalidArgument, absl::StatusCode::kInvalidArgument)
TC_DEFINE_ERROR(NotFound, absl::StatusCode::kNotFound)
TC_DEFINE_ERROR(OutOfRange, absl::StatusCode::kOutOfRange)
TC_DEFINE_ERROR(PermissionDenied, absl::StatusCode::kPermissionDenied)
TC_DEFINE_ERROR(ResourceExhausted, absl::StatusCode::kResourceExhausted)
TC_DEFINE_ERROR(Unauthenticated, absl::StatusCode::kUnauthenticated)
TC_DEFINE_ERROR(Unavailable, absl::StatusCode::kUnavailable)
TC_DEFINE_ERROR(Unimplemented, absl::StatusCode::kUnimplemented)
#undef TC_DEFINE_ERROR

// The message as a std::string_view, which absl's own may not be; borrowed from the status.
inline std::string_view MessageOf(const absl::Status& status) {
  return {status.message().data(), status.message().size()};
}

namespace internal {
[[noreturn]] inline void CheckFailed(const char* file, int line, const char* condition) {
  fmt::print(stderr, "{}:{}: check failed: {}\n", file, line, condition);
  std::abort();
}
}  // namespace internal

}  // namespace thermocline

#define TC_CONCAT_INNER(a, b) a##b
#define TC_CONCAT(a, b) TC_CONCAT_INNER(a, b)

#define TC_RETURN_IF_ERROR(expression)     \
  do {                                     \
    absl::Status tc_status = (expression); \
    if (!tc_status.ok()) return tc_status; \
  } while (false)

#define TC_ASSIGN_OR_RETURN_INNER(result, target, expression) \
  auto result = (expression);                                 \
  if (!result.ok()) return std::move(result).status();        \
  target = *std::move(result)
#define TC_ASSIGN_OR_RETURN(target, expression) \
  TC_ASSIGN_OR_RETURN_INNER(TC_CONCAT(tc_result_, __LINE__), target, expression)

// Aborts when one of our own invariants does not hold. Never for what a user, a file or a device can cause.
#define TC_CHECK(condition)                                                                 \
  do {                                                                                      \
    if (!(condition)) ::thermocline::internal::CheckFailed(__FILE__, __LINE__, #condition); \
  } while (false)
