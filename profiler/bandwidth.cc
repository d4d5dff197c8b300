// Read bandwidth: timed sums over a large buffer.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/bandwidth.h"

#include <algorithm>
#include <atomic>
#include <span>

#include "core/cpu_info.h"
#include "profiler/probe_samples.h"

namespace thermocline {
namespace {

constexpr int64_t kLeastWorkingSetBytes = int64_t{256} << 20;
constexpr int64_t kCachesRead = 4;  // so that little of one pass is still cached in the next
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

int64_t UncachedWorkingSetBytes() {
  return std::max(kLeastWorkingSetBytes, kCachesRead * ReadCpuInfo().last_level_cache_bytes);
}

absl::StatusOr<ReadBandwidthProbe> ReadBandwidthProbe::Create(const ThreadTeam& team,
                                                              const BandwidthOptions& options) {
  int64_t bytes = options.working_set_bytes == 0 ? UncachedWorkingSetBytes() : options.working_set_bytes;
  bytes = std::max(kPieceBytes, bytes / kPieceBytes * kPieceBytes);
  TC_ASSIGN_OR_RETURN(AlignedBuffer buffer, AlignedBuffer::CreateToFill(bytes));
  // Pages come near the threads that read them, as those of weights do.
  team.ParallelFor(bytes / kPieceBytes, 1, [&](int64_t begin, int64_t end) {
    std::fill_n(buffer.data() + begin * kPieceBytes, (end - begin) * kPieceBytes, std::byte{0});
  });
  return ReadBandwidthProbe(team, options.repetitions, std::move(buffer));
}

Samples ReadBandwidthProbe::Measure() const {
  const auto* words = reinterpret_cast<const uint64_t*>(working_set_.data());
  const int64_t bytes = working_set_.size_bytes();
  std::atomic<uint64_t> sink = 0;
  const auto read_all = [&] {
    team_->ParallelFor(bytes / kPieceBytes, 1, [&](int64_t begin, int64_t end) {
      const int64_t per_piece = kPieceBytes / static_cast<int64_t>(sizeof(uint64_t));
      sink += Sum({words + begin * per_piece, static_cast<size_t>((end - begin) * per_piece)});
    });
  };
  Samples samples = SampleBandwidth(repetitions_, bytes, read_all);
  TC_CHECK(sink == 0);  // the working set is zero; reading the sum keeps the loads
  return samples;
}

absl::StatusOr<Samples> MeasureReadBandwidth(const ThreadTeam& team, const BandwidthOptions& options) {
  TC_ASSIGN_OR_RETURN(const ReadBandwidthProbe probe, ReadBandwidthProbe::Create(team, options));
  return probe.Measure();
}

}  // namespace thermocline
