// Escapes and shortens text from files for messages.
// SPDX-License-Identifier: Apache-2.0
#include "model/printable.h"

#include <fmt/format.h>

namespace thermocline {

std::string Printable(std::string_view text) {
  constexpr size_t kLimit = 80;
  std::string printable;
  for (const char character : text.substr(0, kLimit)) {
    if (character >= 0x20 && character < 0x7F) {
      printable += character;
    } else {
      printable += fmt::format("\\x{:02x}", static_cast<unsigned char>(character));
    }
  }
  if (text.size() > kLimit) printable += "...";
  return printable;
}

}  // namespace thermocline
