// Validation of requests, field errors, names.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/request.h"

#include <absl/strings/cord.h>
#include <absl/strings/numbers.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

namespace thermocline {
namespace {

constexpr char kFieldPayload[] = "thermocline/field";
constexpr char kRetryDelayPayload[] = "thermocline/retry-delay-milliseconds";
constexpr size_t kMaxLogitBias = 1024;
constexpr size_t kMaxStopStrings = 64;
constexpr size_t kMaxStopBytes = 1024;
constexpr int kMaxTopLogprobs = 20;

// A FieldError unless low <= value <= high; NaN fails. open_low: low itself is not allowed.
absl::Status CheckRange(std::string_view field, double value, double low, double high,
                        bool open_low = false) {
  const bool inside = (open_low ? value > low : value >= low) && value <= high;
  if (inside) return absl::OkStatus();
  return FieldError(field,
                    fmt::format("is {}, allowed are {}{}, {}]", value, open_low ? '(' : '[', low, high));
}

absl::Status ValidateSampling(const SamplingOptions& sampling, const RequestLimits& limits) {
  TC_RETURN_IF_ERROR(CheckRange("temperature", sampling.temperature, 0, 10));
  if (sampling.top_k < 0)
    return FieldError("top_k", fmt::format("is {}, allowed are 0 and above", sampling.top_k));
  TC_RETURN_IF_ERROR(CheckRange("top_p", sampling.top_p, 0, 1, /*open_low=*/true));
  TC_RETURN_IF_ERROR(CheckRange("min_p", sampling.min_p, 0, 1));
  TC_RETURN_IF_ERROR(CheckRange("repetition_penalty", sampling.repetition_penalty, 0, 10, /*open_low=*/true));
  TC_RETURN_IF_ERROR(CheckRange("presence_penalty", sampling.presence_penalty, -2, 2));
  TC_RETURN_IF_ERROR(CheckRange("frequency_penalty", sampling.frequency_penalty, -2, 2));
  if (sampling.logit_bias.size() > kMaxLogitBias) {
    return FieldError("logit_bias", fmt::format("has {} entries, the limit is {}", sampling.logit_bias.size(),
                                                kMaxLogitBias));
  }
  for (const auto& [token, bias] : sampling.logit_bias) {
    if (token < 0 || token >= limits.n_vocab) {
      return FieldError("logit_bias",
                        fmt::format("names token {}, the vocabulary has {}", token, limits.n_vocab));
    }
    TC_RETURN_IF_ERROR(CheckRange("logit_bias", bias, -100, 100));
  }
  return absl::OkStatus();
}

absl::Status ValidateStopping(const StoppingOptions& stopping) {
  if (stopping.max_tokens && *stopping.max_tokens < 1) {
    return FieldError("max_tokens", fmt::format("is {}, at least 1 is needed", *stopping.max_tokens));
  }
  if (stopping.min_tokens < 0) {
    return FieldError("min_tokens", fmt::format("is {}, allowed are 0 and above", stopping.min_tokens));
  }
  if (stopping.max_tokens && stopping.min_tokens > *stopping.max_tokens) {
    return FieldError("min_tokens",
                      fmt::format("is {}, above max_tokens {}", stopping.min_tokens, *stopping.max_tokens));
  }
  if (stopping.stop.size() > kMaxStopStrings) {
    return FieldError("stop",
                      fmt::format("has {} strings, the limit is {}", stopping.stop.size(), kMaxStopStrings));
  }
  for (const std::string& stop : stopping.stop) {
    if (stop.empty()) return FieldError("stop", "has an empty string");
    if (stop.size() > kMaxStopBytes) {
      return FieldError("stop",
                        fmt::format("has a string of {} bytes, the limit is {}", stop.size(), kMaxStopBytes));
    }
  }
  constexpr std::chrono::milliseconds kLongest = std::chrono::days(30);
  if (stopping.time_limit && (stopping.time_limit->count() <= 0 || *stopping.time_limit > kLongest)) {
    return FieldError("time_limit", fmt::format("is {} ms, allowed are 1 to {}", stopping.time_limit->count(),
                                                kLongest.count()));
  }
  return absl::OkStatus();
}

absl::Status ValidateQuality(std::optional<Quality> quality, const RequestLimits& limits) {
  const std::span<const Quality> offered = OfferedQualities(limits.predicts);
  if (!quality || std::ranges::find(offered, *quality) != offered.end()) return absl::OkStatus();
  std::vector<std::string_view> names;
  for (const Quality other : offered) names.push_back(NameOf(other));
  return FieldError("quality",
                    fmt::format("is {}, which needs mode predicted or threshold; the mode offers {}",
                                NameOf(*quality), fmt::join(names, ", ")));
}

}  // namespace

std::span<const Quality> OfferedQualities(bool predicts) {
  static constexpr std::array kAll = {Quality::kExact, Quality::kBalanced, Quality::kFast};
  return std::span(kAll).first(predicts ? kAll.size() : 1);
}

Quality DefaultQuality(bool predicts) { return predicts ? Quality::kBalanced : Quality::kExact; }

std::string_view NameOf(FinishReason reason) {
  switch (reason) {
    case FinishReason::kUnspecified:
      return "unspecified";
    case FinishReason::kEndToken:
    case FinishReason::kStopString:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kTimeLimit:
      return "time_limit";
    case FinishReason::kError:
      return "error";
  }
  TC_CHECK(false);
}

double CompletionSummary::decode_tokens_per_second() const {
  if (completion_tokens < 2 || timings.decode_ms <= 0) return 0;
  return static_cast<double>(completion_tokens - 1) * 1e3 / timings.decode_ms;
}

absl::Status ValidateRequest(const CompletionRequest& request, const RequestLimits& limits) {
  if (request.prompt.empty()) return FieldError("prompt", "is empty");
  const auto prompt_tokens = static_cast<int64_t>(request.prompt.size());
  if (prompt_tokens >= limits.context_length) {
    return FieldError("prompt", fmt::format("has {} tokens, the context of {} tokens leaves room for {}",
                                            prompt_tokens, limits.context_length, limits.context_length - 1));
  }
  for (const TokenId token : request.prompt) {
    if (token < 0 || token >= limits.n_vocab) {
      return FieldError("prompt", fmt::format("has token {}, the vocabulary has {}", token, limits.n_vocab));
    }
  }
  TC_RETURN_IF_ERROR(ValidateSampling(request.sampling, limits));
  TC_RETURN_IF_ERROR(ValidateStopping(request.stopping));
  TC_RETURN_IF_ERROR(ValidateQuality(request.quality, limits));
  if (request.top_logprobs < 0 || request.top_logprobs > kMaxTopLogprobs) {
    return FieldError("top_logprobs",
                      fmt::format("is {}, allowed are [0, {}]", request.top_logprobs, kMaxTopLogprobs));
  }
  return absl::OkStatus();
}

absl::Status FieldError(std::string_view field, std::string_view problem) {
  return WithField(InvalidArgument("{}: {}", field, problem), field);
}

absl::Status WithField(absl::Status status, std::string_view field) {
  status.SetPayload(kFieldPayload, absl::Cord(absl::string_view(field.data(), field.size())));
  return status;
}

std::string FieldOf(const absl::Status& status) {
  const auto payload = status.GetPayload(kFieldPayload);
  return payload ? std::string(*payload) : "";
}

absl::Status WithRetryDelay(absl::Status status, std::chrono::milliseconds delay) {
  status.SetPayload(kRetryDelayPayload, absl::Cord(std::to_string(delay.count())));
  return status;
}

std::optional<std::chrono::milliseconds> RetryDelayOf(const absl::Status& status) {
  const auto payload = status.GetPayload(kRetryDelayPayload);
  int64_t milliseconds = 0;
  if (!payload || !absl::SimpleAtoi(std::string(*payload), &milliseconds)) return std::nullopt;
  return std::chrono::milliseconds(milliseconds);
}

}  // namespace thermocline
