// Completions and chats over HTTP: every field, whole and streamed, and the smaller routes.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <cmath>

#include "tests/server/http_fixture.h"
#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"

namespace thermocline::testing {
namespace {

using nlohmann::json;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

json Complete(TestHttpServer& server, const json& body, const char* path = kCompletions) {
  const HttpAnswer answer = Post(server, path, body.dump());
  EXPECT_EQ(answer.status, 200) << answer.body;
  EXPECT_EQ(answer.Header("content-type"), "application/json");
  return answer.Json();
}

// The chunks of a stream that ends as it should.
std::vector<json> Stream(TestHttpServer& server, json body, const char* path = kCompletions) {
  body["stream"] = true;
  const HttpAnswer answer = Post(server, path, body.dump());
  EXPECT_EQ(answer.status, 200) << answer.body;
  EXPECT_THAT(answer.Header("content-type"), StartsWith("text/event-stream"));
  EXPECT_TRUE(answer.whole);
  std::vector<std::string> events = EventsOf(answer.body);
  EXPECT_EQ(events.back(), "[DONE]");
  std::vector<json> chunks;
  for (size_t i = 0; i + 1 < events.size(); ++i) chunks.push_back(json::parse(events[i]));
  return chunks;
}

json Greedy(const std::string& prompt, int max_tokens) {
  return {{"prompt", prompt}, {"max_tokens", max_tokens}, {"temperature", 0}};
}

TEST(HttpCompletionsTest, AnswersAsTheApiDoes) {
  TestHttpServer server;
  json body = Greedy("abc", 3);
  body["seed"] = 17;
  const HttpAnswer answer = Post(server, kCompletions, body.dump(), "x-request-id: my-id\r\n");
  const json whole = answer.Json();
  EXPECT_EQ(whole["id"], "cmpl-my-id");
  EXPECT_EQ(whole["object"], "text_completion");
  EXPECT_EQ(whole["model"], "puppet.gguf");
  EXPECT_GT(whole["created"].get<int64_t>(), 1'700'000'000);
  EXPECT_THAT(whole["system_fingerprint"].get<std::string>(), StartsWith("fp_"));
  EXPECT_EQ(whole["usage"]["prompt_tokens"], 4);  // with the beginning of text
  EXPECT_EQ(whole["usage"]["completion_tokens"], 3);
  EXPECT_EQ(whole["usage"]["total_tokens"], 7);
  ASSERT_EQ(whole["choices"].size(), 1u);
  const json& choice = whole["choices"][0];
  EXPECT_EQ(choice["text"], "def");
  EXPECT_EQ(choice["index"], 0);
  EXPECT_EQ(choice["finish_reason"], "length");
  EXPECT_TRUE(choice["logprobs"].is_null());
  const json& own = choice["thermocline"];
  EXPECT_EQ(own["seed"], 17);
  EXPECT_EQ(own["quality"], "exact");
  EXPECT_TRUE(own["matched_stop"].is_null());
  EXPECT_GT(own["timings"]["time_to_first_token_ms"], 0);
  EXPECT_EQ(own["sparsity"]["tokens"], 2);
  EXPECT_EQ(own["sparsity"]["neurons"], 200);
  EXPECT_EQ(own["sparsity"]["active_on_accelerators"], 10);
}

TEST(HttpCompletionsTest, StreamsTheSame) {
  TestHttpServer server;
  json body = Greedy("abc", 3);
  body["stream_options"] = {{"include_usage", true}};
  const std::vector<json> chunks = Stream(server, body);
  ASSERT_EQ(chunks.size(), 5u);  // three of text, the end, the usage
  std::string text;
  for (const json& chunk : chunks) {
    EXPECT_EQ(chunk["object"], "text_completion");
    EXPECT_EQ(chunk["id"], chunks[0]["id"]);
    if (&chunk == &chunks.back()) continue;
    EXPECT_TRUE(chunk["usage"].is_null());
    text += chunk["choices"][0]["text"];
    EXPECT_EQ(chunk["choices"][0]["finish_reason"].is_null(), &chunk != &chunks[3]);
  }
  EXPECT_EQ(text, "def");
  EXPECT_EQ(chunks[3]["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(chunks[3]["choices"][0]["thermocline"]["sparsity"]["tokens"], 2);
  EXPECT_TRUE(chunks[4]["choices"].empty());
  EXPECT_EQ(chunks[4]["usage"]["total_tokens"], 7);
  // Usage comes only where it was asked for.
  for (const json& chunk : Stream(server, Greedy("abc", 1))) EXPECT_FALSE(chunk.contains("usage"));
}

TEST(HttpCompletionsTest, CountsWhatEarlierPromptsHadComputed) {
  TestHttpServer server;
  const std::string prompt(100, 'a');
  const auto cached = [&] {
    return Complete(server, Greedy(prompt, 2))["usage"]["prompt_tokens_details"]["cached_tokens"]
        .get<int64_t>();
  };
  EXPECT_EQ(cached(), 0);
  EXPECT_GE(cached(), 64);
}

TEST(HttpCompletionsTest, HasTheApisDefaults) {
  TestHttpServer server;
  const json whole = Complete(server, {{"prompt", "abc"}, {"ignore_eos", true}});
  EXPECT_EQ(whole["usage"]["completion_tokens"], 16);
  // Temperature 1: another seed takes other tokens, the same one the same.
  const auto text = [&](int seed) {
    return Complete(server, {{"prompt", "abc"},
                             {"max_tokens", 200},
                             {"ignore_eos", true},
                             {"seed", seed}})["choices"][0]["text"]
        .get<std::string>();
  };
  EXPECT_EQ(text(1), text(1));
  EXPECT_NE(text(1), text(2));
}

TEST(HttpCompletionsTest, TakesPromptsOfEveryKind) {
  TestHttpServer server;
  const json a = PuppetTokenizer::IdOf('a');
  const json b = PuppetTokenizer::IdOf('b');
  const auto texts = [&](const json& prompt) {
    const json whole = Complete(server, {{"prompt", prompt}, {"max_tokens", 1}, {"temperature", 0}});
    std::string all;
    for (const json& choice : whole["choices"]) {
      EXPECT_EQ(choice["index"], all.size());
      all += choice["text"];
    }
    return std::pair(all, whole["usage"]["prompt_tokens"].get<int>());
  };
  EXPECT_EQ(texts("a"), std::pair(std::string("b"), 2));
  EXPECT_EQ(texts(json::array({a, b})), std::pair(std::string("c"), 2));
  EXPECT_EQ(texts(json::array({"a", "bb"})), std::pair(std::string("bc"), 5));
  EXPECT_EQ(texts(json::array({json::array({a}), json::array({b, b})})), std::pair(std::string("bc"), 3));
  EXPECT_EQ(texts(json::array({"a", json::array({b})})), std::pair(std::string("bc"), 3));
}

TEST(HttpCompletionsTest, SpelledOutSpecialTokensAreTextUnlessAsked) {
  TestHttpServer server;
  json body = Greedy("<s>", 1);
  EXPECT_EQ(Complete(server, body)["usage"]["prompt_tokens"], 4);
  body["parse_special"] = true;
  EXPECT_EQ(Complete(server, body)["usage"]["prompt_tokens"], 2);
}

TEST(HttpCompletionsTest, GivesSeveralChoicesOfSeveralPrompts) {
  TestHttpServer server;
  json body = {{"prompt", {"a", "m"}}, {"n", 2}, {"max_tokens", 60}, {"seed", 5}, {"ignore_eos", true}};
  const json whole = Complete(server, body);
  ASSERT_EQ(whole["choices"].size(), 4u);
  EXPECT_EQ(whole["usage"]["prompt_tokens"], 4);
  EXPECT_EQ(whole["usage"]["completion_tokens"], 240);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(whole["choices"][i]["index"], i);
    EXPECT_EQ(whole["choices"][i]["thermocline"]["seed"], 5 + i % 2);
    // As if it were alone.
    const json alone = Complete(
        server,
        {{"prompt", i < 2 ? "a" : "m"}, {"max_tokens", 60}, {"seed", 5 + i % 2}, {"ignore_eos", true}});
    EXPECT_EQ(whole["choices"][i]["text"], alone["choices"][0]["text"]);
  }
  std::vector<std::string> streamed(4);
  for (const json& chunk : Stream(server, body)) {
    const json& choice = chunk["choices"][0];
    streamed[choice["index"].get<size_t>()] += choice["text"];
  }
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(streamed[i], whole["choices"][i]["text"]);
}

TEST(HttpCompletionsTest, StopsWhereItIsTold) {
  TestHttpServer server;
  json body = Greedy("abc", 20);
  body["stop"] = "gh";
  json choice = Complete(server, body)["choices"][0];
  EXPECT_EQ(choice["text"], "def");
  EXPECT_EQ(choice["finish_reason"], "stop");
  EXPECT_EQ(choice["thermocline"]["matched_stop"], "gh");
  body["stop"] = {"zz", "ij"};
  body["include_stop_str_in_output"] = true;
  EXPECT_EQ(Complete(server, body)["choices"][0]["text"], "defghij");
  std::string text;
  for (const json& chunk : Stream(server, body)) text += chunk["choices"][0]["text"];
  EXPECT_EQ(text, "defghij");
  body["min_tokens"] = 10;
  EXPECT_EQ(Complete(server, body)["choices"][0]["finish_reason"], "length");
}

TEST(HttpCompletionsTest, EndsAtEndTokensUnlessTold) {
  TestHttpServer server;
  server.runner.Follow(PuppetTokenizer::IdOf('e'), PuppetTokenizer::kEos);
  json body = Greedy("abc", 5);
  body["logprobs"] = 0;
  json whole = Complete(server, body);
  EXPECT_EQ(whole["choices"][0]["text"], "de");
  EXPECT_EQ(whole["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(whole["choices"][0]["logprobs"]["tokens"], json({"d", "e"}));  // without the end token
  EXPECT_EQ(whole["usage"]["completion_tokens"], 3);
  body["ignore_eos"] = true;
  whole = Complete(server, body);
  EXPECT_EQ(whole["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(whole["choices"][0]["logprobs"]["tokens"][2], "</s>");
}

TEST(HttpCompletionsTest, SamplesAsAsked) {
  TestHttpServer server;
  json body = Greedy("abc", 2);
  body["logit_bias"] = {{std::to_string(PuppetTokenizer::IdOf('x')), 100}};
  EXPECT_EQ(Complete(server, body)["choices"][0]["text"], "xx");
  body = Greedy("abc", 30);
  body["frequency_penalty"] = 2;
  body["presence_penalty"] = 2;
  body["repetition_penalty"] = 5;
  EXPECT_NE(Complete(server, body)["choices"][0]["text"],
            Complete(server, Greedy("abc", 30))["choices"][0]["text"]);
  // Nothing but the likeliest token is left.
  for (const auto& [field, value] :
       {std::pair<const char*, json>("top_k", 1), {"top_p", 0.01}, {"min_p", 1}}) {
    json only = {{"prompt", "abc"}, {"max_tokens", 30}, {"temperature", 10}, {field, value}};
    EXPECT_THAT(Complete(server, only)["choices"][0]["text"].get<std::string>(), StartsWith("defghijklm"))
        << field;
  }
}

TEST(HttpCompletionsTest, OffersQualitiesWhereSomethingPredicts) {
  HttpSetup setup;
  setup.predicts = true;
  TestHttpServer server(setup);
  json body = Greedy("abc", 3);
  EXPECT_EQ(Complete(server, body)["choices"][0]["thermocline"]["quality"], "balanced");
  body["quality"] = "fast";
  const json own = Complete(server, body)["choices"][0]["thermocline"];
  EXPECT_EQ(own["quality"], "fast");
  EXPECT_EQ(own["sparsity"]["marked"], 20);
}

TEST(HttpCompletionsTest, EchoesThePrompt) {
  TestHttpServer server;
  json body = Greedy("abc", 3);
  body["echo"] = true;
  EXPECT_EQ(Complete(server, body)["choices"][0]["text"], "abcdef");
  std::string text;
  for (const json& chunk : Stream(server, body)) text += chunk["choices"][0]["text"];
  EXPECT_EQ(text, "abcdef");
}

// The puppet's logits are 10, 5 and 257 times 0.
TEST(HttpCompletionsTest, ReportsLogprobs) {
  TestHttpServer server;
  const double total = std::exp(10) + std::exp(5) + 257;
  json body = Greedy("abc", 2);
  body["logprobs"] = 2;
  const json logprobs = Complete(server, body)["choices"][0]["logprobs"];
  EXPECT_EQ(logprobs["tokens"], json({"d", "e"}));
  EXPECT_EQ(logprobs["text_offset"], json({0, 1}));
  EXPECT_NEAR(logprobs["token_logprobs"][0].get<double>(), 10 - std::log(total), 1e-5);
  ASSERT_EQ(logprobs["top_logprobs"].size(), 2u);
  EXPECT_NEAR(logprobs["top_logprobs"][0]["d"].get<double>(), 10 - std::log(total), 1e-5);
  EXPECT_NEAR(logprobs["top_logprobs"][0]["e"].get<double>(), 5 - std::log(total), 1e-5);
  EXPECT_EQ(logprobs["top_logprobs"][0].size(), 2u);
  // Streamed, the offsets go on.
  json offsets = json::array();
  for (const json& chunk : Stream(server, body)) {
    const json& piece = chunk["choices"][0]["logprobs"];
    if (!piece.is_null()) offsets.push_back(piece["text_offset"][0]);
  }
  EXPECT_EQ(offsets, json({0, 1}));
}

// "é" is two tokens of the puppet's.
TEST(HttpCompletionsTest, SpellsPartsOfCharacters) {
  TestHttpServer server;
  server.runner.Follow(PuppetTokenizer::IdOf('c'), PuppetTokenizer::IdOf('\xC3'));
  server.runner.Follow(PuppetTokenizer::IdOf('\xC3'), PuppetTokenizer::IdOf('\xA9'));
  server.runner.Follow(PuppetTokenizer::IdOf('\xA9'), PuppetTokenizer::IdOf('x'));
  json body = Greedy("abc", 3);
  body["logprobs"] = 0;
  const json choice = Complete(server, body)["choices"][0];
  EXPECT_EQ(choice["text"], "\xC3\xA9x");
  EXPECT_EQ(choice["logprobs"]["tokens"], json({"bytes:\\xc3", "bytes:\\xa9", "x"}));
  EXPECT_EQ(choice["logprobs"]["text_offset"], json({0, 1, 1}));
  std::string text;
  for (const json& chunk : Stream(server, body)) text += chunk["choices"][0]["text"];
  EXPECT_EQ(text, "\xC3\xA9x");
  const json chat = Complete(server,
                             {{"messages", {{{"role", "user"}, {"content", "abc"}}}},
                              {"max_tokens", 2},
                              {"temperature", 0},
                              {"logprobs", true}},
                             kChat);
  const json& content = chat["choices"][0]["logprobs"]["content"];
  ASSERT_EQ(content.size(), 2u);
  EXPECT_EQ(content[0]["bytes"], json({0xC3}));
  EXPECT_EQ(content[1]["bytes"], json({0xA9}));
}

TEST(HttpCompletionsTest, SaysWhyElseCompletionsEnd) {
  TestHttpServer server;
  server.runner.NanAfter(PuppetTokenizer::IdOf('e'));
  const json choice = Complete(server, Greedy("abc", 5))["choices"][0];
  EXPECT_EQ(choice["finish_reason"], "error");
  EXPECT_EQ(choice["text"], "de");

  HttpSetup setup;
  setup.context_length = 1 << 15;
  TestHttpServer endless(setup);
  json body = Greedy("abc", 30'000);
  body["time_limit_ms"] = 1;
  EXPECT_EQ(Complete(endless, body)["choices"][0]["finish_reason"], "time_limit");
}

TEST(HttpChatTest, AnswersAsTheApiDoes) {
  TestHttpServer server;
  const json body = {
      {"messages",
       {{{"role", "system"}, {"content", "x"}},
        {{"role", "user"},
         {"content", {{{"type", "text"}, {"text", "ab"}}, {{"type", "text"}, {"text", "c"}}}}}}},
      {"max_completion_tokens", 3},
      {"temperature", 0}};
  const json tokenized = Complete(server, {{"messages", body["messages"]}}, "/tokenize");
  const json whole = Complete(server, body, kChat);
  EXPECT_THAT(whole["id"].get<std::string>(), StartsWith("chatcmpl-"));
  EXPECT_EQ(whole["object"], "chat.completion");
  const json& choice = whole["choices"][0];
  EXPECT_EQ(choice["message"]["role"], "assistant");
  EXPECT_EQ(choice["message"]["content"].get<std::string>().size(), 3u);
  EXPECT_EQ(choice["finish_reason"], "length");
  EXPECT_EQ(whole["usage"]["prompt_tokens"], tokenized["count"]);

  const std::vector<json> chunks = Stream(server, body, kChat);
  EXPECT_EQ(chunks[0]["object"], "chat.completion.chunk");
  EXPECT_EQ(chunks[0]["choices"][0]["delta"], json({{"role", "assistant"}, {"content", ""}}));
  std::string text;
  for (size_t i = 1; i + 1 < chunks.size(); ++i) text += chunks[i]["choices"][0]["delta"]["content"];
  EXPECT_EQ(text, choice["message"]["content"]);
  EXPECT_EQ(chunks.back()["choices"][0]["delta"], json::object());
  EXPECT_EQ(chunks.back()["choices"][0]["finish_reason"], "length");
}

TEST(HttpChatTest, ReportsLogprobs) {
  TestHttpServer server;
  const json body = {{"messages", {{{"role", "user"}, {"content", "abc"}}}},
                     {"max_tokens", 2},
                     {"temperature", 0},
                     {"logprobs", true},
                     {"top_logprobs", 2}};
  const json choice = Complete(server, body, kChat)["choices"][0];
  const json& content = choice["logprobs"]["content"];
  ASSERT_EQ(content.size(), 2u);
  std::string text;
  for (const json& entry : content) {
    text += entry["token"];
    ASSERT_EQ(entry["top_logprobs"].size(), 2u);
    EXPECT_EQ(entry["top_logprobs"][0]["token"], entry["token"]);
    EXPECT_GT(entry["logprob"], entry["top_logprobs"][1]["logprob"]);
    EXPECT_EQ(entry["bytes"][0], static_cast<int>(entry["token"].get<std::string>()[0]));
  }
  EXPECT_EQ(text, choice["message"]["content"]);
}

TEST(HttpRoutesTest, NameTheModel) {
  TestHttpServer server;
  const json list = Get(server, "/v1/models").Json();
  EXPECT_EQ(list["object"], "list");
  ASSERT_EQ(list["data"].size(), 1u);
  EXPECT_EQ(list["data"][0]["id"], "puppet.gguf");
  EXPECT_EQ(list["data"][0]["object"], "model");
  EXPECT_EQ(list["data"][0]["max_model_len"], 4096);
  EXPECT_EQ(Get(server, "/v1/models/puppet.gguf").Json(), list["data"][0]);
  EXPECT_EQ(Get(server, "/v1/models/puppet%2Egguf").Json(), list["data"][0]);
  const HttpAnswer unknown = Get(server, "/v1/models/gpt-4");
  EXPECT_EQ(unknown.status, 404);
  EXPECT_EQ(unknown.Error()["code"], "model_not_found");
  EXPECT_EQ(Get(server, "/v1/models/%zz%4").status, 404);
}

TEST(HttpRoutesTest, TokenizeAndBack) {
  TestHttpServer server;
  const json tokens = Complete(server, {{"prompt", "ab<s>"}}, "/tokenize");
  EXPECT_EQ(tokens["count"], 6);
  EXPECT_EQ(tokens["max_model_len"], 4096);
  EXPECT_EQ(tokens["tokens"][0], PuppetTokenizer::kBos);
  const json bare = Complete(
      server, {{"prompt", "ab<s>"}, {"add_special_tokens", false}, {"parse_special", true}}, "/tokenize");
  EXPECT_EQ(bare["tokens"],
            json({PuppetTokenizer::IdOf('a'), PuppetTokenizer::IdOf('b'), PuppetTokenizer::kBos}));
  EXPECT_EQ(Complete(server, {{"prompt", ""}, {"add_special_tokens", false}}, "/tokenize")["count"], 0);
  EXPECT_EQ(Complete(server, {{"tokens", tokens["tokens"]}}, "/detokenize")["prompt"], "ab<s>");
  EXPECT_EQ(Complete(server, {{"tokens", {PuppetTokenizer::IdOf('\xC3')}}}, "/detokenize")["prompt"],
            "\xEF\xBF\xBD");
}

TEST(HttpRoutesTest, MetricsAndHealthAreOpen) {
  TestHttpServer server;
  EXPECT_EQ(Get(server, "/health").Json()["status"], "ok");
  const HttpAnswer metrics = Get(server, "/metrics");
  EXPECT_EQ(metrics.status, 200);
  EXPECT_EQ(metrics.Header("content-type"), ServerMetrics::kContentType);
  EXPECT_THAT(metrics.body, HasSubstr("vllm:num_requests_running"));
  // What the runner says of its devices, after one step of the prompt and one of decoding.
  Complete(server, {{"prompt", "ab"}, {"max_tokens", 2}});
  const std::string body = Get(server, "/metrics").body;
  EXPECT_THAT(body, HasSubstr("thermocline_link_bytes_total{model_name=\"puppet.gguf\"} 200\n"));
  const std::string name = "thermocline_layer_device_seconds_total";
  EXPECT_THAT(body, HasSubstr(name + "{layer=\"0\",device=\"cpu\",model_name=\"puppet.gguf\"} 1\n"));
  EXPECT_THAT(body, HasSubstr(name + "{layer=\"1\",device=\"host\",model_name=\"puppet.gguf\"} 0.5\n"));
  EXPECT_THAT(body, ::testing::Not(HasSubstr(name + "{layer=\"0\",device=\"host\"")));
}

TEST(HttpKeysTest, AreAskedForWhereCompletionsAre) {
  const TemporaryFolder folder;
  const std::string file = folder.Write("keys", "alice:secret-key-of-alice\n");
  std::filesystem::permissions(file, std::filesystem::perms::owner_read);
  const auto credentials = Credentials::Load({.completions_file = file});
  ASSERT_TRUE(credentials.ok()) << credentials.status();
  HttpSetup setup;
  setup.credentials = credentials->get();
  TestHttpServer server(setup);
  const std::string body = Greedy("abc", 1).dump();
  for (const char* const wrong :
       {"", "Authorization: Bearer wrong\r\n", "Authorization: secret-key-of-alice\r\n",
        "X-Api-Key: secret-key-of-alice\r\n"}) {
    const HttpAnswer refused = Post(server, kCompletions, body, wrong);
    EXPECT_EQ(refused.status, 401) << wrong;
    EXPECT_EQ(refused.Error()["code"], "invalid_api_key");
    EXPECT_EQ(refused.Error()["type"], "authentication_error");
    EXPECT_EQ(refused.Header("www-authenticate"), "Bearer");
  }
  for (const char* const path : {kChat, "/tokenize", "/detokenize"})
    EXPECT_EQ(Post(server, path, "{}").status, 401);
  EXPECT_EQ(Get(server, "/v1/models").status, 401);
  EXPECT_EQ(Get(server, "/health").status, 200);
  EXPECT_EQ(Get(server, "/metrics").status, 200);
  EXPECT_EQ(Post(server, kCompletions, body, "Authorization: Bearer secret-key-of-alice\r\n").status, 200);
  EXPECT_THAT(server.Log(), Not(Contains(HasSubstr("secret-key"))));
}

}  // namespace
}  // namespace thermocline::testing
