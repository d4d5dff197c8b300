// Throughput on one thread of products, row sums and attention by element type, for one token and batches.
// SPDX-License-Identifier: Apache-2.0
//
// `GB/s` counts the weight bytes a call reads, `GFLOP/s` two operations a weight and token. Matrices of one
// token are larger than the last-level cache of most machines, so that GB/s is memory speed where arithmetic
// allows. Of attention, `GB/s` counts the keys and values of the positions that a call sees, each once, and
// `GFLOP/s` four operations a position, column and query head; decode walks through more than such a cache
// too.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <string>
#include <vector>

#include "core/thread_team.h"
#include "kernels_cpu/parallel.h"
#include "tests/support/reference_data.h"

namespace thermocline {
namespace {

using reference::FloatMatrix;
using reference::RandomWeights;

void Report(benchmark::State& state, const WeightView& w, double share_of_rows, int64_t tokens) {
  const double rows = static_cast<double>(w.rows) * share_of_rows;
  state.counters["GB/s"] = benchmark::Counter(rows * static_cast<double>(w.row_stride_bytes) / 1e9,
                                              benchmark::Counter::kIsIterationInvariantRate);
  state.counters["GFLOP/s"] =
      benchmark::Counter(2.0 * rows * static_cast<double>(w.cols) * static_cast<double>(tokens) / 1e9,
                         benchmark::Counter::kIsIterationInvariantRate);
}

void MatMul(benchmark::State& state, const KernelTable* kernels, ElementType type, int64_t rows, int64_t cols,
            int64_t tokens) {
  const RandomWeights w(type, rows, cols, 1);
  const FloatMatrix x = FloatMatrix::Random(tokens, cols, 2);
  FloatMatrix y = FloatMatrix::Poisoned(tokens, rows);
  for (auto _ : state) {
    kernels->mat_mul(w.view(), x.view(), y.view());
    benchmark::DoNotOptimize(y.view().data);
  }
  Report(state, w.view(), 1.0, tokens);
}

void MatMulPacked(benchmark::State& state, const KernelTable* kernels, ElementType type, int64_t rows,
                  int64_t cols, int64_t tokens) {
  const RandomWeights w(type, rows, cols, 1);
  const auto team = ThreadTeam::Create(1).value();
  const PackedMatrix packed =
      PackedMatrix::Create({.team = team.get(), .kernels = kernels}, w.view()).value();
  const FloatMatrix x = FloatMatrix::Random(tokens, cols, 2);
  FloatMatrix y = FloatMatrix::Poisoned(tokens, rows);
  const CpuContext context{.team = team.get(), .kernels = kernels};
  for (auto _ : state) {
    thermocline::MatMul(context, packed.view(), x.view(), y.view());
    benchmark::DoNotOptimize(y.view().data);
  }
  Report(state, w.view(), 1.0, tokens);
}

// One neuron in `period` is active.
void AccumulateRows(benchmark::State& state, const KernelTable* kernels, ElementType type, int64_t rows,
                    int64_t cols, int64_t tokens, int64_t period) {
  const RandomWeights w(type, rows, cols, 1);
  FloatMatrix h = FloatMatrix::Random(tokens, rows, 2);
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t i = 0; i < rows; ++i)
      if (i % period != 0) h.view().row_data(t)[i] = 0.0f;
  FloatMatrix y = FloatMatrix::Random(tokens, cols, 3);
  for (auto _ : state) {
    kernels->accumulate_rows(w.view(), h.view(), 0, cols, ZeroRows::kSkip, y.view());
    benchmark::DoNotOptimize(y.view().data);
  }
  Report(state, w.view(), 1.0 / static_cast<double>(period), tokens);
}

struct AttentionShape {
  int64_t n_heads, n_kv_heads, positions, tokens;  // the last token sees all positions
};

void Attention(benchmark::State& state, const KernelTable* kernels, ElementType type,
               const AttentionShape& shape) {
  constexpr int64_t kHeadColumns = 128, kCacheBytes = int64_t{256} << 20;
  const KvLayout layout{type, shape.n_kv_heads, kHeadColumns};
  const int64_t n_pages = shape.positions / kKvPageTokens, bytes = n_pages * layout.page_bytes();
  const int64_t n_caches = shape.tokens == 1 ? kCacheBytes / bytes + 1 : 1;
  // Every value 0x1E1E: small and finite in every type.
  const std::vector<std::byte> caches(static_cast<size_t>(n_caches * bytes + kKvSlackBytes), std::byte{0x1E});
  std::vector<int32_t> pages(static_cast<size_t>(n_pages));
  for (size_t i = 0; i < pages.size(); ++i) pages[i] = static_cast<int32_t>((i * 37 + 11) % pages.size());
  std::vector<AttentionToken> tokens;
  double seen = 0;
  for (int64_t t = 0; t < shape.tokens; ++t) {
    tokens.push_back({pages.data(), shape.positions - shape.tokens + t + 1});
    seen += static_cast<double>(tokens.back().n_positions);
  }
  const int64_t width = shape.n_heads * kHeadColumns, scratch_floats = AttentionScratchSize(kHeadColumns);
  const FloatMatrix queries = FloatMatrix::Random(shape.tokens, width, 2);
  FloatMatrix output = FloatMatrix::Poisoned(shape.tokens, width);
  FloatMatrix scratch = FloatMatrix::Poisoned(1, scratch_floats);
  const auto team = ThreadTeam::Create(1).value();
  const CpuContext context{.team = team.get(), .kernels = kernels};
  int64_t next = 0;
  for (auto _ : state) {
    thermocline::Attention(context,
                           {.queries = queries.view(),
                            .output = output.view(),
                            .tokens = tokens,
                            .cache = caches.data() + next * bytes,
                            .layout = layout,
                            .n_heads = shape.n_heads,
                            .scale = 0.09f},
                           scratch.view());
    benchmark::DoNotOptimize(output.view().data);
    next = (next + 1) % n_caches;
  }
  state.counters["GB/s"] =
      benchmark::Counter(static_cast<double>(bytes) / 1e9, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["GFLOP/s"] = benchmark::Counter(4.0 * seen * static_cast<double>(width) / 1e9,
                                                 benchmark::Counter::kIsIterationInvariantRate);
}

void RegisterAll() {
  for (const std::string_view isa : AvailableIsas()) {
    const KernelTable* kernels = KernelsFor(isa).value();
    for (const ElementTypeInfo& type : AllElementTypes()) {
      const std::string suffix = std::string(isa) + "/" + std::string(type.name);
      const auto add = [&](const std::string& name, auto function, auto... arguments) {
        benchmark::RegisterBenchmark((name + "/" + suffix).c_str(), function, kernels, type.type,
                                     arguments...)
            ->Unit(benchmark::kMicrosecond);
      };
      add("mat_mul_1", MatMul, 32768, 2048, 1);
      add("mat_mul_8", MatMul, 2048, 2048, 8);
      add("mat_mul_64", MatMul, 1024, 2048, 64);
      if (HasPanels(type.type, 2048)) {
        add("mat_mul_packed_1", MatMulPacked, 32768, 2048, 1);
        add("mat_mul_packed_16", MatMulPacked, 2048, 2048, 16);
        add("mat_mul_packed_512", MatMulPacked, 1024, 4096, 512);
      }
      add("accumulate_rows_1", AccumulateRows, 32768, 2048, 1, 1);
      add("accumulate_rows_1_sparse", AccumulateRows, 65536, 2048, 1, 10);
      add("accumulate_rows_64", AccumulateRows, 1024, 2048, 64, 1);
      if (type.type != ElementType::kF32 && type.type != ElementType::kF16 && type.type != ElementType::kQ8_0)
        continue;
      add("attention_decode_4096", Attention, AttentionShape{8, 8, 4096, 1});
      add("attention_decode_4096_gqa4", Attention, AttentionShape{32, 8, 4096, 1});
      add("attention_prefill_512", Attention, AttentionShape{8, 8, 512, 512});
      add("attention_prefill_512_gqa4", Attention, AttentionShape{8, 2, 512, 512});
    }
  }
}

}  // namespace
}  // namespace thermocline

int main(int argc, char** argv) {
  thermocline::RegisterAll();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
