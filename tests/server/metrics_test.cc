// Names, counts and format of what Prometheus is given.
// SPDX-License-Identifier: Apache-2.0
#include "server/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdio>
#include <limits>
#include <memory>
#include <thread>
#include <vector>

#include "server/measured_observer.h"
#include "tests/server/prometheus_text.h"
#include "tests/support/temporary_folder.h"

namespace thermocline {
namespace {

using testing::ParsePrometheus;
using testing::PrometheusSample;
using testing::PrometheusText;

PrometheusText Scrape(const ServerMetrics& metrics, const ScrapedFigures& figures = {}) {
  PrometheusText text = ParsePrometheus(metrics.Exposition(figures));
  EXPECT_EQ(text.error, "");
  return text;
}

ScrapedFigures SomeFigures() {
  return {.running = 3,
          .waiting = 4,
          .kv_cache_usage = 0.25,
          .prefix_cache_queries = 100,
          .prefix_cache_hits = 60,
          .preemptions = 2,
          .active_neuron_share = 0.1,
          .gpu_coverage = 0.8,
          .predictor_recall = 0.95,
          .audited_tokens = 7,
          .overlap_ratio = 0.5,
          .link_bytes = 12345678901,
          .layer_seconds = {{0, "cpu", 1.5}, {0, "host", 0.5}, {1, "cpu", 2}}};
}

TEST(Metrics, HasEveryNameThatDashboardsKnow) {
  const ServerMetrics metrics("demo", {.tokens_per_page = 16, .pages = 512});
  const PrometheusText text = Scrape(metrics, SomeFigures());
  const std::map<std::string, std::string> types = {{"vllm:num_requests_running", "gauge"},
                                                    {"vllm:num_requests_waiting", "gauge"},
                                                    {"vllm:kv_cache_usage_perc", "gauge"},
                                                    {"vllm:prefix_cache_queries", "gauge"},
                                                    {"vllm:prefix_cache_hits", "gauge"},
                                                    {"vllm:prefix_cache_queries_total", "counter"},
                                                    {"vllm:prefix_cache_hits_total", "counter"},
                                                    {"vllm:prompt_tokens_total", "counter"},
                                                    {"vllm:generation_tokens_total", "counter"},
                                                    {"vllm:request_success_total", "counter"},
                                                    {"vllm:time_to_first_token_seconds", "histogram"},
                                                    {"vllm:inter_token_latency_seconds", "histogram"},
                                                    {"vllm:e2e_request_latency_seconds", "histogram"},
                                                    {"vllm:request_queue_time_seconds", "histogram"},
                                                    {"vllm:request_prefill_time_seconds", "histogram"},
                                                    {"vllm:request_decode_time_seconds", "histogram"},
                                                    {"vllm:cache_config_info", "gauge"}};
  for (const auto& [name, type] : types) {
    ASSERT_TRUE(text.types.contains(name)) << name;
    EXPECT_EQ(text.types.at(name), type) << name;
  }
  for (const PrometheusSample& sample : text.samples) {
    ASSERT_TRUE(sample.labels.contains("model_name")) << sample.name;
    EXPECT_EQ(sample.labels.at("model_name"), "demo");
  }
  for (const auto& [name, type] : text.types) {
    EXPECT_TRUE(name.starts_with("vllm:") || name.starts_with("thermocline_")) << name;
  }
  EXPECT_EQ(text.Value("vllm:cache_config_info", {{"block_size", "16"}, {"num_gpu_blocks", "512"}}), 1);
}

TEST(Metrics, ShowsWhatIsScraped) {
  const ServerMetrics metrics("demo", {});
  const PrometheusText text = Scrape(metrics, SomeFigures());
  EXPECT_EQ(text.Value("vllm:num_requests_running"), 3);
  EXPECT_EQ(text.Value("vllm:num_requests_waiting"), 4);
  EXPECT_EQ(text.Value("vllm:kv_cache_usage_perc"), 0.25);
  EXPECT_EQ(text.Value("vllm:prefix_cache_queries"), 100);
  EXPECT_EQ(text.Value("vllm:prefix_cache_hits_total"), 60);
  EXPECT_EQ(text.Value("vllm:num_preemptions_total"), 2);
  EXPECT_EQ(text.Value("thermocline_ready"), 1);
  EXPECT_EQ(text.Value("thermocline_active_neuron_ratio"), 0.1);
  EXPECT_EQ(text.Value("thermocline_gpu_coverage_ratio"), 0.8);
  EXPECT_EQ(text.Value("thermocline_predictor_recall_ratio"), 0.95);
  EXPECT_EQ(text.Value("thermocline_audited_tokens_total"), 7);
  EXPECT_EQ(text.Value("thermocline_overlap_ratio"), 0.5);
  EXPECT_EQ(text.Value("thermocline_link_bytes_total"), 12345678901.0);
  EXPECT_EQ(text.Value("thermocline_layer_device_seconds_total", {{"layer", "0"}, {"device", "host"}}), 0.5);
  EXPECT_EQ(text.Value("thermocline_layer_device_seconds_total", {{"layer", "1"}, {"device", "cpu"}}), 2);
}

TEST(Metrics, AnyModelNameKeepsTheFormat) {
  const ServerMetrics metrics("a\"b\\c\nd} 1\n# TYPE é", {});
  const PrometheusText text = Scrape(metrics, SomeFigures());
  EXPECT_EQ(text.samples.front().labels.at("model_name"), R"(a\"b\\c\nd} 1\n# TYPE é)");
}

TEST(Metrics, FiguresThatAreNoNumbersKeepTheFormat) {
  const ServerMetrics metrics("demo", {});
  const PrometheusText text = Scrape(
      metrics, {.kv_cache_usage = std::nan(""), .overlap_ratio = std::numeric_limits<double>::infinity()});
  EXPECT_TRUE(std::isnan(*text.Value("vllm:kv_cache_usage_perc")));
  EXPECT_EQ(text.Value("thermocline_overlap_ratio"), std::numeric_limits<double>::infinity());
}

TEST(Metrics, HistogramsCountUpToTheirBounds) {
  constexpr double kBounds[] = {0.1, 1};
  Histogram histogram(kBounds);
  for (const double value : {0.0, 0.1, 0.100001, 1.0, 1.5, -3.0, std::nan("")}) histogram.Observe(value);
  const Histogram::Snapshot snapshot = histogram.snapshot();
  EXPECT_EQ(snapshot.cumulative, (std::vector<uint64_t>{4, 6, 7}));
  EXPECT_DOUBLE_EQ(snapshot.sum, 0.1 + 0.100001 + 1.0 + 1.5);
}

TEST(Metrics, EndsAreCountedByTheirReason) {
  ServerMetrics metrics("demo", {});
  const auto finish = [&](FinishReason reason) {
    metrics.ObserveFinish(
        {.finish_reason = reason, .timings = {.queue_ms = 500, .prefill_ms = 250, .decode_ms = 2000}}, 3.0);
  };
  finish(FinishReason::kEndToken);
  finish(FinishReason::kStopString);
  finish(FinishReason::kLength);
  finish(FinishReason::kTimeLimit);
  finish(FinishReason::kError);
  metrics.ObserveFailure(absl::StatusCode::kCancelled, 1);
  metrics.ObserveFailure(absl::StatusCode::kDeadlineExceeded, 1);
  metrics.ObserveFailure(absl::StatusCode::kUnavailable, 1);
  metrics.ObserveFailure(absl::StatusCode::kInternal, 1);
  const PrometheusText text = Scrape(metrics);
  const std::map<std::string, double> counts = {{"stop", 2},  {"length", 1},   {"time_limit", 1},
                                                {"abort", 1}, {"deadline", 1}, {"unavailable", 1},
                                                {"error", 2}};
  for (const auto& [reason, count] : counts) {
    EXPECT_EQ(text.Value("vllm:request_success_total", {{"finished_reason", reason}}), count) << reason;
  }
  EXPECT_EQ(text.Value("thermocline_non_finite_logits_total"), 1);
  EXPECT_EQ(text.Value("vllm:e2e_request_latency_seconds_count"), 9);
  EXPECT_EQ(text.Value("vllm:e2e_request_latency_seconds_sum"), 5 * 3.0 + 4);
  EXPECT_EQ(text.Value("vllm:request_queue_time_seconds_sum"), 2.5);
  EXPECT_EQ(text.Value("vllm:request_prefill_time_seconds_sum"), 1.25);
  EXPECT_EQ(text.Value("vllm:request_decode_time_seconds_sum"), 10);
}

TEST(Metrics, RefusalsAreCountedByStatus) {
  ServerMetrics metrics("demo", {});
  EXPECT_EQ(Scrape(metrics).Value("thermocline_requests_refused_total", {{"status", "RESOURCE_EXHAUSTED"}}),
            0);
  metrics.ObserveRefusal(absl::StatusCode::kResourceExhausted);
  metrics.ObserveRefusal(absl::StatusCode::kUnauthenticated);
  metrics.ObserveRefusal(static_cast<absl::StatusCode>(1000));
  const PrometheusText text = Scrape(metrics);
  EXPECT_EQ(text.Value("thermocline_requests_refused_total", {{"status", "RESOURCE_EXHAUSTED"}}), 1);
  EXPECT_EQ(text.Value("thermocline_requests_refused_total", {{"status", "UNAUTHENTICATED"}}), 1);
  EXPECT_EQ(text.Value("thermocline_requests_refused_total", {{"status", "UNKNOWN"}}), 1);
}

TEST(Metrics, ThreadsLoseNothing) {
  ServerMetrics metrics("demo", {});
  constexpr int kThreads = 4, kRounds = 2000;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&metrics] {
      for (int round = 0; round < kRounds; ++round) {
        metrics.ObserveGeneratedTokens(2);
        metrics.ObserveInterToken(0.25);
        if (round % 100 != 0) continue;
        EXPECT_EQ(ParsePrometheus(metrics.Exposition({})).error, "");
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const PrometheusText text = Scrape(metrics);
  EXPECT_EQ(text.Value("vllm:generation_tokens_total"), 2 * kThreads * kRounds);
  EXPECT_EQ(text.Value("vllm:inter_token_latency_seconds_count"), kThreads * kRounds);
  EXPECT_EQ(text.Value("vllm:inter_token_latency_seconds_sum"), 0.25 * kThreads * kRounds);
}

// The names of vLLM have a colon, which promtool would keep for recording rules; nothing else may be said.
TEST(Metrics, PromtoolFindsNothingButColons) {
  if (std::system("command -v promtool >/dev/null 2>&1") != 0) GTEST_SKIP() << "promtool is not installed";
  ServerMetrics metrics("de\"mo", {.tokens_per_page = 16, .pages = 4});
  metrics.ObserveFirstToken(0.2);
  metrics.ObserveRefusal(absl::StatusCode::kNotFound);
  const TemporaryFolder folder;
  const std::string path = folder.Write("metrics.prom", metrics.Exposition(SomeFigures()));
  const auto close = [](std::FILE* pipe) { pclose(pipe); };
  const std::unique_ptr<std::FILE, decltype(close)> pipe(
      popen(("promtool check metrics < '" + path + "' 2>&1").c_str(), "r"), close);
  ASSERT_NE(pipe, nullptr);
  std::array<char, 512> line;
  int lines = 0;
  while (std::fgets(line.data(), static_cast<int>(line.size()), pipe.get()) != nullptr) {
    EXPECT_THAT(std::string(line.data()),
                ::testing::MatchesRegex("vllm:[a-z0-9_]+ metric names should not contain ':'\n"));
    ++lines;
  }
  EXPECT_GT(lines, 10);  // it did read them
}

// ---- The observer in between ----

class InnerObserver final : public CompletionObserver {
 public:
  void OnDelta(CompletionDelta delta) override { text += delta.text; }
  void OnFinish(absl::StatusOr<CompletionSummary> result) override { end = std::move(result); }
  std::string text;
  absl::StatusOr<CompletionSummary> end = absl::UnknownError("not yet");
};

TEST(MeasuredObserver, CountsTokensAndPassesAllOn) {
  ServerMetrics metrics("demo", {});
  const auto inner = std::make_shared<InnerObserver>();
  const auto observer = MeasureCompletion(metrics, 11, inner);
  observer->OnDelta({.text = "echo"});  // the prompt's text, no token yet
  EXPECT_EQ(Scrape(metrics).Value("vllm:prompt_tokens_total"), 0);
  observer->OnDelta({.text = "a", .token_ids = {1}});
  observer->OnDelta({.text = "bcd", .token_ids = {2, 3, 4}});
  observer->OnDelta({.text = "rest"});
  observer->OnFinish(CompletionSummary{.finish_reason = FinishReason::kLength, .completion_tokens = 4});
  EXPECT_EQ(inner->text, "echoabcdrest");
  ASSERT_TRUE(inner->end.ok());
  EXPECT_EQ(inner->end->completion_tokens, 4);
  const PrometheusText text = Scrape(metrics);
  EXPECT_EQ(text.Value("vllm:prompt_tokens_total"), 11);
  EXPECT_EQ(text.Value("vllm:generation_tokens_total"), 4);
  EXPECT_EQ(text.Value("vllm:time_to_first_token_seconds_count"), 1);
  EXPECT_EQ(text.Value("vllm:inter_token_latency_seconds_count"), 3);
  EXPECT_EQ(text.Value("vllm:e2e_request_latency_seconds_count"), 1);
  EXPECT_EQ(text.Value("vllm:request_success_total", {{"finished_reason", "length"}}), 1);
}

TEST(MeasuredObserver, EndsWithoutTokensCountToo) {
  ServerMetrics metrics("demo", {});
  const auto inner = std::make_shared<InnerObserver>();
  // A summary tells the client of its prompt's tokens; a failure does not.
  MeasureCompletion(metrics, 5, inner)
      ->OnFinish(CompletionSummary{.finish_reason = FinishReason::kTimeLimit});
  MeasureCompletion(metrics, 7, inner)->OnFinish(absl::CancelledError("gone"));
  EXPECT_EQ(inner->end.status().code(), absl::StatusCode::kCancelled);
  const PrometheusText text = Scrape(metrics);
  EXPECT_EQ(text.Value("vllm:prompt_tokens_total"), 5);
  EXPECT_EQ(text.Value("vllm:time_to_first_token_seconds_count"), 0);
  EXPECT_EQ(text.Value("vllm:request_success_total", {{"finished_reason", "abort"}}), 1);
}

}  // namespace
}  // namespace thermocline
