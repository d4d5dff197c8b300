// Flags of `serve` for its HTTP side.
// SPDX-License-Identifier: Apache-2.0
#include "cli/http_flags.h"

#include "model/chat_template.h"

namespace thermocline {

absl::StatusOr<OpenAiServerOptions> HttpFlags::Options() const {
  OpenAiServerOptions checked = options;
  checked.http.listen = listen;
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
  command.add_option("--http-tls-cert", http.tls.certificate, "PEM file of the certificate and its chain");
  command.add_option("--http-tls-key", http.tls.private_key, "PEM file of its private key");
  command.add_option("--http-tls-client-ca", http.tls.client_ca,
                     "PEM file of the authorities of which clients must show a certificate");
  command.add_option(
      "--cors-origin", flags.options.cors.allowed_origins,
      "an origin whose web pages may call, such as https://example.org, or *; may be repeated");
  command.add_option("--api-keys", flags.api_keys,
                     "file with one key a line, KEY or NAME:KEY, of which HTTP clients must show one");
  command
      .add_option(
          "--chat-template", flags.chat_template,
          "auto (the model's own), or one of " + fmt::format("{}", fmt::join(ChatTemplate::Names(), ", ")))
      ->capture_default_str();
}

}  // namespace thermocline
