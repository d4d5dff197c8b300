// Finds the chat template of a GGUF file or a Hugging Face folder.
// SPDX-License-Identifier: Apache-2.0
#include "model/chat_template_source.h"

#include <nlohmann/json.hpp>
#include <string_view>

#include "core/mapped_file.h"
#include "model/strict_json.h"

namespace thermocline {
namespace {

using Json = nlohmann::json;

constexpr int64_t kMostTemplateBytes = int64_t{1} << 20;
constexpr int64_t kMostConfigBytes = int64_t{16} << 20;

std::string StringIn(const Json& object, const char* name) {
  const auto found = object.is_object() ? object.find(name) : object.end();
  return found == object.end() || !found->is_string() ? "" : found->get<std::string>();
}

}  // namespace

absl::StatusOr<std::string> ChatTemplateSource(const GgufMetadata& metadata) {
  constexpr std::string_view kKey = "tokenizer.chat_template";
  if (!metadata.Has(kKey)) return "";
  TC_ASSIGN_OR_RETURN(const std::string_view source, metadata.String(kKey));
  return std::string(source);
}

absl::StatusOr<std::string> ChatTemplateSourceOfFolder(const std::string& folder) {
  absl::StatusOr<std::string> source = ReadTextFile(folder + "/chat_template.jinja", kMostTemplateBytes);
  if (!absl::IsNotFound(source.status())) return source;
  const std::string path = folder + "/tokenizer_config.json";
  const absl::StatusOr<std::string> text = ReadTextFile(path, kMostConfigBytes);
  if (absl::IsNotFound(text.status())) return "";
  TC_RETURN_IF_ERROR(text.status());
  TC_ASSIGN_OR_RETURN(const Json config, ParseStrictJson(*text, path));
  const auto found = config.find("chat_template");
  if (found == config.end() || found->is_null()) return "";
  if (found->is_string()) return found->get<std::string>();
  if (!found->is_array()) return InvalidArgument("{}: chat_template must be a string or a list", path);
  for (const Json& entry : *found) {
    if (StringIn(entry, "name") == "default") return StringIn(entry, "template");
  }
  return InvalidArgument("{}: chat_template lists no template called \"default\"", path);
}

}  // namespace thermocline
