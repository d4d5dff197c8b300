// The `messages` of a chat to the chat template's.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "model/printable.h"
#include "server/json_fields.h"
#include "server/openai_request.h"

namespace thermocline {
namespace {

using Json = nlohmann::json;

constexpr size_t kMostMessages = 4096;
constexpr std::array<std::string_view, 4> kRoles = {"system", "developer", "user", "assistant"};

// A string, or parts of which each is text; the parts are put together as they are.
absl::StatusOr<std::string> ParseContent(const std::string& field, const Json& content) {
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array()) return TypeError(field, content, "a string or an array of text parts");
  std::string text;
  for (size_t i = 0; i < content.size(); ++i) {
    const std::string part = fmt::format("{}[{}]", field, i);
    if (!content[i].is_object()) return TypeError(part, content[i], "an object with type and text");
    const JsonFields fields(content[i], part + ".");
    std::string type;
    TC_RETURN_IF_ERROR(fields.Read("type", type));
    if (type != "text") {
      return FieldError(part + ".type", fmt::format("is \"{}\", only text is understood", Printable(type)));
    }
    if (!fields.Has("text")) return FieldError(part + ".text", "is missing");
    std::string piece;
    TC_RETURN_IF_ERROR(fields.Read("text", piece));
    text += piece;
  }
  return text;
}

absl::StatusOr<ChatMessage> ParseMessage(const std::string& field, const Json& message) {
  if (!message.is_object()) return TypeError(field, message, "an object with role and content");
  const JsonFields fields(message, field + ".");
  ChatMessage parsed;
  if (!fields.Has("role")) return FieldError(field + ".role", "is missing");
  TC_RETURN_IF_ERROR(fields.Read("role", parsed.role));
  if (std::ranges::find(kRoles, parsed.role) == kRoles.end()) {
    return FieldError(field + ".role", fmt::format("is \"{}\", known are {}", Printable(parsed.role),
                                                   fmt::join(kRoles, ", ")));
  }
  // The newer name of the same role.
  if (parsed.role == "developer") parsed.role = "system";
  for (const char* const call : {"tool_calls", "function_call"}) {
    const Json* const value = fields.Find(call);
    if (value != nullptr && !value->empty()) {
      return FieldError(fields.NameOf(call), "is not supported: this server calls no tools");
    }
  }
  const Json* const content = fields.Find("content");
  if (content == nullptr) return FieldError(field + ".content", "is missing");
  TC_ASSIGN_OR_RETURN(parsed.content, ParseContent(field + ".content", *content));
  return parsed;
}

}  // namespace

absl::StatusOr<std::vector<ChatMessage>> ParseMessages(const Json& messages) {
  if (!messages.is_array()) return TypeError("messages", messages, "an array of messages");
  if (messages.empty()) return FieldError("messages", "is empty");
  if (messages.size() > kMostMessages) {
    return FieldError("messages",
                      fmt::format("has {} messages, the limit is {}", messages.size(), kMostMessages));
  }
  std::vector<ChatMessage> parsed;
  for (size_t i = 0; i < messages.size(); ++i) {
    TC_ASSIGN_OR_RETURN(parsed.emplace_back(), ParseMessage(fmt::format("messages[{}]", i), messages[i]));
  }
  return parsed;
}

}  // namespace thermocline
