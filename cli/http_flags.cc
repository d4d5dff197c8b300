// Flags of `serve` for its HTTP side.
// SPDX-License-Identifier: Apache-2.0
#include "cli/http_flags.h"

#include "cli/duration_flag.h"
#include "model/chat_template.h"

namespace thermocline {

absl::StatusOr<OpenAiServerOptions> HttpFlags::Options(const TlsFiles& tls) const {
  OpenAiServerOptions checked = options;
  checked.http.listen = listen;
  checked.http.tls = tls;
  checked.http.stream_keepalive = std::chrono::milliseconds(sse_keepalive_ms);
  TC_RETURN_IF_ERROR(checked.Validate());
  return checked;
}

void AddHttpFlags(CLI::App& command, HttpFlags& flags) {
  HttpServerOptions& http = flags.options.http;
  command.add_option(
      "--http", flags.listen,
      "HOST:PORT of the OpenAI-compatible HTTP server; port 0 takes any free one. Default: none");
  command.add_option("--http-threads", http.threads, "threads that parse, tokenise and write")
      ->capture_default_str();
  command.add_option("--http-max-connections", http.max_connections, "more are refused")
      ->capture_default_str();
  command
      .add_option("--sse-keepalive", flags.sse_keepalive_ms,
                  "a stream that is silent for so long, such as 10s, gets a comment, so that proxies keep it")
      ->transform(InMilliseconds())
      ->default_str("10s");
  command.add_option(
      "--cors-origin", flags.options.cors.allowed_origins,
      "an origin whose web pages may call, such as https://example.org, or *; may be repeated");
  command
      .add_option(
          "--chat-template", flags.chat_template,
          "auto (the model's own), or one of " + fmt::format("{}", fmt::join(ChatTemplate::Names(), ", ")))
      ->capture_default_str();
}

}  // namespace thermocline
