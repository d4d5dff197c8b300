// Listening addresses and ranges of servers' options.
// SPDX-License-Identifier: Apache-2.0
#include "server/listen_address.h"

#include <charconv>

#include "scheduler/request.h"

namespace thermocline {

absl::StatusOr<ListenAddress> ParseListenAddress(std::string_view field, const std::string& text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos || colon == 0) {
    return FieldError(field, fmt::format("\"{}\" is not HOST:PORT", text));
  }
  ListenAddress address{.host = text.substr(0, colon)};
  const std::string_view port = std::string_view(text).substr(colon + 1);
  const bool bracketed = address.host.front() == '[' && address.host.back() == ']';
  if (address.host.find(':') != std::string::npos && !bracketed) {
    return FieldError(field, fmt::format("the IPv6 address of \"{}\" must stand in brackets", text));
  }
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), address.port);
  if (error != std::errc() || end != port.data() + port.size()) {
    return FieldError(field, fmt::format("port \"{}\" of \"{}\" is not a number in [0, 65535]", port, text));
  }
  return address;
}

absl::Status CheckOptionRange(std::string_view field, int64_t value, int64_t least, int64_t most) {
  if (value >= least && value <= most) return absl::OkStatus();
  return FieldError(field, fmt::format("is {}, allowed are [{}, {}]", value, least, most));
}

absl::Status CheckOptionMillis(std::string_view field, std::chrono::milliseconds value,
                               std::chrono::milliseconds least) {
  constexpr std::chrono::milliseconds kMost = std::chrono::hours(24);
  if (value >= least && value <= kMost) return absl::OkStatus();
  return FieldError(
      field, fmt::format("is {} ms, allowed are [{}, {}] ms", value.count(), least.count(), kMost.count()));
}

}  // namespace thermocline
