// Problems of 4x4 matrices, in float and in Q1.14.
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "core/random.h"
#include "tests/bench/ladder/guarded_array.h"
#include "tests/bench/ladder/problem.h"

namespace thermocline::ladder {
namespace {

template <typename T>
struct Data {
  GuardedArray<T> a, b, c;
  std::vector<T> expected;
};

// Entries in [-1, 1); each sum has four terms, and two orders of adding differ by less than 2 x 4 roundings
// of at most half an ulp of 4.
constexpr double kTolerance = 8 * 4 * 0x1p-24;

absl::Status Compare(const Data<float>& data) {
  return CompareFloats(data.c.span(), data.expected, [](int64_t) { return kTolerance; });
}

absl::Status Compare(const Data<int16_t>& data) {
  const auto [actual, expected] = std::ranges::mismatch(data.c.span(), data.expected);
  if (actual == data.c.span().end()) return absl::OkStatus();
  return Internal("element {} is {}, the scalar rung says {}", actual - data.c.span().begin(), *actual,
                  *expected);
}

void Fill(std::span<float> values, uint64_t seed) { FillRandom(values, seed); }

// Every bit pattern: sums that saturate, and at the extremes sums that wrap.
void Fill(std::span<int16_t> values, uint64_t seed) {
  SplitMix64 random(seed);
  for (int16_t& value : values) value = static_cast<int16_t>(random.Next());
  for (size_t i = 0; i < values.size() / 2; ++i) values[i] = i % 3 == 0 ? INT16_MIN : INT16_MAX;
}

template <typename T, class Rung>
void AddRung(const Rung& rung, std::string_view isa, int64_t count, const std::shared_ptr<Data<T>>& data,
             Problem& problem) {
  const auto run = [rung, count, data] {
    rung.multiply(data->a.data(), data->b.data(), count, data->c.data());
  };
  const auto verify = [run, data] {
    std::ranges::fill(data->c.span(), T{77});
    run();
    if (data->expected.empty()) data->expected.assign(data->c.span().begin(), data->c.span().end());
    return Compare(*data);
  };
  problem.rungs.push_back(
      {.name = std::string(rung.name), .isa = std::string(isa), .run = run, .verify = verify});
}

template <typename T, class Rung>
absl::StatusOr<Problem> Make(const Climb& climb, std::string_view family, int64_t count,
                             const std::vector<Rung>& scalar, std::vector<Rung> SimdRungs::*simd) {
  Problem problem = {.family = std::string(family),
                     .name = fmt::format("{} matrices", count),
                     .operations = 128.0 * static_cast<double>(count),
                     .bytes = 48.0 * sizeof(T) * static_cast<double>(count)};
  const auto data = std::make_shared<Data<T>>();
  TC_ASSIGN_OR_RETURN(data->a, GuardedArray<T>::Create(16 * count));
  TC_ASSIGN_OR_RETURN(data->b, GuardedArray<T>::Create(16 * count));
  TC_ASSIGN_OR_RETURN(data->c, GuardedArray<T>::Create(16 * count));
  Fill(data->a.span(), 21);
  Fill(data->b.span(), 22);
  for (const Rung& rung : scalar) AddRung(rung, "", count, data, problem);
  for (const SimdRungs& set : climb.sets)
    for (const Rung& rung : set.*simd) AddRung(rung, set.isa, count, data, problem);
  if (!climb.check) TC_RETURN_IF_ERROR(AddCopies(climb, problem));
  return problem;
}

}  // namespace

std::vector<ProblemMaker> Matrix4Problems(const Climb& climb) {
  // What the first-level cache holds, so that arithmetic counts.
  std::vector<int64_t> counts = {128};
  if (climb.check) counts = {0, 1, 2, 100};
  std::vector<ProblemMaker> makers;
  for (const int64_t count : counts) {
    makers.push_back([climb, count] {
      return Make<float>(climb, "matrix4", count, ScalarMatrix4Rungs(), &SimdRungs::matrix4);
    });
    makers.push_back([climb, count] {
      return Make<int16_t>(climb, "matrix4_q1_14", count, ScalarFixedMatrix4Rungs(),
                           &SimdRungs::fixed_matrix4);
    });
  }
  return makers;
}

}  // namespace thermocline::ladder
