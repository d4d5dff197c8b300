// thermocline complete: a client of thermocline serve.
// SPDX-License-Identifier: Apache-2.0
#include <unicode/utf8.h>

#include <cstdio>
#include <memory>
#include <optional>

#include "cli/commands.h"
#include "cli/completion_client.h"
#include "cli/completion_output.h"
#include "cli/duration_flag.h"
#include "cli/sampling_flags.h"
#include "server/grpc_log.h"

namespace thermocline {
namespace {

struct Flags {
  std::string server = "127.0.0.1:50051";
  std::string prompt;
  SamplingFlags sampling;
  bool parse_special = false;
  bool echo = false;
  int top_logprobs = 0;
  std::optional<int64_t> timeout_ms;
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

absl::Status Complete(const Flags& flags) {
  TC_RETURN_IF_ERROR(CheckUtf8(flags));
  RemoteCompletion completion{
      .server = flags.server, .prompt = flags.prompt, .parse_special = flags.parse_special};
  TC_RETURN_IF_ERROR(FillRequest(flags.sampling, completion.options));
  completion.options.echo = flags.echo;
  completion.options.top_logprobs = flags.top_logprobs;
  if (flags.timeout_ms) completion.timeout = std::chrono::milliseconds(*flags.timeout_ms);

  SendGrpcLogToSpdlog();
  CompletionDelta whole;
  const absl::StatusOr<CompletionSummary> summary = CompleteRemotely(completion, [&](CompletionDelta piece) {
    AppendPiece(std::move(piece), /*stream=*/!flags.json, whole);
  });
  if (!flags.json && !whole.text.empty()) fmt::print("\n");
  TC_RETURN_IF_ERROR(summary.status());
  if (flags.json) fmt::print("{}\n", CompletionJson(whole, *summary).dump());
  PrintSummary(*summary);
  if (summary->finish_reason == FinishReason::kError) return Internal("the model's logits were not finite");
  return absl::OkStatus();
}

}  // namespace

void AddCompleteCommand(CLI::App& program, Command& command) {
  CLI::App* complete = program.add_subcommand("complete", "Complete a prompt on a running server");
  auto flags = std::make_shared<Flags>();
  complete->add_option("--server", flags->server, "HOST:PORT of thermocline serve")->capture_default_str();
  complete->add_option("--prompt", flags->prompt, "text to complete")->required();
  AddSamplingFlags(*complete, flags->sampling);
  complete->add_flag("--parse-special", flags->parse_special,
                     "special tokens spelled out in the prompt become their ids");
  complete->add_flag("--echo", flags->echo, "the prompt's text comes first");
  complete->add_option("--top-logprobs", flags->top_logprobs,
                       "log-probabilities of every token and of the K likeliest [0, 20], with --json");
  complete->add_option("--timeout", flags->timeout_ms, "deadline of the call, such as 30s or 500ms")
      ->transform(InMilliseconds());
  complete->add_flag("--json", flags->json, "print one JSON object instead of streaming");
  complete->callback([flags, &command] { command.action = [flags] { return Complete(*flags); }; });
}

}  // namespace thermocline
