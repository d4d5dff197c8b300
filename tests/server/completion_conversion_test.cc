// Requests and results between messages and the scheduler's data.
// SPDX-License-Identifier: Apache-2.0
#include "server/completion_conversion.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <limits>

#include "tests/support/puppet_tokenizer.h"

namespace thermocline {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;
using testing::PuppetTokenizer;

template <typename Message>
Message Parse(const std::string& text) {
  Message message;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &message));
  return message;
}

const PuppetTokenizer& Tokenizer() {
  static const PuppetTokenizer tokenizer;
  return tokenizer;
}

const ChatTemplate& Template() {
  static const ChatTemplate none = ChatTemplate::CreateNamed("none", ChatTokensOf(Tokenizer())).value();
  return none;
}

template <typename Message>
absl::StatusOr<std::vector<CompletionRequest>> Choices(const Message& message) {
  return ToCompletionRequests(
      message, {.tokenizer = Tokenizer(), .chat_template = Template(), .model = "puppet.gguf"});
}

// Of a request for one choice.
template <typename Message>
absl::StatusOr<CompletionRequest> ToCompletionRequest(const Message& message) {
  absl::StatusOr<std::vector<CompletionRequest>> choices = Choices(message);
  if (!choices.ok()) return choices.status();
  EXPECT_EQ(choices->size(), 1U);
  return choices->front();
}

// Both request messages, which must convert alike.
template <typename Message>
class ToCompletionRequestTest : public ::testing::Test {};
using RequestMessages = ::testing::Types<v1::CompleteRequest, v1::StreamCompleteRequest>;
TYPED_TEST_SUITE(ToCompletionRequestTest, RequestMessages);

TYPED_TEST(ToCompletionRequestTest, CarriesEveryField) {
  const auto request = ToCompletionRequest(Parse<TypeParam>(R"pb(
    request_id: "r1"
    token_ids { ids: [ 5, 7 ] }
    sampling {
      temperature: 0.5
      top_k: 3
      top_p: 0.25
      min_p: 0.125
      repetition_penalty: 1.5
      presence_penalty: -1
      frequency_penalty: 2
      logit_bias { token_id: 9 bias: -4 }
      logit_bias { token_id: 8 bias: 2.5 }
      seed: 18446744073709551615
    }
    stopping {
      max_tokens: 11
      min_tokens: 2
      stop: "x"
      stop: "yz"
      include_stop: true
      ignore_eos: true
      time_limit { seconds: 2 nanos: 500000001 }
    }
    output { echo: true logprobs: true top_logprobs: 4 }
    quality: QUALITY_FAST)pb"));
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->id, "r1");
  EXPECT_THAT(request->prompt, ElementsAre(5, 7));
  EXPECT_EQ(request->sampling.temperature, 0.5);
  EXPECT_EQ(request->sampling.top_k, 3);
  EXPECT_EQ(request->sampling.top_p, 0.25);
  EXPECT_EQ(request->sampling.min_p, 0.125);
  EXPECT_EQ(request->sampling.repetition_penalty, 1.5);
  EXPECT_EQ(request->sampling.presence_penalty, -1);
  EXPECT_EQ(request->sampling.frequency_penalty, 2);
  EXPECT_THAT(request->sampling.logit_bias, ElementsAre(Pair(9, -4), Pair(8, 2.5)));
  EXPECT_EQ(request->sampling.seed, std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(request->stopping.max_tokens, 11);
  EXPECT_EQ(request->stopping.min_tokens, 2);
  EXPECT_THAT(request->stopping.stop, ElementsAre("x", "yz"));
  EXPECT_TRUE(request->stopping.include_stop);
  EXPECT_TRUE(request->stopping.ignore_eos);
  EXPECT_EQ(request->stopping.time_limit, std::chrono::milliseconds(2501));
  EXPECT_TRUE(request->echo);
  EXPECT_TRUE(request->logprobs);
  EXPECT_EQ(request->top_logprobs, 4);
  EXPECT_EQ(request->quality, Quality::kFast);
}

TYPED_TEST(ToCompletionRequestTest, AbsentFieldsKeepTheDefaults) {
  const auto request = ToCompletionRequest(Parse<TypeParam>("text: 'a'"));
  ASSERT_TRUE(request.ok()) << request.status();
  const CompletionRequest defaults;
  EXPECT_EQ(request->sampling.temperature, defaults.sampling.temperature);
  EXPECT_EQ(request->sampling.top_k, defaults.sampling.top_k);
  EXPECT_EQ(request->sampling.top_p, defaults.sampling.top_p);
  EXPECT_EQ(request->sampling.min_p, defaults.sampling.min_p);
  EXPECT_EQ(request->sampling.repetition_penalty, defaults.sampling.repetition_penalty);
  EXPECT_EQ(request->sampling.presence_penalty, defaults.sampling.presence_penalty);
  EXPECT_EQ(request->sampling.frequency_penalty, defaults.sampling.frequency_penalty);
  EXPECT_EQ(request->sampling.seed, std::nullopt);
  EXPECT_EQ(request->stopping.max_tokens, std::nullopt);
  EXPECT_EQ(request->stopping.time_limit, std::nullopt);
  EXPECT_FALSE(request->echo);
  EXPECT_FALSE(request->logprobs);
  EXPECT_EQ(request->quality, std::nullopt);
}

TYPED_TEST(ToCompletionRequestTest, ZerosThatWereSentAreKept) {
  const auto request = ToCompletionRequest(Parse<TypeParam>(
      "text: 'a' sampling { top_p: 0 repetition_penalty: 0 seed: 0 } stopping { max_tokens: 0 }"));
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->sampling.top_p, 0);
  EXPECT_EQ(request->sampling.repetition_penalty, 0);
  EXPECT_EQ(request->sampling.seed, 0);
  EXPECT_EQ(request->stopping.max_tokens, 0);
}

