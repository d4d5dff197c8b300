// The server's figures and the neurons of its last token, as events.
// SPDX-License-Identifier: Apache-2.0
#include "server/live_feed.h"

#include <absl/strings/escaping.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "scheduler/kv_pages.h"
#include "server/openai_response.h"

namespace thermocline {
namespace {

using Json = nlohmann::json;

constexpr std::chrono::seconds kRetryDelay{5};

double Milliseconds(std::chrono::steady_clock::time_point time) {
  return std::chrono::duration<double, std::milli>(time.time_since_epoch()).count();
}

Json FiguresJson(const SchedulerStats& stats) {
  const StepFigures& steps = stats.decode_steps.total;
  return {{"running", stats.running},
          {"waiting", stats.waiting},
          {"waiting_tokens", stats.waiting_tokens},
          {"finished", stats.finished},
          {"prompt_tokens", stats.prompt_tokens},
          {"generated_tokens", stats.generated_tokens},
          {"pages", stats.pages},
          {"used_pages", stats.used_pages},
          {"cached_pages", stats.cached_pages},
          {"prefix_queried_tokens", stats.prefix_queried_tokens},
          {"prefix_hit_tokens", stats.prefix_hit_tokens},
          {"preemptions", stats.preemptions},
          {"neurons", steps.neurons},
          {"marked_neurons", steps.marked_neurons},
          {"active_neurons", steps.active_neurons},
          {"active_on_accelerators", steps.active_on_accelerators},
          {"audited_tokens", stats.audits.tokens},
          {"recall", stats.audits.recall()}};
}

// A byte a column: how many of its neurons fired, 255 for more.
std::string Columns(const std::vector<uint16_t>& counts) {
  constexpr uint16_t kMost = std::numeric_limits<uint8_t>::max();
  std::string bytes(counts.size(), '\0');
  std::ranges::transform(counts, bytes.begin(),
                         [kMost](uint16_t count) { return static_cast<char>(std::min(count, kMost)); });
  return absl::Base64Escape(bytes);
}

Json StepJson(const ActivitySnapshot& snapshot) {
  Json step = {{"step", snapshot.step},
               {"tokens", snapshot.n_tokens},
               {"neurons", snapshot.figures.neurons},
               {"marked", snapshot.figures.marked_neurons},
               {"known", snapshot.known}};
  if (!snapshot.known) return step;
  step["active"] = snapshot.figures.active_neurons;
  step["on_accelerators"] = snapshot.figures.active_on_accelerators;
  step["fired"] = Columns(snapshot.counts);
  return step;
}

}  // namespace

LiveFeed::LiveFeed(const Scheduler& scheduler, const ServedModel& model, NeuronActivity* activity,
                   LiveFeedOptions options)
    : scheduler_(scheduler), model_(model), activity_(activity), options_(options), thread_([this] {
        Loop();
      }) {}

std::string LiveFeed::Describe() const {
  Json devices = Json::array();
  for (const ServedDevice& device : model_.devices) {
    devices.push_back({{"name", device.name},
                       {"kind", device.kind == DeviceKind::kCpu    ? "cpu"
                                : device.kind == DeviceKind::kCuda ? "cuda"
                                                                   : "host"}});
  }
  Json model = {{"name", model_.name},
                {"architecture", model_.architecture},
                {"activation", model_.activation},
                {"mode", model_.mode},
                {"n_layers", model_.n_layers},
                {"d_ff", model_.d_ff},
                {"weight_types", model_.weight_types},
                {"weight_bytes", model_.weight_bytes},
                {"devices", std::move(devices)},
                {"context_tokens", scheduler_.limits().context_length},
                {"page_tokens", kKvPageTokens}};
  if (activity_ != nullptr) {
    model["columns"] = activity_->columns();
    model["hot"] = activity_->hot();
  }
  return ToEvent({{"type", "model"}, {"model", std::move(model)}});
}

void LiveFeed::Watch(const std::shared_ptr<HttpCall>& call) {
  if (call->request().method == "HEAD")
    return call->Respond({.content_type = "text/event-stream; charset=utf-8"});
  if (const absl::Status added = Add(call); !added.ok()) return call->Fail(added);
  call->WhenGone([this, watcher = call.get()] { Remove(watcher); });
}

absl::Status LiveFeed::Add(const std::shared_ptr<HttpCall>& call) {
  const std::lock_guard lock(mutex_);
  if (stopping_) return Unavailable("the server is shutting down and takes no new calls");
  if (watchers_.size() >= options_.max_watchers) {
    return WithRetryDelay(ResourceExhausted("{} clients watch already, the limit", watchers_.size()),
                          kRetryDelay);
  }
  if (activity_ != nullptr) activity_->AddWatcher();
  // Before the loop can post to it.
  call->StartEvents(Describe());
  watchers_.push_back(call);
  greet_ = true;
  changed_.notify_all();
  return absl::OkStatus();
}

void LiveFeed::Remove(const HttpCall* call) {
  const std::lock_guard lock(mutex_);
  const auto removed =
      std::erase_if(watchers_, [call](const auto& watcher) { return watcher.get() == call; });
  if (removed > 0 && activity_ != nullptr) activity_->RemoveWatcher();
}

void LiveFeed::Stop() {
  {
    const std::lock_guard lock(mutex_);
    if (!std::exchange(stopping_, true)) {
      for (const auto& call : watchers_) {
        call->Post([call] { call->Finish(); });
        if (activity_ != nullptr) activity_->RemoveWatcher();
      }
      watchers_.clear();
    }
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

size_t LiveFeed::watchers() const {
  const std::lock_guard lock(mutex_);
  return watchers_.size();
}

void LiveFeed::Loop() {
  ActivitySnapshot snapshot;
  Json last_figures, step;
  auto last_event = std::chrono::steady_clock::now();
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || !watchers_.empty(); });
    if (stopping_) return;
    const bool greets = std::exchange(greet_, false);
    lock.unlock();
    const auto now = std::chrono::steady_clock::now();
    Json figures = FiguresJson(scheduler_.stats());
    const bool stepped = activity_ != nullptr && activity_->Update(snapshot);
    if (stepped) step = StepJson(snapshot);
    std::shared_ptr<const std::string> event;
    if (greets || stepped || figures != last_figures || now - last_event >= options_.longest_silence) {
      Json body = {{"type", "figures"}, {"milliseconds", Milliseconds(now)}, {"figures", figures}};
      if (stepped || (greets && !step.is_null())) body["step"] = step;
      event = std::make_shared<const std::string>(ToEvent(body));
      last_figures = std::move(figures);
      last_event = now;
    }
    lock.lock();
    if (stopping_) return;
    if (event != nullptr) {
      for (const auto& call : watchers_) call->Post([call, event] { call->Write(*event); });
    }
    changed_.wait_until(lock, now + options_.period, [this] { return stopping_; });
  }
}

}  // namespace thermocline
