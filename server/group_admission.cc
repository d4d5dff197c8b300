// Several completions that are admitted together or not at all.
// SPDX-License-Identifier: Apache-2.0
#include "server/group_admission.h"

#include <utility>

namespace thermocline {

absl::StatusOr<std::vector<RequestHandle>> SubmitAll(
    Scheduler& scheduler, std::vector<CompletionRequest> requests,
    std::span<const std::shared_ptr<CompletionObserver>> observers) {
  TC_CHECK(requests.size() == observers.size());
  std::vector<RequestHandle> handles;
  for (size_t i = 0; i < requests.size(); ++i) {
    absl::StatusOr<RequestHandle> handle = scheduler.Submit(std::move(requests[i]), observers[i]);
    if (!handle.ok()) {
      for (const RequestHandle admitted : handles) scheduler.Cancel(admitted);
      return std::move(handle).status();
    }
    handles.push_back(*handle);
  }
  return handles;
}

}  // namespace thermocline
