// Adding operators to a graph.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/graph.h"

#include <algorithm>
#include <utility>

#include "core/status.h"

namespace thermocline {

OperatorId OperatorGraph::Add(Operator added) {
  const OperatorId id = static_cast<OperatorId>(operators_.size());
  TC_CHECK(added.device >= 0);
  TC_CHECK(added.work != nullptr);
  for (const OperatorId prerequisite : added.prerequisites) TC_CHECK(prerequisite >= 0 && prerequisite < id);
  for (const OperatorId prerequisite : added.prerequisites) {
    successors_[static_cast<size_t>(prerequisite)].push_back(id);
  }
  n_devices_ = std::max(n_devices_, added.device + 1);
  operators_.push_back(std::move(added));
  successors_.emplace_back();
  return id;
}

}  // namespace thermocline