TYPED_TEST(ToCompletionRequestTest, TextIsTokenisedWithTheBeginningInFront) {
  const auto plain = ToCompletionRequest(Parse<TypeParam>("text: '<s>'"));
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_THAT(plain->prompt, ElementsAre(PuppetTokenizer::kBos, PuppetTokenizer::IdOf('<'),
                                         PuppetTokenizer::IdOf('s'), PuppetTokenizer::IdOf('>')));
  const auto special = ToCompletionRequest(Parse<TypeParam>("text: '<s>' parse_special: true"));
  ASSERT_TRUE(special.ok()) << special.status();
  EXPECT_THAT(special->prompt, ElementsAre(PuppetTokenizer::kBos, PuppetTokenizer::kBos));
}

TYPED_TEST(ToCompletionRequestTest, RefusalsNameTheField) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "prompt"},
      {"text: ''", "prompt"},
      {"token_ids {}", "prompt"},
      {R"(text: 'a\001')", "prompt"},
      {"token_ids { ids: 5 } parse_special: true", "parse_special"},
      {"text: 'a' quality: QUALITY_UNSPECIFIED", "quality"},
      {"text: 'a' quality: 4", "quality"},
      {"messages {}", "messages"},
      {"messages { messages { role: 'robot' content: 'x' } }", "messages[0].role"},
      {"messages { messages { role: 'user' content: 'x' } messages {} }", "messages[1].role"},
      {"messages { messages { role: 'user' content: 'x' } } parse_special: false", "parse_special"},
      {"text: 'a' n: 0", "n"},
      {"text: 'a' n: -1", "n"},
      {"text: 'a' n: 129", "n"},
      {"text: 'a' stopping { time_limit { seconds: -1 } }", "time_limit"},
      {"text: 'a' stopping { time_limit { nanos: -1 } }", "time_limit"},
      {"text: 'a' stopping { time_limit { nanos: 1000000000 } }", "time_limit"},
      {"text: 'a' stopping { time_limit { seconds: 2592001 } }", "time_limit"},
      {"text: 'a' stopping { time_limit { seconds: 9223372036854775807 nanos: 999999999 } }", "time_limit"},
  };
  for (const auto& [message, field] : cases) {
    const auto request = ToCompletionRequest(Parse<TypeParam>(message));
    EXPECT_TRUE(absl::IsInvalidArgument(request.status())) << message;
    EXPECT_EQ(FieldOf(request.status()), field) << message << ": " << request.status();
  }
}

