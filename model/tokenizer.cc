// Tokenizer::Decode and IncrementalDecoder.
// SPDX-License-Identifier: Apache-2.0
#include "model/tokenizer.h"

#include <unicode/utf8.h>

namespace thermocline {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// Moves what is complete from the front of `pending` to the result: whole code points as they are, and one
// U+FFFD for each maximal piece of an ill-formed sequence. What may yet become a code point stays.
std::string TakeComplete(std::string& pending) {
  const auto* data = reinterpret_cast<const uint8_t*>(pending.data());
  const auto size = static_cast<int64_t>(pending.size());
  std::string text;
  int64_t position = 0;
  while (position < size) {
    int64_t next = position;
    UChar32 c;
    U8_NEXT(data, next, size, c);
    if (c >= 0) {
      text.append(pending, position, next - position);
    } else if (next == size && U8_COUNT_TRAIL_BYTES(data[position]) > next - position - 1) {
      break;  // a lead byte whose trail bytes are still to come
    } else {
      text.append(kReplacement);
    }
    position = next;
  }
  pending.erase(0, position);
  return text;
}

}  // namespace

absl::StatusOr<std::string> Tokenizer::Decode(std::span<const TokenId> ids) const {
  std::string text;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= vocabulary_size()) {
      return InvalidArgument("token {} is {}, which is not in [0, {})", i, ids[i], vocabulary_size());
    }
    text.append(TokenBytes(ids[i]));
  }
  if (strips_leading_space() && text.starts_with(' ')) text.erase(0, 1);
  return text;
}

IncrementalDecoder::IncrementalDecoder(const Tokenizer& tokenizer, bool at_start)
    : tokenizer_(tokenizer), strip_leading_space_(at_start && tokenizer.strips_leading_space()) {}

std::string IncrementalDecoder::Push(TokenId id) {
  if (id < 0 || id >= tokenizer_.vocabulary_size()) return "";
  std::string_view bytes = tokenizer_.TokenBytes(id);
  if (bytes.empty()) return "";
  if (strip_leading_space_ && bytes.front() == ' ') bytes.remove_prefix(1);
  strip_leading_space_ = false;
  pending_.append(bytes);
  return TakeComplete(pending_);
}

std::string IncrementalDecoder::Flush() {
  std::string text = TakeComplete(pending_);
  if (!pending_.empty()) text.append(kReplacement);  // what is left is the front of one code point
  pending_.clear();
  return text;
}

}  // namespace thermocline
