// What the tests of chat templates share: the golden file and its conversations.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/mapped_file.h"
#include "model/chat_template.h"

namespace thermocline {

// See tests/support/golden/make_chat_golden.py.
inline const nlohmann::json& ChatGolden() {
  static const nlohmann::json golden = [] {
    auto text =
        ReadTextFile(THERMOCLINE_SOURCE_DIR "/tests/support/golden/chat_golden.json", int64_t{1} << 30);
    EXPECT_TRUE(text.ok()) << text.status();
    return nlohmann::json::parse(*text);
  }();
  return golden;
}

inline std::vector<ChatMessage> MessagesOf(const nlohmann::json& conversation) {
  std::vector<ChatMessage> messages;
  for (const auto& message : conversation) messages.push_back({message["role"], message["content"]});
  return messages;
}

}  // namespace thermocline
