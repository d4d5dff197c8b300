// LiteralTrie: a trie over bytes with its edges in one hash table.
// SPDX-License-Identifier: Apache-2.0
#include "model/tokenizer_literals.h"

namespace thermocline {

void LiteralTrie::Add(std::string_view literal, int32_t value) {
  uint32_t node = 0;
  first_bytes_.set(static_cast<uint8_t>(literal.front()));
  for (char c : literal) {
    const uint64_t edge = uint64_t{node} * 256 + static_cast<uint8_t>(c);
    auto [child, inserted] = children_.try_emplace(edge, static_cast<uint32_t>(values_.size()));
    if (inserted) values_.push_back(kNone);
    node = child->second;
  }
  if (values_[node] == kNone) values_[node] = value;
}

std::optional<LiteralTrie::Match> LiteralTrie::LongestAt(std::string_view text, size_t position) const {
  if (!first_bytes_[static_cast<uint8_t>(text[position])]) return std::nullopt;
  std::optional<Match> longest;
  uint32_t node = 0;
  for (size_t end = position; end < text.size(); ++end) {
    const auto child = children_.find(uint64_t{node} * 256 + static_cast<uint8_t>(text[end]));
    if (child == children_.end()) break;
    node = child->second;
    if (values_[node] != kNone) longest = Match{values_[node], end + 1 - position};
  }
  return longest;
}

}  // namespace thermocline
