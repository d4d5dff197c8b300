// Verification and timing.
// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/ladder/measure.h"

#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/thread_team.h"
#include "profiler/bandwidth.h"
#include "tests/bench/ladder/guarded_array.h"
#include "tests/bench/result_json.h"

namespace thermocline::ladder {
namespace {

using nlohmann::ordered_json;

constexpr int kPeakRepetitions = 15;

// Time that this thread was running, so that what else the machine does takes no part in it but for caches
// and memory.
class CpuStopwatch {
 public:
  double Seconds() const { return Now() - start_; }

 private:
  static double Now() {
    timespec now;
    TC_CHECK(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) == 0);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
  }
  double start_ = Now();
};

Samples PeakGflops(const SimdRungs& set) {
  constexpr int64_t kSteps = 1 << 20;
  float sink[3] = {0.5f, 1.0f, 0.0f};
  Samples samples;
  set.multiply_add_chains(kSteps, sink);  // wakes the wide units
  for (int i = 0; i < kPeakRepetitions; ++i) {
    const CpuStopwatch watch;
    const double operations = set.multiply_add_chains(kSteps, sink);
    samples.values.push_back(operations / watch.Seconds() * 1e-9);
  }
  return samples;
}

absl::StatusOr<Samples> CopyBandwidth(const SimdRungs& set) {
  const int64_t count = UncachedWorkingSetBytes() / 8;
  TC_ASSIGN_OR_RETURN(GuardedArray<float> source, GuardedArray<float>::Create(count, 64));
  TC_ASSIGN_OR_RETURN(GuardedArray<float> target, GuardedArray<float>::Create(count, 64));
  std::ranges::fill(source.span(), 1.0f);
  std::ranges::fill(target.span(), 2.0f);
  Samples copied, streamed;
  for (int i = 0; i < kPeakRepetitions; ++i) {
    CpuStopwatch watch;
    std::memcpy(target.data(), source.data(), source.span().size_bytes());
    copied.values.push_back(8e-9 * static_cast<double>(count) / watch.Seconds());
    watch = CpuStopwatch();
    set.stream_copy(source.data(), count, target.data());
    streamed.values.push_back(8e-9 * static_cast<double>(count) / watch.Seconds());
  }
  return copied.median() > streamed.median() ? copied : streamed;
}

// The times of one rung.
struct Timed {
  const ProblemRung* rung;
  int64_t calls = 1;  // a sample
  bool slow = false;
  Samples seconds;  // of a call
};

double SecondsOf(const Timed& timed) {
  const CpuStopwatch watch;
  for (int64_t call = 0; call < timed.calls; ++call) timed.rung->run();
  return watch.Seconds() / static_cast<double>(timed.calls);
}

bool IsCopy(const ProblemRung& rung) { return rung.verify == nullptr; }

}  // namespace

absl::StatusOr<MachinePeaks> MeasurePeaks(const SimdRungs& set) {
  MachinePeaks peaks = {.gflops = PeakGflops(set)};
  TC_ASSIGN_OR_RETURN(const std::unique_ptr<ThreadTeam> team, ThreadTeam::Create(1));
  TC_ASSIGN_OR_RETURN(peaks.read_gb_per_second, MeasureReadBandwidth(*team));
  TC_ASSIGN_OR_RETURN(peaks.copy_gb_per_second, CopyBandwidth(set));
  return peaks;
}

absl::Status VerifyProblem(const Problem& problem) {
  for (const ProblemRung& rung : problem.rungs) {
    if (IsCopy(rung)) continue;
    const absl::Status status = rung.verify();
    if (!status.ok())
      return Internal("{} of {}, rung '{}' ({}): {}", problem.family, problem.name, rung.name,
                      rung.isa.empty() ? "scalar" : rung.isa, MessageOf(status));
  }
  return absl::OkStatus();
}

ordered_json TimeProblem(const Problem& problem, const MachinePeaks& peaks, const TimingOptions& options) {
  std::vector<Timed> all;
  for (const ProblemRung& rung : problem.rungs) {
    if (!rung.timed) continue;
    Timed timed = {.rung = &rung};
    const double once = SecondsOf(timed);  // warms up
    timed.slow = once > options.slow_call_seconds;
    timed.calls = timed.slow
                      ? 1
                      : static_cast<int64_t>(std::clamp(
                            std::ceil(options.sample_seconds / std::max(SecondsOf(timed), 1e-9)), 1.0, 1e7));
    all.push_back(std::move(timed));
  }
  for (int i = 0; i < options.repetitions; ++i)
    for (Timed& timed : all)
      if (!timed.slow || i < options.slow_repetitions) timed.seconds.values.push_back(SecondsOf(timed));

  double copy_seconds = INFINITY;
  for (const Timed& timed : all)
    if (IsCopy(*timed.rung)) copy_seconds = std::min(copy_seconds, timed.seconds.median());
  const double arithmetic_seconds = problem.operations * 1e-9 / peaks.gflops.median();
  const double floor = problem.memory_bound ? copy_seconds : arithmetic_seconds;

  ordered_json rungs = ordered_json::array();
  const double first = all.front().seconds.median();
  double previous = 0;  // of our own
  for (const Timed& timed : all) {
    const double seconds = timed.seconds.median();
    ordered_json json = {{"name", timed.rung->name},
                         {"isa", timed.rung->isa},
                         {"peer", timed.rung->peer},
                         {"seconds", bench::ToJson(timed.seconds)},
                         {"gb_per_second", problem.bytes * 1e-9 / seconds}};
    if (!IsCopy(*timed.rung)) json["gflops"] = problem.operations * 1e-9 / seconds;
    json["share_of_floor"] = floor / seconds;
    json["gain_over_first"] = first / seconds;
    if (!timed.rung->peer) {
      if (previous > 0) json["gain_over_previous"] = previous / seconds;
      previous = seconds;
    }
    rungs.push_back(std::move(json));
  }
  return {{"family", problem.family},
          {"problem", problem.name},
          {"operations", problem.operations},
          {"bytes", problem.bytes},
          {"memory_bound", problem.memory_bound},
          {"floors", {{"arithmetic_seconds", arithmetic_seconds}, {"copy_seconds", copy_seconds}}},
          {"rungs", std::move(rungs)}};
}

}  // namespace thermocline::ladder
