// Samples.
// SPDX-License-Identifier: Apache-2.0
#include "core/samples.h"

#include <algorithm>

namespace thermocline {

double Samples::median() const {
  if (values.empty()) return 0;
  std::vector<double> sorted = values;
  std::ranges::sort(sorted);
  const size_t middle = sorted.size() / 2;
  return sorted.size() % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

double Samples::min() const { return values.empty() ? 0 : *std::ranges::min_element(values); }
double Samples::max() const { return values.empty() ? 0 : *std::ranges::max_element(values); }

}  // namespace thermocline
