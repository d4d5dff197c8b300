// OperatorGraph: what one step computes, as operators with a device and prerequisites. Built once, run many
// times.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace thermocline {

// Operators of device 0, the CPU, run on the thread that asks for the step; every accelerator has an executor
// thread of its own.
using OperatorId = int32_t;

struct Operator {
  std::string name;    // "attention", "cold neurons"
  int32_t layer = -1;  // -1: of no layer
  int32_t device = 0;
  std::function<void()> work;
  // Asked, where it is set, once all prerequisites are done, by the thread that finished the last of them.
  // False: the operator counts as done without being handed to its device (selective synchronisation).
  std::function<bool()> needed;
  std::vector<OperatorId> prerequisites;  // smaller ids
};

class OperatorGraph {
 public:
  // Checks (TC_CHECK) that the prerequisites are earlier operators and the device is not negative.
  OperatorId Add(Operator added);

  int64_t size() const { return static_cast<int64_t>(operators_.size()); }
  int32_t n_devices() const { return n_devices_; }  // the largest device and those below it
  const Operator& at(OperatorId id) const { return operators_[static_cast<size_t>(id)]; }
  std::span<const OperatorId> successors(OperatorId id) const { return successors_[static_cast<size_t>(id)]; }

 private:
  std::vector<Operator> operators_;
  std::vector<std::vector<OperatorId>> successors_;
  int32_t n_devices_ = 1;
};

}  // namespace thermocline
