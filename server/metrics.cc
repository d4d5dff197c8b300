// Counters, histograms and the text that Prometheus reads.
// SPDX-License-Identifier: Apache-2.0
#include "server/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

namespace thermocline {
namespace {

// vLLM's, with finer ones below: a small model's token takes less than a millisecond.
constexpr double kFirstTokenSeconds[] = {0.001, 0.005, 0.01, 0.02,  0.04,  0.06,  0.08, 0.1,
                                         0.25,  0.5,   0.75, 1.0,   2.5,   5.0,   7.5,  10.0,
                                         20.0,  40.0,  80.0, 160.0, 640.0, 2560.0};
constexpr double kInterTokenSeconds[] = {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                         0.075,  0.1,     0.15,   0.2,   0.3,    0.4,   0.5,  0.75,  1.0,
                                         2.5,    5.0,     7.5,    10.0,  20.0,   40.0,  80.0};
constexpr double kRequestSeconds[] = {0.001, 0.003, 0.01,  0.03,  0.1,   0.3,   0.5,    0.8,   1.0,
                                      1.5,   2.0,   2.5,   5.0,   10.0,  15.0,  20.0,   30.0,  40.0,
                                      50.0,  60.0,  120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0};

constexpr std::string_view kReasonNames[] = {"stop",     "length",      "time_limit", "abort",
                                             "deadline", "unavailable", "error"};
enum Reason : size_t { kStop, kLength, kTimeLimit, kAbort, kDeadline, kUnavailable, kError };

Reason ReasonOf(FinishReason reason) {
  switch (reason) {
    case FinishReason::kEndToken:
    case FinishReason::kStopString:
      return kStop;
    case FinishReason::kLength:
      return kLength;
    case FinishReason::kTimeLimit:
      return kTimeLimit;
    case FinishReason::kError:
    case FinishReason::kUnspecified:
      break;
  }
  return kError;
}

Reason ReasonOf(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kCancelled:
      return kAbort;
    case absl::StatusCode::kDeadlineExceeded:
      return kDeadline;
    case absl::StatusCode::kUnavailable:
      return kUnavailable;
    default:
      return kError;
  }
}

std::string EscapedLabel(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '\\' || c == '"') escaped += '\\';
    if (c == '\n') {
      escaped += "\\n";
    } else {
      escaped += c;
    }
  }
  return escaped;
}

std::string Number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  return fmt::format("{}", value);
}

// Writes families one after the other.
class Text {
 public:
  explicit Text(const std::string& model_label) : model_label_(model_label) {}

  void Family(std::string_view name, std::string_view type, std::string_view help) {
    name_ = name;
    text_ += fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
  }
  // `labels`: with a comma at the end, or empty.
  template <typename Value>
  void Sample(Value value, std::string_view labels = "", std::string_view suffix = "") {
    text_ += fmt::format("{}{}{{{}{}}} ", name_, suffix, labels, model_label_);
    if constexpr (std::is_floating_point_v<Value>) {
      text_ += Number(value);
    } else {
      text_ += std::to_string(value);
    }
    text_ += '\n';
  }
  template <typename Value>
  void Gauge(std::string_view name, std::string_view help, Value value) {
    Family(name, "gauge", help);
    Sample(value);
  }
  void Counter(std::string_view name, std::string_view help, uint64_t value) {
    Family(name, "counter", help);
    Sample(value);
  }
  void Add(std::string_view name, std::string_view help, const Histogram& histogram) {
    Family(name, "histogram", help);
    const Histogram::Snapshot snapshot = histogram.snapshot();
    for (size_t i = 0; i < snapshot.cumulative.size(); ++i) {
      const std::string bound = i < histogram.bounds().size() ? Number(histogram.bounds()[i]) : "+Inf";
      Sample(snapshot.cumulative[i], fmt::format("le=\"{}\",", bound), "_bucket");
    }
    Sample(snapshot.sum, "", "_sum");
    Sample(snapshot.cumulative.back(), "", "_count");
  }
  std::string Take() { return std::move(text_); }

 private:
  const std::string& model_label_;
  std::string_view name_;
  std::string text_;
};

