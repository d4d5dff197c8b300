// The tokens of a Jinja template, white space already controlled.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"

namespace thermocline {

enum class JinjaTokenKind {
  kText,         // outside of tags; never empty
  kOutputBegin,  // {{
  kOutputEnd,    // }}
  kBlockBegin,   // {%
  kBlockEnd,     // %}
  kName,
  kString,  // `text` is unescaped
  kInteger,
  kFloat,
  kOperator,  // `text` is one of + - * / // % ~ == != < <= > >= = . , : | ( ) [ ] { }
  kEnd,       // once, last
};

struct JinjaToken {
  JinjaTokenKind kind = JinjaTokenKind::kEnd;
  std::string text;
  int64_t integer = 0;
  double number = 0;
  int line = 1;
};

// Every error of a template is made here: "chat template, line 3: ...", of the code of `problem`.
absl::Status AtJinjaLine(int line, const absl::Status& problem);

// As Jinja reads templates with trim_blocks and lstrip_blocks, which is how Hugging Face's library sets it:
// a tag {% %} or a comment alone on its line leaves nothing of the line. InvalidArgument with the line.
absl::StatusOr<std::vector<JinjaToken>> LexJinja(std::string_view source);

}  // namespace thermocline
