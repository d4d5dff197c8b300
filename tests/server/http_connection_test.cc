// Connections: keep-alive, pipelining, limits, time-outs, and what every answer says.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include "tests/server/http_fixture.h"

namespace thermocline::testing {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using ::testing::StartsWith;

// Long enough for every reading that must succeed on a busy machine, since only silence runs into it.
constexpr milliseconds kShort{300};
constexpr char kShortCompletion[] = R"({"prompt": "abc", "max_tokens": 2, "temperature": 0})";

std::string TextOf(const HttpAnswer& answer) { return answer.Json()["choices"][0]["text"]; }

TEST(HttpConnectionTest, KeepsConnectionsForFurtherRequests) {
  TestHttpServer server;
  HttpClient client(server.server->port());
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(client.Send(PostText(kCompletions, kShortCompletion)));
    EXPECT_EQ(TextOf(client.Receive()), "de");
  }
  EXPECT_EQ(server.server->http_stats().accepted_connections, 1u);
}

TEST(HttpConnectionTest, AnswersPipelinedRequestsInTheirOrder) {
  TestHttpServer server;
  HttpClient client(server.server->port());
  std::string requests;
  for (int i = 0; i < 20; ++i) {
    requests += PostText(kCompletions, R"({"temperature": 0, "prompt": "x", "max_tokens": )" +
                                           std::to_string(i % 2 + 1) + "}");
    requests += GetText("/health");
  }
  ASSERT_TRUE(client.Send(requests));
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(TextOf(client.Receive()), i % 2 == 0 ? "y" : "yz");
    EXPECT_EQ(client.Receive().Json()["status"], "ok");
  }
}

// More than the connection reads ahead while an answer is under way.
TEST(HttpConnectionTest, AnswersPipelinedRequestsThatHaveToWait) {
  TestHttpServer server;
  server.runner.HoldAt(1);
  HttpClient client(server.server->port());
  ASSERT_TRUE(client.Send(PostText(kCompletions, kShortCompletion)));
  server.runner.WaitUntilHeld();
  const std::string prompt(100'000, ' ');
  ASSERT_TRUE(client.Send(PostText("/tokenize", R"({"prompt": ")" + prompt + "\"}") + GetText("/health")));
  server.runner.Release();
  EXPECT_EQ(TextOf(client.Receive()), "de");
  EXPECT_EQ(client.Receive().Json()["count"], 100'001);
  EXPECT_EQ(client.Receive().status, 200);
}

TEST(HttpConnectionTest, TakesRequestsByteByByte) {
  TestHttpServer server;
  HttpClient client(server.server->port());
  for (const char byte : PostText(kCompletions, kShortCompletion)) {
    ASSERT_TRUE(client.Send(std::string_view(&byte, 1)));
  }
  EXPECT_EQ(TextOf(client.Receive()), "de");
}

TEST(HttpConnectionTest, TakesChunkedBodies) {
  TestHttpServer server;
  const std::string body = kShortCompletion;
  std::string request =
      "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
      "Transfer-Encoding: chunked\r\n\r\n";
  for (const char byte : body) request += std::string("1\r\n") + byte + "\r\n";
  HttpClient client(server.server->port());
  ASSERT_TRUE(client.Send(request + "0\r\n\r\n" + GetText("/health")));
  EXPECT_EQ(TextOf(client.Receive()), "de");
  EXPECT_EQ(client.Receive().status, 200);
}

TEST(HttpConnectionTest, TellsClientsThatAskToGoOn) {
  TestHttpServer server;
  HttpClient client(server.server->port());
  const std::string body = kShortCompletion;
  const std::string request = PostText(kCompletions, body, "Expect: 100-continue\r\n");
  ASSERT_TRUE(client.Send(request.substr(0, request.size() - body.size())));
  EXPECT_EQ(client.ReceiveHead().status, 100);
  ASSERT_TRUE(client.Send(body));
  EXPECT_EQ(TextOf(client.Receive()), "de");
}

TEST(HttpConnectionTest, ClosesWhereClientsAskForIt) {
  TestHttpServer server;
  HttpClient client(server.server->port());
  ASSERT_TRUE(client.Send(GetText("/health", "Connection: close\r\n")));
  EXPECT_EQ(client.Receive().Header("connection"), "close");
  EXPECT_TRUE(client.IsClosed());
}

TEST(HttpConnectionTest, SpeaksTheOlderVersion) {
  TestHttpServer server;
  const HttpAnswer health = Ask(server, "GET /health HTTP/1.0\r\n\r\n");
  EXPECT_EQ(health.status, 200);
  EXPECT_EQ(health.Header("connection"), "close");
  const std::string body = R"({"prompt": "abc", "max_tokens": 2, "stream": true})";
  const HttpAnswer stream = Ask(server,
                                "POST /v1/completions HTTP/1.0\r\nContent-Type: application/json\r\n"
                                "Content-Length: " +
                                    std::to_string(body.size()) + "\r\n\r\n" + body);
  EXPECT_EQ(stream.Header("transfer-encoding"), "");
  EXPECT_EQ(EventsOf(stream.body).back(), "[DONE]");
}

TEST(HttpConnectionTest, AnswersHeadsWithoutBodies) {
  TestHttpServer server;
  HttpClient client(server.server->port());
  ASSERT_TRUE(client.Send(RequestText("HEAD", "/health", "", "") + GetText("/health")));
  const HttpAnswer head = client.Receive(/*head_only=*/true);
  const HttpAnswer get = client.Receive();
  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.Header("content-length"), get.Header("content-length"));
  EXPECT_EQ(get.Json()["status"], "ok");
}

