// How a completion is shown.
// SPDX-License-Identifier: Apache-2.0
#include "cli/completion_output.h"

#include <cstdio>

#include "core/status.h"

namespace thermocline {

void AppendPiece(CompletionDelta piece, bool stream, CompletionDelta& whole) {
  if (stream && !piece.text.empty()) {
    std::fwrite(piece.text.data(), 1, piece.text.size(), stdout);
    std::fflush(stdout);
  }
  whole.text += piece.text;
  whole.token_ids.insert(whole.token_ids.end(), piece.token_ids.begin(), piece.token_ids.end());
  whole.logprobs.insert(whole.logprobs.end(), piece.logprobs.begin(), piece.logprobs.end());
}

nlohmann::ordered_json CompletionJson(const CompletionDelta& whole, const CompletionSummary& summary) {
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

void PrintSummary(const CompletionSummary& summary) {
  std::fflush(stdout);  // the text comes before its figures
  fmt::print(stderr,
             "[{} + {} tokens, finish: {}, first token after {:.1f} ms, decode {:.1f} tokens/s, seed {}]\n",
             summary.prompt_tokens, summary.completion_tokens, NameOf(summary.finish_reason),
             summary.timings.time_to_first_token_ms, summary.decode_tokens_per_second(), summary.seed);
}

}  // namespace thermocline
