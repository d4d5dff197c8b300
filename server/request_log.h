// RequestLog: JSON lines, one a request at its end, and one for each event of the server's life.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "core/status.h"
#include "scheduler/request.h"
#include "server/trace_context.h"

namespace thermocline {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

// "debug", "info", "warning", "error"; nullopt for anything else.
std::optional<LogLevel> ParseLogLevel(std::string_view name);

struct RequestLogOptions {
  LogLevel level = LogLevel::kInfo;  // the least that is written
  bool log_prompts = false;          // prompts and completions are what users own: off unless asked for
};

// What one request's line says. Empty strings and absent values are left out.
struct RequestRecord {
  std::string request_id;
  TraceContext trace;
  std::string protocol;  // "http", "grpc"
  std::string method;    // "POST /v1/completions", "/thermocline.v1.CompletionService/Complete"
  std::string peer;      // the client's address
  std::string client;    // the name of its key (server/credentials.h)
  absl::Status status;   // what ended it; its message is written too
  std::optional<int> http_status;
  std::optional<CompletionSummary> summary;
  double duration_ms = 0;  // from arrival
  std::string prompt;      // written with log_prompts only
  std::string completion;  // written with log_prompts only
};

// Safe to use from several threads; a line is written whole. What comes from clients cannot break a line or
// start another: control characters are escaped, invalid UTF-8 becomes U+FFFD, and strings are cut at 4 KiB
// (prompts and completions at 64 KiB).
class RequestLog {
 public:
  using Sink = std::function<void(std::string_view line)>;  // a line without its newline
  using Field = std::pair<std::string_view, std::string>;

  // To standard error through spdlog.
  explicit RequestLog(RequestLogOptions options = {});
  // To `sink`, called by one thread at a time.
  RequestLog(RequestLogOptions options, Sink sink);
  ~RequestLog();
  RequestLog(const RequestLog&) = delete;
  RequestLog& operator=(const RequestLog&) = delete;

  // Event "request": level info; warning where the server could not (Unavailable, ResourceExhausted,
  // DeadlineExceeded), error where it is at fault (Internal, Unknown, DataLoss, finish reason `error`).
  void Request(const RequestRecord& record);

  // Event "admitted", level debug: the scheduler has taken a request, whose own line comes at its end.
  void Admitted(std::string_view request_id, size_t choices, size_t prompt_tokens);

  // Event `event`, such as "listening", "draining", "keys_reloaded".
  void Event(LogLevel level, std::string_view event, std::initializer_list<Field> fields = {});

  const RequestLogOptions& options() const { return options_; }

 private:
  struct Writer;
  const RequestLogOptions options_;
  const std::unique_ptr<Writer> writer_;
};

}  // namespace thermocline
