// RequestTraces: traces that requests ask for, a bounded number at once, and their JSON.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <utility>

#include "core/status.h"
#include "scheduler/request_trace.h"
#include "server/completion_server.h"
#include "server/request_log.h"

namespace thermocline {

// One of the traces that may be at once, for as long as it lives.
class HeldTrace {
 public:
  ~HeldTrace() { held_->fetch_sub(1); }
  HeldTrace(const HeldTrace&) = delete;
  HeldTrace& operator=(const HeldTrace&) = delete;

  // For the request. The scheduler lets go of it a moment after the request's end.
  const std::shared_ptr<RequestTrace>& trace() const { return trace_; }

 private:
  friend class RequestTraces;
  explicit HeldTrace(std::shared_ptr<std::atomic<int64_t>> held) : held_(std::move(held)) {}

  const std::shared_ptr<std::atomic<int64_t>> held_;
  const std::shared_ptr<RequestTrace> trace_ = std::make_shared<RequestTrace>();
};

// Each trace is bounded (RequestTraceLimits), and so is their number, thus what they take of memory. Safe to
// use from several threads.
class RequestTraces {
 public:
  static constexpr int64_t kMost = 64;

  // At most so many at once, up to kMost.
  explicit RequestTraces(int64_t most) : most_(most) {}

  // An empty trace. A FieldError of "trace" where `traces` is nullptr:
  // the server gives none. ResourceExhausted with a retry delay while there are as many as may be.
  static absl::StatusOr<std::unique_ptr<HeldTrace>> Begin(RequestTraces* traces);

 private:
  const int64_t most_;
  const std::shared_ptr<std::atomic<int64_t>> held_ = std::make_shared<std::atomic<int64_t>>(0);
};

// Of a request that has ended well.
nlohmann::ordered_json TraceJson(const RequestTrace& trace, const RequestRecord& record,
                                 const ServedModel& model);

}  // namespace thermocline
