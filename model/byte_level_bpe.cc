// Byte-level BPE: the byte alphabet, composition, merging of pieces.
// SPDX-License-Identifier: Apache-2.0
#include "model/byte_level_bpe.h"

#include <absl/container/flat_hash_map.h>
#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/utf8.h>

#include <array>
#include <optional>

#include "model/pre_tokenizer.h"
#include "model/tokenizer_base.h"

namespace thermocline {
namespace {

// Most combining marks in a row that are put into canonical order together. Unicode's stream-safe format
// allows 30; sorting without a bound would take quadratic time on a hostile text.
constexpr int kMaxCombiningRun = 256;

// GPT-2's alphabet: printable Latin-1 characters stand for themselves, the other bytes, in order, for U+0100
// and what follows.
const std::array<UChar32, 256>& ByteAlphabet() {
  static const std::array<UChar32, 256> alphabet = [] {
    std::array<UChar32, 256> characters{};
    UChar32 next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
      characters[byte] = printable ? byte : next++;
    }
    return characters;
  }();
  return alphabet;
}

// The bytes a token spells; the text itself where it uses a character outside the alphabet.
std::string BytesOf(const std::string& text) {
  static const absl::flat_hash_map<UChar32, uint8_t> bytes_of = [] {
    absl::flat_hash_map<UChar32, uint8_t> bytes;
    for (int byte = 0; byte < 256; ++byte) bytes[ByteAlphabet()[byte]] = static_cast<uint8_t>(byte);
    return bytes;
  }();
  std::string bytes;
  const auto size = static_cast<int32_t>(text.size());
  for (int32_t position = 0; position < size;) {
    UChar32 c;
    U8_NEXT(reinterpret_cast<const uint8_t*>(text.data()), position, size, c);
    const auto found = bytes_of.find(c);
    if (found == bytes_of.end()) return text;
    bytes.push_back(static_cast<char>(found->second));
  }
  return bytes;
}

// `text` composed, or as it is where it is not UTF-8.
absl::StatusOr<std::string> Compose(std::string_view text) {
  UErrorCode error = U_ZERO_ERROR;
  const icu::Normalizer2* nfc = icu::Normalizer2::getNFCInstance(error);
  if (U_FAILURE(error)) return Internal("ICU has no NFC data: {}", u_errorName(error));
  const auto* data = reinterpret_cast<const uint8_t*>(text.data());
  const auto size = static_cast<int32_t>(text.size());
  std::string composed;
  icu::StringByteSink<std::string> sink(&composed, size);
  int32_t begin = 0;
  int run = 0;
  auto compose_until = [&](int32_t end) {
    nfc->normalizeUTF8(0, icu::StringPiece(text.data() + begin, end - begin), sink, nullptr, error);
    begin = end;
  };
  for (int32_t position = 0; position < size;) {
    UChar32 c;
    U8_NEXT(data, position, size, c);
    if (c < 0) return std::string(text);
    run = u_getCombiningClass(c) == 0 ? 0 : run + 1;
    if (run % kMaxCombiningRun == kMaxCombiningRun - 1) compose_until(position);
  }
  compose_until(size);
  if (U_FAILURE(error)) return Internal("ICU cannot compose the text: {}", u_errorName(error));
  return composed;
}

class ByteLevelBpe final : public TokenizerBase {
 public:
  ByteLevelBpe(Vocabulary checked, std::vector<std::string> token_bytes, PreTokenizer pre_tokenizer,
               MergeTable merges, bool nfc, bool ignore_merges)
      : TokenizerBase(std::move(checked), std::move(token_bytes)),
        pre_tokenizer_(std::move(pre_tokenizer)),
        merges_(std::move(merges)),
        nfc_(nfc),
        ignore_merges_(ignore_merges) {
    byte_tokens_.fill(kNoToken);
    for (size_t id = 0; id < bytes().size(); ++id) {
      if (vocabulary().types[id] != TokenType::kNormal) continue;
      const auto [place, inserted] = ids_.try_emplace(bytes()[id], static_cast<TokenId>(id));
      if (inserted && place->first.size() == 1) {
        byte_tokens_[static_cast<uint8_t>(place->first.front())] = static_cast<TokenId>(id);
      }
    }
  }

  bool strips_leading_space() const override { return false; }
  std::string_view kind() const override { return "byte-level-bpe"; }

 private:
  absl::Status EncodeFragment(std::string_view fragment, bool /*at_start*/,
                              std::vector<TokenId>& ids) const override {
    std::string composed;
    if (nfc_) {
      TC_ASSIGN_OR_RETURN(composed, Compose(fragment));
      fragment = composed;
    }
    TC_ASSIGN_OR_RETURN(const std::vector<std::string_view> pieces, pre_tokenizer_.Split(fragment));
    std::vector<Symbol> symbols;
    for (std::string_view piece : pieces) {
      if (ignore_merges_) {
        if (const auto whole = ids_.find(piece); whole != ids_.end()) {
          ids.push_back(whole->second);
          continue;
        }
      }
      symbols.clear();
      for (size_t i = 0; i < piece.size(); ++i) {
        const TokenId id = byte_tokens_[static_cast<uint8_t>(piece[i])];
        if (id == kNoToken) return UnspellableByte(piece[i]);
        AppendSymbol(symbols, static_cast<uint32_t>(i), 1, id);
      }
      MergeSymbols(symbols, [&](const Symbol& a, const Symbol& b) { return merges_.Find(a.id, b.id); });
      for (int32_t i = 0; i != kNoSymbol; i = symbols[i].next) ids.push_back(symbols[i].id);
    }
    return absl::OkStatus();
  }

  PreTokenizer pre_tokenizer_;
  MergeTable merges_;
  bool nfc_;
  bool ignore_merges_;
  absl::flat_hash_map<std::string_view, TokenId> ids_;  // keys borrow from bytes()
  std::array<TokenId, 256> byte_tokens_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> CreateByteLevelBpe(Vocabulary vocabulary,
                                                              const ByteLevelOptions& options) {
  TC_RETURN_IF_ERROR(vocabulary.Check());
  std::vector<std::string> bytes(vocabulary.texts.size());
  for (size_t id = 0; id < bytes.size(); ++id) {
    switch (vocabulary.types[id]) {
      case TokenType::kNormal:
        bytes[id] = BytesOf(vocabulary.texts[id]);
        break;
      case TokenType::kUserDefined:
        bytes[id] = vocabulary.texts[id];
        break;
      case TokenType::kByte:
        return InvalidArgument("{}: token {} is a byte token, which byte-level BPE does not have",
                               vocabulary.source, id);
      case TokenType::kUnknown:
      case TokenType::kControl:
      case TokenType::kUnused:
        break;
    }
  }
  TC_ASSIGN_OR_RETURN(MergeTable merges, MergeTable::Create(options.merges, vocabulary));
  absl::StatusOr<PreTokenizer> pre_tokenizer = PreTokenizer::Create(options.patterns);
  if (!pre_tokenizer.ok()) {
    return InvalidArgument("{}: {}", vocabulary.source, std::string(pre_tokenizer.status().message()));
  }
  return std::make_unique<ByteLevelBpe>(std::move(vocabulary), std::move(bytes), *std::move(pre_tokenizer),
                                        std::move(merges), options.nfc, options.ignore_merges);
}

}  // namespace thermocline
