// Read bandwidth: timed sums over a large buffer.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/bandwidth.h"

#include <algorithm>
#include <atomic>
#include <span>

#include "core/buffer.h"
#include "core/cpu_info.h"
#include "core/timer.h"

namespace thermocline {
namespace {

constexpr int64_t kLeastWorkingSetBytes = int64_t{256} << 20;
constexpr int64_t kPieceBytes = int64_t{1} << 20;

// Independent sums keep enough loads in flight that memory, not the adder, is the limit.
uint64_t Sum(std::span<const uint64_t> words) {
  constexpr size_t kLanes = 32;
  uint64_t lanes[kLanes] = {};
  for (size_t i = 0; i + kLanes <= words.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += words[i + lane];
  }
  uint64_t sum = 0;
  for (const uint64_t lane : lanes) sum += lane;
  return sum;
}

}  // namespace

absl::StatusOr<Samples> MeasureReadBandwidth(const ThreadTeam& team, const BandwidthOptions& options) {
  int64_t bytes = options.working_set_bytes;
  if (bytes == 0) bytes = std::max(kLeastWorkingSetBytes, 4 * ReadCpuInfo().last_level_cache_bytes);
  bytes = std::max(kPieceBytes, bytes / kPieceBytes * kPieceBytes);
  TC_ASSIGN_OR_RETURN(AlignedBuffer buffer, AlignedBuffer::Create(bytes));
  const auto* words = reinterpret_cast<const uint64_t*>(buffer.data());

  std::atomic<uint64_t> sink = 0;
  const auto read_all = [&] {
    team.ParallelFor(bytes / kPieceBytes, 1, [&](int64_t begin, int64_t end) {
      const int64_t per_piece = kPieceBytes / static_cast<int64_t>(sizeof(uint64_t));
      sink += Sum({words + begin * per_piece, static_cast<size_t>((end - begin) * per_piece)});
    });
  };
  read_all();  // threads awake, pages mapped
  Samples samples;
  for (int i = 0; i < options.repetitions; ++i) {
    const Stopwatch watch;
    read_all();
    samples.values.push_back(static_cast<double>(bytes) / watch.Seconds() * 1e-9);
  }
  TC_CHECK(sink == 0);  // the buffer is zero; reading the sum keeps the loads
  return samples;
}

}  // namespace thermocline
