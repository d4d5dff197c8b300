// Several completions of one call: made from one request, numbered, and summed up for the log.
// SPDX-License-Identifier: Apache-2.0
#include "server/group_admission.h"

namespace thermocline {

absl::Status CheckChoices(int64_t n) {
  if (n >= 1 && n <= kMostChoices) return absl::OkStatus();
  return FieldError("n", fmt::format("is {}, allowed are [1, {}]", n, kMostChoices));
}

void AppendChoices(const CompletionRequest& request, int64_t n, std::vector<CompletionRequest>& choices) {
  for (int64_t i = 0; i < n; ++i) {
    CompletionRequest& choice = choices.emplace_back(request);
    if (choice.sampling.seed) *choice.sampling.seed += static_cast<uint64_t>(i);
  }
}

void NumberChoices(std::vector<CompletionRequest>& choices) {
  if (choices.size() < 2) return;
  for (size_t i = 0; i < choices.size(); ++i) choices[i].id = fmt::format("{}-{}", choices[i].id, i);
}

CompletionSummary SummaryOfAll(std::span<const CompletionSummary> summaries) {
  CompletionSummary all = summaries.front();
  for (const CompletionSummary& other : summaries.subspan(1))
    all.completion_tokens += other.completion_tokens;
  return all;
}

}  // namespace thermocline