constexpr double kMillisecond = 1e-3;

}  // namespace

Histogram::Histogram(std::span<const double> bounds) : bounds_(bounds), counts_(bounds.size() + 1) {}

void Histogram::Observe(double value) {
  if (!(value > 0)) value = 0;
  const auto bucket = std::ranges::lower_bound(bounds_, value) - bounds_.begin();  // bounds belong to theirs
  sum_.fetch_add(value, std::memory_order_relaxed);
  counts_[static_cast<size_t>(bucket)].fetch_add(1, std::memory_order_relaxed);
}

Histogram::Snapshot Histogram::snapshot() const {
  Snapshot snapshot;
  uint64_t total = 0;
  for (const auto& count : counts_)
    snapshot.cumulative.push_back(total += count.load(std::memory_order_relaxed));
  snapshot.sum = sum_.load(std::memory_order_relaxed);
  return snapshot;
}

ServerMetrics::ServerMetrics(std::string model_name, CacheShape cache)
    : model_label_(fmt::format("model_name=\"{}\"", EscapedLabel(model_name))),
      cache_(cache),
      first_token_(kFirstTokenSeconds),
      inter_token_(kInterTokenSeconds),
      end_to_end_(kRequestSeconds),
      queue_(kRequestSeconds),
      prefill_(kRequestSeconds),
      decode_(kRequestSeconds) {
  static_assert(std::size(kReasonNames) == kReasons);
}

void ServerMetrics::ObservePromptTokens(int64_t tokens) {
  prompt_tokens_.fetch_add(static_cast<uint64_t>(tokens), std::memory_order_relaxed);
}

void ServerMetrics::ObserveGeneratedTokens(int64_t tokens) {
  generation_tokens_.fetch_add(static_cast<uint64_t>(tokens), std::memory_order_relaxed);
}

void ServerMetrics::ObserveFirstToken(double seconds_from_arrival) {
  first_token_.Observe(seconds_from_arrival);
}

void ServerMetrics::ObserveInterToken(double seconds) { inter_token_.Observe(seconds); }

void ServerMetrics::ObserveFinish(const CompletionSummary& summary, double seconds_from_arrival) {
  finished_[ReasonOf(summary.finish_reason)].fetch_add(1, std::memory_order_relaxed);
  if (summary.finish_reason == FinishReason::kError)
    non_finite_logits_.fetch_add(1, std::memory_order_relaxed);
  end_to_end_.Observe(seconds_from_arrival);
  queue_.Observe(summary.timings.queue_ms * kMillisecond);
  prefill_.Observe(summary.timings.prefill_ms * kMillisecond);
  decode_.Observe(summary.timings.decode_ms * kMillisecond);
}

void ServerMetrics::ObserveFailure(absl::StatusCode code, double seconds_from_arrival) {
  finished_[ReasonOf(code)].fetch_add(1, std::memory_order_relaxed);
  end_to_end_.Observe(seconds_from_arrival);
}

void ServerMetrics::ObserveRefusal(absl::StatusCode code) {
  const auto index = static_cast<size_t>(code);
  refused_[index < kCodes ? index : static_cast<size_t>(absl::StatusCode::kUnknown)].fetch_add(
      1, std::memory_order_relaxed);
}

