// Pieces and lines of a corpus, encoded and cut into windows.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/corpus.h"

#include <unicode/utf8.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <utility>

#include "model/printable.h"
#include "model/strict_json.h"

namespace thermocline {
namespace {

constexpr size_t kPieceBytes = 64 * 1024;
constexpr int64_t kMostLineBytes = int64_t{64} << 20;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

bool IsSpace(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }
bool IsContinuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

// Bytes of the first piece of `text`: all of it, or up to a place that tokens seldom cross.
size_t PieceLength(std::string_view text) {
  if (text.size() <= kPieceBytes) return text.size();
  for (size_t cut = kPieceBytes; cut > kPieceBytes / 2; --cut) {
    if (text[cut - 1] == '\n' && !IsSpace(text[cut])) return cut;
  }
  for (size_t cut = kPieceBytes; cut > kPieceBytes / 2; --cut) {
    if (text[cut] == ' ' && text[cut - 1] != ' ') return cut;
  }
  size_t cut = kPieceBytes;
  while (cut > kPieceBytes - 3 && IsContinuation(text[cut])) --cut;
  return cut;
}

}  // namespace

Corpus::Corpus(MappedFile file, const Tokenizer& tokenizer, int64_t text_tokens)
    : file_(std::move(file)),
      tokenizer_(tokenizer),
      text_tokens_(static_cast<size_t>(text_tokens)),
      is_jsonl_(file_.path().ends_with(".jsonl")) {}

absl::StatusOr<std::unique_ptr<Corpus>> Corpus::Open(const std::string& path, const Tokenizer& tokenizer,
                                                     int64_t text_tokens, const CorpusPosition& from) {
  TC_CHECK(text_tokens >= 1);
  TC_ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
  std::unique_ptr<Corpus> corpus(new Corpus(std::move(file), tokenizer, text_tokens));
  const std::string name = std::filesystem::path(path).filename().string();
  const auto size = static_cast<int64_t>(corpus->bytes().size());
  if (!from.file.empty() && (from.file != name || from.size_bytes != size)) {
    return FailedPrecondition("{}: the corpus to go on with is '{}' of {} bytes, this one has {} bytes", path,
                              Printable(from.file), from.size_bytes, size);
  }
  if (!from.file.empty()) corpus->position_ = from;
  corpus->position_.file = name;
  corpus->position_.size_bytes = size;
  TC_RETURN_IF_ERROR(corpus->LoadPiece(corpus->position_.consumed_bytes));
  const CorpusPosition& position = corpus->position_;
  if (position.consumed_tokens > static_cast<int64_t>(corpus->piece_.tokens.size())) {
    return FailedPrecondition(
        "{}: {} tokens are to be skipped at byte {}, found are {}: the corpus was changed", path,
        position.consumed_tokens, position.consumed_bytes, corpus->piece_.tokens.size());
  }
  corpus->next_token_ = static_cast<size_t>(position.consumed_tokens);
  return corpus;
}

absl::StatusOr<std::span<const TokenId>> Corpus::NextWindow() {
  window_.clear();
  while (window_.size() < text_tokens_) {
    if (next_token_ == piece_.tokens.size()) {
      const bool document_ends = is_jsonl_ || piece_.end == position_.size_bytes;
      if (document_ends && !window_.empty()) break;
      if (piece_.end == position_.size_bytes) break;
      TC_RETURN_IF_ERROR(LoadPiece(piece_.end));
      continue;
    }
    const size_t count = std::min(text_tokens_ - window_.size(), piece_.tokens.size() - next_token_);
    const auto first = piece_.tokens.begin() + static_cast<ptrdiff_t>(next_token_);
    window_.insert(window_.end(), first, first + static_cast<ptrdiff_t>(count));
    next_token_ += count;
  }
  const bool used_up = next_token_ == piece_.tokens.size();
  position_.consumed_bytes = used_up ? piece_.end : piece_.begin;
  position_.consumed_tokens = used_up ? 0 : static_cast<int64_t>(next_token_);
  if (!window_.empty()) ++position_.windows;
  return window_;
}

int64_t Corpus::read_bytes() const {
  if (position_.consumed_tokens == 0) return position_.consumed_bytes;
  const double share = static_cast<double>(next_token_) / static_cast<double>(piece_.tokens.size());
  return piece_.begin + static_cast<int64_t>(share * static_cast<double>(piece_.end - piece_.begin));
}

std::string_view Corpus::bytes() const {
  return {reinterpret_cast<const char*>(file_.bytes().data()), file_.bytes().size()};
}

// Replaces the piece by the one that starts at `begin`.
absl::Status Corpus::LoadPiece(int64_t begin) {
  if (begin == 0 && bytes().starts_with(kByteOrderMark)) begin = static_cast<int64_t>(kByteOrderMark.size());
  piece_ = {.begin = begin, .end = begin};
  next_token_ = 0;
  return is_jsonl_ ? EncodeLine(begin) : EncodeTextPiece(begin);
}

absl::Status Corpus::EncodeTextPiece(int64_t begin) {
  const std::string_view rest = bytes().substr(static_cast<size_t>(begin));
  const std::string_view text = rest.substr(0, PieceLength(rest));
  const int64_t end = begin + static_cast<int64_t>(text.size());
  TC_RETURN_IF_ERROR(CheckUtf8(begin, end));
  if (const absl::Status status = AppendTokens(text); !status.ok()) {
    return InvalidArgument("{}: the text from byte {}: {}", file_.path(), begin, MessageOf(status));
  }
  piece_.end = end;
  return absl::OkStatus();
}

absl::Status Corpus::EncodeLine(int64_t begin) {
  const std::string_view rest = bytes().substr(static_cast<size_t>(begin));
  const size_t length = std::min(rest.find('\n'), rest.size());
  const std::string_view line = rest.substr(0, length);
  const int64_t end = begin + static_cast<int64_t>(std::min(length + 1, rest.size()));
  if (static_cast<int64_t>(length) > kMostLineBytes) {
    return InvalidArgument("{}: {} bytes, the limit is {}", LineName(begin), length, kMostLineBytes);
  }
  TC_RETURN_IF_ERROR(CheckUtf8(begin, begin + static_cast<int64_t>(length)));
  if (!std::ranges::all_of(line, IsSpace)) {
    auto document = ParseStrictJson(line, file_.path());
    if (!document.ok()) {  // says the file's name itself, and here the line's is due
      return ParseStrictJson(line, LineName(begin)).status();
    }
    const auto field = document->find("text");
    if (field == document->end()) return InvalidArgument("{}: the field 'text' is missing", LineName(begin));
    if (!field->is_string()) {
      return InvalidArgument("{}: the field 'text' must be a string, found {}", LineName(begin),
                             field->type_name());
    }
    std::string_view text = field->get_ref<const std::string&>();
    while (!text.empty()) {
      const size_t count = PieceLength(text);
      if (const absl::Status status = AppendTokens(text.substr(0, count)); !status.ok()) {
        return InvalidArgument("{}: {}", LineName(begin), MessageOf(status));
      }
      text.remove_prefix(count);
    }
  }
  piece_.end = end;
  return absl::OkStatus();
}

absl::Status Corpus::AppendTokens(std::string_view text) {
  TC_ASSIGN_OR_RETURN(const std::vector<TokenId> tokens, tokenizer_.Encode(text, {.add_bos = false}));
  piece_.tokens.insert(piece_.tokens.end(), tokens.begin(), tokens.end());
  return absl::OkStatus();
}

// A byte 0 is valid UTF-8 but no text: it is what UTF-16 and UTF-32 make of Latin letters.
absl::Status Corpus::CheckUtf8(int64_t begin, int64_t end) const {
  const auto* data = reinterpret_cast<const uint8_t*>(bytes().data());
  for (int64_t position = begin; position < end;) {
    const int64_t start = position;
    UChar32 c;
    U8_NEXT(data, position, end, c);
    if (c > 0) continue;
    return InvalidArgument("{}: byte 0x{:02x} at offset {} is not text in UTF-8", file_.path(), data[start],
                           start);
  }
  return absl::OkStatus();
}

// Counted only when an error needs it.
std::string Corpus::LineName(int64_t begin) const {
  const auto newlines = std::ranges::count(bytes().substr(0, static_cast<size_t>(begin)), '\n');
  return fmt::format("{}: line {}", file_.path(), newlines + 1);
}

}  // namespace thermocline
