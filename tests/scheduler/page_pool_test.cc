// Pages change hands, serve equal texts, and go in the order of their use.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/page_pool.h"

#include <gtest/gtest.h>

#include <map>

#include "core/random.h"

namespace thermocline {
namespace {

// So many pages of tokens; texts of one kind begin alike.
std::vector<TokenId> Text(TokenId kind, int64_t n_pages) {
  std::vector<TokenId> tokens;
  for (int64_t i = 0; i < n_pages * kKvPageTokens; ++i)
    tokens.push_back(kind * 1000 + static_cast<TokenId>(i));
  return tokens;
}

std::span<const TokenId> PageOf(std::span<const TokenId> text, size_t index) {
  return text.subspan(index * kKvPageTokens, kKvPageTokens);
}

// What a sequence of this text holds: what is cached, and new pages, which it publishes.
std::vector<KvPage> Compute(PagePool& pool, std::span<const TokenId> text) {
  std::vector<KvPage> pages;
  pool.AcquirePrefix(text, pages);
  while (pages.size() * kKvPageTokens < text.size()) {
    pages.push_back(pool.Allocate().value());
    pool.Publish(pages, pages.size() - 1, PageOf(text, pages.size() - 1));
  }
  return pages;
}

absl::Status Check(const PagePool& pool, std::initializer_list<std::span<const KvPage>> holders) {
  return pool.CheckIntegrity(std::span(holders.begin(), holders.size()));
}

TEST(PagePool, GivesEveryPageOnceAndTakesThemBack) {
  PagePool pool(3);
  std::vector<KvPage> pages;
  for (int i = 0; i < 3; ++i) pages.push_back(pool.Allocate().value());
  EXPECT_EQ(pages, (std::vector<KvPage>{0, 1, 2}));
  EXPECT_EQ(pool.Allocate(), std::nullopt);
  EXPECT_EQ(pool.n_held(), 3);
  EXPECT_TRUE(Check(pool, {pages}).ok());
  pool.Release(pages);
  EXPECT_TRUE(pages.empty());
  EXPECT_EQ(pool.n_available(), 3);
  EXPECT_EQ(pool.n_cached(), 0);  // what was not published serves nobody
}

TEST(PagePool, EqualBeginningsAreShared) {
  PagePool pool(8);
  const std::vector<TokenId> text = Text(1, 3);
  std::vector<KvPage> first = Compute(pool, text);
  std::vector<KvPage> second;
  pool.AcquirePrefix(std::span(text).first(2 * kKvPageTokens + 5), second);  // two full pages
  EXPECT_EQ(second, std::vector(first.begin(), first.begin() + 2));
  EXPECT_EQ(pool.n_held(), 3);
  EXPECT_TRUE(Check(pool, {first, second}).ok()) << Check(pool, {first, second});
  pool.Release(first);
  EXPECT_EQ(pool.n_held(), 2);
  EXPECT_EQ(pool.n_cached(), 1);
  pool.Release(second);
  EXPECT_EQ(pool.n_cached(), 3);
  pool.AcquirePrefix(text, second);
  EXPECT_EQ(second.size(), 3u);
  pool.Release(second);
}

TEST(PagePool, APageStandsForItsTextFromTheStart) {
  PagePool pool(8);
  std::vector<TokenId> text = Text(1, 2);
  std::vector<KvPage> pages = Compute(pool, text);
  text[3] += 1;  // the second page has the same tokens still
  std::vector<KvPage> other;
  pool.AcquirePrefix(text, other);
  EXPECT_TRUE(other.empty());
  pool.AcquirePrefix(PageOf(Text(1, 2), 1), other);  // the second page's tokens at the start of a text
  EXPECT_TRUE(other.empty());
  pool.Release(pages);
}

TEST(PagePool, EqualPagesComputedTwiceBecomeOne) {
  PagePool pool(8);
  const std::vector<TokenId> text = Text(1, 2);
  std::vector<KvPage> first, second;
  for (std::vector<KvPage>* pages : {&first, &second})
    for (int i = 0; i < 2; ++i) pages->push_back(pool.Allocate().value());
  for (size_t i = 0; i < 2; ++i) {
    pool.Publish(second, i, PageOf(text, i));
    pool.Publish(first, i, PageOf(text, i));
  }
  EXPECT_EQ(first, second);
  EXPECT_EQ(pool.n_held(), 2);
  EXPECT_TRUE(Check(pool, {first, second}).ok()) << Check(pool, {first, second});
  pool.Release(first);
  pool.Release(second);
}

TEST(PagePool, TheLeastRecentlyUsedGoesFirstAndTailsBeforeTheirBeginnings) {
  PagePool pool(6);
  const std::vector<TokenId> old = Text(1, 3), recent = Text(2, 3);
  std::vector<KvPage> pages = Compute(pool, old);
  const std::vector<KvPage> old_pages = pages;
  pool.Release(pages);
  pages = Compute(pool, recent);
  pool.Release(pages);
  pool.AcquirePrefix(std::span(old).first(kKvPageTokens), pages);  // uses the beginning once more
  pool.Release(pages);

  EXPECT_EQ(pool.Allocate(), old_pages[2]);
  EXPECT_EQ(pool.Allocate(), old_pages[1]);
  std::vector<KvPage> found;
  pool.AcquirePrefix(recent, found);
  EXPECT_EQ(found.size(), 3u);
  pool.Release(found);
  pool.AcquirePrefix(old, found);
  EXPECT_EQ(found.size(), 1u);
}

TEST(PagePool, CheckIntegrityFindsWhatIsWrong) {
  PagePool pool(4);
  const std::vector<TokenId> text = Text(1, 2);
  std::vector<KvPage> pages = Compute(pool, text);
  EXPECT_TRUE(Check(pool, {pages}).ok());
  EXPECT_FALSE(Check(pool, {}).ok());
  EXPECT_FALSE(Check(pool, {pages, pages}).ok());
  const std::vector<KvPage> swapped = {pages[1], pages[0]};
  EXPECT_FALSE(Check(pool, {swapped}).ok());
  const std::vector<KvPage> beyond = {pages[0], pages[1], 9};
  EXPECT_FALSE(Check(pool, {beyond}).ok());
}

// Against a map from whole texts to pages' worth of them: what is found was published, and nothing held is
// ever given out.
TEST(PagePool, KeepsItsBooksUnderRandomUse) {
  SplitMix64 random(7);
  PagePool pool(12);
  std::vector<std::pair<std::vector<TokenId>, std::vector<KvPage>>> held;
  std::map<std::vector<TokenId>, bool> published;
  size_t hits = 0;
  for (int round = 0; round < 3000; ++round) {
    if (held.empty() || random.Next() % 3 != 0) {
      // Texts of up to 4 pages, each page one of two: many begin alike.
      std::vector<TokenId> text;
      for (uint64_t page = 0, n_pages = 1 + random.Next() % 4; page < n_pages; ++page) {
        const std::vector<TokenId> piece = Text(static_cast<TokenId>(random.Next() % 2), 1);
        text.insert(text.end(), piece.begin(), piece.end());
      }
      std::vector<KvPage> pages;
      pool.AcquirePrefix(text, pages);
      hits += pages.size();
      for (size_t i = 1; i <= pages.size(); ++i)
        ASSERT_TRUE(
            published[std::vector(text.begin(), text.begin() + static_cast<int64_t>(i) * kKvPageTokens)]);
      const auto needed = text.size() / kKvPageTokens - pages.size();
      if (pool.n_available() < static_cast<int64_t>(needed)) {
        pool.Release(pages);
      } else {
        while (pages.size() * kKvPageTokens < text.size()) {
          pages.push_back(pool.Allocate().value());
          if (random.Next() % 8 == 0) break;  // not full: not published
          const size_t index = pages.size() - 1;
          pool.Publish(pages, index, PageOf(text, index));
          published[std::vector(text.begin(),
                                text.begin() + static_cast<int64_t>(index + 1) * kKvPageTokens)] = true;
        }
        held.emplace_back(std::move(text), std::move(pages));
      }
    } else {
      const size_t which = random.Next() % held.size();
      pool.Release(held[which].second);
      held.erase(held.begin() + static_cast<std::ptrdiff_t>(which));
    }
    std::vector<std::span<const KvPage>> holders;
    for (const auto& [text, pages] : held) holders.emplace_back(pages);
    const absl::Status status = pool.CheckIntegrity(holders);
    ASSERT_TRUE(status.ok()) << round << ": " << status;
  }
  EXPECT_GT(hits, 100u);
}

}  // namespace
}  // namespace thermocline
