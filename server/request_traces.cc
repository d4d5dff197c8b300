// Hands out traces and writes them down.
// SPDX-License-Identifier: Apache-2.0
#include "server/request_traces.h"

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "scheduler/request.h"

namespace thermocline {
namespace {

constexpr std::chrono::seconds kRetryDelay{1};

}  // namespace

absl::StatusOr<std::unique_ptr<HeldTrace>> RequestTraces::Begin(RequestTraces* traces) {
  if (traces == nullptr)
    return FieldError("trace", "is not given here: the server runs without --request-traces");
  if (traces->held_->fetch_add(1) >= traces->most_) {
    traces->held_->fetch_sub(1);
    return WithRetryDelay(
        ResourceExhausted("trace: {} requests are traced already, the limit", traces->most_), kRetryDelay);
  }
  return std::unique_ptr<HeldTrace>(new HeldTrace(traces->held_));
}

nlohmann::ordered_json TraceJson(const RequestTrace& trace, const RequestRecord& record,
                                 const ServedModel& model) {
  std::vector<std::string> devices;
  for (const ServedDevice& device : model.devices) devices.push_back(device.name);
  return trace.ToJson(record.request_id, record.trace.trace_id, devices);
}

}  // namespace thermocline
