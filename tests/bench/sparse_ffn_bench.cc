// Feed-forward blocks of a 7B model, one token: sparse against dense against a plain read of the same bytes.
// SPDX-License-Identifier: Apache-2.0
//
// Gates fire by a FATReLU threshold that lets exactly the named share through. `exact` has every neuron as a
// candidate, `listed` those that fire (a perfect predictor). `GB/s` counts the bytes of the rows that were
// read; `stream` reads the whole table. `small_pages` is a table that the system was told to keep out of huge
// pages. Compare within one run. --threads=N, default 1.
#include <benchmark/benchmark.h>
#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "core/buffer.h"
#include "kernels_cpu/sparse_ffn.h"
#include "tests/support/reference_data.h"

namespace thermocline {
namespace {

using reference::FloatMatrix;
using reference::RandomBundles;

constexpr int64_t kModel = 4096;
constexpr int64_t kNeurons = 11008;

// A table in huge pages, as models are loaded, or without them, with an input and its gates.
struct Table {
  AlignedBuffer storage;
  BundleView bundles;
  FloatMatrix x = FloatMatrix::Random(1, kModel, 2);
  std::vector<float> gates;

  Table(const CpuContext& context, ElementType type, bool small_pages) : gates(kNeurons) {
    const RandomBundles random({type, type, type}, true, kNeurons, kModel, 1, /*gap_bytes=*/0);
    bundles = random.view();
    storage = AlignedBuffer::CreateToFill(kNeurons * bundles.stride_bytes).value();
    if (small_pages) madvise(storage.data(), static_cast<size_t>(storage.size_bytes()), MADV_NOHUGEPAGE);
    std::memcpy(storage.data(), bundles.data, static_cast<size_t>(storage.size_bytes()));
    bundles.data = storage.data();
    MatMul(context, bundles.gate(), x.view(), {gates.data(), 1, kNeurons, kNeurons});
  }

  // Fires for `active` of the neurons.
  ActivationFunction Threshold(int64_t active) const {
    std::vector<float> sorted = gates;
    std::ranges::sort(sorted, std::greater<>());
    return {Activation::kFatRelu, active == 0 ? INFINITY : sorted[static_cast<size_t>(active - 1)]};
  }
};

void ReportBytes(benchmark::State& state, int64_t bytes) {
  state.counters["GB/s"] =
      benchmark::Counter(static_cast<double>(bytes) / 1e9, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["MB"] = static_cast<double>(bytes) / 1e6;
}

void Stream(benchmark::State& state, const CpuContext* context, const Table* table) {
  const int64_t words = table->storage.size_bytes() / 8;
  for (auto _ : state) {
    context->team->ParallelFor(words, 1 << 17, [&](int64_t begin, int64_t end) {
      // Four streams beside each other, as the kernels read rows: one alone is slower.
      const int64_t quarter = (end - begin) / 4;
      const auto* data = reinterpret_cast<const uint64_t*>(table->storage.data()) + begin;
      uint64_t sum = 0;
      for (int64_t i = 0; i < quarter; ++i)
        sum += data[i] + data[quarter + i] + data[2 * quarter + i] + data[3 * quarter + i];
      benchmark::DoNotOptimize(sum);
    });
  }
  ReportBytes(state, words * 8);
}

void Dense(benchmark::State& state, const CpuContext* context, const Table* table) {
  FloatMatrix gate = FloatMatrix::Poisoned(1, kNeurons), up = gate.Poisoned(1, kNeurons);
  FloatMatrix y = FloatMatrix::Poisoned(1, kModel);
  std::vector<float> partials(static_cast<size_t>(FfnPartialsSize(kModel)));
  for (auto _ : state) {
    DenseFeedForward(*context, {.bundles = table->bundles,
                                .activation = Activation::kRelu,
                                .x = table->x.view(),
                                .y = y.view(),
                                .gate = gate.view(),
                                .up = up.view(),
                                .partials = partials,
                                .zero_rows = ZeroRows::kRead});
    benchmark::DoNotOptimize(y.view().data);
  }
  ReportBytes(state, table->storage.size_bytes());
}

void Sparse(benchmark::State& state, const CpuContext* context, const Table* table, int64_t percent,
            bool listed) {
  const int64_t active = kNeurons * percent / 100;
  const ActivationFunction activation = table->Threshold(active);
  std::vector<uint32_t> rows;
  for (size_t i = 0; i < kNeurons; ++i)
    if (!listed || table->gates[i] >= activation.threshold) rows.push_back(static_cast<uint32_t>(i));
  std::vector<TokenMask> fired(rows.size());
  std::vector<float> scratch(static_cast<size_t>(SparseFfnScratchSize(kNeurons, kModel, 1)));
  FloatMatrix y = FloatMatrix::Poisoned(1, kModel);
  NeuronReads reads;
  for (auto _ : state) {
    reads = SparseFeedForward(*context,
                              {.bundles = table->bundles,
                               .activation = activation,
                               .x = table->x.view(),
                               .candidates = {rows, {}},
                               .y = y.view(),
                               .fired = fired},
                              scratch);
    benchmark::DoNotOptimize(y.view().data);
  }
  ReportBytes(state, reads.Bytes(table->bundles));
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
  std::vector<std::unique_ptr<Table>> tables;
  for (const ElementType type : {ElementType::kQ4_0, ElementType::kQ8_0, ElementType::kF16}) {
    for (const bool small_pages : {false, true}) {
      const Table* table = tables.emplace_back(std::make_unique<Table>(context, type, small_pages)).get();
      const std::string suffix = fmt::format("{}{}", NameOf(type), small_pages ? "/small_pages" : "");
      const auto add = [&](const std::string& name, auto function, auto... arguments) {
        benchmark::RegisterBenchmark(fmt::format("{}/{}", name, suffix).c_str(), function, &context, table,
                                     arguments...)
            ->Unit(benchmark::kMicrosecond)
            ->UseRealTime();
      };
      add("stream", Stream);
      add("dense", Dense);
      for (const int64_t percent : {100, 85, 50, 25, 10, 5, 1, 0}) {
        add(fmt::format("exact_{}", percent), Sparse, percent, false);
        add(fmt::format("listed_{}", percent), Sparse, percent, true);
      }
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
