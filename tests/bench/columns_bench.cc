// Products that skip columns, one token, 7B shapes: beside the packed dense product of the same weights.
// SPDX-License-Identifier: Apache-2.0
//
// Each call takes the next of many copies of a matrix, so that weights come from memory. `dense` is the
// packed product; `skip_N` leaves out N of 100 columns, drawn at random. `GB/s` counts the bytes a call
// reads, `x_dense` is its speed over `dense` of the same run, which must come before it, and `x_bytes` what
// the bytes alone would give. --threads=N, default 1.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "core/thread_team.h"
#include "kernels_cpu/parallel.h"
#include "tests/support/reference_data.h"

namespace thermocline {
namespace {

using reference::FloatMatrix;
using reference::RandomWeights;
using Clock = std::chrono::steady_clock;

constexpr int64_t kPoolBytes = int64_t{256} << 20;  // of the copies of one kind

struct Shape {
  ElementType type;
  int64_t rows, cols;
  bool operator==(const Shape&) const = default;
};

// The copies of one matrix, packed both ways.
struct Pool {
  Shape shape;
  RandomWeights w;
  std::vector<PackedMatrix> packed;
  std::vector<ColumnMatrix> columns;
  double dense_seconds = 0;  // a call

  Pool(const CpuContext& context, const Shape& of) : shape(of), w(of.type, of.rows, of.cols, 1) {
    const int64_t copies = kPoolBytes / w.view().size_bytes() + 1;
    for (int64_t i = 0; i < copies; ++i) {
      packed.push_back(PackedMatrix::Create(context, w.view()).value());
      columns.push_back(ColumnMatrix::Create(*context.team, w.view()).value());
    }
  }
};

// One pool at a time: cases of one shape follow each other.
Pool& PoolOf(const CpuContext& context, const Shape& shape) {
  static std::unique_ptr<Pool> pool;
  if (pool == nullptr || pool->shape != shape) {
    pool.reset();
    pool = std::make_unique<Pool>(context, shape);
  }
  return *pool;
}

// Calls product(i), i counting the copies round; returns seconds a call.
template <typename Product>
double Measure(benchmark::State& state, size_t copies, const Product& product) {
  size_t next = 0;
  const Clock::time_point start = Clock::now();
  for (auto _ : state) {
    product(next);
    next = (next + 1) % copies;
  }
  return std::chrono::duration<double>(Clock::now() - start).count() /
         static_cast<double>(state.iterations());
}

void Report(benchmark::State& state, const Pool& pool, double seconds, int64_t bytes) {
  const auto dense_bytes = static_cast<double>(pool.packed[0].view().size_bytes());
  state.counters["GB/s"] = static_cast<double>(bytes) / seconds / 1e9;
  state.counters["x_dense"] = pool.dense_seconds / seconds;
  state.counters["x_bytes"] = dense_bytes / static_cast<double>(bytes);
}

void Dense(benchmark::State& state, const CpuContext* context, Shape shape) {
  Pool& pool = PoolOf(*context, shape);
  const FloatMatrix x = FloatMatrix::Random(1, shape.cols, 2);
  FloatMatrix y = FloatMatrix::Poisoned(1, shape.rows);
  pool.dense_seconds = Measure(state, pool.packed.size(), [&](size_t i) {
    MatMul(*context, pool.packed[i].view(), x.view(), y.view());
    benchmark::DoNotOptimize(y.view().data);
  });
  Report(state, pool, pool.dense_seconds, pool.packed[0].view().size_bytes());
}

// `count` of the numbers below n, at random, ascending.
std::vector<uint32_t> Draw(int64_t n, int64_t count) {
  std::vector<uint32_t> all(static_cast<size_t>(n)), drawn;
  std::iota(all.begin(), all.end(), 0u);
  std::mt19937 random(3);
  std::ranges::sample(all, std::back_inserter(drawn), count, random);
  return drawn;
}

void Skip(benchmark::State& state, const CpuContext* context, Shape shape, int64_t percent) {
  const Pool& pool = PoolOf(*context, shape);
  const FloatMatrix values = FloatMatrix::Random(1, shape.cols, 2);
  const std::vector<uint32_t> kept = Draw(shape.cols, shape.cols * (100 - percent) / 100);
  std::vector<float> x(static_cast<size_t>(shape.cols));
  for (const uint32_t c : kept) x[c] = values.view().data[c];
  FloatMatrix y = FloatMatrix::Poisoned(1, shape.rows);
  const double seconds = Measure(state, pool.columns.size(), [&](size_t i) {
    MatMulColumns(*context, pool.columns[i].view(), {x.data(), 1, shape.cols, shape.cols}, y.view());
    benchmark::DoNotOptimize(y.view().data);
  });
  Report(state, pool, seconds, ColumnBytes(pool.columns[0].view(), std::ssize(kept)));
}

int Run(int argc, char** argv) {
  int threads = 1;
  for (int i = 1; i < argc; ++i)
    if (std::strncmp(argv[i], "--threads=", 10) == 0) {
      threads = std::atoi(argv[i] + 10);
      std::copy(argv + i + 1, argv + argc, argv + i);
      --argc;
    }
  const std::unique_ptr<ThreadTeam> team = ThreadTeam::Create(threads).value();
  const CpuContext context{team.get(), &BestKernels()};
  for (const ElementType type : {ElementType::kQ4_0, ElementType::kQ8_0}) {
    for (const auto& [rows, cols] : {std::pair{4096, 4096}, {11008, 4096}, {4096, 11008}}) {
      const Shape shape{type, rows, cols};
      const auto add = [&](const std::string& name, auto function, auto... arguments) {
        benchmark::RegisterBenchmark(fmt::format("{}x{}/{}/{}", rows, cols, NameOf(type), name).c_str(),
                                     function, &context, shape, arguments...)
            ->Unit(benchmark::kMicrosecond)
            ->UseRealTime();
      };
      add("dense", Dense);
      for (const int64_t percent : {0, 25, 40, 50, 90}) add(fmt::format("skip_{}", percent), Skip, percent);
    }
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace
}  // namespace thermocline

int main(int argc, char** argv) { return thermocline::Run(argc, argv); }
