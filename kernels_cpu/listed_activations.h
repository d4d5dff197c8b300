// Activations that are not zero, listed group by group: what products over columns take.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/matrix.h"

namespace thermocline {

// One token's group of columns: 32 or 16, as one scale of the weights covers.
struct ListedGroup {
  int32_t listed = 0;       // entries; of 8-bit values a multiple of 4, filled up with zeros
  int32_t sum = 0;          // of the values
  float scale = 0.0f;       // an activation is scale * value; NaN where the block holds what is not finite
  float scaled_sum = 0.0f;  // scale * sum: what a weight's minimum is multiplied with
};

// Borrowed. A group's entries start where its columns would. Of a token alone or in a batch they are the
// same: they do not depend on which columns others need.
struct ListedActivations {
  MatrixView<const int8_t> values;   // (n_tokens, cols), for quantised weights
  MatrixView<const float> exact;     // (n_tokens, cols), for plain floats
  MatrixView<const uint8_t> places;  // (n_tokens, cols): each entry's column, counted from the group's first
  MatrixView<const ListedGroup> groups;  // (n_tokens, groups)
};

}  // namespace thermocline
