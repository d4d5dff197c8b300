// LiveFeed: the server's figures and the neurons of its last token, as events for whoever watches.
// SPDX-License-Identifier: Apache-2.0
//
// One thread makes each event once and hands it to every watcher; without watchers it sleeps, and the runner
// records nothing.
#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/status.h"
#include "scheduler/neuron_activity.h"
#include "scheduler/scheduler.h"
#include "server/completion_server.h"
#include "server/http_call.h"

namespace thermocline {

struct LiveFeedOptions {
  std::chrono::milliseconds period{
      100};  // between events, at least; sooner there is none, however fast tokens come
  std::chrono::milliseconds longest_silence{1'000};  // while nothing changes
  size_t max_watchers = 8;
};

// Safe to use from several threads.
class LiveFeed {
 public:
  // All must outlive the feed; activity: nullptr where the runner does not record any.
  LiveFeed(const Scheduler& scheduler, const ServedModel& model, NeuronActivity* activity,
           LiveFeedOptions options = {});
  ~LiveFeed() { Stop(); }
  LiveFeed(const LiveFeed&) = delete;
  LiveFeed& operator=(const LiveFeed&) = delete;

  // Answers with a stream of server-sent events: what the model is, then figures until the client goes or the
  // feed stops. Fails the call with 429 where too many watch, with 503 behind Stop(). On the call's strand.
  void Watch(const std::shared_ptr<HttpCall>& call);

  // Ends every stream; nothing is posted to a call any more.
  void Stop();

  size_t watchers() const;

 private:
  absl::Status Add(const std::shared_ptr<HttpCall>& call);
  void Remove(const HttpCall* call);
  void Loop();
  std::string Describe() const;

  const Scheduler& scheduler_;
  const ServedModel& model_;
  NeuronActivity* const activity_;
  const LiveFeedOptions options_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::shared_ptr<HttpCall>> watchers_;  // guarded by mutex_, as stopping_
  bool greet_ = false;                               // somebody came who has seen no figures yet
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace thermocline
