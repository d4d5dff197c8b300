// Writes log lines as JSON.
// SPDX-License-Identifier: Apache-2.0
#include "server/request_log.h"

#include <fmt/chrono.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <cmath>
#include <mutex>
#include <nlohmann/json.hpp>

namespace thermocline {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMostStringBytes = size_t{4} << 10;
constexpr size_t kMostPromptBytes = size_t{64} << 10;

constexpr std::string_view kLevelNames[] = {"debug", "info", "warning", "error"};

std::string Now() {
  const auto now = std::chrono::system_clock::now();
  const auto millis =
      std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count() % 1000;
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", fmt::gmtime(std::chrono::system_clock::to_time_t(now)),
                     millis);
}

// Cut at the limit, not inside of a code point.
std::string Cut(std::string_view text, size_t limit) {
  if (text.size() <= limit) return std::string(text);
  size_t end = limit;
  while (end > limit - 4 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return std::string(text.substr(0, end)) + "...";
}

Json Start(LogLevel level, std::string_view event) {
  Json line;
  line["time"] = Now();
  line["level"] = kLevelNames[static_cast<size_t>(level)];
  line["event"] = std::string(event);
  return line;
}

void Put(Json& line, const char* name, std::string_view text, size_t limit = kMostStringBytes) {
  if (!text.empty()) line[name] = Cut(text, limit);
}

// Microseconds are enough.
void PutMillis(Json& line, const char* name, double millis) { line[name] = std::round(millis * 1e3) / 1e3; }

void PutSummary(Json& line, const CompletionSummary& summary) {
  line["finish_reason"] = std::string(NameOf(summary.finish_reason));
  line["prompt_tokens"] = summary.prompt_tokens;
  line["cached_tokens"] = summary.cached_tokens;
  line["completion_tokens"] = summary.completion_tokens;
  const CompletionTimings& timings = summary.timings;
  PutMillis(line, "queue_ms", timings.queue_ms);
  PutMillis(line, "prefill_ms", timings.prefill_ms);
  PutMillis(line, "time_to_first_token_ms", timings.time_to_first_token_ms);
  PutMillis(line, "decode_ms", timings.decode_ms);
  PutMillis(line, "inter_token_p50_ms", timings.inter_token_p50_ms);
  PutMillis(line, "inter_token_p99_ms", timings.inter_token_p99_ms);
}

LogLevel LevelOf(const RequestRecord& record) {
  if (record.summary && record.summary->finish_reason == FinishReason::kError) return LogLevel::kError;
  switch (record.status.code()) {
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kUnknown:
    case absl::StatusCode::kDataLoss:
      return LogLevel::kError;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kDeadlineExceeded:
      return LogLevel::kWarning;
    default:
      return LogLevel::kInfo;
  }
}

RequestLog::Sink StandardError() {
  const auto logger =
      std::make_shared<spdlog::logger>("requests", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_pattern("%v");
  logger->set_level(spdlog::level::trace);  // levels are settled before
  return [logger](std::string_view line) { logger->info("{}", line); };
}

}  // namespace

struct RequestLog::Writer {
  explicit Writer(Sink the_sink) : sink(std::move(the_sink)) {}

  void Write(const Json& line) {
    // Escaping all that is not ASCII covers every control character that Unicode has.
    const std::string text = line.dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
    const std::lock_guard lock(mutex);
    sink(text);
  }

  std::mutex mutex;
  const Sink sink;
};

std::optional<LogLevel> ParseLogLevel(std::string_view name) {
  for (size_t i = 0; i < std::size(kLevelNames); ++i) {
    if (name == kLevelNames[i]) return static_cast<LogLevel>(i);
  }
  return std::nullopt;
}

RequestLog::RequestLog(RequestLogOptions options) : RequestLog(options, StandardError()) {}

RequestLog::RequestLog(RequestLogOptions options, Sink sink)
    : options_(options), writer_(std::make_unique<Writer>(std::move(sink))) {}

RequestLog::~RequestLog() = default;

void RequestLog::Request(const RequestRecord& record) {
  const LogLevel level = LevelOf(record);
  if (level < options_.level) return;
  Json line = Start(level, "request");
  Put(line, "request_id", record.request_id);
  Put(line, "trace_id", record.trace.trace_id);
  Put(line, "span_id", record.trace.span_id);
  Put(line, "parent_id", record.trace.parent_id);
  Put(line, "protocol", record.protocol);
  Put(line, "method", record.method);
  Put(line, "peer", record.peer);
  Put(line, "client", record.client);
  if (record.http_status) line["http_status"] = *record.http_status;
  line["status"] = absl::StatusCodeToString(record.status.code());
  Put(line, "message", MessageOf(record.status));
  if (record.summary) PutSummary(line, *record.summary);
  PutMillis(line, "duration_ms", record.duration_ms);
  if (options_.log_prompts) {
    Put(line, "prompt", record.prompt, kMostPromptBytes);
    Put(line, "completion", record.completion, kMostPromptBytes);
  }
  writer_->Write(line);
}

void RequestLog::Admitted(std::string_view request_id, size_t choices, size_t prompt_tokens) {
  if (LogLevel::kDebug < options_.level) return;
  Json line = Start(LogLevel::kDebug, "admitted");
  Put(line, "request_id", request_id);
  line["choices"] = choices;
  line["prompt_tokens"] = prompt_tokens;
  writer_->Write(line);
}

void RequestLog::Event(LogLevel level, std::string_view event, std::initializer_list<Field> fields) {
  if (level < options_.level) return;
  Json line = Start(level, event);
  for (const auto& [name, value] : fields) line[std::string(name)] = Cut(value, kMostStringBytes);
  writer_->Write(line);
}

}  // namespace thermocline
