// Sends figures again and again: a write, then an alarm, then a write.
// SPDX-License-Identifier: Apache-2.0
#include "server/stats_watch.h"

#include <google/protobuf/duration.pb.h>
#include <grpcpp/alarm.h>

#include <optional>
#include <utility>

#include "scheduler/request.h"

namespace thermocline {

absl::StatusOr<std::chrono::milliseconds> WatchInterval(const v1::WatchStatsRequest& request) {
  constexpr int64_t kLeastMillis = 100, kMostMillis = 60'000, kDefaultMillis = 1'000;
  if (!request.has_interval()) return std::chrono::milliseconds(kDefaultMillis);
  const int64_t seconds = request.interval().seconds();
  const int64_t nanos = request.interval().nanos();
  // Both are bounded before they are added.
  const bool in_range = seconds >= 0 && seconds <= kMostMillis / 1000 && nanos >= 0 && nanos < 1'000'000'000;
  const int64_t millis = in_range ? seconds * 1000 + nanos / 1'000'000 : 0;
  if (millis < kLeastMillis || millis > kMostMillis) {
    return FieldError("interval", fmt::format("is {} s and {} ns, allowed are [{}, {}] ms", seconds, nanos,
                                              kLeastMillis, kMostMillis));
  }
  return std::chrono::milliseconds(millis);
}

// One stream. A write or an alarm is under way at any time until Finish, so that what ends it need only make
// that one come back soon.
class StatsWatches::Watch final : public grpc::ServerWriteReactor<v1::WatchStatsResponse> {
 public:
  Watch(StatsWatches& watches, GrpcCall call, std::function<v1::Stats()> stats)
      : watches_(watches), call_(std::move(call)), stats_(std::move(stats)) {}

  void Refuse(const absl::Status& status) { End(status); }
  void Begin(std::chrono::milliseconds interval) {
    interval_ = interval;
    Write();
  }

  // The figures once more, then no more.
  void End() {
    const std::lock_guard lock(mutex_);
    last_ = true;
    if (alarm_) alarm_->Cancel();
  }

  void OnWriteDone(bool ok) override {
    bool gone = !ok;
    {
      const std::lock_guard lock(mutex_);
      gone |= gone_;
      if (!gone && !written_last_) {
        // A new one each time: an alarm whose function runs cannot be set.
        alarm_.emplace();
        const auto now = std::chrono::system_clock::now();
        alarm_->Set(last_ ? now : now + interval_, [this](bool) { Write(); });
        return;
      }
    }
    End(gone ? Cancelled("the client has gone") : absl::OkStatus());
  }

  void OnCancel() override {
    const std::lock_guard lock(mutex_);
    gone_ = true;
    if (alarm_) alarm_->Cancel();
  }

  void OnDone() override {
    {
      // Also orders this behind what Begin, Refuse and Write did on other threads.
      const std::lock_guard lock(mutex_);
      call_.Log();
    }
    {
      const std::lock_guard lock(watches_.mutex_);
      watches_.watches_.erase(this);
      if (watches_.watches_.empty()) watches_.none_left_.notify_all();
    }
    delete this;
  }

 private:
  void End(const absl::Status& status) {
    std::unique_lock lock(mutex_);
    const grpc::Status finished = call_.Finished(status);
    lock.unlock();
    Finish(finished);
  }

  void Write() {
    v1::Stats stats = stats_();
    {
      const std::lock_guard lock(mutex_);
      *message_.mutable_stats() = std::move(stats);
      written_last_ = last_;
    }
    StartWrite(&message_);  // fails at once where the client has gone
  }

  StatsWatches& watches_;
  GrpcCall call_;
  const std::function<v1::Stats()> stats_;
  std::chrono::milliseconds interval_{};
  std::mutex mutex_;
  v1::WatchStatsResponse message_;  // being written; guarded by mutex_, as all below
  std::optional<grpc::Alarm> alarm_;
  bool last_ = false;  // there will be no figures but those that are read from now on
  bool written_last_ = false;
  bool gone_ = false;
};

grpc::ServerWriteReactor<v1::WatchStatsResponse>* StatsWatches::Start(
    GrpcCall call, absl::StatusOr<std::chrono::milliseconds> interval, std::function<v1::Stats()> stats) {
  auto* const watch = new Watch(*this, std::move(call), std::move(stats));  // OnDone deletes it
  {
    const std::lock_guard lock(mutex_);
    watches_.insert(watch);
    if (ended_) watch->End();
  }
  if (interval.ok()) {
    watch->Begin(*interval);
  } else {
    watch->Refuse(interval.status());
  }
  return watch;
}

void StatsWatches::End() {
  const std::lock_guard lock(mutex_);
  ended_ = true;
  for (Watch* const watch : watches_) watch->End();
}

void StatsWatches::WaitEnded(std::chrono::steady_clock::time_point deadline) {
  std::unique_lock lock(mutex_);
  none_left_.wait_until(lock, deadline, [this] { return watches_.empty(); });
}

}  // namespace thermocline
