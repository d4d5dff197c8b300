// thermocline complete: a client of thermocline serve.
// SPDX-License-Identifier: Apache-2.0
#include <absl/strings/ascii.h>
#include <unicode/utf8.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <optional>

#include "cli/commands.h"
#include "cli/completion_client.h"
#include "cli/completion_output.h"
#include "cli/duration_flag.h"
#include "cli/sampling_flags.h"
#include "core/replace_file.h"
#include "server/grpc_log.h"

namespace thermocline {
namespace {

struct Flags {
  RemoteServer server{.address = "127.0.0.1:50051"};
  std::string api_key_file, api_key_variable;
  std::string prompt;
  SamplingFlags sampling;
  bool parse_special = false;
  bool echo = false;
  int top_logprobs = 0;
  std::optional<int64_t> timeout_ms;
  std::string trace;  // file
  bool json = false;
};

bool IsUtf8(const std::string& text) {
  const auto length = static_cast<int64_t>(text.size());
  for (int64_t i = 0; i < length;) {
    UChar32 code_point = 0;
    U8_NEXT(text.data(), i, length, code_point);
    if (code_point < 0) return false;
  }
  return true;
}

// Strings of messages are UTF-8, which the command line need not be.
absl::Status CheckUtf8(const Flags& flags) {
  if (!IsUtf8(flags.prompt)) return FieldError("prompt", "is not valid UTF-8");
  for (const std::string& stop : flags.sampling.stopping.stop) {
    if (!IsUtf8(stop)) return FieldError("stop", "is not valid UTF-8");
  }
  return absl::OkStatus();
}

// Not from the command line itself, which everybody on the machine can read. Empty: none is to be shown.
absl::StatusOr<std::string> ReadKey(const Flags& flags) {
  std::string key;
  if (!flags.api_key_file.empty()) {
    std::ifstream file(flags.api_key_file);
    std::getline(file, key);
    absl::StripAsciiWhitespace(&key);
    if (key.empty()) return FailedPrecondition("{}: has no key in its first line", flags.api_key_file);
  } else if (!flags.api_key_variable.empty()) {
    const char* const value = std::getenv(flags.api_key_variable.c_str());
    key = value != nullptr ? value : "";
    if (key.empty()) return FieldError("--api-key-env", fmt::format("{} is not set", flags.api_key_variable));
  }
  return key;
}

absl::Status Complete(const Flags& flags) {
  TC_RETURN_IF_ERROR(CheckUtf8(flags));
  RemoteCompletion completion{.server = flags.server,
                              .prompt = flags.prompt,
                              .parse_special = flags.parse_special,
                              .trace = !flags.trace.empty()};
  TC_ASSIGN_OR_RETURN(completion.server.api_key, ReadKey(flags));
  TC_RETURN_IF_ERROR(completion.server.Validate());
  TC_RETURN_IF_ERROR(FillRequest(flags.sampling, completion.options));
  completion.options.echo = flags.echo;
  completion.options.top_logprobs = flags.top_logprobs;
  if (flags.timeout_ms) completion.timeout = std::chrono::milliseconds(*flags.timeout_ms);

  SendGrpcLogToSpdlog();
  CompletionDelta whole;
  const absl::StatusOr<RemoteSummary> answer = CompleteRemotely(completion, [&](CompletionDelta piece) {
    AppendPiece(std::move(piece), /*stream=*/!flags.json, whole);
  });
  if (!flags.json && !whole.text.empty()) fmt::print("\n");
  TC_RETURN_IF_ERROR(answer.status());
  const CompletionSummary& summary = answer->summary;
  if (flags.json) fmt::print("{}\n", CompletionJson(whole, summary).dump());
  PrintSummary(summary);
  if (!flags.trace.empty()) TC_RETURN_IF_ERROR(ReplaceFile(flags.trace, answer->trace));
  if (summary.finish_reason == FinishReason::kError) return Internal("the model's logits were not finite");
  return absl::OkStatus();
}

}  // namespace

void AddCompleteCommand(CLI::App& program, Command& command) {
  CLI::App* complete = program.add_subcommand("complete", "Complete a prompt on a running server");
  auto flags = std::make_shared<Flags>();
  complete->add_option("--server", flags->server.address, "HOST:PORT of thermocline serve")
      ->capture_default_str();
  complete->add_option(
      "--tls-ca", flags->server.tls_ca,
      "PEM file of the authorities of which the server must show a certificate; turns TLS on");
  complete->add_option("--tls-cert", flags->server.tls_certificate,
                       "PEM file of a certificate to show to the server, and its chain");
  complete->add_option("--tls-key", flags->server.tls_key, "PEM file of its private key");
  CLI::Option* const key_file =
      complete->add_option("--api-key-file", flags->api_key_file, "file whose first line is the key to show");
  complete
      ->add_option("--api-key-env", flags->api_key_variable,
                   "environment variable that holds the key to show")
      ->excludes(key_file);
  complete->add_option("--prompt", flags->prompt, "text to complete")->required();
  AddSamplingFlags(*complete, flags->sampling);
  complete->add_flag("--parse-special", flags->parse_special,
                     "special tokens spelled out in the prompt become their ids");
  complete->add_flag("--echo", flags->echo, "the prompt's text comes first");
  complete->add_option("--top-logprobs", flags->top_logprobs,
                       "log-probabilities of every token and of the K likeliest [0, 20], with --json");
  complete->add_option("--timeout", flags->timeout_ms, "deadline of the call, such as 30s or 500ms")
      ->transform(InMilliseconds());
  complete->add_option(
      "--trace", flags->trace,
      "write when what happened to the request on the server to this file, for Perfetto; the "
      "server needs --request-traces");
  complete->add_flag("--json", flags->json, "print one JSON object instead of streaming");
  complete->callback([flags, &command] { command.action = [flags] { return Complete(*flags); }; });
}

}  // namespace thermocline
