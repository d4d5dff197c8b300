// Calls through a real channel: completions, tokens, model, health, reflection, refusals.
// SPDX-License-Identifier: Apache-2.0
#include "server/completion_server.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "tests/server/server_fixture.h"

namespace thermocline::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::StartsWith;

struct NamedCallKind {
  const char* name;
  Call call;
};

// What Complete and StreamComplete share.
class CompletionCallTest : public ::testing::TestWithParam<NamedCallKind> {
 protected:
  Outcome Run(TestServer& server, const v1::CompleteRequest& request) {
    grpc::ClientContext context;
    return GetParam().call(server, request, context);
  }
};
INSTANTIATE_TEST_SUITE_P(Calls, CompletionCallTest,
                         ::testing::Values(NamedCallKind{"Complete", &CompleteWith},
                                           NamedCallKind{"StreamComplete", &StreamWith}),
                         [](const auto& instance) { return instance.param.name; });

TEST_P(CompletionCallTest, CompletesText) {
  TestServer server;
  const Outcome outcome = Run(server, TextRequest("abc", 5));
  ASSERT_TRUE(outcome.status.ok()) << outcome.status.error_message();
  EXPECT_EQ(outcome.text, "defgh");
  EXPECT_EQ(outcome.token_ids, PuppetTokenizer::IdsOf("defgh"));
  EXPECT_THAT(outcome.logprobs, IsEmpty());
  ASSERT_THAT(outcome.summaries, SizeIs(1));
  const v1::CompletionSummary& summary = outcome.summaries[0];
  EXPECT_EQ(summary.finish_reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(summary.usage().prompt_tokens(), 4);  // the beginning and three letters
  EXPECT_EQ(summary.usage().completion_tokens(), 5);
  EXPECT_GT(summary.timings().time_to_first_token_ms(), 0);
  EXPECT_GE(summary.timings().time_to_first_token_ms(), summary.timings().prefill_ms());
}

TEST_P(CompletionCallTest, TokenIdsAreTakenAsTheyAre) {
  TestServer server;
  v1::CompleteRequest request = TextRequest("", 2);
  for (const TokenId id : PuppetTokenizer::IdsOf("xy")) request.mutable_token_ids()->add_ids(id);
  const Outcome outcome = Run(server, request);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status.error_message();
  EXPECT_EQ(outcome.text, "za");
  EXPECT_EQ(outcome.summaries.at(0).usage().prompt_tokens(), 2);
}

TEST_P(CompletionCallTest, EndsAtTheEndToken) {
  TestServer server;
  server.runner.Follow(PuppetTokenizer::IdOf('e'), PuppetTokenizer::kEos);
  const Outcome outcome = Run(server, TextRequest("abc", 50));
  EXPECT_EQ(outcome.text, "de");
  EXPECT_EQ(outcome.summaries.at(0).finish_reason(), v1::FINISH_REASON_END_TOKEN);
}

TEST_P(CompletionCallTest, StopStringAcrossTokensDoesNotLeak) {
  TestServer server;
  v1::CompleteRequest request = TextRequest("abc", 50);
  request.mutable_stopping()->add_stop("fgh");
  const Outcome outcome = Run(server, request);
  EXPECT_EQ(outcome.text, "de");
  EXPECT_EQ(outcome.summaries.at(0).finish_reason(), v1::FINISH_REASON_STOP_STRING);
  EXPECT_EQ(outcome.summaries.at(0).matched_stop(), "fgh");
}

TEST_P(CompletionCallTest, EchoAndSeedComeBack) {
  TestServer server;
  v1::CompleteRequest request = TextRequest("abc", 2);
  request.mutable_output()->set_echo(true);
  request.mutable_sampling()->set_seed(std::numeric_limits<uint64_t>::max());
  const Outcome outcome = Run(server, request);
  EXPECT_EQ(outcome.text, "abcde");
  EXPECT_EQ(outcome.token_ids, PuppetTokenizer::IdsOf("de"));
  EXPECT_EQ(outcome.summaries.at(0).seed(), std::numeric_limits<uint64_t>::max());
}

TEST_P(CompletionCallTest, LogprobsAreThoseOfTheLogits) {
  TestServer server;
  v1::CompleteRequest request = TextRequest("abc", 2);
  request.mutable_output()->set_top_logprobs(2);
  const Outcome outcome = Run(server, request);
  ASSERT_THAT(outcome.logprobs, SizeIs(2));
  const double log_sum = std::log(std::exp(PuppetRunner::kBestLogit) + std::exp(PuppetRunner::kSecondLogit) +
                                  static_cast<double>(PuppetTokenizer::kVocabularySize - 2) *
                                      std::exp(PuppetRunner::kOtherLogit));
  const v1::TokenLogprob& first = outcome.logprobs[0];
  EXPECT_EQ(first.token_id(), PuppetTokenizer::IdOf('d'));
  EXPECT_NEAR(first.logprob(), PuppetRunner::kBestLogit - log_sum, 1e-5);
  ASSERT_EQ(first.top_size(), 2);
  EXPECT_EQ(first.top(0).token_id(), PuppetTokenizer::IdOf('d'));
  EXPECT_EQ(first.top(1).token_id(), PuppetTokenizer::IdOf('e'));
  EXPECT_NEAR(first.top(1).logprob(), PuppetRunner::kSecondLogit - log_sum, 1e-5);
}

TEST_P(CompletionCallTest, LogitsThatAreNoNumbersEndTheCompletion) {
  TestServer server;
  server.runner.NanAfter(PuppetTokenizer::IdOf('e'));
  const Outcome outcome = Run(server, TextRequest("abc", 50));
  ASSERT_TRUE(outcome.status.ok()) << outcome.status.error_message();
  EXPECT_EQ(outcome.text, "de");
  EXPECT_EQ(outcome.summaries.at(0).finish_reason(), v1::FINISH_REASON_ERROR);
}

TEST_P(CompletionCallTest, FailureOfTheRunnerIsTheCallsStatus) {
  TestServer server;
  server.runner.FailAfter(PuppetTokenizer::IdOf('!'), Internal("the device is gone"));
  const Outcome outcome = Run(server, TextRequest("abc!", 50));
  EXPECT_EQ(outcome.status.error_code(), grpc::INTERNAL);
  EXPECT_EQ(outcome.status.error_message(), "the device is gone");
  EXPECT_THAT(outcome.summaries, IsEmpty());
  ExpectServes(server);
}

// Each refusal names its field, costs no Forward, and leaves the server as it was.
TEST_P(CompletionCallTest, BadRequestsAreRefusedByField) {
  TestServer server({.context_length = 64});
  const auto with = [](const std::function<void(v1::CompleteRequest&)>& change) {
    v1::CompleteRequest request = TextRequest("abc", 2);
    change(request);
    return request;
  };
  const auto tokens = [&](TokenId id) {
    return with([id](auto& request) { request.mutable_token_ids()->add_ids(id); });
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::pair<v1::CompleteRequest, const char*> cases[] = {
      {v1::CompleteRequest(), "prompt"},
      {with([](auto& r) { r.set_text(""); }), "prompt"},
      {with([](auto& r) { r.set_text("\x01"); }), "prompt"},
      {with([](auto& r) { r.mutable_token_ids(); }), "prompt"},
      {with([](auto& r) { r.set_text(std::string(64, 'a')); }), "prompt"},
      {tokens(-1), "prompt"},
      {tokens(PuppetTokenizer::kVocabularySize), "prompt"},
      {tokens(std::numeric_limits<TokenId>::max()), "prompt"},
      {with([](auto& r) {
         r.mutable_token_ids()->add_ids(5);
         r.set_parse_special(false);
       }),
       "parse_special"},
      {with([](auto& r) { r.mutable_sampling()->set_temperature(-0.5); }), "temperature"},
      {with([nan](auto& r) { r.mutable_sampling()->set_temperature(nan); }), "temperature"},
      {with([](auto& r) { r.mutable_sampling()->set_top_k(-1); }), "top_k"},
      {with([](auto& r) { r.mutable_sampling()->set_top_p(0); }), "top_p"},
      {with([](auto& r) { r.mutable_sampling()->set_min_p(1.5); }), "min_p"},
      {with([](auto& r) { r.mutable_sampling()->set_repetition_penalty(0); }), "repetition_penalty"},
      {with([](auto& r) { r.mutable_sampling()->set_presence_penalty(3); }), "presence_penalty"},
      {with([](auto& r) { r.mutable_sampling()->set_frequency_penalty(-3); }), "frequency_penalty"},
      {with([](auto& r) { r.mutable_sampling()->add_logit_bias()->set_bias(100.5); }), "logit_bias"},
      {with([](auto& r) { r.mutable_sampling()->add_logit_bias()->set_token_id(-5); }), "logit_bias"},
      {with([](auto& r) { r.mutable_stopping()->set_max_tokens(0); }), "max_tokens"},
      {with([](auto& r) { r.mutable_stopping()->set_max_tokens(std::numeric_limits<int64_t>::min()); }),
       "max_tokens"},
      {with([](auto& r) { r.mutable_stopping()->set_min_tokens(-1); }), "min_tokens"},
      {with([](auto& r) { r.mutable_stopping()->add_stop(std::string()); }), "stop"},
      {with([](auto& r) { r.mutable_stopping()->add_stop(std::string(1025, 'x')); }), "stop"},
      {with([](auto& r) {
         for (int i = 0; i < 1'000'000; ++i) r.mutable_stopping()->add_stop(std::string("x"));
       }),
       "stop"},
      {with([](auto& r) { r.mutable_stopping()->mutable_time_limit()->set_seconds(-1); }), "time_limit"},
      {with([](auto& r) { r.mutable_messages(); }), "messages"},
      {with([](auto& r) { r.mutable_messages()->add_messages()->set_role("robot"); }), "messages[0].role"},
      {with([](auto& r) { r.set_n(0); }), "n"},
      {with([](auto& r) { r.set_n(129); }), "n"},
      {with([](auto& r) { r.mutable_output()->set_top_logprobs(21); }), "top_logprobs"},
      {with([](auto& r) { r.mutable_output()->set_top_logprobs(-1); }), "top_logprobs"},
  };
  for (const auto& [request, field] : cases) {
    const Outcome outcome = Run(server, request);
    EXPECT_EQ(outcome.status.error_code(), grpc::INVALID_ARGUMENT) << field;
    EXPECT_EQ(outcome.field, field) << outcome.status.error_message();
    EXPECT_THAT(outcome.status.error_message(), StartsWith(field));
    EXPECT_THAT(outcome.status.error_details(), HasSubstr("google.rpc.BadRequest"));
    EXPECT_THAT(outcome.text, IsEmpty());
  }
  EXPECT_EQ(server.runner.forward_calls(), 0);
  ExpectServes(server);
}

TEST_P(CompletionCallTest, MessageAboveTheLimitIsRefused) {
  TestServer server;
  const Outcome outcome = Run(server, TextRequest(std::string((16 << 20) + 1, 'a'), 1));
  EXPECT_EQ(outcome.status.error_code(), grpc::RESOURCE_EXHAUSTED) << outcome.status.error_message();
  ExpectServes(server);
}

TEST_P(CompletionCallTest, QualityIsTheRequestsAndComesBack) {
  TestServer server({.predicts = true});
  for (const auto& [asked, got] :
       {std::pair(v1::QUALITY_FAST, Quality::kFast), std::pair(v1::QUALITY_EXACT, Quality::kExact),
        std::pair(v1::QUALITY_BALANCED, Quality::kBalanced)}) {
    v1::CompleteRequest request = TextRequest("abc", 2);
    request.set_quality(asked);
    const Outcome outcome = Run(server, request);
    ASSERT_TRUE(outcome.status.ok()) << outcome.status.error_message();
    EXPECT_EQ(outcome.summaries.at(0).quality(), asked);
    EXPECT_EQ(server.runner.decode_qualities().back(), got);
    const v1::Sparsity& sparsity = outcome.summaries[0].sparsity();
    EXPECT_EQ(sparsity.tokens(), 1);
    EXPECT_EQ(sparsity.marked(), PuppetRunner::FiguresOf(StepKind::kDecode, got).marked_neurons);
  }
  EXPECT_EQ(Run(server, TextRequest("abc", 2)).summaries.at(0).quality(), v1::QUALITY_BALANCED);
}

TEST_P(CompletionCallTest, QualityThatTheModeDoesNotOfferIsRefused) {
  TestServer server;
  v1::CompleteRequest request = TextRequest("abc", 2);
  request.set_quality(v1::QUALITY_FAST);
  const Outcome outcome = Run(server, request);
  EXPECT_EQ(outcome.status.error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_EQ(outcome.field, "quality");
  EXPECT_THAT(outcome.status.error_message(), HasSubstr("offers exact"));
  request.set_quality(v1::QUALITY_EXACT);
  EXPECT_TRUE(Run(server, request).status.ok());
}

TEST(StreamComplete, CodePointsStayWhole) {
  TestServer server;
  server.runner.Follow(PuppetTokenizer::IdOf('x'), PuppetTokenizer::IdOf('\xC3'));
  server.runner.Follow(PuppetTokenizer::IdOf('\xC3'), PuppetTokenizer::IdOf('\xA9'));
  const Outcome outcome = Stream(server, TextRequest("x", 2));
  ASSERT_TRUE(outcome.status.ok()) << outcome.status.error_message();
  ASSERT_THAT(outcome.deltas, SizeIs(2));
  EXPECT_EQ(outcome.deltas[0].text(), "");
  EXPECT_EQ(outcome.deltas[1].text(), "\u00e9");
}

// A client that does not read must not hold up the scheduler.
TEST(StreamComplete, ClientThatDoesNotReadDelaysNobody) {
  TestServer server({.context_length = 4096});
  v1::CompleteRequest request = TextRequest("a", 4000);  // with logprobs far more than a connection buffers
  request.mutable_output()->set_top_logprobs(20);
  grpc::ClientContext context;
  const auto reader = server.stub->StreamComplete(&context, Streaming(request));
  EXPECT_TRUE(Eventually([&] { return server.runner.forward_calls() > 0; }));
  ExpectServes(server);
  // And it can still read all of it.
  int64_t tokens = 0;
  bool summary = false;
  v1::StreamCompleteResponse response;
  while (reader->Read(&response)) {
    tokens += response.delta().token_ids_size();
    summary = response.has_summary();
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(tokens, 4000);
  EXPECT_TRUE(summary);
}

TEST(Complete, ManyClientsAtOnceEachGetTheirs) {
  TestServer server({.max_queued_requests = 64});
  std::vector<std::unique_ptr<BackgroundCall>> calls;
  for (int i = 0; i < 24; ++i) {
    const std::string prompt(1, static_cast<char>('a' + i));
    calls.push_back(std::make_unique<BackgroundCall>(server, TextRequest(prompt, 1),
                                                     i % 2 ? &StreamWith : &CompleteWith));
  }
  for (int i = 0; i < 24; ++i) {
    EXPECT_EQ(calls[static_cast<size_t>(i)]->Wait().text, std::string(1, static_cast<char>('a' + i + 1)));
  }
}

TEST(Tokenize, RoundTrip) {
  TestServer server;
  const std::string text = "Na\u00efve \u4f60\u597d";
  v1::TokenizeRequest tokenize;
  tokenize.set_text(text);
  v1::TokenizeResponse tokens;
  grpc::ClientContext there;
  ASSERT_TRUE(server.stub->Tokenize(&there, tokenize, &tokens).ok());
  EXPECT_EQ(tokens.token_ids(0), PuppetTokenizer::kBos);
  EXPECT_EQ(tokens.token_ids_size(), static_cast<int>(text.size()) + 1);

  v1::DetokenizeRequest detokenize;
  *detokenize.mutable_token_ids() = tokens.token_ids();
  v1::DetokenizeResponse back;
  grpc::ClientContext back_again;
  ASSERT_TRUE(server.stub->Detokenize(&back_again, detokenize, &back).ok());
  EXPECT_EQ(back.text(), text);
}

TEST(Detokenize, RefusalNamesTheField) {
  TestServer server;
  v1::DetokenizeRequest request;
  request.add_token_ids(-7);
  v1::DetokenizeResponse response;
  grpc::ClientContext context;
  const grpc::Status status = server.stub->Detokenize(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_EQ(TrailingMetadata(context, "thermocline-field"), "token_ids");
  EXPECT_THAT(status.error_message(), HasSubstr("-7"));
}

TEST(GetModel, DescribesTheModel) {
  TestServer server({.context_length = 777});
  v1::GetModelResponse response;
  grpc::ClientContext context;
  ASSERT_TRUE(server.stub->GetModel(&context, v1::GetModelRequest(), &response).ok());
  const v1::Model& model = response.model();
  EXPECT_EQ(model.name(), "puppet.gguf");
  EXPECT_EQ(model.architecture(), "llama");
  EXPECT_EQ(model.activation(), "relu");
  EXPECT_EQ(model.shape().n_layers(), 2);
  EXPECT_EQ(model.shape().d_model(), 64);
  EXPECT_EQ(model.shape().d_ff(), 256);
  EXPECT_EQ(model.shape().n_heads(), 4);
  EXPECT_EQ(model.shape().n_kv_heads(), 2);
  EXPECT_EQ(model.shape().d_head(), 16);
  EXPECT_TRUE(model.shape().gated());
  EXPECT_EQ(model.context_length(), 777);
  EXPECT_EQ(model.vocabulary_size(), PuppetTokenizer::kVocabularySize);
  EXPECT_EQ(model.tokenizer_kind(), "puppet-bytes");
  EXPECT_THAT(model.weight_types(), ElementsAre("Q4_0", "F32"));
  EXPECT_EQ(model.weight_bytes(), 123456);
  EXPECT_EQ(model.mode(), "predicted");
  EXPECT_THAT(model.qualities(), ElementsAre(v1::QUALITY_EXACT));
}

TEST(GetModel, NamesTheQualitiesOfARunnerThatPredicts) {
  TestServer server({.predicts = true});
  v1::GetModelResponse response;
  grpc::ClientContext context;
  ASSERT_TRUE(server.stub->GetModel(&context, v1::GetModelRequest(), &response).ok());
  EXPECT_THAT(response.model().qualities(),
              ElementsAre(v1::QUALITY_EXACT, v1::QUALITY_BALANCED, v1::QUALITY_FAST));
}

TEST(Health, EveryServiceServes) {
  TestServer server;
  for (const char* service : {"", "thermocline.v1.CompletionService", "thermocline.v1.AdminService",
                              "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}) {
    HealthCall check(server.channel, "/grpc.health.v1.Health/Check", HealthRequest(service));
    google::protobuf::Int32Value status;
    EXPECT_TRUE(check.Read(status)) << service;
    EXPECT_EQ(status.value(), kServing) << service;
    EXPECT_TRUE(check.Finish().ok()) << service;
  }
}

TEST(Health, UnknownServiceIsNotFound) {
  TestServer server;
  HealthCall check(server.channel, "/grpc.health.v1.Health/Check", HealthRequest("thermocline.v1.Nothing"));
  EXPECT_EQ(check.Finish().error_code(), grpc::NOT_FOUND);
}

TEST(Reflection, ListsTheServices) {
  TestServer server;
  const std::string list_services("\x3a\x01*", 3);  // field 7, a string of one byte
  const grpc::Slice slice(list_services);
  const grpc::ByteBuffer request(&slice, 1);
  NamedCall<grpc::ByteBuffer, grpc::ByteBuffer> call(
      server.channel, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", request);
  grpc::ByteBuffer response;
  ASSERT_TRUE(call.Read(response));
  grpc::Slice answer;
  ASSERT_TRUE(response.DumpToSingleSlice(&answer).ok());
  const std::string text(reinterpret_cast<const char*>(answer.begin()), answer.size());
  EXPECT_THAT(text, HasSubstr("thermocline.v1.CompletionService"));
  EXPECT_THAT(text, HasSubstr("thermocline.v1.AdminService"));
  EXPECT_THAT(text, HasSubstr("grpc.health.v1.Health"));
}

TEST(CompletionServer, BytesThatAreNoMessageAreRefused) {
  TestServer server;
  for (const char* method : {"Complete", "StreamComplete", "Tokenize"}) {
    const grpc::Slice slice(std::string("\xff\xff\xff\xff not a message"));
    const grpc::ByteBuffer request(&slice, 1);
    NamedCall<grpc::ByteBuffer, grpc::ByteBuffer> call(
        server.channel, std::string("/thermocline.v1.CompletionService/") + method, request);
    EXPECT_FALSE(call.Finish().ok()) << method;
  }
  ExpectServes(server);
}

TEST(CompletionServer, BusyPortIsAnErrorThatNamesIt) {
  TestServer first;
  CompletionServerOptions options;
  options.listen = first.server->address();
  const auto second = CompletionServer::Start(first.Parts(), options);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(second.status().ToString(), HasSubstr(first.server->address()));
  ExpectServes(first);
}

TEST(CompletionServerOptions, ListenIsHostAndPort) {
  for (const char* good : {"127.0.0.1:0", "localhost:65535", "[::1]:50051", "0.0.0.0:1"}) {
    EXPECT_TRUE(CompletionServerOptions{.listen = good}.Validate().ok()) << good;
  }
  for (const char* bad : {"", ":50051", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "h:-1",
                          "h:1 ", "::1:50051", "h:99999999999999999999"}) {
    const absl::Status status = CompletionServerOptions{.listen = bad}.Validate();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << bad;
    EXPECT_THAT(status.ToString(), HasSubstr("listen")) << bad;
  }
}

TEST(CompletionServerOptions, RangesAreChecked) {
  using std::chrono::milliseconds;
  EXPECT_TRUE(CompletionServerOptions().Validate().ok());
  EXPECT_FALSE(CompletionServerOptions{.max_message_bytes = 1023}.Validate().ok());
  EXPECT_FALSE(CompletionServerOptions{.max_message_bytes = int64_t{1} << 31}.Validate().ok());
  EXPECT_FALSE(CompletionServerOptions{.min_client_ping_interval = milliseconds(0)}.Validate().ok());
  EXPECT_FALSE(CompletionServerOptions{.keepalive_interval = milliseconds(999)}.Validate().ok());
  EXPECT_FALSE(CompletionServerOptions{.keepalive_timeout = milliseconds(0)}.Validate().ok());
  EXPECT_FALSE(CompletionServerOptions{.shutdown_timeout = milliseconds(-1)}.Validate().ok());
  EXPECT_FALSE(CompletionServerOptions{.shutdown_timeout = std::chrono::hours(25)}.Validate().ok());
}

}  // namespace
}  // namespace thermocline::testing
