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

absl::StatusOr<std::vector<TokenId>> TokenizerBase::Encode(std::string_view text,
                                                           const EncodeOptions& options) const {
  if (static_cast<int64_t>(text.size()) > kMaxTextBytes) {
    return InvalidArgument("text of {} bytes, the limit is {}", text.size(), kMaxTextBytes);
  }
  std::vector<TokenId> ids;
  if (options.add_bos && vocabulary_.adds_bos) ids.push_back(*vocabulary_.bos);
  const LiteralTrie& literals = options.parse_special ? with_special_ : always_;
  size_t fragment = 0;  // start of what has not been encoded yet
  auto encode_until = [&](size_t end) -> absl::Status {
    if (end == fragment) return absl::OkStatus();
    return EncodeFragment(text.substr(fragment, end - fragment), fragment == 0, ids);
  };
  for (size_t position = 0; !literals.empty() && position < text.size();) {
    const std::optional<LiteralTrie::Match> match = literals.LongestAt(text, position);
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
