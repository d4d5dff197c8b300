// Penalties, truncation and the draw.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/sampler.h"

#include <algorithm>
#include <bit>
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

// The likeliest token, of equals the first; nothing when a logit is NaN or none is finite. In lanes, which
// compilers make vectors of: this looks at a whole vocabulary for every token.
std::optional<TokenId> Likeliest(std::span<const float> logits) {
  constexpr size_t kLanes = 16, kBlock = 256;
  constexpr int32_t kInfinityBits = 0x7F800000;
  float best = kBanned;
  size_t best_block = 0;
  int32_t not_a_number[kLanes] = {};
  for (size_t begin = 0; begin < logits.size(); begin += kBlock) {
    const std::span<const float> block = logits.subspan(begin, std::min(kBlock, logits.size() - begin));
    float largest[kLanes];
    std::ranges::fill(largest, kBanned);
    const auto look = [&](float logit, size_t lane) {
      largest[lane] = logit > largest[lane] ? logit : largest[lane];
      const auto magnitude = static_cast<int32_t>(std::bit_cast<uint32_t>(logit) & 0x7FFFFFFFu);
      not_a_number[lane] |= magnitude > kInfinityBits ? 1 : 0;
    };
    size_t i = 0;
    for (; i + kLanes <= block.size(); i += kLanes) {
      for (size_t lane = 0; lane < kLanes; ++lane) look(block[i + lane], lane);
    }
    for (; i < block.size(); ++i) look(block[i], i % kLanes);
    if (const float of_block = *std::ranges::max_element(largest); of_block > best) {
      best = of_block;
      best_block = begin;
    }
  }
  if (std::ranges::any_of(not_a_number, [](int32_t found) { return found != 0; }) || !std::isfinite(best))
    return std::nullopt;
  return static_cast<TokenId>(std::ranges::find(logits.subspan(best_block), best) - logits.begin());
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

bool Penalizes(const SamplingOptions& sampling) {
  return sampling.repetition_penalty != 1.0 || sampling.presence_penalty != 0 ||
         sampling.frequency_penalty != 0;
}

std::optional<TokenId> SampleToken(std::span<const float> logits, const SamplingOptions& options,
                                   const TokenHistory& history, std::span<const TokenId> banned,
                                   SplitMix64& random, SamplerScratch& scratch) {
  std::span<const float> adjusted = logits;
  if (Penalizes(options) || !options.logit_bias.empty() || !banned.empty()) {
    scratch.logits.assign(logits.begin(), logits.end());
    ApplyPenalties(options, history, scratch.logits);
    for (const TokenId token : banned) scratch.logits[static_cast<size_t>(token)] = kBanned;
    adjusted = scratch.logits;
  }
  const std::optional<TokenId> best = Likeliest(adjusted);
  if (!best || options.temperature == 0) return best;

  const float best_logit = adjusted[static_cast<size_t>(*best)];
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