TEST(HttpConnectionTest, NamesTheMethodsOfAPath) {
  TestHttpServer server;
  const HttpAnswer get = Get(server, kCompletions);
  EXPECT_EQ(get.status, 405);
  EXPECT_EQ(get.Header("allow"), "POST");
  const HttpAnswer post = Post(server, "/v1/models", "{}");
  EXPECT_EQ(post.status, 405);
  EXPECT_EQ(post.Header("allow"), "GET, HEAD");
  EXPECT_EQ(Get(server, "/v1/none").status, 404);
  EXPECT_EQ(Get(server, "/health?verbose=1").status, 200);
}

// What is no request is refused, and the connection ends there.
TEST(HttpConnectionTest, RefusesWhatItCannotRead) {
  HttpSetup setup;
  setup.options.http.limits = {.max_body_bytes = 4096, .max_header_bytes = 2048};
  TestHttpServer server(setup);
  const std::string host = " HTTP/1.1\r\nHost: x\r\n";
  const std::string chunked = "POST /tokenize" + host + "Transfer-Encoding: chunked\r\n";
  const std::pair<std::string, int> kCases[] = {
      {"hello\r\n\r\n", 400},
      {std::string("\x16\x03\x01\x02\x00\x01\x00", 7) + "\r\n\r\n", 400},
      {"GET / HTTP/2.0\r\n\r\n", 505},
      {"GET /health HTTP/1.1\r\n\r\n", 400},            // no Host
      {"GET /health" + host + "Host: y\r\n\r\n", 400},  // two of them
      {"GET /health" + host + "bad header\r\n\r\n", 400},
      {"GET /health" + host + "a: " + std::string(3000, 'a') + "\r\n\r\n", 431},
      {"GET /" + std::string(3000, 'a') + host + "\r\n", 431},
      {"POST /tokenize" + host + "Content-Length: -1\r\n\r\n", 400},
      {"POST /tokenize" + host + "Content-Length: 5\r\nContent-Length: 6\r\n\r\n", 400},
      {"POST /tokenize" + host + "Content-Length: 99999999999999999999\r\n\r\n", 400},
      {"POST /tokenize" + host + "Content-Length: 5000\r\n\r\n", 413},
      {"POST /tokenize" + host + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
      {chunked + "Content-Length: 5\r\n\r\n0\r\n\r\n", 400},
      {"POST /tokenize" + host + "Transfer-Encoding: gzip\r\n\r\n", 501},
      {chunked + "\r\nzz\r\n", 400},
      {chunked + "\r\n1;" + std::string(8000, 'x'), 431},  // an endless chunk extension
      {chunked + "\r\n" +
           [] {
             std::string chunks;
             for (int i = 0; i < 50; ++i) chunks += "64\r\n" + std::string(100, 'a') + "\r\n";
             return chunks;
           }(),
       413},
      {"POST /tokenize" + host + "Expect: miracles\r\nContent-Length: 1\r\n\r\na", 417},
  };
  for (const auto& [request, status] : kCases) {
    HttpClient client(server.server->port());
    client.Send(request);
    const HttpAnswer answer = client.Receive();
    EXPECT_EQ(answer.status, status) << request.substr(0, 120) << "\n" << answer.body;
    if (answer.status == 0) continue;
    EXPECT_EQ(answer.Header("connection"), "close") << request.substr(0, 120);
    EXPECT_THAT(answer.Header("x-request-id"), StartsWith("req-"));
    EXPECT_FALSE(answer.Error()["message"].get<std::string>().empty());
    EXPECT_TRUE(client.IsClosed());
  }
  ExpectServes(server);
}

// The client is told even though it sends on and on.
TEST(HttpConnectionTest, RefusesALongBodyWhileItIsStillSent) {
  HttpSetup setup;
  setup.options.http.limits.max_body_bytes = 4096;
  TestHttpServer server(setup);
  HttpClient client(server.server->port());
  const std::string body(1 << 20, 'a');
  ASSERT_TRUE(client.Send(PostText("/tokenize", body)));
  const HttpAnswer answer = client.Receive();
  EXPECT_EQ(answer.status, 413);
  EXPECT_THAT(answer.Error()["message"], HasSubstr("4096"));
}

TEST(HttpConnectionTest, GivesUpOnRequestsThatDoNotCome) {
  HttpSetup setup;
  setup.options.http.header_timeout = kShort;
  setup.options.http.body_timeout = kShort;
  TestHttpServer server(setup);
  HttpClient slow_head(server.server->port());
  HttpClient slow_body(server.server->port());
  HttpClient silent(server.server->port());
  ASSERT_TRUE(slow_head.Send("GET /health HT"));
  ASSERT_TRUE(slow_body.Send("POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{"));
  const HttpAnswer head = slow_head.Receive();
  EXPECT_EQ(head.status, 408);
  EXPECT_THAT(head.Error()["message"], HasSubstr("headers"));
  EXPECT_TRUE(slow_head.IsClosed());
  const HttpAnswer body = slow_body.Receive();
  EXPECT_EQ(body.status, 408);
  EXPECT_THAT(body.Error()["message"], HasSubstr("body"));
  EXPECT_TRUE(silent.IsClosed());  // there is no request to answer
  ASSERT_TRUE(Eventually([&] { return server.server->http_stats().connections == 2; }));
}

TEST(HttpConnectionTest, LetsGoOfIdleConnections) {
  HttpSetup setup;
  setup.options.http.idle_timeout = kShort;
  TestHttpServer server(setup);
  HttpClient client(server.server->port());
  ASSERT_TRUE(client.Send(GetText("/health")));
  EXPECT_EQ(client.Receive().status, 200);
  EXPECT_TRUE(client.IsClosed());
}

TEST(HttpConnectionTest, LimitsConnections) {
  HttpSetup setup;
  setup.options.http.max_connections = 2;
  TestHttpServer server(setup);
  HttpClient first(server.server->port());
  {
    HttpClient second(server.server->port());
    ASSERT_TRUE(second.Send(GetText("/health")));
    EXPECT_EQ(second.Receive().status, 200);
    HttpClient third(server.server->port());
    const HttpAnswer refused = third.Receive();
    EXPECT_EQ(refused.status, 503);
    EXPECT_EQ(refused.Header("retry-after"), "1");
    EXPECT_TRUE(third.IsClosed());
  }
  ASSERT_TRUE(Eventually([&] { return server.server->http_stats().connections == 1; }));
  ASSERT_TRUE(first.Send(GetText("/health")));
  EXPECT_EQ(first.Receive().status, 200);
  ExpectServes(server);
  EXPECT_EQ(server.server->http_stats().refused_connections, 1u);
}

TEST(HttpConnectionTest, EchoesRequestIdsAndMakesThem) {
  TestHttpServer server;
  EXPECT_EQ(Get(server, "/health", "X-Request-ID: a-b_c.d:9\r\n").Header("x-request-id"), "a-b_c.d:9");
  const std::string made = Get(server, "/health").Header("x-request-id");
  EXPECT_THAT(made, StartsWith("req-"));
  EXPECT_NE(Get(server, "/health").Header("x-request-id"), made);
  for (const std::string& odd : {std::string(129, 'a'), std::string("a b"), std::string("a\xC3\xBC")}) {
    EXPECT_THAT(Get(server, "/health", "X-Request-ID: " + odd + "\r\n").Header("x-request-id"),
                StartsWith("req-"));
  }
  EXPECT_THAT(server.Log(), SizeIs(6));
  EXPECT_THAT(server.Log()[0], HasSubstr("a-b_c.d:9"));
}

TEST(HttpConnectionTest, SaysNothingToOtherOriginsUnlessAsked) {
  TestHttpServer server;
  const HttpAnswer answer = Get(server, "/health", "Origin: https://a.example\r\n");
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.Header("access-control-allow-origin"), "");
  const std::string preflight = RequestText("OPTIONS", kCompletions,
                                            "Origin: https://a.example\r\n"
                                            "Access-Control-Request-Method: POST\r\n",
                                            "");
  EXPECT_EQ(Ask(server, preflight).status, 405);
}

