// What the makers of problems share.
// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/ladder/problem.h"

#include <cmath>
#include <cstring>
#include <memory>

#include "core/random.h"
#include "tests/bench/ladder/guarded_array.h"

namespace thermocline::ladder {

void FillRandom(std::span<float> values, uint64_t seed) {
  SplitMix64 random(seed);
  for (float& value : values) value = static_cast<float>(2.0 * random.Uniform() - 1.0);
}

absl::Status CompareFloats(std::span<const float> actual, std::span<const float> expected,
                           const std::function<double(int64_t index)>& tolerance) {
  TC_CHECK(actual.size() == expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    if (actual[i] == expected[i] || (std::isnan(actual[i]) && std::isnan(expected[i]))) continue;
    const double error = std::abs(static_cast<double>(actual[i]) - static_cast<double>(expected[i]));
    const double allowed = tolerance(static_cast<int64_t>(i));
    if (!(error <= allowed))
      return Internal("element {} is {}, the scalar rung says {}; allowed is a difference of {}", i,
                      actual[i], expected[i], allowed);
  }
  return absl::OkStatus();
}

absl::Status AddCopies(const Climb& climb, Problem& problem) {
  struct Buffers {
    GuardedArray<float> source, target;
  };
  const auto count = static_cast<int64_t>(problem.bytes / 8);
  auto buffers = std::make_shared<Buffers>();
  TC_ASSIGN_OR_RETURN(buffers->source, GuardedArray<float>::Create(count, 64));
  TC_ASSIGN_OR_RETURN(buffers->target, GuardedArray<float>::Create(count, 64));
  FillRandom(buffers->source.span(), 1);
  problem.rungs.push_back({.name = "copy: memcpy", .peer = true, .run = [buffers, count] {
                             std::memcpy(buffers->target.data(), buffers->source.data(),
                                         static_cast<size_t>(count) * sizeof(float));
                           }});
  for (const SimdRungs& set : climb.sets)
    problem.rungs.push_back({.name = "copy: past the caches",
                             .isa = std::string(set.isa),
                             .peer = true,
                             .run = [buffers, count, copy = set.stream_copy] {
                               copy(buffers->source.data(), count, buffers->target.data());
                             }});
  return absl::OkStatus();
}

}  // namespace thermocline::ladder
