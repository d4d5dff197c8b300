// LiteralTrie: finds the longest of a set of literals at a place of a text.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <absl/container/flat_hash_map.h>

#include <bitset>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace thermocline {

class LiteralTrie {
 public:
  struct Match {
    int32_t value = 0;
    size_t length = 0;
  };

  // `literal` must not be empty. Of two equal literals the first keeps its value.
  void Add(std::string_view literal, int32_t value);
  // The longest literal that starts at text[position].
  std::optional<Match> LongestAt(std::string_view text, size_t position) const;
  bool empty() const { return values_.size() == 1; }

 private:
  static constexpr int32_t kNone = -1;

  std::bitset<256> first_bytes_;
  absl::flat_hash_map<uint64_t, uint32_t> children_;  // node * 256 + byte -> node
  std::vector<int32_t> values_ = {kNone};             // of each node; node 0 is the root
};

}  // namespace thermocline
