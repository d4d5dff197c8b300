// Penalties, truncation and the draw.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace thermocline {
namespace {

using Candidate = SamplerScratch::Candidate;

constexpr float kBanned = -std::numeric_limits<float>::infinity();

void ApplyPenalties(const SamplingOptions& options, const TokenHistory& history, std::span<float> logits) {
  if (options.repetition_penalty != 1.0) {
    const auto penalty = static_cast<float>(options.repetition_penalty);
    for (const auto& [token, count] : history.all) {
      float& logit = logits[static_cast<size_t>(token)];
      logit = logit > 0 ? logit / penalty : logit * penalty;
    }
  }
  if (options.presence_penalty != 0 || options.frequency_penalty != 0) {
    for (const auto& [token, count] : history.generated) {
      logits[static_cast<size_t>(token)] -= static_cast<float>(
          options.presence_penalty + options.frequency_penalty * static_cast<double>(count));
    }
  }
  for (const auto& [token, bias] : options.logit_bias)
    logits[static_cast<size_t>(token)] += static_cast<float>(bias);
}

bool Likelier(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

// Sorts the likeliest `count` candidates to the front and drops the others.
void KeepLikeliest(std::vector<Candidate>& candidates, size_t count) {
  count = std::min(count, candidates.size());
  std::partial_sort(candidates.begin(), candidates.begin() + static_cast<std::ptrdiff_t>(count),
                    candidates.end(), Likelier);
  candidates.resize(count);
}

// Drops the tail beyond the least prefix whose share of the weight reaches `top_p`. Sorts only as far as
// needed.
void KeepNucleus(std::vector<Candidate>& candidates, double top_p) {
  double total = 0;
  for (const Candidate& candidate : candidates) total += candidate.weight;
  size_t sorted = 0;
  double sum = 0;
  for (size_t wanted = 64; sorted < candidates.size(); wanted *= 4) {
    const size_t end = std::min(wanted, candidates.size());
    std::partial_sort(candidates.begin() + static_cast<std::ptrdiff_t>(sorted),
                      candidates.begin() + static_cast<std::ptrdiff_t>(end), candidates.end(), Likelier);
    for (; sorted < end; ++sorted) {
      sum += candidates[sorted].weight;
      if (sum >= top_p * total) {
        candidates.resize(sorted + 1);
        return;
      }
    }
  }
}

TokenId Draw(const std::vector<Candidate>& candidates, SplitMix64& random) {
  double total = 0;
  for (const Candidate& candidate : candidates) total += candidate.weight;
  double rest = random.Uniform() * total;
  for (const Candidate& candidate : candidates) {
    rest -= candidate.weight;
    if (rest < 0) return candidate.id;
  }
  return candidates.back().id;  // rounding left a crumb
}

}  // namespace

std::optional<TokenId> SampleToken(std::span<const float> logits, const SamplingOptions& options,
                                   const TokenHistory& history, std::span<const TokenId> banned,
                                   SplitMix64& random, SamplerScratch& scratch) {
  scratch.logits.assign(logits.begin(), logits.end());
  std::span<float> adjusted = scratch.logits;
  ApplyPenalties(options, history, adjusted);
  for (const TokenId token : banned) adjusted[static_cast<size_t>(token)] = kBanned;

  if (std::any_of(adjusted.begin(), adjusted.end(), [](float logit) { return std::isnan(logit); }))
    return std::nullopt;
  const auto best = std::max_element(adjusted.begin(), adjusted.end());
  if (best == adjusted.end() || !std::isfinite(*best)) return std::nullopt;
  if (options.temperature == 0) return static_cast<TokenId>(best - adjusted.begin());

  const float best_logit = *best;
  std::vector<Candidate>& candidates = scratch.candidates;
  candidates.clear();
  for (size_t id = 0; id < adjusted.size(); ++id) {
    const double weight = std::exp((static_cast<double>(adjusted[id]) - best_logit) / options.temperature);
    if (weight > 0) candidates.push_back({static_cast<TokenId>(id), adjusted[id], weight});
  }
  if (options.top_k > 0) KeepLikeliest(candidates, static_cast<size_t>(options.top_k));
  if (options.top_p < 1.0) KeepNucleus(candidates, options.top_p);
  if (options.min_p > 0)
    std::erase_if(candidates, [&](const Candidate& c) { return c.weight < options.min_p; });
  return Draw(candidates, random);
}

TokenLogprob LogprobOf(std::span<const float> logits, TokenId token, int top) {
  const float best = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - best);
  const double log_sum = static_cast<double>(best) + std::log(sum);
  const auto logprob = [&](TokenId id) {
    return static_cast<float>(logits[static_cast<size_t>(id)] - log_sum);
  };

  TokenLogprob result{.id = token, .logprob = logprob(token)};
  if (top == 0) return result;
  std::vector<TokenId> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const size_t count = std::min(static_cast<size_t>(top), order.size());
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(count), order.end(),
                    [&](TokenId a, TokenId b) {
                      const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
                      return x != y ? x > y : a < b;
                    });
  for (size_t i = 0; i < count; ++i) result.top.emplace_back(order[i], logprob(order[i]));
  return result;
}

}  // namespace thermocline
