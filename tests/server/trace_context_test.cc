// traceparent: what is read, what is refused, what is sent on.
// SPDX-License-Identifier: Apache-2.0
#include "server/trace_context.h"

#include <gtest/gtest.h>

namespace thermocline {
namespace {

// The example of the W3C's recommendation.
constexpr std::string_view kHeader = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

TEST(TraceContext, HonoursTheCallersTrace) {
  const auto trace = ParseTraceParent(kHeader);
  ASSERT_TRUE(trace.has_value());
  EXPECT_EQ(trace->trace_id, "4bf92f3577b34da6a3ce929d0e0e4736");
  EXPECT_EQ(trace->parent_id, "00f067aa0ba902b7");
  EXPECT_TRUE(trace->sampled);
  EXPECT_EQ(trace->span_id.size(), 16u);
  EXPECT_NE(trace->span_id, trace->parent_id);
  EXPECT_EQ(trace->ToHeader(), "00-4bf92f3577b34da6a3ce929d0e0e4736-" + trace->span_id + "-01");
  // What is sent on can be read again.
  const auto next = ParseTraceParent(trace->ToHeader());
  ASSERT_TRUE(next.has_value());
  EXPECT_EQ(next->parent_id, trace->span_id);
  EXPECT_FALSE(ParseTraceParent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-02")->sampled);
  EXPECT_TRUE(ParseTraceParent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff")->sampled);
}

TEST(TraceContext, ReadsLaterVersionsAsFarAsTheyAreKnown) {
  EXPECT_TRUE(ParseTraceParent("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").has_value());
  EXPECT_TRUE(ParseTraceParent("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-new").has_value());
  EXPECT_FALSE(ParseTraceParent("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01new").has_value());
}

TEST(TraceContext, RefusesWhatIsInvalid) {
  const std::string good(kHeader);
  for (const std::string& bad :
       {std::string(), std::string("x"), good.substr(1), good + "-", good + "0", "ff" + good.substr(2),
        "0G" + good.substr(2), "00-" + std::string(32, '0') + good.substr(35),
        good.substr(0, 36) + std::string(16, '0') + "-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736" + good.substr(35), good.substr(0, 53) + "0x",
        good.substr(0, 35) + "_" + good.substr(36), good.substr(0, 54) + "\n"}) {
    EXPECT_FALSE(ParseTraceParent(bad).has_value()) << bad;
    const TraceContext fresh = TraceOf(bad);
    EXPECT_TRUE(fresh.parent_id.empty()) << bad;
    EXPECT_FALSE(fresh.sampled) << bad;
    EXPECT_TRUE(ParseTraceParent(fresh.ToHeader()).has_value()) << bad;
  }
}

TEST(TraceContext, NewTracesDiffer) {
  EXPECT_NE(TraceOf("").trace_id, TraceOf("").trace_id);
  EXPECT_EQ(TraceOf(kHeader).trace_id, TraceOf(kHeader).trace_id);
  EXPECT_NE(TraceOf(kHeader).span_id, TraceOf(kHeader).span_id);
}

}  // namespace
}  // namespace thermocline
