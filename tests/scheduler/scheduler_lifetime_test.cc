// A scheduler whose runner is lost, whose clients vanish, and that ends itself.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <future>
#include <thread>

#include "core/random.h"
#include "scheduler/scheduler.h"
#include "tests/support/puppet_requests.h"
#include "tests/support/puppet_runner.h"
#include "tests/support/puppet_tokenizer.h"
#include "tests/support/recorder.h"

namespace thermocline {
namespace {

using testing::Prompt;
using testing::PuppetRunner;
using testing::PuppetTokenizer;
using testing::Recorder;
using namespace std::chrono_literals;

TEST(SchedulerHealth, ALostRunnerFailsWhatIsThereAndRefusesTheRest) {
  PuppetTokenizer tokenizer;
  PuppetRunner runner;
  std::promise<absl::Status> lost;
  Scheduler scheduler(
      runner, tokenizer,
      {.max_running_requests = 1, .on_runner_lost = [&](const absl::Status& s) { lost.set_value(s); }});
  EXPECT_TRUE(scheduler.health().ok());
  runner.HoldAt(3);
  runner.LoseDeviceAt(3);
  const auto running = std::make_shared<Recorder>(), waiting = std::make_shared<Recorder>();
  ASSERT_TRUE(scheduler.Submit(Prompt("a", 30), running).ok());
  runner.WaitUntilHeld();
  ASSERT_TRUE(scheduler.Submit(Prompt("a", 30), waiting).ok());
  runner.Release();
  const absl::Status unavailable = Unavailable("the model runner is lost: the puppet's device is lost");
  EXPECT_EQ(running->Wait().status(), unavailable);
  EXPECT_EQ(waiting->Wait().status(), unavailable);
  EXPECT_EQ(lost.get_future().get(), Internal("the puppet's device is lost"));
  EXPECT_EQ(scheduler.health(), Internal("the puppet's device is lost"));
  EXPECT_EQ(scheduler.Submit(Prompt("a"), std::make_shared<Recorder>()).status(), unavailable);
  EXPECT_TRUE(scheduler.Drain(10min));
}

// Clients of many threads that cancel at any moment: every request ends once, nobody else's tokens change,
// and all pages come back.
TEST(SchedulerConcurrency, ClientsThatVanishLeaveNothingBehind) {
  PuppetTokenizer tokenizer;
  PuppetRunner runner(/*context_length=*/64, /*max_step_tokens=*/16, /*predicts=*/false, /*n_kv_pages=*/16);
  Scheduler scheduler(runner, tokenizer);
  std::vector<std::jthread> clients;
  for (uint64_t client = 0; client < 4; ++client) {
    clients.emplace_back([&, client] {
      SplitMix64 random(client);
      for (int i = 0; i < 50; ++i) {
        const auto recorder = std::make_shared<Recorder>();
        const auto handle =
            scheduler.Submit(Prompt("a", 1 + static_cast<int64_t>(random.Next() % 60)), recorder);
        ASSERT_TRUE(handle.ok()) << handle.status();
        const bool cancel = random.Next() % 2 == 0;
        for (uint64_t turns = random.Next() % 20; turns-- > 0;) std::this_thread::yield();
        if (cancel) scheduler.Cancel(*handle);
        const auto result = recorder->Wait();
        EXPECT_TRUE(result.ok() || (cancel && result.status().code() == absl::StatusCode::kCancelled))
            << result.status();
        constexpr std::string_view kAlphabet = "abcdefghijklmnopqrstuvwxyz";
        for (size_t j = 0; j < recorder->text.size(); ++j)
          ASSERT_EQ(recorder->text[j], kAlphabet[(j + 1) % kAlphabet.size()]);
      }
    });
  }
  clients.clear();
  const SchedulerStats stats = scheduler.stats();
  EXPECT_EQ(stats.finished, 200u);
  EXPECT_EQ(stats.used_pages, 0);
  EXPECT_EQ(stats.running, 0);
  EXPECT_EQ(stats.waiting, 0);
}

TEST(SchedulerLifetime, DestructionEndsWhatRuns) {
  PuppetTokenizer tokenizer;
  PuppetRunner runner;
  const auto recorder = std::make_shared<Recorder>();
  {
    Scheduler scheduler(runner, tokenizer);
    ASSERT_TRUE(scheduler.Submit(Prompt("a", 4000), recorder).ok());
  }
  const auto result = recorder->Wait();
  EXPECT_TRUE(result.ok() || result.status().code() == absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace thermocline
