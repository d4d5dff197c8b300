// What a fuzz harness gives: the entry point that libFuzzer knows, and valid inputs to start from.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <absl/status/status.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>
#include <vector>

// Returns 0; aborts where an input breaks an invariant. Links against libFuzzer (-fsanitize=fuzzer) or
// against replay_main.cc.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace thermocline {

// Valid inputs, which the replay mutates.
std::vector<std::string> FuzzSeeds();

// Aborts with the message where `holds` is false, so that the fuzzer keeps the input.
inline void FuzzExpect(bool holds, std::string_view message) {
  if (holds) return;
  std::fprintf(stderr, "broken: %.*s\n", static_cast<int>(message.size()), message.data());
  std::abort();
}

// Every refusal is one printable line that names the file.
inline void FuzzExpectOneLine(const absl::Status& status, std::string_view file) {
  const std::string message(status.message());
  for (const char character : message) FuzzExpect(static_cast<unsigned char>(character) >= 0x20, message);
  FuzzExpect(message.find(file) != std::string::npos, message);
}

inline void FuzzExpectInside(std::span<const std::byte> part, std::span<const std::byte> whole) {
  FuzzExpect(part.data() >= whole.data() && part.data() + part.size() <= whole.data() + whole.size(),
             "a tensor lies outside of the file");
}

}  // namespace thermocline
