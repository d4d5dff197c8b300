// What every refusal of a file must look like, and files and folders to refuse.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <absl/status/status.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace thermocline {

inline bool IsOneLine(std::string_view message) {
  return !message.empty() && std::all_of(message.begin(), message.end(),
                                         [](char c) { return static_cast<unsigned char>(c) >= 0x20; });
}

// An error of one line that has each of the words.
inline void ExpectRefusal(const absl::Status& status, const std::vector<std::string>& words) {
  ASSERT_FALSE(status.ok());
  const std::string message(status.message());
  EXPECT_TRUE(IsOneLine(message)) << message;
  for (const std::string& word : words) EXPECT_THAT(message, ::testing::HasSubstr(word));
}

// A copy of exactly the text's size on the heap, so that AddressSanitizer sees any read past its end.
class ExactBytes {
 public:
  explicit ExactBytes(std::string_view text) : size_(text.size()), bytes_(new std::byte[text.size()]) {
    if (size_ > 0) std::memcpy(bytes_.get(), text.data(), size_);
  }
  std::span<const std::byte> span() const { return {bytes_.get(), size_}; }

 private:
  size_t size_;
  std::unique_ptr<std::byte[]> bytes_;
};

}  // namespace thermocline
