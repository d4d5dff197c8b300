// Flags that say how tokens are computed and sampled and when a completion ends.
// SPDX-License-Identifier: Apache-2.0
#include "cli/sampling_flags.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>

#include <utility>

namespace thermocline {

void AddSamplingFlags(CLI::App& command, SamplingFlags& flags) {
  SamplingOptions& sampling = flags.sampling;
  StoppingOptions& stopping = flags.stopping;
  command.add_option("--max-tokens", stopping.max_tokens, "most tokens to generate")->default_str("256");
  command.add_option("--min-tokens", stopping.min_tokens, "no end before that many");
  command.add_option("--temperature", sampling.temperature, "0 is greedy")->capture_default_str();
  command.add_option("--top-k", sampling.top_k, "keep the K likeliest tokens; 0 keeps all")
      ->capture_default_str();
  command.add_option("--top-p", sampling.top_p, "keep the least set of tokens whose probability reaches P")
      ->capture_default_str();
  command.add_option("--min-p", sampling.min_p, "drop tokens less likely than P times the likeliest")
      ->capture_default_str();
  command.add_option("--seed", sampling.seed, "seed of the random stream; drawn when absent");
  command.add_option("--repetition-penalty", sampling.repetition_penalty, "weakens tokens seen before")
      ->capture_default_str();
  command.add_option("--presence-penalty", sampling.presence_penalty, "weakens tokens generated before")
      ->capture_default_str();
  command
      .add_option("--frequency-penalty", sampling.frequency_penalty,
                  "weakens tokens by how often they were generated")
      ->capture_default_str();
  command
      .add_option("--logit-bias", flags.logit_bias, "ID=VALUE, added to the token's logit; may be repeated")
      ->allow_extra_args(false);
  command.add_option("--stop", stopping.stop, "end where this text appears; may be repeated")
      ->allow_extra_args(false);
  command.add_flag("--include-stop", stopping.include_stop,
                   "the matched stop text is part of the completion");
  command.add_flag("--ignore-eos", stopping.ignore_eos, "do not end at the model's end token");
  command.add_option("--time-limit", flags.time_limit_ms, "end after that many milliseconds");
  command.add_option("--quality", flags.quality,
                     "exact, balanced or fast; more than exact needs mode predicted or threshold, whose "
                     "default is balanced");
}

absl::Status FillRequest(const SamplingFlags& flags, CompletionRequest& request) {
  request.sampling = flags.sampling;
  request.stopping = flags.stopping;
  for (const std::string& entry : flags.logit_bias) {
    const std::pair<std::string, std::string> parts = absl::StrSplit(entry, absl::MaxSplits('=', 1));
    TokenId token = 0;
    double bias = 0;
    if (!absl::SimpleAtoi(parts.first, &token) || !absl::SimpleAtod(parts.second, &bias)) {
      return FieldError("logit_bias", fmt::format("'{}' is not ID=VALUE", entry));
    }
    request.sampling.logit_bias.emplace_back(token, bias);
  }
  if (flags.quality) {
    const auto quality = ParseQuality(*flags.quality);
    if (!quality.ok()) return FieldError("quality", MessageOf(quality.status()));
    request.quality = *quality;
  }
  if (flags.time_limit_ms) request.stopping.time_limit = std::chrono::milliseconds(*flags.time_limit_ms);
  return absl::OkStatus();
}

}  // namespace thermocline
