// thermocline complete: a client of thermocline serve.
// SPDX-License-Identifier: Apache-2.0
#include <unicode/utf8.h>

#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "cli/commands.h"
#include "cli/completion_client.h"
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

// The keys of `thermocline run --json`.
nlohmann::ordered_json ToJson(const CompletionDelta& whole, const CompletionSummary& summary) {
  const CompletionTimings& timings = summary.timings;
  nlohmann::ordered_json json = {{"text", whole.text},
                                 {"token_ids", whole.token_ids},
                                 {"prompt_tokens", summary.prompt_tokens},
                                 {"completion_tokens", summary.completion_tokens},
                                 {"finish_reason", NameOf(summary.finish_reason)},
                                 {"matched_stop", summary.matched_stop},
                                 {"seed", summary.seed},
                                 {"timings",
                                  {{"queue_ms", timings.queue_ms},
                                   {"prefill_ms", timings.prefill_ms},
                                   {"time_to_first_token_ms", timings.time_to_first_token_ms},
                                   {"decode_ms", timings.decode_ms},
                                   {"decode_tokens_per_second", summary.decode_tokens_per_second()},
                                   {"inter_token_p50_ms", timings.inter_token_p50_ms},
                                   {"inter_token_p99_ms", timings.inter_token_p99_ms}}}};
  if (whole.logprobs.empty()) return json;
  json["logprobs"] = nlohmann::ordered_json::array();
  for (const TokenLogprob& token : whole.logprobs) {
    nlohmann::ordered_json top = nlohmann::ordered_json::array();
    for (const auto& [id, logprob] : token.top) top.push_back({{"id", id}, {"logprob", logprob}});
    json["logprobs"].push_back({{"id", token.id}, {"logprob", token.logprob}, {"top", top}});
  }
  return json;
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
  const absl::StatusOr<CompletionSummary> summary =
      CompleteRemotely(completion, [&](const CompletionDelta& delta) {
        if (!flags.json && !delta.text.empty()) {
          std::fwrite(delta.text.data(), 1, delta.text.size(), stdout);
          std::fflush(stdout);
        }
        whole.text += delta.text;
        whole.token_ids.insert(whole.token_ids.end(), delta.token_ids.begin(), delta.token_ids.end());
        whole.logprobs.insert(whole.logprobs.end(), delta.logprobs.begin(), delta.logprobs.end());
      });
  if (!flags.json && !whole.text.empty()) fmt::print("\n");
  TC_RETURN_IF_ERROR(summary.status());
  if (flags.json) fmt::print("{}\n", ToJson(whole, *summary).dump());
  fmt::print(stderr,
             "[{} + {} tokens, finish: {}, first token after {:.1f} ms, decode {:.1f} tokens/s, seed {}]\n",
             summary->prompt_tokens, summary->completion_tokens, NameOf(summary->finish_reason),
             summary->timings.time_to_first_token_ms, summary->decode_tokens_per_second(), summary->seed);
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
