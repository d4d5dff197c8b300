// What a completion request asks for and what it gets: plain data.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/status.h"
#include "model/tokenizer.h"
#include "predictor/quality.h"
#include "scheduler/step_figures.h"

namespace thermocline {

class RequestTrace;

struct SamplingOptions {
  double temperature = 0.0;  // [0, 10]; 0 is greedy
  int64_t top_k = 0;         // keep the k likeliest; 0 keeps all
  double top_p = 1.0;        // (0, 1]; keep the least set whose probability reaches p
  double min_p = 0.0;        // [0, 1]; drop what is less likely than min_p times the likeliest
  double repetition_penalty =
      1.0;  // (0, 10]; divides positive and multiplies negative logits of tokens seen, prompt included
  double presence_penalty = 0.0;   // [-2, 2]; subtracted once from tokens generated so far
  double frequency_penalty = 0.0;  // [-2, 2]; subtracted once for each time a token was generated
  std::vector<std::pair<TokenId, double>> logit_bias;  // at most 1024 entries, each in [-100, 100]
  std::optional<uint64_t> seed;  // drawn at random when absent; the one used is reported
};

struct StoppingOptions {
  std::optional<int64_t> max_tokens;  // >= 1; absent: to the end of the context
  int64_t min_tokens = 0;             // no end token and no stop string before that many
  std::vector<std::string> stop;      // at most 64, none empty, none above 1024 bytes
  bool include_stop = false;          // whether the matched stop string is part of the text
  bool ignore_eos = false;
  std::optional<std::chrono::milliseconds>
      time_limit;  // from arrival, at most 30 days; ends with FinishReason::kTimeLimit
};

struct CompletionRequest {
  std::string id;  // for logs; made up when empty
  std::vector<TokenId> prompt;
  SamplingOptions sampling;
  StoppingOptions stopping;
  std::optional<Quality> quality;  // of decoding; absent: DefaultQuality()
  bool echo = false;               // the prompt's text comes first
  bool logprobs = false;           // log-probability of every generated token
  int top_logprobs = 0;            // [0, 20]; likeliest alternatives at each place; > 0 implies logprobs
  std::optional<std::chrono::steady_clock::time_point> deadline;  // ends the call with DeadlineExceeded
  std::shared_ptr<RequestTrace> trace;  // is told what happens; nullptr: nobody asked
};

enum class FinishReason {
  kUnspecified,
  kEndToken,    // the model ended the text
  kStopString,  // a stop string was reached
  kLength,      // max_tokens or the end of the context
  kTimeLimit,
  kError,  // the logits were not finite
};

// As OpenAI's API spells it: "stop", "stop", "length", and "time_limit", "error".
std::string_view NameOf(FinishReason reason);

struct TokenLogprob {
  TokenId id = 0;
  float logprob = 0;                           // natural logarithm, of the unmodified logits
  std::vector<std::pair<TokenId, float>> top;  // likeliest first
};

// A piece of the completion. The texts of all deltas, in order, are the text; the last may come with no
// token.
struct CompletionDelta {
  std::string text;  // valid UTF-8, never part of a code point, never part of a stop string
  std::vector<TokenId> token_ids;
  std::vector<TokenLogprob> logprobs;  // one a token, or none
};

struct CompletionTimings {
  double queue_ms = 0;
  double prefill_ms = 0;
  double time_to_first_token_ms = 0;  // from arrival
  double decode_ms = 0;               // from the first token to the last
  double inter_token_p50_ms = 0;
  double inter_token_p99_ms = 0;
};

struct CompletionSummary {
  FinishReason finish_reason = FinishReason::kUnspecified;
  std::string matched_stop;
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;  // of the prompt, that earlier requests had computed
  int64_t completion_tokens = 0;
  uint64_t seed = 0;
  Quality quality = Quality::kExact;  // that was decoded with
  CompletionTimings timings;
  // What the steps of its tokens read: neurons of the whole step, a share of its bytes (ShareOf). Audits and
  // what was computed again after other requests took the pages are left out.
  StepSums decode_steps;
  AuditSums audits;  // of its tokens

  // Tokens after the first over the time they took; 0 when there is none.
  double decode_tokens_per_second() const;
};

// What the model can take; requests are checked against it.
struct RequestLimits {
  int64_t context_length = 0;  // tokens of prompt and completion together
  int64_t n_vocab = 0;
  bool predicts = false;  // whether neurons can be left out
};

// What a request may ask for: kExact alone where nothing predicts.
std::span<const Quality> OfferedQualities(bool predicts);
// What a request that does not say gets: kBalanced where something predicts, else kExact.
Quality DefaultQuality(bool predicts);

// InvalidArgument that names the field and the limit; FieldOf() gives the field's name back.
absl::Status ValidateRequest(const CompletionRequest& request, const RequestLimits& limits);

// InvalidArgument about one field of a request: the message starts with the field's name, which FieldOf()
// gives back.
absl::Status FieldError(std::string_view field, std::string_view problem);
// The same status, about that field of a request: for errors that are no InvalidArgument.
absl::Status WithField(absl::Status status, std::string_view field);
// The field a FieldError is about; empty for any other status.
std::string FieldOf(const absl::Status& status);

// `status`, a refusal for want of room, with the time after which to try again; RetryDelayOf() gives it back.
absl::Status WithRetryDelay(absl::Status status, std::chrono::milliseconds delay);
// nullopt of a status that carries none.
std::optional<std::chrono::milliseconds> RetryDelayOf(const absl::Status& status);

}  // namespace thermocline
