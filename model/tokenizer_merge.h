// Byte-pair merging of one run of symbols, and the table of merges that most vocabularies bring along.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <absl/container/flat_hash_map.h>

#include <cstdint>
#include <optional>
#include <queue>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/status.h"
#include "model/tokenizer.h"
#include "model/tokenizer_vocabulary.h"

namespace thermocline {

inline constexpr TokenId kNoToken = -1;
inline constexpr int32_t kNoSymbol = -1;

// Longest text that is encoded at once: symbols are numbered with 32 bits, and a symbol takes 24 bytes.
inline constexpr int64_t kMaxTextBytes = int64_t{1} << 28;

// A stretch of the text that is one token so far. A symbol merged into its left neighbour has length 0.
struct Symbol {
  uint32_t begin = 0;
  uint32_t length = 0;
  TokenId id = kNoToken;  // kNoToken: spelt by no token yet
  int32_t previous = kNoSymbol;
  int32_t next = kNoSymbol;
  bool frozen = false;  // never merged
};

// What two neighbours become. The least rank is merged first, of equal ranks the leftmost.
struct Merge {
  uint32_t rank = 0;
  TokenId id = kNoToken;
};

// Appends a symbol to the run.
inline void AppendSymbol(std::vector<Symbol>& symbols, uint32_t begin, uint32_t length, TokenId id,
                         bool frozen = false) {
  const auto index = static_cast<int32_t>(symbols.size());
  if (index > 0) symbols.back().next = index;
  symbols.push_back({begin, length, id, index - 1, kNoSymbol, frozen});
}

// Merges neighbours until find_merge(left, right) -> std::optional<Merge> knows no pair any more:
// O(n log n) in the number of symbols. The first symbol always survives; follow `next` from it.
template <typename FindMerge>
void MergeSymbols(std::vector<Symbol>& symbols, FindMerge find_merge) {
  struct Candidate {
    uint64_t order;  // rank, then the left symbol's index
    TokenId id;
    uint32_t length;  // of both symbols when the candidate was found
    bool operator>(const Candidate& other) const { return order > other.order; }
  };
  std::vector<Candidate> storage;
  storage.reserve(symbols.size());
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue(std::greater<>(),
                                                                               std::move(storage));
  auto consider = [&](int32_t left) {
    if (left == kNoSymbol || symbols[left].next == kNoSymbol) return;
    const Symbol& a = symbols[left];
    const Symbol& b = symbols[a.next];
    if (a.frozen || b.frozen) return;
    if (const std::optional<Merge> merge = find_merge(a, b)) {
      queue.push({uint64_t{merge->rank} << 32 | static_cast<uint32_t>(left), merge->id, a.length + b.length});
    }
  };
  for (size_t i = 0; i + 1 < symbols.size(); ++i) consider(static_cast<int32_t>(i));
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    const auto left_index = static_cast<int32_t>(best.order & 0xffffffffu);
    Symbol& left = symbols[left_index];
    // Symbols only ever grow, so an unchanged total length means that the pair is still the one considered.
    if (left.length == 0 || left.next == kNoSymbol) continue;
    Symbol& right = symbols[left.next];
    if (left.length + right.length != best.length) continue;
    left.length = best.length;
    left.id = best.id;
    left.next = right.next;
    if (right.next != kNoSymbol) symbols[right.next].previous = left_index;
    right.length = 0;
    consider(left.previous);
    consider(left_index);
  }
}

// Merges named by the two tokens, ranked by their order in the file.
class MergeTable {
 public:
  using Pair = std::pair<std::string_view, std::string_view>;

  // InvalidArgument naming the first merge with an unknown half or result. A merge that is listed twice keeps
  // its first rank.
  static absl::StatusOr<MergeTable> Create(const std::vector<Pair>& merges, const Vocabulary& vocabulary);

  std::optional<Merge> Find(TokenId left, TokenId right) const {
    if (left == kNoToken || right == kNoToken) return std::nullopt;
    const auto found = merges_.find(Key(left, right));
    if (found == merges_.end()) return std::nullopt;
    return found->second;
  }

 private:
  static uint64_t Key(TokenId left, TokenId right) {
    return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
  }

  absl::flat_hash_map<uint64_t, Merge> merges_;
};

// "a b" cut at its only space; InvalidArgument naming source and index where there is not exactly one space
// between two texts.
absl::StatusOr<MergeTable::Pair> SplitMerge(std::string_view text, std::string_view source, int64_t index);

}  // namespace thermocline