std::string ServerMetrics::Exposition(const ScrapedFigures& figures) const {
  Text text(model_label_);
  text.Gauge("vllm:num_requests_running", "Requests that are being computed.", figures.running);
  text.Gauge("vllm:num_requests_waiting", "Admitted requests that wait for their turn.", figures.waiting);
  text.Gauge("vllm:kv_cache_usage_perc", "Share of the pages of keys and values that are in use, 1 is all.",
             figures.kv_cache_usage);
  // vLLM documents these two without _total and serves them with it, so that dashboards ask for either.
  text.Gauge("vllm:prefix_cache_queries", "Prompt tokens looked up in the prefix cache.",
             figures.prefix_cache_queries);
  text.Counter("vllm:prefix_cache_queries_total", "Prompt tokens looked up in the prefix cache.",
               figures.prefix_cache_queries);
  text.Gauge("vllm:prefix_cache_hits", "Prompt tokens found in the prefix cache.", figures.prefix_cache_hits);
  text.Counter("vllm:prefix_cache_hits_total", "Prompt tokens found in the prefix cache.",
               figures.prefix_cache_hits);
  text.Counter("vllm:num_preemptions_total", "Requests that lost their pages and were computed again.",
               figures.preemptions);
  text.Counter("vllm:prompt_tokens_total", "Prompt tokens of requests that got a first token.",
               prompt_tokens_.load());
  text.Counter("vllm:generation_tokens_total", "Tokens generated.", generation_tokens_.load());
  text.Family("vllm:request_success_total", "counter",
              "Requests that ended after admission, by why they ended.");
  for (size_t i = 0; i < kReasons; ++i) {
    text.Sample(finished_[i].load(), fmt::format("finished_reason=\"{}\",", kReasonNames[i]));
  }
  text.Add("vllm:time_to_first_token_seconds", "From a request's arrival to its first token.", first_token_);
  text.Add("vllm:inter_token_latency_seconds", "Between two tokens of a request.", inter_token_);
  text.Add("vllm:e2e_request_latency_seconds", "From a request's arrival to its end.", end_to_end_);
  text.Add("vllm:request_queue_time_seconds", "A request's time in the queue.", queue_);
  text.Add("vllm:request_prefill_time_seconds", "Time to compute a request's prompt.", prefill_);
  text.Add("vllm:request_decode_time_seconds", "From a request's first token to its last.", decode_);
  text.Family("vllm:cache_config_info", "gauge",
              "The cache of keys and values, as it was taken at the start.");
  text.Sample(1,
              fmt::format("block_size=\"{}\",num_gpu_blocks=\"{}\",", cache_.tokens_per_page, cache_.pages));

  text.Gauge("thermocline_ready", "1 while requests are taken, 0 while loading or draining.",
             figures.ready ? 1 : 0);
  text.Family("thermocline_requests_refused_total", "counter", "Requests that were not admitted, by status.");
  for (size_t i = 1; i < kCodes; ++i) {
    const auto code = static_cast<absl::StatusCode>(i);
    const uint64_t count = refused_[i].load();
    // Those that alerts watch are there from the start.
    const bool is_watched = code == absl::StatusCode::kInvalidArgument ||
                            code == absl::StatusCode::kResourceExhausted ||
                            code == absl::StatusCode::kUnavailable;
    if (count > 0 || is_watched)
      text.Sample(count, fmt::format("status=\"{}\",", absl::StatusCodeToString(code)));
  }
  text.Counter("thermocline_non_finite_logits_total",
               "Requests that ended since their logits were no numbers.", non_finite_logits_.load());
  text.Gauge("thermocline_active_neuron_ratio", "Share of feed-forward neurons that fired in decode steps.",
             figures.active_neuron_share);
  text.Gauge("thermocline_gpu_coverage_ratio", "Share of active neurons that lay on accelerators.",
             figures.gpu_coverage);
  text.Gauge("thermocline_predictor_recall_ratio",
             "Share of truly active neurons that predictors marked, of audited tokens.",
             figures.predictor_recall);
  text.Counter("thermocline_audited_tokens_total", "Tokens that were computed exactly too and compared.",
               figures.audited_tokens);
  text.Gauge("thermocline_overlap_ratio",
             "Share of the less busy side's time in which CPU and accelerators worked together.",
             figures.overlap_ratio);
  text.Counter("thermocline_link_bytes_total", "Bytes copied between the CPU and accelerators.",
               figures.link_bytes);
  if (!figures.layer_seconds.empty()) {
    text.Family("thermocline_layer_device_seconds_total", "counter",
                "Time of a device's executor in a layer's operators.");
    for (const LayerSeconds& layer : figures.layer_seconds) {
      text.Sample(layer.seconds,
                  fmt::format("layer=\"{}\",device=\"{}\",", layer.layer, EscapedLabel(layer.device)));
    }
  }
  return text.Take();
}

}  // namespace thermocline
