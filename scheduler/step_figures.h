// What steps read, what audits of them found, and sums of both.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace thermocline {

// What one step read of the feed-forward blocks, summed over its layers.
struct StepFigures {
  int64_t neurons = 0;         // of all layers
  int64_t marked_neurons = 0;  // whose gate was computed
  int64_t active_neurons = 0;  // that were not zero for some token; 0 of dense steps, which do not look
  int64_t active_on_accelerators = 0;
  int64_t bytes = 0;         // read, whole step: attention, keys and values, predictors, neurons, head
  int64_t neuron_bytes = 0;  // of them, of neurons and predictors: what a mode can leave out or adds
  StepFigures& operator+=(const StepFigures& other);
  bool operator==(const StepFigures&) const = default;
};

// What token `index` of a step of n_tokens counts: the neurons that the step read, which are those that any
// of its tokens needed, and a part of the bytes. The parts of all tokens add up to the step's bytes.
StepFigures ShareOf(const StepFigures& step, int64_t index, int64_t n_tokens);

// An audited token: the predicted step beside the exact one.
struct AuditFigures {
  int64_t active_neurons = 0;         // of all layers, in the exact step
  int64_t marked_active_neurons = 0;  // those of them that the predictors marked
  double kl_divergence = 0;           // of the predicted distribution from the exact one, in nats
  bool same_top = false;              // both have the same likeliest token
};

// Over tokens of decode steps; of a token beside others its share (ShareOf).
struct StepSums {
  int64_t tokens = 0;
  StepFigures total;
  void Add(const StepFigures& step);
  double bytes_per_token() const;  // 0 without tokens
};

// Over audited tokens.
struct AuditSums {
  int64_t tokens = 0;
  int64_t active_neurons = 0;
  int64_t marked_active_neurons = 0;
  double kl_sum = 0;
  double kl_max = 0;
  int64_t same_top = 0;
  // A comparison of logits that are no numbers is left out: it says nothing of predictors, and its NaN would
  // stay in the sums.
  void Add(const AuditFigures& audit);
  double recall() const;          // 1 while no neuron was active
  double kl_mean() const;         // 0 without tokens
  double top1_agreement() const;  // 1 without tokens
};

}  // namespace thermocline
