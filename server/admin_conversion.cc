// From the scheduler's figures and the placement to the messages of thermocline.v1.AdminService.
// SPDX-License-Identifier: Apache-2.0
#include "server/admin_conversion.h"

#include <string>

#include "model/plan_messages.h"
#include "scheduler/kv_pages.h"
#include "server/completion_conversion.h"

namespace thermocline {
namespace {

v1::Audit ToMessage(const AuditSums& sums, int64_t every) {
  v1::Audit message;
  message.set_every(every);
  message.set_tokens(sums.tokens);
  message.set_recall(sums.recall());
  message.set_kl_mean(sums.kl_mean());
  message.set_kl_max(sums.kl_max);
  message.set_top1_agreement(sums.top1_agreement());
  return message;
}

v1::Execution ToMessage(const ExecutionStats& stats) {
  v1::Execution message;
  message.set_steps(stats.steps);
  message.set_operators(stats.operators);
  message.set_skipped_operators(stats.skipped_operators);
  message.set_hand_overs(stats.hand_overs);
  message.set_mean_hand_over_micros(stats.mean_hand_over_micros());
  if (stats.busy_seconds.size() > 1) message.set_overlap_ratio(stats.overlap_ratio());
  message.mutable_busy_seconds()->Add(stats.busy_seconds.begin(), stats.busy_seconds.end());
  message.set_link_bytes(stats.link_bytes);
  return message;
}

}  // namespace

v1::Stats ToMessage(const SchedulerStats& stats, const SchedulerOptions& options, std::string_view mode) {
  v1::Stats message;
  message.set_requests_running(stats.running);
  message.set_requests_waiting(stats.waiting);
  message.set_requests_finished(stats.finished);
  message.set_generated_tokens(stats.generated_tokens);
  message.set_mode(std::string(mode));
  *message.mutable_sparsity() = ToMessage(stats.decode_steps);
  *message.mutable_audit() = ToMessage(stats.audits, options.audit_every);
  *message.mutable_execution() = ToMessage(stats.execution);
  message.set_waiting_tokens(stats.waiting_tokens);
  message.set_prompt_tokens(stats.prompt_tokens);
  v1::KvCache& cache = *message.mutable_kv_cache();
  cache.set_tokens_per_page(kKvPageTokens);
  cache.set_pages(stats.pages);
  cache.set_used_pages(stats.used_pages);
  cache.set_cached_pages(stats.cached_pages);
  cache.set_prefix_queried_tokens(stats.prefix_queried_tokens);
  cache.set_prefix_hit_tokens(stats.prefix_hit_tokens);
  cache.set_preemptions(stats.preemptions);
  v1::Steps& steps = *message.mutable_steps();
  steps.set_prefill(stats.prefill_steps);
  steps.set_decode(stats.decode_step_count);
  steps.set_last_requests(stats.last_step_requests);
  steps.set_last_tokens(stats.last_step_tokens);
  return message;
}

v1::Placement PlacementMessage(const ServedModel& model) {
  v1::Placement message;
  for (const ServedDevice& device : model.devices) {
    v1::PlacedDevice& placed = *message.add_devices();
    placed.set_name(device.name);
    placed.set_kind(ToProto(device.kind));
    placed.set_emulated(device.kind == DeviceKind::kHost);
    placed.set_used_bytes(device.used_bytes);
    placed.set_budget_bytes(device.budget_bytes);
  }
  message.set_neurons_per_layer(model.d_ff);
  message.mutable_hot_neurons()->Add(model.hot_neurons.begin(), model.hot_neurons.end());
  return message;
}

}  // namespace thermocline
