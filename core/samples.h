// Samples: several measurements of one quantity, with their spread.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

namespace thermocline {

struct Samples {
  std::vector<double> values;  // in the order measured
  double median() const;       // 0 when empty; of an even number the mean of the middle two
  double min() const;          // 0 when empty
  double max() const;          // 0 when empty
};

}  // namespace thermocline
