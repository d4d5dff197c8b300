// PagePool: who holds which page of keys and values, and which full pages can serve another text again.
// SPDX-License-Identifier: Apache-2.0
//
// A page is free, held by one or more sequences, or cached: published and held by nobody, kept until its room
// is needed. A published page is full and known by the page before it and its own tokens, both compared
// exactly, so that a page stands for one whole text from its start. Whoever holds a published page holds
// those before it too, so they are held longer and go later: the least recently used cached page is never
// the one before another.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "core/status.h"
#include "model/tokenizer.h"
#include "scheduler/kv_pages.h"

namespace thermocline {

// Not thread-safe.
class PagePool {
 public:
  explicit PagePool(int64_t n_pages);

  int64_t n_pages() const { return static_cast<int64_t>(pages_.size()); }
  int64_t n_cached() const { return n_cached_; }
  // That Allocate() can give: free ones and cached ones.
  int64_t n_available() const { return static_cast<int64_t>(free_.size()) + n_cached_; }
  int64_t n_held() const { return n_pages() - n_available(); }

  // Appends to `pages`, which must be empty, the published pages that `tokens` start with. The caller holds
  // them from now on.
  void AcquirePrefix(std::span<const TokenId> tokens, std::vector<KvPage>& pages);
  // A page that the caller alone holds; the least recently used cached one when none is free. nullopt when
  // every page is held.
  std::optional<KvPage> Allocate();
  // Makes pages[index] known: it is full of `tokens` (kKvPageTokens), and the pages before it are published.
  // When an equal page is known already, the caller holds that one instead from now on.
  void Publish(std::span<KvPage> pages, size_t index, std::span<const TokenId> tokens);
  // Gives back all pages of a sequence, in the order of its positions, and empties the list.
  void Release(std::vector<KvPage>& pages);

  // Internal, naming what is wrong, unless the books agree with each other and with `holders`, the page lists
  // of all sequences. For tests.
  absl::Status CheckIntegrity(std::span<const std::span<const KvPage>> holders) const;

 private:
  static constexpr KvPage kNone = -1;
  struct Key {
    KvPage before = kNone;  // kNone: the text's first page
    std::array<TokenId, kKvPageTokens> tokens = {};

    bool operator==(const Key&) const = default;
    template <typename H>
    friend H AbslHashValue(H hash, const Key& key) {
      return H::combine(std::move(hash), key.before, key.tokens);
    }
  };
  struct Page {
    int32_t holders = 0;
    bool published = false;
    Key key;                                // of a published page
    KvPage older = kNone, younger = kNone;  // neighbours in the order of use, of a cached page
  };

  Page& at(KvPage page) { return pages_[static_cast<size_t>(page)]; }
  const Page& at(KvPage page) const { return pages_[static_cast<size_t>(page)]; }
  static Key KeyOf(KvPage before, std::span<const TokenId> tokens);
  void Hold(KvPage page);
  void LetGo(KvPage page);
  void EnterCache(KvPage page);  // as the most recently used
  void LeaveCache(KvPage page);
  absl::Status CheckCacheOrder(std::span<const int32_t> holders) const;

  std::vector<Page> pages_;
  std::vector<KvPage> free_;
  absl::flat_hash_map<Key, KvPage> published_;
  KvPage oldest_ = kNone, youngest_ = kNone;
  int64_t n_cached_ = 0;
};

}  // namespace thermocline
