// Recorder: an observer that gathers what a request gives out, and lets a test wait for its end.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <future>
#include <string>
#include <utility>
#include <vector>

#include "core/status.h"
#include "scheduler/completion_observer.h"

namespace thermocline::testing {

// Gathers what a request gives out, and lets a test wait for its end.
class Recorder final : public CompletionObserver {
 public:
  void OnDelta(CompletionDelta delta) override {
    EXPECT_FALSE(ended_) << "a delta after the end";
    text += delta.text;
    token_ids.insert(token_ids.end(), delta.token_ids.begin(), delta.token_ids.end());
    logprobs.insert(logprobs.end(), delta.logprobs.begin(), delta.logprobs.end());
  }
  void OnFinish(absl::StatusOr<CompletionSummary> result) override {
    EXPECT_FALSE(ended_) << "two ends";
    ended_ = true;
    end_.set_value(std::move(result));
  }
  absl::StatusOr<CompletionSummary> Wait() { return future_.get(); }
  bool ended() const { return ended_; }  // for tests of one thread

  std::string text;
  std::vector<TokenId> token_ids;
  std::vector<TokenLogprob> logprobs;

 private:
  bool ended_ = false;
  std::promise<absl::StatusOr<CompletionSummary>> end_;
  std::future<absl::StatusOr<CompletionSummary>> future_ = end_.get_future();
};

}  // namespace thermocline::testing
