// Problems of the 3x3 box filter.
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <memory>

#include "tests/bench/ladder/guarded_array.h"
#include "tests/bench/ladder/problem.h"

namespace thermocline::ladder {
namespace {

constexpr int64_t kRowMultiple = 16;  // floats: rows of the output start at multiples of 64 bytes

// Pixels in [-1, 1): sums of nine terms in two orders differ by less than 2 x 9 roundings of at most half an
// ulp of 9.
constexpr double kTolerance = 18 * 8 * 0x1p-24;

struct Data {
  GuardedArray<float> input, kernel, scratch, output;
  std::vector<float> expected;
  BoxFilterArgs args;
};

// Only the region that the filter writes: what lies between its rows keeps the poison.
absl::Status Verify(const std::function<void()>& run, Data& data) {
  std::ranges::fill(data.output.span(), std::numeric_limits<float>::quiet_NaN());
  run();
  if (data.expected.empty()) data.expected.assign(data.output.span().begin(), data.output.span().end());
  return CompareFloats(data.output.span(), data.expected, [](int64_t) { return kTolerance; });
}

absl::StatusOr<Problem> Make(const Climb& climb, int64_t rows, int64_t cols) {
  const int64_t out_rows = rows >= 3 && cols >= 3 ? rows - 2 : 0, out_cols = out_rows > 0 ? cols - 2 : 0;
  const int64_t stride = (out_cols + kRowMultiple - 1) / kRowMultiple * kRowMultiple;
  Problem problem = {.family = "box_filter",
                     .name = fmt::format("{} x {}", cols, rows),
                     .operations = 18.0 * static_cast<double>(out_rows * out_cols),
                     .bytes = 4.0 * static_cast<double>(rows * cols + out_rows * out_cols),
                     .memory_bound = true};
  const auto data = std::make_shared<Data>();
  TC_ASSIGN_OR_RETURN(data->input, GuardedArray<float>::Create(rows * cols));
  TC_ASSIGN_OR_RETURN(data->kernel, GuardedArray<float>::Create(9));
  TC_ASSIGN_OR_RETURN(data->scratch, GuardedArray<float>::Create(kBoxFilterScratchFloats, 64));
  TC_ASSIGN_OR_RETURN(data->output, GuardedArray<float>::Create(out_rows * stride, 64));
  FillRandom(data->input.span(), 31);
  std::ranges::fill(data->kernel.span(), 1.0f);
  data->args = {.input = {data->input.data(), rows, cols, cols},
                .kernel = data->kernel.data(),
                .scratch = data->scratch.data(),
                .output = {data->output.data(), out_rows, out_cols, stride}};
  const auto add = [&](const BoxFilterRung& rung, std::string_view isa) {
    const auto run = [rung, data] { rung.filter(data->args); };
    problem.rungs.push_back(
        {.name = std::string(rung.name), .isa = std::string(isa), .run = run, .verify = [run, data] {
           return Verify(run, *data);
         }});
  };
  for (const BoxFilterRung& rung : ScalarBoxFilterRungs()) add(rung, "");
  for (const SimdRungs& set : climb.sets)
    for (const BoxFilterRung& rung : set.box_filter) add(rung, set.isa);
  if (!climb.check) TC_RETURN_IF_ERROR(AddCopies(climb, problem));
  return problem;
}

}  // namespace

std::vector<ProblemMaker> BoxFilterProblems(const Climb& climb) {
  // Columns, rows: second-level cache, last-level cache, memory.
  std::vector<std::array<int64_t, 2>> sizes = {{256, 256}, {1280, 720}, {3840, 2160}};
  if (climb.check)
    sizes = {{0, 0}, {1, 1}, {2, 9}, {9, 2}, {3, 3}, {18, 4}, {19, 5}, {67, 31}, {1100, 6}, {2051, 7}};
  std::vector<ProblemMaker> makers;
  for (const auto& [cols, rows] : sizes)
    makers.push_back([climb, cols = cols, rows = rows] { return Make(climb, rows, cols); });
  return makers;
}

}  // namespace thermocline::ladder
