// Bad requests over HTTP: each gets the right status and names the field, and the server goes on.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include "tests/server/http_fixture.h"

namespace thermocline::testing {
namespace {

using ::testing::HasSubstr;

struct BadRequest {
  const char* path;
  std::string body;
  int status;
  const char* param;  // "" where none is to be named
  const char* code = "";
};

// The body of a request that would do, with one more field.
std::string Completion(const std::string& field) {
  return R"({"prompt": "abc", "max_tokens": 2, )" + field + "}";
}
std::string Chat(const std::string& field) {
  return R"({"messages": [{"role": "user", "content": "abc"}], "max_tokens": 2, )" + field + "}";
}
std::string Messages(const std::string& messages) {
  return R"({"max_tokens": 2, "messages": )" + messages + "}";
}
std::string Prompt(const std::string& prompt) { return R"({"max_tokens": 2, "prompt": )" + prompt + "}"; }

std::string Repeated(const std::string& item, int count) {
  std::string list = "[" + item;
  for (int i = 1; i < count; ++i) list += "," + item;
  return list + "]";
}

std::vector<BadRequest> NoJson() {
  return {
      {kCompletions, "", 400, ""},
      {kCompletions, "{", 400, ""},
      {kCompletions, "[]", 400, ""},
      {kCompletions, "\"abc\"", 400, ""},
      {kCompletions, "{\"prompt\": \"abc\"} trailing", 400, ""},
      {kCompletions, "{\"prompt\": \"\xC3\x28\"}", 400, ""},              // no UTF-8
      {kCompletions, "{\"prompt\": \"\\ud800\"}", 400, ""},               // half a surrogate pair
      {kCompletions, "{\"prompt\": \"a\", \"prompt\": \"b\"}", 400, ""},  // twice
      {kCompletions, Completion("\"temperature\": NaN"), 400, ""},
      {kCompletions, Completion("\"temperature\": Infinity"), 400, ""},
      {kCompletions, Completion("\"temperature\": 1e999"), 400, ""},
      {kCompletions, std::string(100'000, '['), 400, ""},
      {kCompletions, "{\"prompt\": " + std::string(100'000, '[') + std::string(100'000, ']') + "}", 400, ""},
  };
}

std::vector<BadRequest> BadFields() {
  return {
      {kCompletions, Completion("\"temperature\": \"hot\""), 400, "temperature"},
      {kCompletions, Completion("\"temperature\": -0.1"), 400, "temperature"},
      {kCompletions, Completion("\"temperature\": 10.5"), 400, "temperature"},
      {kCompletions, Completion("\"temperature\": true"), 400, "temperature"},
      {kCompletions, Completion("\"top_p\": 0"), 400, "top_p"},
      {kCompletions, Completion("\"top_p\": 1.01"), 400, "top_p"},
      {kCompletions, Completion("\"top_k\": -2"), 400, "top_k"},
      {kCompletions, Completion("\"top_k\": 1.5"), 400, "top_k"},
      {kCompletions, Completion("\"min_p\": 2"), 400, "min_p"},
      {kCompletions, Completion("\"repetition_penalty\": 0"), 400, "repetition_penalty"},
      {kCompletions, Completion("\"presence_penalty\": 3"), 400, "presence_penalty"},
      {kCompletions, Completion("\"frequency_penalty\": -3"), 400, "frequency_penalty"},
      {kCompletions, Completion("\"seed\": 1.5"), 400, "seed"},
      {kCompletions, Completion("\"seed\": \"1\""), 400, "seed"},
      {kCompletions, Completion("\"seed\": 1e30"), 400, "seed"},
      {kCompletions, Completion("\"n\": 0"), 400, "n"},
      {kCompletions, Completion("\"n\": -1"), 400, "n"},
      {kCompletions, Completion("\"n\": 129"), 400, "n"},
      {kCompletions, Completion("\"n\": 99999999999999999999"), 400, "n"},
      {kCompletions, Completion("\"best_of\": 2"), 400, "best_of"},
      {kCompletions, Completion("\"stop\": 3"), 400, "stop"},
      {kCompletions, Completion("\"stop\": \"\""), 400, "stop"},
      {kCompletions, Completion("\"stop\": [\"a\", 1]"), 400, "stop"},
      {kCompletions, Completion("\"stop\": " + Repeated("\"x\"", 1'000'000)), 400, "stop"},
      {kCompletions, Completion("\"stop\": \"" + std::string(2000, 'x') + "\""), 400, "stop"},
      {kCompletions, Completion("\"logit_bias\": [1]"), 400, "logit_bias"},
      {kCompletions, Completion("\"logit_bias\": {\"a\": 1}"), 400, "logit_bias"},
      {kCompletions, Completion("\"logit_bias\": {\"5\": \"1\"}"), 400, "logit_bias"},
      {kCompletions, Completion("\"logit_bias\": {\"5\": 101}"), 400, "logit_bias"},
      {kCompletions, Completion("\"logit_bias\": {\"-5\": 1}"), 400, "logit_bias"},
      {kCompletions, Completion("\"logit_bias\": {\"259\": 1}"), 400, "logit_bias"},
      {kCompletions, Completion("\"logit_bias\": {\"99999999999\": 1}"), 400, "logit_bias"},
      {kCompletions, Completion("\"logprobs\": 21"), 400, "logprobs"},
      {kCompletions, Completion("\"logprobs\": -1"), 400, "logprobs"},
      {kCompletions, Completion("\"logprobs\": true"), 400, "logprobs"},
      {kCompletions, Completion("\"echo\": true, \"logprobs\": 1"), 400, "echo"},
      {kCompletions, Completion("\"echo\": 1"), 400, "echo"},
      {kCompletions, Completion("\"stream\": \"yes\""), 400, "stream"},
      {kCompletions, Completion("\"stream_options\": {\"include_usage\": true}"), 400, "stream_options"},
      {kCompletions, Completion("\"stream\": true, \"stream_options\": 1"), 400, "stream_options"},
      {kCompletions, Completion("\"stream\": true, \"stream_options\": {\"include_usage\": 1}"), 400,
       "stream_options.include_usage"},
      {kCompletions, Completion("\"min_tokens\": -1"), 400, "min_tokens"},
      {kCompletions, Completion("\"min_tokens\": 3"), 400, "min_tokens"},
      {kCompletions, Completion("\"ignore_eos\": 0"), 400, "ignore_eos"},
      {kCompletions, Completion("\"include_stop_str_in_output\": \"\""), 400, "include_stop_str_in_output"},
      {kCompletions, Completion("\"time_limit_ms\": 0"), 400, "time_limit_ms"},
      {kCompletions, Completion("\"time_limit_ms\": -5"), 400, "time_limit_ms"},
      {kCompletions, Completion("\"time_limit_ms\": 9223372036854775807"), 400, "time_limit_ms"},
      {kCompletions, Completion("\"quality\": \"best\""), 400, "quality"},
      {kCompletions, Completion("\"quality\": \"fast\""), 400, "quality"},  // nothing predicts here
      {kCompletions, Completion("\"quality\": 1"), 400, "quality"},
      {kCompletions, Completion("\"parse_special\": 1"), 400, "parse_special"},
      {kCompletions, R"({"prompt": "abc", "max_tokens": 0})", 400, "max_tokens"},
      {kCompletions, R"({"prompt": "abc", "max_tokens": -1})", 400, "max_tokens"},
      {kCompletions, R"({"prompt": "abc", "max_tokens": "2"})", 400, "max_tokens"},
      {kCompletions, R"({"prompt": "abc", "max_completion_tokens": 0})", 400, "max_completion_tokens"},
      {kCompletions, Completion("\"model\": 1"), 400, "model"},
      {kCompletions, Completion("\"model\": \"gpt-4\""), 404, "model", "model_not_found"},
      {kChat, Chat("\"logprobs\": 1"), 400, "logprobs"},
      {kChat, Chat("\"top_logprobs\": 2"), 400, "top_logprobs"},
      {kChat, Chat("\"logprobs\": true, \"top_logprobs\": 21"), 400, "top_logprobs"},
      {kChat, Chat("\"logprobs\": true, \"top_logprobs\": 4294967297"), 400, "top_logprobs"},
      {kChat, Chat("\"model\": \"gpt-4\""), 404, "model", "model_not_found"},
      {kChat, Chat("\"add_generation_prompt\": 1"), 400, "add_generation_prompt"},
  };
}

std::vector<BadRequest> BadPrompts() {
  return {
      {kCompletions, "{}", 400, "prompt"},
      {kCompletions, Prompt("null"), 400, "prompt"},
      {kCompletions, Prompt("1"), 400, "prompt"},
      {kCompletions, Prompt("{}"), 400, "prompt"},
      {kCompletions, Prompt("\"\""), 400, "prompt"},
      {kCompletions, Prompt("[]"), 400, "prompt"},
      {kCompletions, Prompt("[[]]"), 400, "prompt"},
      {kCompletions, Prompt("[\"a\", 1]"), 400, "prompt"},
      {kCompletions, Prompt("[\"a\", \"\"]"), 400, "prompt"},
      {kCompletions, Prompt("[1, \"a\"]"), 400, "prompt"},
      {kCompletions, Prompt("[-1]"), 400, "prompt"},
      {kCompletions, Prompt("[259]"), 400, "prompt"},
      {kCompletions, Prompt("[9007199254740993]"), 400, "prompt"},
      {kCompletions, Prompt("[1.5]"), 400, "prompt"},
      {kCompletions, Prompt("[true]"), 400, "prompt"},
      {kCompletions, Prompt("\"\\u0001\""), 400, "prompt"},  // the tokenizer cannot spell it
      {kCompletions, Prompt(Repeated("\"a\"", 129)), 400, "prompt"},
      {kCompletions, Prompt(Repeated("\"a\"", 65)).insert(1, "\"n\": 2, "), 400, "prompt"},
      {kCompletions, Prompt("\"" + std::string(5000, 'a') + "\""), 400, "prompt", "context_length_exceeded"},
      {kCompletions, Prompt(Repeated("5", 4096)), 400, "prompt", "context_length_exceeded"},
      {kChat, "{}", 400, "messages"},
      {kChat, Messages("\"hello\""), 400, "messages"},
      {kChat, Messages("[]"), 400, "messages"},
      {kChat, Messages("[1]"), 400, "messages[0]"},
      {kChat, Messages(R"([{"content": "a"}])"), 400, "messages[0].role"},
      {kChat, Messages(R"([{"role": 1, "content": "a"}])"), 400, "messages[0].role"},
      {kChat, Messages(R"([{"role": "user", "content": "a"}, {"role": "tool", "content": "a"}])"), 400,
       "messages[1].role"},
      {kChat, Messages(R"([{"role": "user"}])"), 400, "messages[0].content"},
      {kChat, Messages(R"([{"role": "user", "content": null}])"), 400, "messages[0].content"},
      {kChat, Messages(R"([{"role": "user", "content": 5}])"), 400, "messages[0].content"},
      {kChat, Messages(R"([{"role": "user", "content": ["a"]}])"), 400, "messages[0].content[0]"},
      {kChat, Messages(R"([{"role": "user", "content": [{"type": "image_url"}]}])"), 400,
       "messages[0].content[0].type"},
      {kChat, Messages(R"([{"role": "user", "content": [{"type": "text"}]}])"), 400,
       "messages[0].content[0].text"},
      {kChat, Messages(R"([{"role": "assistant", "content": "", "tool_calls": [1]}])"), 400,
       "messages[0].tool_calls"},
      {kChat, Messages(R"([{"role": "user", "content": ")" + std::string(5000, 'a') + "\"}]"), 400,
       "messages", "context_length_exceeded"},
      {kChat, Messages(Repeated(R"({"role": "user", "content": "a"})", 5000)), 400, "messages"},
      {"/tokenize", "{}", 400, "prompt"},
      {"/tokenize", R"({"prompt": 1})", 400, "prompt"},
      {"/tokenize", R"({"messages": 1})", 400, "messages"},
      {"/tokenize", R"({"prompt": "a", "add_special_tokens": 1})", 400, "add_special_tokens"},
      {"/tokenize", R"({"prompt": "a", "model": "gpt-4"})", 404, "model", "model_not_found"},
      {"/detokenize", "{}", 400, "tokens"},
      {"/detokenize", R"({"tokens": "a"})", 400, "tokens"},
      {"/detokenize", R"({"tokens": [259]})", 400, "tokens"},
      {"/detokenize", R"({"tokens": [-1]})", 400, "tokens"},
      {"/detokenize", R"({"tokens": [null]})", 400, "tokens"},
  };
}

std::vector<BadRequest> Unsupported() {
  return {
      {kChat, Chat(R"("tools": [{"type": "function"}])"), 400, "tools"},
      {kChat, Chat(R"("tool_choice": "required")"), 400, "tool_choice"},
      {kChat, Chat(R"("functions": [{}])"), 400, "functions"},
      {kChat, Chat(R"("response_format": {"type": "json_object"})"), 400, "response_format"},
      {kChat, Chat(R"("response_format": {"type": "json_schema", "json_schema": {}})"), 400,
       "response_format"},
      {kChat, Chat(R"("modalities": ["audio"])"), 400, "modalities"},
      {kChat, Chat(R"("continue_final_message": true)"), 400, "continue_final_message"},
      {kCompletions, Completion(R"("suffix": "end")"), 400, "suffix"},
      {kCompletions, Completion(R"("grammar": "root ::= x")"), 400, "grammar"},
      {kCompletions, Completion(R"("guided_json": {"a": 1})"), 400, "guided_json"},
      {kCompletions, Completion(R"("use_beam_search": true)"), 400, "use_beam_search"},
      {kCompletions, Completion(R"("prompt_logprobs": 1)"), 400, "prompt_logprobs"},
  };
}

// One after the other over one connection, which must survive them all.
void ExpectRefusals(const std::vector<BadRequest>& requests) {
  TestHttpServer server;
  HttpClient client(server.server->port());
  for (const BadRequest& bad : requests) {
    const std::string shown = bad.body.substr(0, 200);
    ASSERT_TRUE(client.Send(PostText(bad.path, bad.body))) << shown;
    const HttpAnswer answer = client.Receive();
    ASSERT_NE(answer.status, 0) << shown;
    EXPECT_EQ(answer.status, bad.status) << shown << "\n" << answer.body;
    if (answer.status < 400) continue;
    const nlohmann::json error = answer.Error();
    EXPECT_EQ(error["type"], "invalid_request_error") << shown;
    EXPECT_EQ(error["param"].is_null() ? "" : error["param"].get<std::string>(), bad.param) << shown << "\n"
                                                                                            << answer.body;
    EXPECT_EQ(error["code"].is_null() ? "" : error["code"].get<std::string>(), bad.code) << shown;
    const std::string message = error["message"];
    EXPECT_FALSE(message.empty());
    EXPECT_LT(message.size(), 1000u) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  }
  EXPECT_EQ(server.scheduler.stats().finished, 0u);
  EXPECT_EQ(server.server->stats().active_calls, 0);
  ExpectServes(server);
}

TEST(HttpBadRequestsTest, NoJson) { ExpectRefusals(NoJson()); }
TEST(HttpBadRequestsTest, Fields) { ExpectRefusals(BadFields()); }
TEST(HttpBadRequestsTest, Prompts) { ExpectRefusals(BadPrompts()); }
TEST(HttpBadRequestsTest, WhatIsNotSupported) { ExpectRefusals(Unsupported()); }

TEST(HttpBadRequestsTest, AreManyDifferentOnes) {
  EXPECT_GE(NoJson().size() + BadFields().size() + BadPrompts().size() + Unsupported().size(), 130u);
}

TEST(HttpBadRequestsTest, BodiesMustBeJsonByName) {
  TestHttpServer server;
  const std::string body = R"({"prompt": "abc", "max_tokens": 1})";
  for (const char* const type : {"", "Content-Type: text/plain\r\n", "Content-Type: application/jsonx\r\n",
                                 "Content-Type: application/x-www-form-urlencoded\r\n"}) {
    const HttpAnswer answer = Ask(server, RequestText("POST", kCompletions, type, body));
    EXPECT_EQ(answer.status, 415) << type;
    EXPECT_THAT(answer.Error()["message"], HasSubstr("application/json"));
  }
  EXPECT_EQ(Post(server, kCompletions, body, "Content-Encoding: gzip\r\n").status, 415);
  EXPECT_EQ(Ask(server,
                RequestText("POST", kCompletions, "Content-Type: Application/JSON; charset=utf-8\r\n", body))
                .status,
            200);
}

// Known to clients of other servers, and without a meaning here.
TEST(HttpBadRequestsTest, WhatChangesNothingIsTaken) {
  TestHttpServer server;
  const char* const kHarmless =
      R"("user": "u", "store": false, "metadata": {"a": "b"}, "service_tier": "auto", "made_up": [1, {"x": 2}],
         "tools": [], "tool_choice": "none", "response_format": {"type": "text"}, "suffix": null, "best_of": 1,
         "logit_bias": null, "stop": null, "seed": -5, "top_k": -1, "n": 1.0, "modalities": ["text"],
         "presence_penalty": null, "temperature": 0, "model": "puppet.gguf", "parallel_tool_calls": true)";
  const HttpAnswer completion = Post(server, kCompletions, Completion(kHarmless));
  ASSERT_EQ(completion.status, 200) << completion.body;
  EXPECT_EQ(completion.Json()["choices"][0]["text"], "de");
  const HttpAnswer chat = Post(server, kChat, Chat(kHarmless));
  ASSERT_EQ(chat.status, 200) << chat.body;
}

}  // namespace
}  // namespace thermocline::testing
