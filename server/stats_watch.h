// StatsWatches: the streams of AdminService.WatchStats.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <grpcpp/support/server_callback.h>

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <set>

#include "core/status.h"
#include "server/grpc_call.h"
#include "thermocline/v1/admin.pb.h"

namespace thermocline {

// How often the request asks for figures; a FieldError of "interval" outside its range.
absl::StatusOr<std::chrono::milliseconds> WatchInterval(const v1::WatchStatsRequest& request);

// Safe to use from several threads. Must outlive the server of its streams.
class StatsWatches {
 public:
  // A stream that sends `stats()` at once and then at the interval. It ends with the status where there is no
  // interval, when the client has gone, and with OK after End(), after the figures as they are then.
  grpc::ServerWriteReactor<v1::WatchStatsResponse>* Start(GrpcCall call,
                                                          absl::StatusOr<std::chrono::milliseconds> interval,
                                                          std::function<v1::Stats()> stats);
  void End();
  // Until gRPC is done with all of them or the time is up.
  void WaitEnded(std::chrono::steady_clock::time_point deadline);

 private:
  class Watch;

  std::mutex mutex_;
  std::condition_variable none_left_;
  std::set<Watch*> watches_;  // guarded by mutex_; until gRPC is done with them
  bool ended_ = false;        // guarded by mutex_
};

}  // namespace thermocline
