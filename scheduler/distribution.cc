// Comparison of two next-token distributions.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/distribution.h"

#include <algorithm>
#include <cmath>

#include "core/status.h"

namespace thermocline {
namespace {

// log(sum(exp(logits))), the largest taken out.
double LogSumExp(std::span<const float> logits) {
  const double largest = *std::ranges::max_element(logits);
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - largest);
  return largest + std::log(sum);
}

}  // namespace

DistributionDistance CompareDistributions(std::span<const float> p_logits, std::span<const float> q_logits) {
  TC_CHECK(!p_logits.empty() && p_logits.size() == q_logits.size());
  const double p_norm = LogSumExp(p_logits), q_norm = LogSumExp(q_logits);
  DistributionDistance distance;
  for (size_t i = 0; i < p_logits.size(); ++i) {
    const double log_p = p_logits[i] - p_norm, log_q = q_logits[i] - q_norm;
    const double p = std::exp(log_p);
    if (p != 0) distance.kl_divergence += p * (log_p - log_q);
  }
  if (distance.kl_divergence < 0) distance.kl_divergence = 0;  // rounding; the true value never is
  distance.same_top = std::ranges::max_element(p_logits) - p_logits.begin() ==
                      std::ranges::max_element(q_logits) - q_logits.begin();
  return distance;
}

}  // namespace thermocline
