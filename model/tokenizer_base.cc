// TokenizerBase: cuts added tokens out of a text and hands what lies between to the algorithm.
// SPDX-License-Identifier: Apache-2.0
#include "model/tokenizer_base.h"

#include <unicode/uchar.h>
#include <unicode/utf8.h>

#include "model/tokenizer_merge.h"

namespace thermocline {
namespace {

// Start of the whitespace that ends at `end`, not before `limit`.
size_t SkipSpaceLeft(std::string_view text, size_t limit, size_t end) {
  const auto* data = reinterpret_cast<const uint8_t*>(text.data());
  auto position = static_cast<int32_t>(end);  // U8_PREV wants 32 bits, which kMaxTextBytes fits
  while (position > static_cast<int32_t>(limit)) {
    int32_t previous = position;
    UChar32 c;
    U8_PREV(data, static_cast<int32_t>(limit), previous, c);
    if (c < 0 || !u_isUWhiteSpace(c)) break;
    position = previous;
  }
  return static_cast<size_t>(position);
}

// End of the whitespace that starts at `begin`.
size_t SkipSpaceRight(std::string_view text, size_t begin) {
  const auto* data = reinterpret_cast<const uint8_t*>(text.data());
  const auto size = static_cast<int64_t>(text.size());
  auto position = static_cast<int64_t>(begin);
  while (position < size) {
    int64_t next = position;
    UChar32 c;
    U8_NEXT(data, next, size, c);
    if (c < 0 || !u_isUWhiteSpace(c)) break;
    position = next;
  }
  return static_cast<size_t>(position);
}

}  // namespace

TokenizerBase::TokenizerBase(Vocabulary vocabulary, std::vector<std::string> bytes)
    : vocabulary_(std::move(vocabulary)), bytes_(std::move(bytes)) {
  for (size_t i = 0; i < vocabulary_.added.size(); ++i) {
    const AddedToken& token = vocabulary_.added[i];
    with_special_.Add(token.literal, static_cast<int32_t>(i));
    if (!token.special) always_.Add(token.literal, static_cast<int32_t>(i));
  }
}

// A text, where special tokens may lie in it, and which other added tokens count only there.
struct TokenizerBase::Marked {
  struct Stretch {
    size_t begin, end;
  };
  std::string_view text;
  std::vector<Stretch> special;  // ascending, with gaps between them
  std::vector<bool> withheld;    // (vocabulary_.added), or empty: none
};

absl::StatusOr<std::vector<TokenId>> TokenizerBase::Encode(std::string_view text,
                                                           const EncodeOptions& options) const {
  Marked marked{.text = text};
  if (options.parse_special) marked.special.push_back({0, text.size()});
  return EncodeMarked(marked, options.add_bos);
}

absl::StatusOr<std::vector<TokenId>> TokenizerBase::EncodePieces(std::span<const Piece> pieces,
                                                                 bool add_bos) const {
  std::string text;
  Marked marked;
  for (const Piece& piece : pieces) {
    const size_t begin = text.size();
    text += piece.text;
    if (!piece.parse_special || piece.text.empty()) continue;
    if (!marked.special.empty() && marked.special.back().end == begin) {
      marked.special.back().end = text.size();
    } else {
      marked.special.push_back({begin, text.size()});
    }
  }
  marked.text = text;
  marked.withheld.resize(vocabulary_.added.size());
  for (const auto& [begin, end] : marked.special) {
    const std::string_view stretch = std::string_view(text).substr(begin, end - begin);
    for (size_t position = 0; position < stretch.size(); ++position) {
      const std::optional<LiteralTrie::Match> match = always_.LongestAt(stretch, position);
      if (!match) continue;
      // White space marks nothing: many vocabularies have tokens for runs of it.
      marked.withheld[match->value] =
          SkipSpaceRight(vocabulary_.added[match->value].literal, 0) < match->length;
      position += match->length - 1;
    }
  }
  return EncodeMarked(marked, add_bos);
}

// `special_end`: where the stretch around `position` ends in which special tokens count; 0 outside of them.
std::optional<LiteralTrie::Match> TokenizerBase::MatchAt(const Marked& marked, size_t position,
                                                         size_t special_end) const {
  std::optional<LiteralTrie::Match> match = always_.LongestAt(marked.text, position);
  if (match && !marked.withheld.empty() && marked.withheld[match->value] &&
      position + match->length > special_end) {
    match.reset();
  }
  if (special_end == 0) return match;
  const auto inside = with_special_.LongestAt(marked.text.substr(0, special_end), position);
  return inside && (!match || inside->length >= match->length) ? inside : match;
}

absl::StatusOr<std::vector<TokenId>> TokenizerBase::EncodeMarked(const Marked& marked, bool add_bos) const {
  const std::string_view text = marked.text;
  if (static_cast<int64_t>(text.size()) > kMaxTextBytes) {
    return InvalidArgument("text of {} bytes, the limit is {}", text.size(), kMaxTextBytes);
  }
  std::vector<TokenId> ids;
  if (add_bos && vocabulary_.adds_bos) ids.push_back(*vocabulary_.bos);
  size_t fragment = 0;  // start of what has not been encoded yet
  auto encode_until = [&](size_t end) -> absl::Status {
    if (end == fragment) return absl::OkStatus();
    return EncodeFragment(text.substr(fragment, end - fragment), fragment == 0, ids);
  };
  auto stretch = marked.special.begin();
  for (size_t position = 0; position < text.size();) {
    while (stretch != marked.special.end() && stretch->end <= position) ++stretch;
    const bool is_inside = stretch != marked.special.end() && stretch->begin <= position;
    const std::optional<LiteralTrie::Match> match = MatchAt(marked, position, is_inside ? stretch->end : 0);
    if (!match) {
      ++position;
      continue;
    }
    const AddedToken& token = vocabulary_.added[match->value];
    TC_RETURN_IF_ERROR(encode_until(token.strip_left ? SkipSpaceLeft(text, fragment, position) : position));
    ids.push_back(token.id);
    position += match->length;
    if (token.strip_right) position = SkipSpaceRight(text, position);
    fragment = position;
  }
  TC_RETURN_IF_ERROR(encode_until(text.size()));
  return ids;
}

absl::Status UnspellableByte(char byte) {
  return InvalidArgument("byte 0x{:02x} of the text is spelt by no token of the vocabulary",
                         static_cast<uint8_t>(byte));
}

}  // namespace thermocline
