// Sums of what steps read and of what audits found.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/step_figures.h"

#include <algorithm>
#include <cmath>

namespace thermocline {

StepFigures& StepFigures::operator+=(const StepFigures& other) {
  neurons += other.neurons;
  marked_neurons += other.marked_neurons;
  active_neurons += other.active_neurons;
  active_on_accelerators += other.active_on_accelerators;
  bytes += other.bytes;
  neuron_bytes += other.neuron_bytes;
  return *this;
}

StepFigures ShareOf(const StepFigures& step, int64_t index, int64_t n_tokens) {
  const auto part = [&](int64_t whole) { return whole * (index + 1) / n_tokens - whole * index / n_tokens; };
  StepFigures share = step;
  share.bytes = part(step.bytes);
  share.neuron_bytes = part(step.neuron_bytes);
  return share;
}

void StepSums::Add(const StepFigures& step) {
  ++tokens;
  total += step;
}

double StepSums::bytes_per_token() const {
  return tokens > 0 ? static_cast<double>(total.bytes) / static_cast<double>(tokens) : 0;
}

void AuditSums::Add(const AuditFigures& audit) {
  if (!std::isfinite(audit.kl_divergence)) return;
  ++tokens;
  active_neurons += audit.active_neurons;
  marked_active_neurons += audit.marked_active_neurons;
  kl_sum += audit.kl_divergence;
  kl_max = std::max(kl_max, audit.kl_divergence);
  same_top += audit.same_top ? 1 : 0;
}

double AuditSums::recall() const {
  if (active_neurons == 0) return 1;
  return static_cast<double>(marked_active_neurons) / static_cast<double>(active_neurons);
}

double AuditSums::kl_mean() const { return tokens > 0 ? kl_sum / static_cast<double>(tokens) : 0; }

double AuditSums::top1_agreement() const {
  return tokens > 0 ? static_cast<double>(same_top) / static_cast<double>(tokens) : 1;
}

}  // namespace thermocline
