// Names and values from files, made fit for a one-line message.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace thermocline {

// `text` with control characters and bytes that are not ASCII escaped ("\x0a"), cut after 80 bytes with
// "...".
std::string Printable(std::string_view text);

}  // namespace thermocline
