// PagePool.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/page_pool.h"

#include <algorithm>

namespace thermocline {

PagePool::PagePool(int64_t n_pages) : pages_(static_cast<size_t>(n_pages)), free_(pages_.size()) {
  // The lowest numbers are given out first.
  for (size_t i = 0; i < free_.size(); ++i) free_[i] = static_cast<KvPage>(free_.size() - 1 - i);
  published_.reserve(pages_.size());
}

PagePool::Key PagePool::KeyOf(KvPage before, std::span<const TokenId> tokens) {
  Key key{.before = before};
  std::ranges::copy(tokens, key.tokens.begin());
  return key;
}

void PagePool::AcquirePrefix(std::span<const TokenId> tokens, std::vector<KvPage>& pages) {
  constexpr auto kSize = static_cast<size_t>(kKvPageTokens);
  KvPage before = kNone;
  for (; tokens.size() >= kSize; tokens = tokens.subspan(kSize)) {
    const auto found = published_.find(KeyOf(before, tokens.first(kSize)));
    if (found == published_.end()) return;
    before = found->second;
    Hold(before);
    pages.push_back(before);
  }
}

std::optional<KvPage> PagePool::Allocate() {
  if (free_.empty()) {
    if (oldest_ == kNone) return std::nullopt;
    const KvPage page = oldest_;
    LeaveCache(page);
    published_.erase(at(page).key);
    at(page).published = false;
    free_.push_back(page);
  }
  const KvPage page = free_.back();
  free_.pop_back();
  at(page).holders = 1;
  return page;
}

void PagePool::Publish(std::span<KvPage> pages, size_t index, std::span<const TokenId> tokens) {
  TC_CHECK(tokens.size() == static_cast<size_t>(kKvPageTokens));
  const KvPage before = index == 0 ? kNone : pages[index - 1];
  TC_CHECK(before == kNone || at(before).published);
  KvPage& page = pages[index];
  const auto [entry, is_new] = published_.try_emplace(KeyOf(before, tokens), page);
  if (is_new) {
    at(page).published = true;
    at(page).key = entry->first;
  } else if (entry->second != page) {
    const KvPage known = entry->second;
    Hold(known);
    LetGo(page);
    page = known;
  }
}

void PagePool::Release(std::vector<KvPage>& pages) {
  // The last first, so that it is the least recently used of them.
  for (size_t i = pages.size(); i-- > 0;) LetGo(pages[i]);
  pages.clear();
}

void PagePool::Hold(KvPage page) {
  if (at(page).holders++ == 0) LeaveCache(page);
}

void PagePool::LetGo(KvPage page) {
  TC_CHECK(at(page).holders > 0);
  if (--at(page).holders > 0) return;
  if (at(page).published) {
    EnterCache(page);
  } else {
    free_.push_back(page);
  }
}

void PagePool::EnterCache(KvPage page) {
  at(page).older = youngest_;
  at(page).younger = kNone;
  (youngest_ == kNone ? oldest_ : at(youngest_).younger) = page;
  youngest_ = page;
  ++n_cached_;
}

void PagePool::LeaveCache(KvPage page) {
  const auto [older, younger] = std::pair(at(page).older, at(page).younger);
  (older == kNone ? oldest_ : at(older).younger) = younger;
  (younger == kNone ? youngest_ : at(younger).older) = older;
  --n_cached_;
}

absl::Status PagePool::CheckIntegrity(std::span<const std::span<const KvPage>> holders) const {
  std::vector<int32_t> count(pages_.size());
  for (const std::span<const KvPage> pages : holders) {
    KvPage before = kNone;
    bool published = true;
    for (const KvPage page : pages) {
      if (page < 0 || page >= n_pages()) return Internal("a sequence holds page {} of {}", page, n_pages());
      ++count[static_cast<size_t>(page)];
      if (at(page).published && (!published || at(page).key.before != before))
        return Internal("published page {} does not follow page {} in a sequence", page, before);
      published = at(page).published;
      before = page;
    }
  }
  std::vector<bool> free(pages_.size());
  for (const KvPage page : free_) {
    if (free[static_cast<size_t>(page)]) return Internal("page {} is free twice", page);
    free[static_cast<size_t>(page)] = true;
  }
  size_t n_published = 0;
  for (KvPage page = 0; page < n_pages(); ++page) {
    const auto i = static_cast<size_t>(page);
    if (at(page).holders != count[i])
      return Internal("page {} counts {} holders, there are {}", page, at(page).holders, count[i]);
    if (!at(page).published && count[i] > 1) return Internal("page {} is shared and not published", page);
    if (free[i] == (at(page).published || count[i] > 0))
      return Internal("page {} is lost or free in use", page);
    if (!at(page).published) continue;
    ++n_published;
    const auto entry = published_.find(at(page).key);
    if (entry == published_.end() || entry->second != page) return Internal("page {} cannot be found", page);
    const KvPage before = at(page).key.before;
    if (before != kNone && (!at(before).published || at(before).holders < std::min(count[i], 1)))
      return Internal("page {} outlives page {} before it", page, before);
  }
  if (n_published != published_.size())
    return Internal("{} pages are published, the index has {}", n_published, published_.size());
  return CheckCacheOrder(count);
}

absl::Status PagePool::CheckCacheOrder(std::span<const int32_t> holders) const {
  std::vector<bool> passed(pages_.size());  // in the order of use, the oldest first
  int64_t n_passed = 0;
  KvPage older = kNone;
  for (KvPage page = oldest_; page != kNone; older = page, page = at(page).younger) {
    if (!at(page).published || holders[static_cast<size_t>(page)] > 0 || at(page).older != older)
      return Internal("page {} is not where cached pages are", page);
    if (++n_passed > n_cached_) return Internal("more than {} pages are cached", n_cached_);
    passed[static_cast<size_t>(page)] = true;
    const KvPage before = at(page).key.before;
    if (before != kNone && passed[static_cast<size_t>(before)])
      return Internal("page {} would go before page {} that follows it", before, page);
  }
  if (n_passed != n_cached_ || older != youngest_)
    return Internal("{} pages are cached, the order has {}", n_cached_, n_passed);
  int64_t unheld = 0;
  for (size_t i = 0; i < pages_.size(); ++i) unheld += pages_[i].published && holders[i] == 0 ? 1 : 0;
  if (unheld != n_cached_) return Internal("{} published pages are unheld, {} are cached", unheld, n_cached_);
  return absl::OkStatus();
}

}  // namespace thermocline
