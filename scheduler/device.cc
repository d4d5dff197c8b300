// Names of modes, sums of work.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/device.h"

namespace thermocline {

std::string_view NameOf(NeuronMode mode) {
  switch (mode) {
    case NeuronMode::kDense:
      return "dense";
    case NeuronMode::kExact:
      return "exact";
    case NeuronMode::kPredicted:
      return "predicted";
    case NeuronMode::kThreshold:
      return "threshold";
  }
  TC_CHECK(false);
}

NeuronWork& NeuronWork::operator+=(const NeuronWork& other) {
  marked += other.marked;
  active += other.active;
  marked_active += other.marked_active;
  bytes += other.bytes;
  attention_bytes_left_out += other.attention_bytes_left_out;
  link_bytes += other.link_bytes;
  return *this;
}

}  // namespace thermocline
