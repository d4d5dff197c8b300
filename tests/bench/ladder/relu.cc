// Problems of ReLU and leaky ReLU.
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <memory>

#include "tests/bench/ladder/guarded_array.h"
#include "tests/bench/ladder/problem.h"

namespace thermocline::ladder {
namespace {

constexpr float kSlope = 0.01f;
constexpr int64_t kMostOffset = 16;  // of any rung, in floats

// x and y of one rung start where it wants them; rungs at the same place share them.
struct Buffers {
  GuardedArray<float> x, y;
};

struct Data {
  std::vector<float> expected;
  std::vector<std::pair<int64_t, Buffers>> by_offset;
};

absl::StatusOr<Buffers*> BuffersAt(Data& data, int64_t offset, int64_t count) {
  for (auto& [at, buffers] : data.by_offset)
    if (at == offset) return &buffers;
  Buffers buffers;
  TC_ASSIGN_OR_RETURN(buffers.x, GuardedArray<float>::Create(offset + count, 64));
  TC_ASSIGN_OR_RETURN(buffers.y, GuardedArray<float>::Create(offset + count, 64));
  const std::span<float> x = buffers.x.span().subspan(static_cast<size_t>(offset));
  FillRandom(x, 7);
  const float special[] = {0.0f,
                           -0.0f,
                           std::numeric_limits<float>::infinity(),
                           -std::numeric_limits<float>::infinity(),
                           std::numeric_limits<float>::quiet_NaN(),
                           std::numeric_limits<float>::denorm_min()};
  for (size_t i = 0; i < std::size(special) && 3 * i < x.size(); ++i) x[3 * i] = special[i];
  data.by_offset.reserve(kMostOffset);  // pointers into it stay
  data.by_offset.emplace_back(offset, std::move(buffers));
  return &data.by_offset.back().second;
}

absl::Status AddRung(const ReluRung& rung, std::string_view isa, bool leaky, int64_t count,
                     const std::shared_ptr<Data>& data, Problem& problem) {
  TC_CHECK(rung.offset < kMostOffset);
  TC_ASSIGN_OR_RETURN(Buffers * buffers, BuffersAt(*data, rung.offset, count));
  const auto run = [rung, leaky, count, data, buffers] {
    const float* x = buffers->x.data() + rung.offset;
    float* y = buffers->y.data() + rung.offset;
    if (leaky) {
      rung.leaky(x, count, kSlope, y);
    } else {
      rung.relu(x, count, y);
    }
  };
  const auto verify = [run, rung, data, buffers] {
    std::ranges::fill(buffers->y.span(), 12345.0f);
    run();
    const std::span<const float> y = buffers->y.span().subspan(static_cast<size_t>(rung.offset));
    if (data->expected.empty()) data->expected.assign(y.begin(), y.end());
    return CompareFloats(y, data->expected, [](int64_t) { return 0.0; });
  };
  problem.rungs.push_back(
      {.name = std::string(rung.name), .isa = std::string(isa), .run = run, .verify = verify});
  return absl::OkStatus();
}

absl::StatusOr<Problem> Make(const Climb& climb, bool leaky, int64_t rows, int64_t cols) {
  const int64_t count = rows * cols;
  Problem problem = {.family = leaky ? "leaky_relu" : "relu",
                     .name = fmt::format("{} x {} floats", rows, cols),
                     .operations = static_cast<double>(leaky ? 2 * count : count),
                     .bytes = 8.0 * static_cast<double>(count),
                     .memory_bound = true};
  const auto data = std::make_shared<Data>();
  for (const ReluRung& rung : ScalarReluRungs())
    TC_RETURN_IF_ERROR(AddRung(rung, "", leaky, count, data, problem));
  for (const SimdRungs& set : climb.sets)
    for (const ReluRung& rung : set.relu)
      TC_RETURN_IF_ERROR(AddRung(rung, set.isa, leaky, count, data, problem));
  if (!climb.check) TC_RETURN_IF_ERROR(AddCopies(climb, problem));
  return problem;
}

}  // namespace

std::vector<ProblemMaker> ReluProblems(const Climb& climb) {
  // The published size, which today's caches hold, and one that they do not.
  std::vector<std::pair<int64_t, int64_t>> sizes = {{1024, 1024}, {8192, 4096}};
  if (climb.check) sizes = {{1, 0}, {1, 1}, {1, 15}, {1, 16}, {1, 64}, {1, 333}, {37, 29}};
  std::vector<ProblemMaker> makers;
  for (const bool leaky : {false, true})
    for (const auto& [rows, cols] : sizes)
      makers.push_back([climb, leaky, rows = rows, cols = cols] { return Make(climb, leaky, rows, cols); });
  return makers;
}

}  // namespace thermocline::ladder
