// ListenAddress: HOST:PORT, as servers take it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/status.h"

namespace thermocline {

struct ListenAddress {
  std::string host;  // as written, an IPv6 address with its brackets
  uint16_t port = 0;
};

// A FieldError of `field` unless `text` is HOST:PORT or [IPV6]:PORT.
absl::StatusOr<ListenAddress> ParseListenAddress(std::string_view field, const std::string& text);

// FieldErrors of servers' options.
absl::Status CheckOptionRange(std::string_view field, int64_t value, int64_t least, int64_t most);
absl::Status CheckOptionMillis(std::string_view field, std::chrono::milliseconds value,
                               std::chrono::milliseconds least);  // at most 24 hours

}  // namespace thermocline
