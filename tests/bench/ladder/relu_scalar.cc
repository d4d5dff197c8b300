// ReLU and leaky ReLU, one element at a time.
// SPDX-License-Identifier: Apache-2.0
#include <bit>

#include "tests/bench/ladder/rungs.h"

namespace thermocline::ladder {
namespace {

void Relu(const float* x, int64_t count, float* y) {
  for (int64_t i = 0; i < count; ++i) y[i] = x[i] > 0.0f ? x[i] : 0.0f;
}

void LeakyRelu(const float* x, int64_t count, float slope, float* y) {
  for (int64_t i = 0; i < count; ++i) y[i] = x[i] > 0.0f ? x[i] : slope * x[i];
}

// a where the condition holds, else b: by a mask, since g++ makes branches of the operator and standard
// functions.
float Select(bool condition, float a, float b) {
  const uint32_t mask = -uint32_t{condition};
  return std::bit_cast<float>((std::bit_cast<uint32_t>(a) & mask) | (std::bit_cast<uint32_t>(b) & ~mask));
}

void ReluWithoutBranch(const float* x, int64_t count, float* y) {
  for (int64_t i = 0; i < count; ++i) y[i] = Select(x[i] > 0.0f, x[i], 0.0f);
}

void LeakyReluWithoutBranch(const float* x, int64_t count, float slope, float* y) {
  for (int64_t i = 0; i < count; ++i) y[i] = Select(x[i] > 0.0f, x[i], slope * x[i]);
}

}  // namespace

std::vector<ReluRung> ScalarReluRungs() {
  return {{"scalar", 0, Relu, LeakyRelu},
          {"scalar, without a branch", 0, ReluWithoutBranch, LeakyReluWithoutBranch}};
}

}  // namespace thermocline::ladder
