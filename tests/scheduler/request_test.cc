// Every field's limits: the border is allowed, one beyond is refused with the field's name.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/request.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>

namespace thermocline {
namespace {

constexpr RequestLimits kLimits{.context_length = 16, .n_vocab = 10};

CompletionRequest Good() {
  CompletionRequest request;
  request.prompt = {1, 2, 3};
  return request;
}

using Change = std::function<void(CompletionRequest&)>;

struct Case {
  const char* field;
  Change good;
  Change bad;
};

TEST(ValidateRequest, BordersOfEveryField) {
  const Case cases[] = {
      {"prompt", [](auto& r) { r.prompt.assign(15, 1); }, [](auto& r) { r.prompt.assign(16, 1); }},
      {"prompt", [](auto& r) { r.prompt = {0}; }, [](auto& r) { r.prompt.clear(); }},
      {"prompt", [](auto& r) { r.prompt = {9}; }, [](auto& r) { r.prompt = {10}; }},
      {"prompt", [](auto& r) { r.prompt = {0}; }, [](auto& r) { r.prompt = {-1}; }},
      {"temperature", [](auto& r) { r.sampling.temperature = 10; },
       [](auto& r) { r.sampling.temperature = 10.1; }},
      {"temperature", [](auto& r) { r.sampling.temperature = 0; },
       [](auto& r) { r.sampling.temperature = NAN; }},
      {"top_k", [](auto& r) { r.sampling.top_k = 0; }, [](auto& r) { r.sampling.top_k = -1; }},
      {"top_p", [](auto& r) { r.sampling.top_p = 1; }, [](auto& r) { r.sampling.top_p = 0; }},
      {"min_p", [](auto& r) { r.sampling.min_p = 1; }, [](auto& r) { r.sampling.min_p = 1.01; }},
      {"repetition_penalty", [](auto& r) { r.sampling.repetition_penalty = 10; },
       [](auto& r) { r.sampling.repetition_penalty = 0; }},
      {"presence_penalty", [](auto& r) { r.sampling.presence_penalty = -2; },
       [](auto& r) { r.sampling.presence_penalty = -2.1; }},
      {"frequency_penalty", [](auto& r) { r.sampling.frequency_penalty = 2; },
       [](auto& r) { r.sampling.frequency_penalty = 2.1; }},
      {"logit_bias",
       [](auto& r) {
         r.sampling.logit_bias = {{9, 100}};
       },
       [](auto& r) {
         r.sampling.logit_bias = {{9, 101}};
       }},
      {"logit_bias",
       [](auto& r) {
         r.sampling.logit_bias.assign(1024, {1, 1});
       },
       [](auto& r) {
         r.sampling.logit_bias.assign(1025, {1, 1});
       }},
      {"logit_bias",
       [](auto& r) {
         r.sampling.logit_bias = {{0, 0}};
       },
       [](auto& r) {
         r.sampling.logit_bias = {{10, 0}};
       }},
      {"max_tokens", [](auto& r) { r.stopping.max_tokens = 1; }, [](auto& r) { r.stopping.max_tokens = 0; }},
      {"min_tokens", [](auto& r) { r.stopping.min_tokens = 5; }, [](auto& r) { r.stopping.min_tokens = -1; }},
      {"min_tokens", [](auto& r) { r.stopping.max_tokens = r.stopping.min_tokens = 3; },
       [](auto& r) { r.stopping.max_tokens = 2, r.stopping.min_tokens = 3; }},
      {"stop", [](auto& r) { r.stopping.stop.assign(64, "x"); },
       [](auto& r) { r.stopping.stop.assign(65, "x"); }},
      {"stop", [](auto& r) { r.stopping.stop = {std::string(1024, 'x')}; },
       [](auto& r) { r.stopping.stop = {std::string(1025, 'x')}; }},
      {"stop", [](auto& r) { r.stopping.stop = {"x"}; }, [](auto& r) { r.stopping.stop = {""}; }},
      {"time_limit", [](auto& r) { r.stopping.time_limit = std::chrono::milliseconds(1); },
       [](auto& r) { r.stopping.time_limit = std::chrono::milliseconds(0); }},
      {"time_limit", [](auto& r) { r.stopping.time_limit = std::chrono::days(30); },
       [](auto& r) { r.stopping.time_limit = std::chrono::days(31); }},
      {"top_logprobs", [](auto& r) { r.top_logprobs = 20; }, [](auto& r) { r.top_logprobs = 21; }},
  };
  for (const Case& c : cases) {
    CompletionRequest good = Good(), bad = Good();
    c.good(good);
    c.bad(bad);
    EXPECT_TRUE(ValidateRequest(good, kLimits).ok()) << c.field << ": " << ValidateRequest(good, kLimits);
    const absl::Status status = ValidateRequest(bad, kLimits);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << c.field;
    EXPECT_EQ(FieldOf(status), c.field);
    EXPECT_EQ(status.message().find(std::string(c.field) + ": "), 0u) << status;
  }
}

TEST(ValidateRequest, OnlyRunnersThatPredictOfferMoreThanExact) {
  RequestLimits limits = kLimits;
  CompletionRequest request = Good();
  for (const Quality quality : {Quality::kExact, Quality::kBalanced, Quality::kFast}) {
    request.quality = quality;
    limits.predicts = true;
    EXPECT_TRUE(ValidateRequest(request, limits).ok()) << NameOf(quality);
    limits.predicts = false;
    EXPECT_EQ(ValidateRequest(request, limits).ok(), quality == Quality::kExact) << NameOf(quality);
  }
  const absl::Status refused = ValidateRequest(request, limits);
  EXPECT_EQ(FieldOf(refused), "quality");
  EXPECT_NE(refused.message().find("fast"), std::string::npos) << refused;
  EXPECT_NE(refused.message().find("offers exact"), std::string::npos) << refused;
}

TEST(DefaultQuality, IsAlwaysOffered) {
  for (const bool predicts : {false, true}) {
    const auto offered = OfferedQualities(predicts);
    EXPECT_NE(std::ranges::find(offered, DefaultQuality(predicts)), offered.end());
  }
  EXPECT_EQ(DefaultQuality(true), Quality::kBalanced);
}

TEST(RetryDelayOf, IsWhatTheRefusalCarries) {
  const absl::Status refused = ResourceExhausted("full");
  EXPECT_EQ(RetryDelayOf(refused), std::nullopt);
  EXPECT_EQ(RetryDelayOf(WithRetryDelay(refused, std::chrono::milliseconds(1500))),
            std::chrono::milliseconds(1500));
}

TEST(FieldOf, IsEmptyForOtherErrors) { EXPECT_EQ(FieldOf(InvalidArgument("no field")), ""); }

}  // namespace
}  // namespace thermocline
