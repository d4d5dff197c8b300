// Stop strings in texts cut into pieces at every place.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/stop_matcher.h"

#include <gtest/gtest.h>

namespace thermocline {
namespace {

struct Outcome {
  std::string text;
  std::string matched;
};

// Pushes the text in pieces of `piece` bytes.
Outcome Feed(const std::string& text, std::vector<std::string> stops, bool include, size_t piece) {
  StopMatcher matcher(std::move(stops), include);
  Outcome outcome;
  for (size_t i = 0; i < text.size() && !matcher.stopped(); i += piece)
    outcome.text += matcher.Push(text.substr(i, piece));
  if (!matcher.stopped()) outcome.text += matcher.Flush();
  outcome.matched = matcher.matched();
  return outcome;
}

TEST(StopMatcher, FindsStopsWhateverTheCut) {
  for (const size_t piece : {1, 2, 3, 5, 100}) {
    EXPECT_EQ(Feed("one two three", {"two"}, false, piece).text, "one ") << piece;
    EXPECT_EQ(Feed("one two three", {"two"}, true, piece).text, "one two") << piece;
    EXPECT_EQ(Feed("one two three", {"four"}, false, piece).text, "one two three") << piece;
    EXPECT_EQ(Feed("aaab", {"aab"}, false, piece).text, "a") << piece;
    EXPECT_EQ(Feed("ababac", {"abac"}, false, piece).text, "ab") << piece;
    EXPECT_EQ(Feed("ends with twee", {"tweedle"}, false, piece).text, "ends with twee") << piece;
  }
}

TEST(StopMatcher, TheFirstToBeCompleteWins) {
  for (const size_t piece : {1, 4, 100}) {
    EXPECT_EQ(Feed("xxabcdyy", {"abcd", "bc"}, false, piece).matched, "bc");
    EXPECT_EQ(Feed("xxabc", {"c", "abc", "bc"}, false, piece).matched, "abc");
  }
}

TEST(StopMatcher, NeverGivesOutAPartOfAStop) {
  StopMatcher matcher({"STOP"}, false);
  EXPECT_EQ(matcher.Push("go ST"), "go ");
  EXPECT_EQ(matcher.Push("O"), "");
  EXPECT_EQ(matcher.Push("ne"), "STOne");
  EXPECT_EQ(matcher.Push("S"), "");
  EXPECT_EQ(matcher.Push("TOP and more"), "");
  EXPECT_TRUE(matcher.stopped());
  EXPECT_EQ(matcher.Push("after"), "");
}

}  // namespace
}  // namespace thermocline
