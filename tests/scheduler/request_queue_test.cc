// The queue's order, its bounds, and when it says to come again.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/request_queue.h"

#include <gtest/gtest.h>

#include "tests/support/puppet_tokenizer.h"
#include "tests/support/recorder.h"

namespace thermocline {
namespace {

using testing::PuppetTokenizer;
using testing::Recorder;
using namespace std::chrono_literals;
using TimePoint = RequestQueue::TimePoint;

constexpr RequestLimits kLimits{.context_length = 1000, .n_vocab = PuppetTokenizer::kVocabularySize};
constexpr TimePoint kStart{std::chrono::hours(1)};

class RequestQueueTest : public ::testing::Test {
 protected:
  std::shared_ptr<Sequence> Make(int64_t n_tokens, TimePoint arrival = kStart,
                                 std::optional<TimePoint> deadline = std::nullopt) {
    CompletionRequest request;
    request.prompt.assign(static_cast<size_t>(n_tokens), PuppetTokenizer::IdOf('a'));
    request.deadline = deadline;
    request.stopping.time_limit = 10min;
    return std::make_shared<Sequence>(next_++, std::move(request), std::make_shared<Recorder>(), tokenizer_,
                                      kLimits, arrival);
  }

  PuppetTokenizer tokenizer_;
  RequestHandle next_ = 1;
  RequestQueue queue_{{.max_requests = 3, .max_tokens = 100}};
};

TEST_F(RequestQueueTest, FirstComeFirstServedAndWhatLostItsPlaceComesFirst) {
  for (int i = 0; i < 3; ++i) queue_.Push(Make(10), kStart);
  EXPECT_EQ(queue_.n_requests(), 3);
  EXPECT_EQ(queue_.n_tokens(), 30);
  const std::shared_ptr<Sequence> first = queue_.Pop(kStart), second = queue_.Pop(kStart);
  EXPECT_EQ(first->handle, 1u);
  queue_.PutBack(second, kStart);
  queue_.PutBack(first, kStart);
  EXPECT_EQ(queue_.n_tokens(), 30);
  for (RequestHandle handle = 1; handle <= 3; ++handle) EXPECT_EQ(queue_.Pop(kStart)->handle, handle);
  EXPECT_TRUE(queue_.empty());
  EXPECT_EQ(queue_.n_tokens(), 0);
}

TEST_F(RequestQueueTest, RefusesByRequestsAndByTokens) {
  EXPECT_TRUE(queue_.CheckRoom(1, 500, kStart).ok());  // an empty queue takes any
  queue_.Push(Make(60), kStart);
  EXPECT_TRUE(queue_.CheckRoom(1, 40, kStart).ok());
  EXPECT_EQ(MessageOf(queue_.CheckRoom(1, 41, kStart)),
            "the queue is full: requests of 60 tokens wait, 41 more exceed the limit of 100");
  queue_.Push(Make(1), kStart);
  queue_.Push(Make(1), kStart);
  const absl::Status status = queue_.CheckRoom(1, 1, kStart);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(MessageOf(status), "the queue is full: 3 requests wait, 1 more exceed the limit of 3");
  EXPECT_EQ(RetryDelayOf(status), 100ms);  // the least, while nothing is known
}

TEST_F(RequestQueueTest, SeveralNeedRoomForAll) {
  EXPECT_TRUE(queue_.CheckRoom(3, 500, kStart).ok());
  EXPECT_EQ(FieldOf(queue_.CheckRoom(4, 4, kStart)), "n");  // never
  queue_.Push(Make(60), kStart);
  EXPECT_TRUE(queue_.CheckRoom(2, 40, kStart).ok());
  EXPECT_EQ(queue_.CheckRoom(2, 41, kStart).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(MessageOf(queue_.CheckRoom(3, 3, kStart)),
            "the queue is full: 1 requests wait, 3 more exceed the limit of 3");
}

TEST_F(RequestQueueTest, SaysToComeAgainWhenWhatWaitsWillHaveItsPlace) {
  TimePoint now = kStart;
  for (int i = 0; i < 3; ++i) queue_.Push(Make(1), now);
  // One request every two seconds.
  for (int i = 0; i < 200; ++i) {
    now += 2s;
    queue_.Pop(now);
    queue_.Push(Make(1), now);
  }
  const auto delay = [&](TimePoint when) { return RetryDelayOf(queue_.CheckRoom(1, 1, when)).value(); };
  // Three wait. What faded weighs as nothing at all, so the request that would come next counts beside 20.
  EXPECT_GE(delay(now), 5500ms);
  EXPECT_LE(delay(now), 6s);
  EXPECT_GT(delay(now + 30s), delay(now));  // it moves no longer
  EXPECT_EQ(delay(now + 24h), 60s);         // the most
}

TEST_F(RequestQueueTest, TimeWithoutAnybodyWaitingIsNotSlowness) {
  TimePoint now = kStart;
  for (int i = 0; i < 100; ++i) {
    queue_.Push(Make(1), now);
    queue_.Pop(now);
    now += 10s;
  }
  for (int i = 0; i < 3; ++i) queue_.Push(Make(1), now);
  EXPECT_EQ(RetryDelayOf(queue_.CheckRoom(1, 1, now)), 100ms);
}

TEST_F(RequestQueueTest, RemovesWhatIsCancelledOrOutOfTime) {
  const auto cancelled = Make(5), late = Make(5, kStart, kStart + 1s), slow = Make(5, kStart - 10min + 1s);
  queue_.Push(cancelled, kStart);
  queue_.Push(late, kStart);
  queue_.Push(slow, kStart);
  std::vector<EndedSequence> ended;
  queue_.RemoveInterrupted(kStart, ended);
  EXPECT_TRUE(ended.empty());
  cancelled->interrupt = Sequence::Interrupt::kCancel;
  queue_.RemoveInterrupted(kStart + 1s, ended);
  ASSERT_EQ(ended.size(), 3u);
  EXPECT_EQ(ended[0].status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(ended[1].status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(ended[2].status.ok());
  EXPECT_EQ(ended[2].sequence->completion.Finish().finish_reason, FinishReason::kTimeLimit);
  EXPECT_EQ(queue_.n_tokens(), 0);
}

TEST_F(RequestQueueTest, RemovesOneByItsHandle) {
  queue_.Push(Make(5), kStart);
  queue_.Push(Make(7), kStart);
  EXPECT_EQ(queue_.Remove(9), nullptr);
  EXPECT_EQ(queue_.Remove(1)->handle, 1u);
  EXPECT_EQ(queue_.n_tokens(), 7);
  std::vector<EndedSequence> ended;
  queue_.RemoveAll(Unavailable("gone"), ended);
  ASSERT_EQ(ended.size(), 1u);
  EXPECT_EQ(ended[0].sequence->handle, 2u);
  EXPECT_EQ(ended[0].status, Unavailable("gone"));
  EXPECT_EQ(queue_.n_tokens(), 0);
}

}  // namespace
}  // namespace thermocline
