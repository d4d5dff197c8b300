// Where models keep their chat templates.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "core/status.h"
#include "model/gguf_file.h"

namespace thermocline {

// tokenizer.chat_template; empty where there is none. InvalidArgument where it is no string.
absl::StatusOr<std::string> ChatTemplateSource(const GgufMetadata& metadata);

// chat_template.jinja, else `chat_template` of tokenizer_config.json: a string, or a list of named ones of
// which "default" counts. Empty where there is none; InvalidArgument naming file and field.
absl::StatusOr<std::string> ChatTemplateSourceOfFolder(const std::string& folder);

}  // namespace thermocline
