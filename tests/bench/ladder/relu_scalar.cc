// ReLU and leaky ReLU, one element at a time.
// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/ladder/rungs.h"

namespace thermocline::ladder {
namespace {

void Relu(const float* x, int64_t count, float* y) {
  for (int64_t i = 0; i < count; ++i) y[i] = x[i] > 0.0f ? x[i] : 0.0f;
}

void LeakyRelu(const float* x, int64_t count, float slope, float* y) {
  for (int64_t i = 0; i < count; ++i) y[i] = x[i] > 0.0f ? x[i] : slope * x[i];
}

}  // namespace

std::vector<ReluRung> ScalarReluRungs() { return {{"scalar", 0, Relu, LeakyRelu}}; }

}  // namespace thermocline::ladder