TYPED_TEST(ToCompletionRequestTest, ChatIsWrittenDownByTheTemplate) {
  const auto request = ToCompletionRequest(Parse<TypeParam>(
      "messages { messages { role: 'developer' content: 'a' } messages { role: 'user' content: '<s>' } }"));
  ASSERT_TRUE(request.ok()) << request.status();
  const auto same =
      EncodeChat(Template().Render(std::vector<ChatMessage>{{"system", "a"}, {"user", "<s>"}}, true).value(),
                 Tokenizer());
  EXPECT_EQ(request->prompt, *same);
  EXPECT_THAT(request->prompt, ::testing::Contains(PuppetTokenizer::kBos).Times(1));  // users cannot write it
}

TYPED_TEST(ToCompletionRequestTest, EveryChoiceHasASeedOfItsOwn) {
  const auto choices = Choices(Parse<TypeParam>("text: 'a' n: 3 sampling { seed: 18446744073709551615 }"));
  ASSERT_TRUE(choices.ok()) << choices.status();
  ASSERT_EQ(choices->size(), 3U);
  EXPECT_EQ((*choices)[0].sampling.seed, std::numeric_limits<uint64_t>::max());
  EXPECT_EQ((*choices)[1].sampling.seed, 0U);
  EXPECT_EQ((*choices)[2].sampling.seed, 1U);
}

TYPED_TEST(ToCompletionRequestTest, AnotherModelIsNotFound) {
  EXPECT_TRUE(Choices(Parse<TypeParam>("text: 'a' model: 'puppet.gguf'")).ok());
  const auto other = Choices(Parse<TypeParam>("text: 'a' model: 'gpt-9'"));
  EXPECT_TRUE(absl::IsNotFound(other.status())) << other.status();
  EXPECT_EQ(FieldOf(other.status()), "model");
}

TYPED_TEST(ToCompletionRequestTest, LongestTimeLimitFits) {
  const auto request =
      ToCompletionRequest(Parse<TypeParam>("text: 'a' stopping { time_limit { seconds: 2592000 } }"));
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->stopping.time_limit, std::chrono::hours(30 * 24));
}

TEST(ToMessage, SummaryCarriesEveryField) {
  const CompletionSummary summary = {.finish_reason = FinishReason::kStopString,
                                     .matched_stop = "xy",
                                     .prompt_tokens = 4,
                                     .cached_tokens = 3,
                                     .completion_tokens = 11,
                                     .seed = 99,
                                     .quality = Quality::kBalanced,
                                     .timings = {.queue_ms = 1,
                                                 .prefill_ms = 2,
                                                 .time_to_first_token_ms = 3,
                                                 .decode_ms = 5000,
                                                 .inter_token_p50_ms = 5,
                                                 .inter_token_p99_ms = 6},
                                     .decode_steps = {.tokens = 10,
                                                      .total = {.neurons = 5000,
                                                                .marked_neurons = 900,
                                                                .active_neurons = 700,
                                                                .active_on_accelerators = 400,
                                                                .bytes = 12345}}};
  const auto expected = Parse<v1::CompletionSummary>(R"pb(
    finish_reason: FINISH_REASON_STOP_STRING
    matched_stop: "xy"
    usage { prompt_tokens: 4 completion_tokens: 11 cached_tokens: 3 }
    seed: 99
    timings {
      queue_ms: 1
      prefill_ms: 2
      time_to_first_token_ms: 3
      decode_ms: 5000
      inter_token_p50_ms: 5
      inter_token_p99_ms: 6
      decode_tokens_per_second: 2
    }
    quality: QUALITY_BALANCED
    sparsity {
      tokens: 10
      neurons: 5000
      marked: 900
      active: 700
      active_on_accelerators: 400
      bytes_per_token: 1234.5
    }
    index: 7)pb");
  EXPECT_EQ(ToMessage(summary, 7).DebugString(), expected.DebugString());
}

TEST(ToMessage, ACompletionWithoutDecodeStepsHasNoSparsity) {
  EXPECT_FALSE(ToMessage(CompletionSummary{.completion_tokens = 1}).has_sparsity());
}

TEST(ToMessage, QualitiesComeBack) {
  for (const Quality quality : {Quality::kExact, Quality::kBalanced, Quality::kFast})
    EXPECT_EQ(ToQuality(ToMessage(quality)), quality);
  EXPECT_EQ(ToQuality(v1::QUALITY_UNSPECIFIED), std::nullopt);
}

