// How a completion is shown.
// SPDX-License-Identifier: Apache-2.0
#include "cli/completion_output.h"

#include <cstdio>

#include "core/status.h"

namespace thermocline {
namespace {

nlohmann::ordered_json SparsityJson(const StepSums& steps) {
  return {{"tokens", steps.tokens},
          {"neurons", steps.total.neurons},
          {"marked", steps.total.marked_neurons},
          {"active", steps.total.active_neurons},
          {"active_on_accelerators", steps.total.active_on_accelerators},
          {"bytes_per_token", steps.bytes_per_token()}};
}

double Percent(int64_t part, int64_t whole) {
  return 100 * static_cast<double>(part) / static_cast<double>(whole);
}

}  // namespace

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
                                 {"quality", NameOf(summary.quality)},
                                 {"timings",
                                  {{"queue_ms", timings.queue_ms},
                                   {"prefill_ms", timings.prefill_ms},
                                   {"time_to_first_token_ms", timings.time_to_first_token_ms},
                                   {"decode_ms", timings.decode_ms},
                                   {"decode_tokens_per_second", summary.decode_tokens_per_second()},
                                   {"inter_token_p50_ms", timings.inter_token_p50_ms},
                                   {"inter_token_p99_ms", timings.inter_token_p99_ms}}}};
  if (summary.decode_steps.tokens > 0) json["sparsity"] = SparsityJson(summary.decode_steps);
  if (whole.logprobs.empty()) return json;
  json["logprobs"] = nlohmann::ordered_json::array();
  for (const TokenLogprob& token : whole.logprobs) {
    nlohmann::ordered_json top = nlohmann::ordered_json::array();
    for (const auto& [id, logprob] : token.top) top.push_back({{"id", id}, {"logprob", logprob}});
    json["logprobs"].push_back({{"id", token.id}, {"logprob", token.logprob}, {"top", top}});
  }
  return json;
}

nlohmann::ordered_json AuditJson(const AuditSums& audits) {
  return {{"tokens", audits.tokens},
          {"recall", audits.recall()},
          {"kl_mean", audits.kl_mean()},
          {"kl_max", audits.kl_max},
          {"top1_agreement", audits.top1_agreement()}};
}

void PrintSummary(const CompletionSummary& summary) {
  std::fflush(stdout);  // the text comes before its figures
  fmt::print(stderr,
             "[{} + {} tokens, finish: {}, first token after {:.1f} ms, decode {:.1f} tokens/s, seed {}]\n",
             summary.prompt_tokens, summary.completion_tokens, NameOf(summary.finish_reason),
             summary.timings.time_to_first_token_ms, summary.decode_tokens_per_second(), summary.seed);
  const StepFigures& steps = summary.decode_steps.total;
  if (steps.active_neurons == 0) return;  // of dense steps, which do not look
  fmt::print(stderr,
             "[quality {}: {:.1f} % of neurons marked, {:.1f} % active, {:.1f} % of those on accelerators, "
             "{:.1f} MB read a token]\n",
             NameOf(summary.quality), Percent(steps.marked_neurons, steps.neurons),
             Percent(steps.active_neurons, steps.neurons),
             Percent(steps.active_on_accelerators, steps.active_neurons),
             summary.decode_steps.bytes_per_token() / 1e6);
}

void PrintAudits(const AuditSums& audits) {
  if (audits.tokens == 0) {
    fmt::print(stderr, "[no token audited]\n");
    return;
  }
  fmt::print(stderr, "[{} tokens audited: recall {:.3f}, KL {:.2g} (at most {:.2g}), same top {:.1f} %]\n",
             audits.tokens, audits.recall(), audits.kl_mean(), audits.kl_max, 100 * audits.top1_agreement());
}

}  // namespace thermocline
