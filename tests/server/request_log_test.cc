// Log lines: what they hold, what clients cannot do to them.
// SPDX-License-Identifier: Apache-2.0
#include "server/request_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

namespace thermocline {
namespace {

using ::testing::MatchesRegex;

// A log whose lines are kept.
struct Kept {
  explicit Kept(RequestLogOptions options = {})
      : log(options, [this](std::string_view line) { lines.emplace_back(line); }) {}
  // The only line, parsed.
  nlohmann::json Only() const {
    EXPECT_EQ(lines.size(), 1u);
    return lines.size() == 1 ? nlohmann::json::parse(lines[0]) : nlohmann::json();
  }
  std::vector<std::string> lines;
  RequestLog log;
};

RequestRecord SomeRecord() {
  RequestRecord record;
  record.request_id = "req-1";
  record.trace = {"4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", "1111111111111111", true};
  record.protocol = "http";
  record.method = "POST /v1/completions";
  record.peer = "127.0.0.1:5";
  record.client = "alice";
  record.http_status = 200;
  record.summary = CompletionSummary{.finish_reason = FinishReason::kLength,
                                     .prompt_tokens = 4,
                                     .cached_tokens = 2,
                                     .completion_tokens = 8,
                                     .timings = {.queue_ms = 1.23456, .prefill_ms = 2, .decode_ms = 3}};
  record.duration_ms = 9.5;
  record.prompt = "secret question";
  record.completion = "secret answer";
  return record;
}

TEST(RequestLog, ALineTellsOfTheRequest) {
  Kept kept;
  kept.log.Request(SomeRecord());
  const nlohmann::json line = kept.Only();
  EXPECT_THAT(line["time"].get<std::string>(),
              MatchesRegex("[0-9]+-[0-9]+-[0-9]+T[0-9]+:[0-9]+:[0-9]+\\.[0-9][0-9][0-9]Z"));
  EXPECT_EQ(line["level"], "info");
  EXPECT_EQ(line["event"], "request");
  EXPECT_EQ(line["request_id"], "req-1");
  EXPECT_EQ(line["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
  EXPECT_EQ(line["parent_id"], "00f067aa0ba902b7");
  EXPECT_EQ(line["span_id"], "1111111111111111");
  EXPECT_EQ(line["protocol"], "http");
  EXPECT_EQ(line["method"], "POST /v1/completions");
  EXPECT_EQ(line["client"], "alice");
  EXPECT_EQ(line["http_status"], 200);
  EXPECT_EQ(line["status"], "OK");
  EXPECT_EQ(line["finish_reason"], "length");
  EXPECT_EQ(line["prompt_tokens"], 4);
  EXPECT_EQ(line["cached_tokens"], 2);
  EXPECT_EQ(line["completion_tokens"], 8);
  EXPECT_EQ(line["queue_ms"], 1.235);
  EXPECT_EQ(line["duration_ms"], 9.5);
  EXPECT_FALSE(line.contains("message"));
}

TEST(RequestLog, PromptsAreOffByDefault) {
  Kept quiet, open({.log_prompts = true});
  quiet.log.Request(SomeRecord());
  open.log.Request(SomeRecord());
  EXPECT_EQ(quiet.lines[0].find("secret"), std::string::npos);
  EXPECT_EQ(open.Only()["prompt"], "secret question");
  EXPECT_EQ(open.Only()["completion"], "secret answer");
}

TEST(RequestLog, NothingBreaksALine) {
  Kept kept({.log_prompts = true});
  RequestRecord record = SomeRecord();
  std::string hostile =
      "\"}\n{\"event\":\"forged\"}\r\t\x1b[31m\x7f\xc2\x85\xe2\x80\xa8\xff\xc3(\xed\xa0\x80 é";
  hostile += '\0';
  record.request_id = record.method = record.peer = record.client = record.prompt = hostile;
  record.status = absl::InvalidArgumentError(hostile);
  kept.log.Request(record);
  kept.log.Event(LogLevel::kInfo, hostile, {{hostile, hostile}});
  ASSERT_EQ(kept.lines.size(), 2u);
  for (const std::string& line : kept.lines) {
    for (const char c : line) EXPECT_TRUE(c >= 0x20 && c < 0x7F) << line;
  }
  const nlohmann::json line = nlohmann::json::parse(kept.lines[0]);
  EXPECT_EQ(line["event"], "request");
  const auto id = line["request_id"].get<std::string>();
  EXPECT_THAT(id, ::testing::HasSubstr("\"}\n{\"event\":\"forged\"}\r\t\x1b[31m"));
  EXPECT_THAT(id, ::testing::HasSubstr("\xef\xbf\xbd("));  // invalid bytes, replaced
  EXPECT_THAT(id, ::testing::HasSubstr(" é"));
}

TEST(RequestLog, LongStringsAreCut) {
  Kept kept({.log_prompts = true});
  RequestRecord record = SomeRecord();
  record.peer = std::string(5000, 'x');
  record.client = std::string(4095, 'x') + "é";
  record.prompt = std::string(100000, 'p');
  kept.log.Request(record);
  const nlohmann::json line = kept.Only();
  EXPECT_EQ(line["peer"], std::string(4096, 'x') + "...");
  EXPECT_EQ(line["client"], std::string(4095, 'x') + "...");
  EXPECT_EQ(line["prompt"].get<std::string>().size(), 65536u + 3);
}

TEST(RequestLog, LevelsFollowTheStatus) {
  const auto level_of = [](const absl::Status& status, FinishReason reason) {
    Kept kept;
    RequestRecord record;
    record.status = status;
    if (reason != FinishReason::kUnspecified) record.summary = CompletionSummary{.finish_reason = reason};
    kept.log.Request(record);
    return kept.Only()["level"].get<std::string>();
  };
  const auto none = FinishReason::kUnspecified;
  EXPECT_EQ(level_of(absl::OkStatus(), FinishReason::kEndToken), "info");
  EXPECT_EQ(level_of(absl::OkStatus(), FinishReason::kError), "error");
  EXPECT_EQ(level_of(absl::InvalidArgumentError("x"), none), "info");
  EXPECT_EQ(level_of(absl::CancelledError("x"), none), "info");
  EXPECT_EQ(level_of(absl::ResourceExhaustedError("x"), none), "warning");
  EXPECT_EQ(level_of(absl::UnavailableError("x"), none), "warning");
  EXPECT_EQ(level_of(absl::InternalError("x"), none), "error");
}

TEST(RequestLog, WritesNothingBelowItsLevel) {
  Kept kept({.level = LogLevel::kWarning});
  kept.log.Request(SomeRecord());
  kept.log.Event(LogLevel::kInfo, "listening");
  EXPECT_TRUE(kept.lines.empty());
  kept.log.Event(LogLevel::kError, "keys_reload_failed", {{"message", "no such file"}});
  EXPECT_EQ(kept.Only()["event"], "keys_reload_failed");
  EXPECT_EQ(kept.Only()["message"], "no such file");
  kept.log.Admitted("req-1", 2, 7);
  EXPECT_EQ(kept.lines.size(), 1u);
  EXPECT_EQ(ParseLogLevel("warning"), LogLevel::kWarning);
  EXPECT_EQ(ParseLogLevel("loud"), std::nullopt);
}

TEST(RequestLog, DebugSaysWhatWasAdmitted) {
  Kept kept({.level = LogLevel::kDebug});
  kept.log.Admitted("req-\n1", 2, 7);
  const nlohmann::json line = kept.Only();
  EXPECT_EQ(line["level"], "debug");
  EXPECT_EQ(line["event"], "admitted");
  EXPECT_EQ(line["request_id"], "req-\n1");
  EXPECT_EQ(line["choices"], 2);
  EXPECT_EQ(line["prompt_tokens"], 7);
}

TEST(RequestLog, ThreadsWriteWholeLines) {
  Kept kept;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&kept] {
      for (int round = 0; round < 100; ++round) kept.log.Request(SomeRecord());
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_EQ(kept.lines.size(), 400u);
  for (const std::string& line : kept.lines) EXPECT_TRUE(nlohmann::json::accept(line));
}

TEST(RequestLog, StandardErrorGetsTheLineAlone) {
  ::testing::internal::CaptureStderr();
  RequestLog().Event(LogLevel::kInfo, "listening", {{"address", "{}%v"}});
  const std::string written = ::testing::internal::GetCapturedStderr();
  ASSERT_TRUE(written.ends_with("\n"));
  EXPECT_EQ(nlohmann::json::parse(written)["address"], "{}%v");
}

}  // namespace
}  // namespace thermocline
