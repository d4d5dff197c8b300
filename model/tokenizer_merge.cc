// MergeTable: from spellings to token ids.
// SPDX-License-Identifier: Apache-2.0
#include "model/tokenizer_merge.h"

#include "model/printable.h"

namespace thermocline {

absl::StatusOr<MergeTable> MergeTable::Create(const std::vector<Pair>& merges, const Vocabulary& vocabulary) {
  if (static_cast<int64_t>(merges.size()) > 4 * kMaxVocabularySize) {
    return InvalidArgument("{}: {} merges, the limit is {}", vocabulary.source, merges.size(),
                           4 * kMaxVocabularySize);
  }
  absl::flat_hash_map<std::string_view, TokenId> ids;
  ids.reserve(vocabulary.texts.size());
  for (size_t id = 0; id < vocabulary.texts.size(); ++id) {
    ids.try_emplace(vocabulary.texts[id], static_cast<TokenId>(id));
  }
  MergeTable table;
  table.merges_.reserve(merges.size());
  std::string merged;
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    merged.assign(merges[rank].first);
    merged.append(merges[rank].second);
    const auto left = ids.find(merges[rank].first);
    const auto right = ids.find(merges[rank].second);
    const auto result = ids.find(merged);
    for (const auto& [found, text] :
         {std::pair(left, merges[rank].first), std::pair(right, merges[rank].second),
          std::pair(result, std::string_view(merged))}) {
      if (found == ids.end()) {
        return InvalidArgument("{}: merge {} names \"{}\", which is not in the vocabulary", vocabulary.source,
                               rank, Printable(text));
      }
    }
    table.merges_.try_emplace(Key(left->second, right->second),
                              Merge{static_cast<uint32_t>(rank), result->second});
  }
  return table;
}

absl::StatusOr<MergeTable::Pair> SplitMerge(std::string_view text, std::string_view source, int64_t index) {
  const size_t space = text.find(' ');
  if (space == std::string_view::npos || space == 0 || space + 1 == text.size() ||
      text.find(' ', space + 1) != std::string_view::npos) {
    return InvalidArgument("{}: merge {} is not two tokens with one space between them", source, index);
  }
  return MergeTable::Pair(text.substr(0, space), text.substr(space + 1));
}

}  // namespace thermocline
