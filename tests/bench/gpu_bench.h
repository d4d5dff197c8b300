// What the benchmarks of GPU kernels share: device memory filled with weights, and times of launches.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

#include "core/samples.h"
#include "core/timer.h"
#include "kernels_cpu/parallel.h"
#include "kernels_cuda/gpu.h"
#include "kernels_cuda/gpu_kernels.h"

namespace thermocline::bench {

struct GpuBenchOptions {
  // Distinct bytes that a cycle of launches reads at least: several times the largest L2 cache of today, so
  // that every launch reads memory.
  int64_t working_set_bytes = int64_t{512} << 20;
  int samples = 15;
  double sample_seconds = 2e-3;  // at least, of one sample
  bool tiny = false;             // shapes that an emulated device can take
  bool quick = false;            // one model's shapes
  double most_seconds = 0;       // cases that would begin later are left out; 0: none is
};

class GpuBench {
 public:
  // All outlive the benchmark.
  GpuBench(Gpu& gpu, const CpuContext& cpu, const GpuBenchOptions& options)
      : gpu_(gpu), cpu_(cpu), options_(options) {}

  Gpu& gpu() { return gpu_; }
  GpuStream stream() { return gpu_.compute(); }
  const CpuContext& cpu() const { return cpu_; }
  const GpuBenchOptions& options() const { return options_; }
  bool out_of_time() const { return options_.most_seconds > 0 && clock_.Seconds() > options_.most_seconds; }

  // Device memory that lives as long as the returned owner.
  absl::StatusOr<GpuOwned<DeviceBlock>> Allocate(int64_t size_bytes) {
    return gpu_.Allocate("bench", size_bytes);
  }
  absl::Status Upload(std::byte* target, const void* source, int64_t size_bytes);
  absl::Status Download(void* target, const std::byte* source, int64_t size_bytes);
  template <typename T>
  absl::StatusOr<GpuOwned<DeviceBlock>> Hold(const std::vector<T>& values) {
    const auto size_bytes = static_cast<int64_t>(values.size() * sizeof(T));
    TC_ASSIGN_OR_RETURN(GpuOwned<DeviceBlock> block, Allocate(size_bytes));
    TC_RETURN_IF_ERROR(Upload(block.get().data, values.data(), size_bytes));
    return block;
  }

  // Device time of one launch, in microseconds: launch(0), ... launch(count - 1) are captured as one graph,
  // which is replayed as often as makes a sample long enough.
  absl::StatusOr<Samples> MicrosOf(int64_t count, const std::function<absl::Status(int64_t)>& launch);

 private:
  Gpu& gpu_;
  CpuContext cpu_;
  const GpuBenchOptions options_;
  const Stopwatch clock_;
};

// Rows like random ones, made of a few hundred that are repeated: drawing gigabytes would take minutes.
// Stands in host memory.
class TiledWeights {
 public:
  TiledWeights(ElementType type, int64_t rows, int64_t cols, uint32_t seed);
  WeightView view() const { return view_; }

 private:
  std::vector<std::byte> storage_;
  WeightView view_;
};

template <typename T>
T* AddressIn(const GpuOwned<DeviceBlock>& block) {
  return reinterpret_cast<T*>(block.get().data);
}

// The largest |actual - expected| over the largest |expected|; infinite where something is not a number.
double LargestError(std::span<const float> actual, std::span<const float> expected);

// {micros, bytes, gb_per_second, share_of_copy}
nlohmann::ordered_json SpeedJson(const Samples& micros, int64_t bytes, double copy_gb_per_second);

// The benchmarks. Each result was checked against the CPU's kernels, or plain loops, before it was timed; a
// wrong one is an Internal error. copy: GB/s of a copy in the device's memory, read plus written.
absl::StatusOr<nlohmann::ordered_json> BenchSparseFfn(GpuBench& bench, double copy_gb_per_second);
absl::StatusOr<nlohmann::ordered_json> BenchMatMul(GpuBench& bench, double copy_gb_per_second);
absl::StatusOr<nlohmann::ordered_json> BenchAttention(GpuBench& bench, double copy_gb_per_second);
absl::StatusOr<nlohmann::ordered_json> BenchPredictors(GpuBench& bench, double copy_gb_per_second);

}  // namespace thermocline::bench
