// The subset of Jinja against Jinja itself, its refusals, and its limits.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "model/chat_template.h"
#include "model/jinja_evaluator.h"
#include "model/jinja_lexer.h"
#include "model/jinja_parser.h"
#include "tests/model/chat_testing.h"

namespace thermocline {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

absl::StatusOr<std::string> Render(const std::string& source, const JinjaLimits& limits = {}) {
  TC_ASSIGN_OR_RETURN(const JinjaBody body, ParseJinja(source));
  TC_ASSIGN_OR_RETURN(const JinjaText text, RenderJinja(body, {}, limits));
  return text.bytes();
}

std::string Refusal(const std::string& source, const JinjaLimits& limits = {}) {
  const absl::StatusOr<std::string> text = Render(source, limits);
  if (text.ok()) return "rendered " + *text;
  return std::string(MessageOf(text.status()));
}

TEST(Jinja, SnippetsAreWhatJinjaMakesOfThem) {
  const nlohmann::json& golden = ChatGolden();
  const std::vector<ChatMessage> messages = MessagesOf(golden["conversations"][3]);
  ASSERT_GT(golden["snippets"].size(), 100u);
  for (const auto& snippet : golden["snippets"]) {
    const auto source = snippet[0].get<std::string>();
    const auto parsed = ChatTemplate::Create(source, {.bos = "<bos>", .eos = "<eos>"});
    const absl::StatusOr<ChatPrompt> prompt =
        parsed.ok() ? parsed->Render(messages, true) : absl::StatusOr<ChatPrompt>(parsed.status());
    if (snippet[1].is_null()) {
      ASSERT_FALSE(prompt.ok()) << source << "\ngives " << prompt->Text();
      EXPECT_THAT(std::string(MessageOf(prompt.status())), StartsWith("chat template, line ")) << source;
    } else {
      ASSERT_TRUE(prompt.ok()) << source << "\n" << prompt.status();
      EXPECT_EQ(prompt->Text(), snippet[1].get<std::string>()) << source;
    }
  }
}

TEST(Jinja, GenerationTagsOnlyMark) {
  EXPECT_EQ(*Render("{% generation %}x{{ 1 }}{% endgeneration %}"), "x1");
}

TEST(Jinja, RefusalsNameTheLine) {
  EXPECT_EQ(Refusal("a\nb\n{{ x.y }}"), "chat template, line 3: 'x' is undefined");
  EXPECT_EQ(Refusal("{% for i in [1] %}\n{{ i\n + 'x' }}{% endfor %}"),
            "chat template, line 3: integer + string is not supported");
  EXPECT_EQ(Refusal("a\n{% include 'x' %}"),
            "chat template, line 2: the statement 'include' is not supported here");
  EXPECT_EQ(Refusal("\n\n{{ 'x'"), "chat template, line 3: a tag has no end, }} is expected");
  EXPECT_EQ(Refusal("{% if x %}\na"),
            "chat template, line 2: {% endif %} is expected, but the template ends");
  EXPECT_EQ(Refusal("{{ 1 | frobnicate }}"),
            "chat template, line 1: the filter 'frobnicate' is not supported");
  EXPECT_EQ(Refusal("{{ 2 ** 3 }}"), "chat template, line 1: unexpected '**'");
  EXPECT_EQ(Refusal("{{ 9223372036854775807 + 1 }}"),
            "chat template, line 1: an integer does not fit into 64 bits");
  EXPECT_EQ(Refusal("{{ 9223372036854775808 }}"),
            "chat template, line 1: 9223372036854775808 does not fit into 64 bits");
  EXPECT_EQ(Refusal("{{ raise_exception('two\nlines') }}"),
            "chat template, line 1: the template refuses the conversation: two lines");
}

TEST(Jinja, CodesTellWhoseFaultItIs) {
  EXPECT_EQ(Render("{{ raise_exception('no') }}").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Render("{{ x.y }}").status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Render("{% if %}").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(Jinja, WorkIsBounded) {
  const std::string loops =
      "{% for a in range(2000) %}{% for b in range(2000) %}{% for c in range(2000) %}{% endfor %}{% endfor "
      "%}{% endfor %}";
  EXPECT_THAT(Refusal(loops), HasSubstr("more than the limit of 8388608 units of work"));
  const JinjaLimits limits{.work = 10000};
  EXPECT_THAT(Refusal("{{ range(9000000000) | length }}", limits),
              HasSubstr("more than the limit of 10000 units of work"));
  // Searching costs what it reads.
  const std::string text = "{% set s = '" + std::string(100000, 'a') + "' %}";
  EXPECT_EQ(*Render(text + "{{ 'x' in s }}", limits), "False");
  EXPECT_THAT(Refusal(text + "{% for i in range(5) %}{{ 'x' in s }}{% endfor %}", limits),
              HasSubstr("units of work"));
}

TEST(Jinja, OutputIsBounded) {
  const JinjaLimits limits{.output_bytes = 100};
  EXPECT_THAT(Refusal("{% for i in range(101) %}x{% endfor %}", limits),
              HasSubstr("the text grows to 101 bytes, the limit is 100"));
  EXPECT_EQ(Render("{% for i in range(100) %}x{% endfor %}", limits)->size(), 100u);
  EXPECT_THAT(
      Refusal(
          "{% set ns = namespace(s='x') %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}"),
      HasSubstr("bytes, the limit is 33554432"));
  EXPECT_THAT(Refusal("{{ 'aaaaaaaaaa' | replace('a', 'bbbbbbbbbbbbbbb') }}", limits),
              HasSubstr("the limit is 100"));
}

TEST(Jinja, NestingAndRecursionAreBounded) {
  const auto repeat = [](const std::string& part, int count) {
    std::string all;
    for (int i = 0; i < count; ++i) all += part;
    return all;
  };
  EXPECT_THAT(Refusal("{{ " + repeat("(", 100000) + "1" + repeat(")", 100000) + " }}"),
              HasSubstr("nested deeper than the limit of 100"));
  EXPECT_THAT(Refusal("{{ " + repeat("not ", 50000) + "x }}"),
              HasSubstr("nested deeper than the limit of 100"));
  EXPECT_THAT(Refusal("{{ " + repeat("-", 50000) + "1 }}"), HasSubstr("nested deeper than the limit of 100"));
  EXPECT_THAT(Refusal("{{ x" + repeat(".y", 50000) + " }}"), HasSubstr("longer than 100 operations"));
  EXPECT_THAT(Refusal("{{ 1" + repeat(" + 1", 50000) + " }}"), HasSubstr("longer than 100 operations"));
  EXPECT_THAT(Refusal("{{ [1]" + repeat(" | list", 30000) + " }}"), HasSubstr("longer than 100 operations"));
  EXPECT_THAT(Refusal(repeat("{% if 1 %}", 20000)), HasSubstr("nested deeper than the limit of 100"));
  EXPECT_THAT(Refusal("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"),
              HasSubstr("recursion is deeper than the limit of 300"));
  EXPECT_THAT(
      Refusal("{% set ns = namespace(l=[]) %}{% for i in range(99) %}{% set ns.l = [ns.l] %}{% endfor %}"),
      HasSubstr("nested deeper than the limit of 32"));
  EXPECT_THAT(Refusal("{% set ns = namespace(l=[1]) %}{% for i in range(99) %}{% for a in [ns.l] %}"
                      "{% set ns.l = loop %}{% endfor %}{% endfor %}"),
              HasSubstr("nested deeper than the limit of 32"));
  EXPECT_THAT(Refusal("{{ ['a'] | map('map', 'map', 'map', 'upper') | list }}"),
              HasSubstr("map cannot apply map"));
  EXPECT_EQ(*Render("{{ 1" + repeat(" ~ 1", 1000) + " }}"), std::string(1001, '1'));
}

TEST(Jinja, SourceIsBounded) {
  EXPECT_EQ(Refusal(std::string(kMostJinjaSourceBytes + 1, 'x')),
            "chat template of 262145 bytes, the limit is 262144");
  EXPECT_EQ(Render(std::string(kMostJinjaSourceBytes, 'x'))->size(), kMostJinjaSourceBytes);
}

TEST(Jinja, NamespacesMayHoldThemselves) {
  EXPECT_EQ(*Render("{% set ns = namespace() %}{% set ns.me = ns %}{{ ns.me.me == ns }}"), "True");
  EXPECT_THAT(Refusal("{% set ns = namespace() %}{% set ns.me = ns %}{{ ns }}"),
              HasSubstr("a namespace cannot be written as text"));
}

TEST(Jinja, MalformedUtf8IsOneLetterAByte) {
  EXPECT_EQ(*Render("{{ '\xff\xc3\xa9\xe2\x82' | length }}{{ '\xff' | trim }}{{ 'a\xff'[1] }}"), "4\xff\xff");
}

}  // namespace
}  // namespace thermocline
