// Comparison of two next-token distributions.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

namespace thermocline {

struct DistributionDistance {
  double kl_divergence = 0;  // of q from p, sum of p log(p / q), in nats; 0 for equal logits
  bool same_top = false;     // the same likeliest token
};

// p and q are softmax of the logits; both (n_vocab). NaN in either gives a NaN divergence.
DistributionDistance CompareDistributions(std::span<const float> p_logits, std::span<const float> q_logits);

}  // namespace thermocline