TEST(HttpConnectionTest, AllowsTheOriginsThatWereNamed) {
  HttpSetup setup;
  setup.options.cors.allowed_origins = {"https://a.example"};
  TestHttpServer server(setup);
  const auto preflight = [&](const std::string& origin) {
    return Ask(server, RequestText("OPTIONS", kCompletions,
                                   "Origin: " + origin + "\r\nAccess-Control-Request-Method: POST\r\n", ""));
  };
  const HttpAnswer allowed = preflight("https://a.example");
  EXPECT_EQ(allowed.status, 204);
  EXPECT_EQ(allowed.Header("access-control-allow-origin"), "https://a.example");
  EXPECT_EQ(allowed.Header("access-control-allow-methods"), "POST");
  EXPECT_THAT(allowed.Header("access-control-allow-headers"), HasSubstr("Authorization"));
  EXPECT_EQ(allowed.Header("vary"), "Origin");
  EXPECT_EQ(preflight("https://b.example").status, 405);
  // Errors, too, so that pages can read them.
  const HttpAnswer error = Post(server, kCompletions, "{", "Origin: https://a.example\r\n");
  EXPECT_EQ(error.status, 400);
  EXPECT_EQ(error.Header("access-control-allow-origin"), "https://a.example");
}

TEST(HttpOptionsTest, AreChecked) {
  const auto field_of = [](auto change) {
    OpenAiServerOptions options;
    change(options);
    return FieldOf(options.Validate());
  };
  using Options = OpenAiServerOptions;
  EXPECT_TRUE(Options().Validate().ok());
  EXPECT_EQ(field_of([](Options& o) { o.http.listen = "8080"; }), "http");
  EXPECT_EQ(field_of([](Options& o) { o.http.listen = "::1:80"; }), "http");
  EXPECT_EQ(field_of([](Options& o) { o.http.threads = 0; }), "http_threads");
  EXPECT_EQ(field_of([](Options& o) { o.http.limits.max_body_bytes = 1; }), "max_body_bytes");
  EXPECT_EQ(field_of([](Options& o) { o.http.limits.max_header_bytes = 1; }), "max_header_bytes");
  EXPECT_EQ(field_of([](Options& o) { o.http.max_connections = 0; }), "max_connections");
  EXPECT_EQ(field_of([](Options& o) { o.http.max_unread_bytes = 1; }), "max_unread_bytes");
  EXPECT_EQ(field_of([](Options& o) { o.http.header_timeout = milliseconds(0); }), "header_timeout");
  EXPECT_EQ(field_of([](Options& o) { o.http.write_timeout = std::chrono::hours(25); }), "write_timeout");
  EXPECT_EQ(field_of([](Options& o) { o.http.tls.certificate = "a"; }), "tls_key");
  EXPECT_EQ(field_of([](Options& o) { o.http.tls.private_key = "a"; }), "tls_cert");
  EXPECT_EQ(field_of([](Options& o) { o.http.tls.client_ca = "a"; }), "tls_client_ca");
  EXPECT_EQ(field_of([](Options& o) { o.cors.allowed_origins = {"example.org"}; }), "cors_origins");
  EXPECT_EQ(field_of([](Options& o) { o.cors.allowed_origins = {"https://a.example/"}; }), "cors_origins");
  EXPECT_EQ(field_of([](Options& o) { o.cors.allowed_origins = {"*", "http://a:1"}; }), "");
}

TEST(HttpServerTest, SaysWhichAddressIsTaken) {
  TestHttpServer server;
  OpenAiServerOptions options;
  options.http.listen = server.server->address();
  const auto second = OpenAiServer::Start({.scheduler = server.scheduler,
                                           .tokenizer = server.tokenizer,
                                           .chat_template = server.chat_template,
                                           .model = server.model,
                                           .metrics = server.metrics,
                                           .log = server.log},
                                          options);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(server.server->address()));
}

}  // namespace
}  // namespace thermocline::testing
