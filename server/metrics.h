// ServerMetrics: what requests report, and all of it as Prometheus text.
// SPDX-License-Identifier: Apache-2.0
//
// Names of vLLM where there are such, since dashboards and autoscalers know them, and `thermocline_` for what
// only this server has. Every series has the label `model_name`. Times are of the monotonic clock, in
// seconds.
#pragma once

#include <absl/status/status.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "scheduler/request.h"

namespace thermocline {

// A Prometheus histogram with fixed bounds. Any thread may observe and read; a reader may see an
// observation's bucket a moment before its sum.
class Histogram {
 public:
  // `bounds`: ascending, of static storage; a bucket above the last one is implied.
  explicit Histogram(std::span<const double> bounds);
  void Observe(double value);  // negative values and those that are no numbers count as 0

  struct Snapshot {
    std::vector<uint64_t> cumulative;  // (bounds + 1), the last is the count
    double sum = 0;
  };
  Snapshot snapshot() const;
  std::span<const double> bounds() const { return bounds_; }

 private:
  const std::span<const double> bounds_;
  std::vector<std::atomic<uint64_t>> counts_;  // (bounds + 1)
  std::atomic<double> sum_ = 0;
};

// Of the page pool, fixed from the start.
struct CacheShape {
  int64_t tokens_per_page = 0;
  int64_t pages = 0;
};

// One device's time in one layer's operators so far.
struct LayerSeconds {
  int64_t layer = 0;
  std::string device;  // "cpu", "host"
  double seconds = 0;
};

// What is read when Prometheus asks: plain numbers of the scheduler, the page pool and the runner.
struct ScrapedFigures {
  int64_t running = 0;
  int64_t waiting = 0;
  double kv_cache_usage = 0;          // [0, 1]
  uint64_t prefix_cache_queries = 0;  // prompt tokens looked up
  uint64_t prefix_cache_hits = 0;     // prompt tokens found
  uint64_t preemptions = 0;
  bool ready = true;  // neither loading nor draining

  double active_neuron_share = 0;  // of decode steps so far, [0, 1]
  double gpu_coverage = 0;         // share of active neurons that lay on accelerators, [0, 1]
  double predictor_recall = 1;     // of audited tokens
  uint64_t audited_tokens = 0;
  double overlap_ratio = 0;
  uint64_t link_bytes = 0;  // between the CPU and accelerators
  std::vector<LayerSeconds> layer_seconds;
};

// All methods may be called from any thread; none waits for another.
class ServerMetrics {
 public:
  // `model_name` may be any text; it is escaped.
  ServerMetrics(std::string model_name, CacheShape cache);

  // A request's life; MeasuredObserver (server/measured_observer.h) calls these.
  void ObservePromptTokens(int64_t tokens);
  void ObserveGeneratedTokens(int64_t tokens);
  void ObserveFirstToken(double seconds_from_arrival);
  void ObserveInterToken(double seconds);
  void ObserveFinish(const CompletionSummary& summary, double seconds_from_arrival);
  // Ended after admission without a summary: cancelled, its deadline, an error of the runner.
  void ObserveFailure(absl::StatusCode code, double seconds_from_arrival);
  // Not admitted: a bad request, a full queue, a server that drains.
  void ObserveRefusal(absl::StatusCode code);

  // Text of format 0.0.4 (kContentType), each family once, with HELP and TYPE.
  std::string Exposition(const ScrapedFigures& figures) const;
  static constexpr std::string_view kContentType = "text/plain; version=0.0.4; charset=utf-8";

 private:
  static constexpr size_t kReasons = 7;  // stop, length, time_limit, abort, deadline, unavailable, error
  static constexpr size_t kCodes = 17;   // of absl::StatusCode

  const std::string model_label_;  // model_name="...", escaped
  const CacheShape cache_;
  std::atomic<uint64_t> prompt_tokens_ = 0;
  std::atomic<uint64_t> generation_tokens_ = 0;
  std::array<std::atomic<uint64_t>, kReasons> finished_{};
  std::array<std::atomic<uint64_t>, kCodes> refused_{};
  std::atomic<uint64_t> non_finite_logits_ = 0;
  Histogram first_token_;
  Histogram inter_token_;
  Histogram end_to_end_;
  Histogram queue_;
  Histogram prefill_;
  Histogram decode_;
};

}  // namespace thermocline