TEST(ToMessage, EveryFinishReasonHasItsValue) {
  const std::pair<FinishReason, v1::FinishReason> cases[] = {
      {FinishReason::kUnspecified, v1::FINISH_REASON_UNSPECIFIED},
      {FinishReason::kEndToken, v1::FINISH_REASON_END_TOKEN},
      {FinishReason::kStopString, v1::FINISH_REASON_STOP_STRING},
      {FinishReason::kLength, v1::FINISH_REASON_LENGTH},
      {FinishReason::kTimeLimit, v1::FINISH_REASON_TIME_LIMIT},
      {FinishReason::kError, v1::FINISH_REASON_ERROR},
  };
  for (const auto& [reason, message] : cases) {
    EXPECT_EQ(ToMessage(CompletionSummary{.finish_reason = reason}).finish_reason(), message);
  }
}

TEST(AppendDelta, DeltasAddUp) {
  v1::CompleteResponse response;
  AppendDelta({.text = "ab", .token_ids = {1, 2}}, response);
  AppendDelta({.text = "c", .token_ids = {3}, .logprobs = {{.id = 3, .logprob = -0.5F, .top = {{4, -1.0F}}}}},
              response);
  const auto expected = Parse<v1::CompleteResponse>(R"pb(
    text: "abc"
    token_ids: [ 1, 2, 3 ]
    logprobs {
      token_id: 3
      logprob: -0.5
      top { token_id: 4 logprob: -1 }
    })pb");
  EXPECT_EQ(response.DebugString(), expected.DebugString());
}

TEST(ToMessage, DeltaIsWhatAppendDeltaAdds) {
  const CompletionDelta delta = {
      .text = "c", .token_ids = {3}, .logprobs = {{.id = 3, .logprob = -0.5F, .top = {{4, -1.0F}}}}};
  v1::CompleteResponse response;
  AppendDelta(delta, response);
  const v1::CompletionDelta message = ToMessage(delta);
  EXPECT_EQ(message.text(), response.text());
  EXPECT_THAT(message.token_ids(), ElementsAre(3));
  ASSERT_EQ(message.logprobs_size(), 1);
  EXPECT_EQ(message.logprobs(0).DebugString(), response.logprobs(0).DebugString());
}

TEST(Tokenize, BeginningAndSpecialTokensAsAsked) {
  const auto ids = [](const std::string& request) {
    const auto response = Tokenize(Parse<v1::TokenizeRequest>(request), Tokenizer());
    EXPECT_TRUE(response.ok()) << response.status();
    return std::vector<TokenId>(response->token_ids().begin(), response->token_ids().end());
  };
  EXPECT_THAT(ids("text: 'a'"), ElementsAre(PuppetTokenizer::kBos, PuppetTokenizer::IdOf('a')));
  EXPECT_THAT(ids("text: 'a' add_bos: false"), ElementsAre(PuppetTokenizer::IdOf('a')));
  EXPECT_THAT(ids("text: '<s>' add_bos: false parse_special: true"), ElementsAre(PuppetTokenizer::kBos));
  EXPECT_THAT(ids("text: '' add_bos: false"), ElementsAre());
}

TEST(Tokenize, RefusalNamesTheField) {
  const auto response = Tokenize(Parse<v1::TokenizeRequest>(R"(text: '\001')"), Tokenizer());
  EXPECT_EQ(FieldOf(response.status()), "text");
}

TEST(Detokenize, BytesThatAreNoTextAreReplaced) {
  v1::DetokenizeRequest request;
  for (const char byte : std::string("\xC3\xA9-\xC3-")) request.add_token_ids(PuppetTokenizer::IdOf(byte));
  const auto response = Detokenize(request, Tokenizer());
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->text(), "\u00e9-\ufffd-");
}

TEST(Detokenize, IdsOutsideTheVocabularyAreRefused) {
  for (const TokenId id :
       {-1, 259, std::numeric_limits<TokenId>::max(), std::numeric_limits<TokenId>::min()}) {
    v1::DetokenizeRequest request;
    request.add_token_ids(id);
    const auto response = Detokenize(request, Tokenizer());
    EXPECT_EQ(FieldOf(response.status()), "token_ids") << id;
  }
}

}  // namespace
}  // namespace thermocline
