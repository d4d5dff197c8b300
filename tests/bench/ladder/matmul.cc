// Problems of the matrix product.
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <memory>

#include "tests/bench/ladder/guarded_array.h"
#include "tests/bench/ladder/problem.h"

namespace thermocline::ladder {
namespace {

constexpr int64_t kMostReferenceProducts = int64_t{1} << 26;  // of the slow scalar rung, a problem

struct Shape {
  int64_t m, k, n;
};

struct Data {
  Shape shape;
  GuardedArray<float> a, b, c, scratch;
  std::vector<GuardedArray<float>> packed;  // one a rung that packs ahead
  // The scalar rung's product of the rows that it is asked for: all, or where that would take minutes every
  // `row_step`-th and the last.
  std::vector<int64_t> rows;
  std::vector<float> expected;  // (rows.size(), n)
  std::vector<double> a_norm, b_norm;

  MatMulArgs Args() {
    const auto& [m, k, n] = shape;
    return {.a = {a.data(), m, k, k},
            .b = {b.data(), k, n, n},
            .scratch = scratch.data(),
            .c = {c.data(), m, n, n}};
  }
};

// Sums of `terms` products in two orders differ by at most the sum of both errors; the magnitudes add up to
// no more than the product of the norms (Cauchy and Schwarz). The errors, up to two half-ulps a term, grow as
// the root of their number: 8 standard deviations.
double Tolerance(int64_t terms, double magnitude) {
  return 2 * 0x1p-24 * 2 * (8 * std::sqrt(static_cast<double>(terms)) + 1) * magnitude;
}

absl::Status Compare(Data& data) {
  const auto& [m, k, n] = data.shape;
  for (size_t i = 0; i < data.rows.size(); ++i) {
    const int64_t row = data.rows[i];
    const absl::Status compared = CompareFloats(
        data.c.span().subspan(static_cast<size_t>(row * n), static_cast<size_t>(n)),
        std::span<const float>(data.expected).subspan(i * static_cast<size_t>(n), static_cast<size_t>(n)),
        [&data, row, k = k](int64_t col) {
          return Tolerance(k, data.a_norm[static_cast<size_t>(row)] * data.b_norm[static_cast<size_t>(col)]);
        });
    if (!compared.ok()) return Internal("row {}: {}", row, MessageOf(compared));
  }
  // Rows that are not compared were at least written.
  for (const float value : data.c.span())
    if (std::isnan(value)) return Internal("an element of the product is not a number");
  return absl::OkStatus();
}

void FillExpected(const MatMulRung& scalar, Data& data) {
  const auto& [m, k, n] = data.shape;
  const int64_t step = std::max<int64_t>(1, m * k * n / kMostReferenceProducts);
  for (int64_t row = 0; row < m; row += step) data.rows.push_back(row);
  if (m > 0 && data.rows.back() != m - 1) data.rows.push_back(m - 1);
  data.expected.resize(data.rows.size() * static_cast<size_t>(n));
  for (size_t i = 0; i < data.rows.size(); ++i) {
    MatMulArgs args = data.Args();
    args.a = args.a.Rows(data.rows[i], 1);
    args.c = {data.expected.data() + i * static_cast<size_t>(n), 1, n, n};
    scalar.multiply(args);
  }
  data.a_norm.assign(static_cast<size_t>(m), 0);
  data.b_norm.assign(static_cast<size_t>(n), 0);
  for (int64_t i = 0; i < m * k; ++i)
    data.a_norm[static_cast<size_t>(i / k)] += double{data.a.data()[i]} * data.a.data()[i];
  for (int64_t i = 0; i < k * n; ++i)
    data.b_norm[static_cast<size_t>(i % n)] += double{data.b.data()[i]} * data.b.data()[i];
  for (double& norm : data.a_norm) norm = std::sqrt(norm);
  for (double& norm : data.b_norm) norm = std::sqrt(norm);
}

absl::Status AddRung(const MatMulRung& rung, std::string_view isa, bool peer,
                     const std::shared_ptr<Data>& data, Problem& problem) {
  const auto& [m, k, n] = data->shape;
  const float* packed_b = nullptr;
  if (rung.pack_b != nullptr) {
    TC_ASSIGN_OR_RETURN(GuardedArray<float> packed, GuardedArray<float>::Create(PackedBFloats(k, n), 64));
    rung.pack_b(data->Args().b, packed.data());
    packed_b = packed.data();
    data->packed.push_back(std::move(packed));
  }
  const auto run = [rung, data, packed_b] {
    MatMulArgs args = data->Args();
    args.packed_b = packed_b;
    rung.multiply(args);
  };
  const auto verify = [run, data] {
    std::ranges::fill(data->c.span(), std::numeric_limits<float>::quiet_NaN());
    run();
    return Compare(*data);
  };
  problem.rungs.push_back({.name = std::string(rung.name),
                           .isa = std::string(isa),
                           .peer = peer,
                           .run = run,
                           .verify = verify,
                           .timed = std::max({m, k, n}) <= rung.most_size});
  return absl::OkStatus();
}

absl::StatusOr<Problem> Make(const Climb& climb, const Shape& shape) {
  const auto& [m, k, n] = shape;
  Problem problem = {.family = "matmul",
                     .name = fmt::format("{} x {} x {}", m, k, n),
                     .operations = 2.0 * static_cast<double>(m * k * n),
                     .bytes = 4.0 * static_cast<double>(m * k + k * n + m * n)};
  const auto data = std::make_shared<Data>();
  data->shape = shape;
  TC_ASSIGN_OR_RETURN(data->a, GuardedArray<float>::Create(m * k));
  TC_ASSIGN_OR_RETURN(data->b, GuardedArray<float>::Create(k * n));
  TC_ASSIGN_OR_RETURN(data->c, GuardedArray<float>::Create(m * n));
  TC_ASSIGN_OR_RETURN(data->scratch, GuardedArray<float>::Create(MatMulScratchFloats(k, n), 64));
  FillRandom(data->a.span(), 11);
  FillRandom(data->b.span(), 12);
  const std::vector<MatMulRung> scalar = ScalarMatMulRungs();
  FillExpected(scalar.front(), *data);
  for (const MatMulRung& rung : scalar) TC_RETURN_IF_ERROR(AddRung(rung, "", false, data, problem));
  for (const SimdRungs& set : climb.sets)
    for (const MatMulRung& rung : set.mat_mul)
      TC_RETURN_IF_ERROR(AddRung(rung, set.isa, false, data, problem));
  if (!climb.check) {
    for (const MatMulRung& rung : OpenBlasRungs(climb.sets.front().isa))
      TC_RETURN_IF_ERROR(AddRung(rung, "", true, data, problem));
    TC_RETURN_IF_ERROR(AddCopies(climb, problem));
  }
  return problem;
}

}  // namespace

std::vector<ProblemMaker> MatMulProblems(const Climb& climb) {
  std::vector<Shape> shapes;
  if (climb.check) {
    // Empty, single, below, at and past tiles and blocks.
    shapes = {{0, 3, 5},    {3, 0, 5},    {3, 5, 0},      {1, 1, 1},    {5, 1, 7},   {14, 32, 32},
              {15, 31, 33}, {4, 300, 16}, {47, 259, 101}, {3, 5, 2100}, {530, 2, 3}, {6, 1030, 37}};
  } else {
    for (const int64_t size : {256, 512, 1024, 2048}) shapes.push_back({size, size, size});
  }
  std::vector<ProblemMaker> makers;
  for (const Shape& shape : shapes) makers.push_back([climb, shape] { return Make(climb, shape); });
  return makers;
}

}  // namespace thermocline::ladder
