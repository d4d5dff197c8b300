// Memory, times and figures of the GPU benchmarks.
// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/gpu_bench.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "tests/bench/result_json.h"
#include "tests/support/reference_data.h"

namespace thermocline::bench {

absl::Status GpuBench::Upload(std::byte* target, const void* source, int64_t size_bytes) {
  TC_RETURN_IF_ERROR(
      gpu_.CopyToDevice(target, static_cast<const std::byte*>(source), size_bytes, gpu_.compute()));
  return gpu_.Synchronize(gpu_.compute());
}

absl::Status GpuBench::Download(void* target, const std::byte* source, int64_t size_bytes) {
  TC_RETURN_IF_ERROR(gpu_.CopyToHost(static_cast<std::byte*>(target), source, size_bytes, gpu_.compute()));
  return gpu_.Synchronize(gpu_.compute());
}

absl::StatusOr<Samples> GpuBench::MicrosOf(int64_t count,
                                           const std::function<absl::Status(int64_t)>& launch) {
  const GpuStream stream = gpu_.compute();
  TC_RETURN_IF_ERROR(launch(0));  // a capture must not be the first to load a kernel
  TC_RETURN_IF_ERROR(gpu_.Synchronize(stream));
  TC_RETURN_IF_ERROR(gpu_.BeginCapture(stream));
  absl::Status launched;
  for (int64_t i = 0; i < count && launched.ok(); ++i) launched = launch(i);
  TC_ASSIGN_OR_RETURN(const GpuOwned<GpuGraph> graph, gpu_.EndCapture(stream));
  TC_RETURN_IF_ERROR(launched);
  TC_ASSIGN_OR_RETURN(const GpuOwned<GpuEvent> begin, gpu_.CreateEvent(/*timed=*/true));
  TC_ASSIGN_OR_RETURN(const GpuOwned<GpuEvent> end, gpu_.CreateEvent(/*timed=*/true));
  const auto seconds_of = [&](int64_t replays) -> absl::StatusOr<double> {
    TC_RETURN_IF_ERROR(gpu_.Record(begin.get(), stream));
    for (int64_t i = 0; i < replays; ++i) TC_RETURN_IF_ERROR(gpu_.Launch(graph.get(), stream));
    TC_RETURN_IF_ERROR(gpu_.Record(end.get(), stream));
    TC_RETURN_IF_ERROR(gpu_.Synchronize(end.get()));
    return gpu_.SecondsBetween(begin.get(), end.get());
  };
  TC_RETURN_IF_ERROR(seconds_of(1).status());  // warms up
  TC_ASSIGN_OR_RETURN(const double once, seconds_of(1));
  constexpr double kMostReplays = 1000;
  const auto replays = static_cast<int64_t>(
      std::ceil(std::clamp(options_.sample_seconds / std::max(once, 1e-6), 1.0, kMostReplays)));
  Samples micros;
  for (int i = 0; i < options_.samples; ++i) {
    TC_ASSIGN_OR_RETURN(const double seconds, seconds_of(replays));
    micros.values.push_back(seconds * 1e6 / static_cast<double>(replays * count));
  }
  return micros;
}

TiledWeights::TiledWeights(ElementType type, int64_t rows, int64_t cols, uint32_t seed) {
  constexpr int64_t kMostDrawn = 61;  // no multiple of the kernels' tiles
  const reference::RandomWeights drawn(type, std::min(rows, kMostDrawn), cols, seed);
  const WeightView& tile = drawn.view();
  const int64_t row_bytes = tile.row_stride_bytes;
  storage_.resize(static_cast<size_t>(rows * row_bytes));
  for (int64_t r = 0; r < rows; ++r) {
    std::memcpy(storage_.data() + r * row_bytes, tile.row_data(r % tile.rows),
                static_cast<size_t>(row_bytes));
  }
  view_ = {storage_.data(), type, rows, cols, row_bytes};
}

double LargestError(std::span<const float> actual, std::span<const float> expected) {
  double error = 0, largest = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    if (!std::isfinite(actual[i])) return std::numeric_limits<double>::infinity();
    error = std::max(error, std::abs(static_cast<double>(actual[i]) - static_cast<double>(expected[i])));
    largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
  }
  return largest > 0 ? error / largest : error;
}

nlohmann::ordered_json SpeedJson(const Samples& micros, int64_t bytes, double copy_gb_per_second) {
  const double gb_per_second = static_cast<double>(bytes) * 1e-3 / micros.median();
  return {{"micros", ToJson(micros)},
          {"bytes", bytes},
          {"gb_per_second", gb_per_second},
          {"share_of_copy", gb_per_second / copy_gb_per_second}};
}

}  // namespace thermocline::bench
