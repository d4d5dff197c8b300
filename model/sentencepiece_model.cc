// Reader of tokenizer.model: a checked walk over the protobuf wire format.
// SPDX-License-Identifier: Apache-2.0
//
// The file is a protobuf message of which a dozen fields matter. Walking the wire format takes less code than
// a generated message would add to the build, keeps protobuf out of this room, which is built on bare
// machines, and reads the pieces without a second copy of the file in memory.
#include "model/sentencepiece_model.h"

#include <absl/container/flat_hash_set.h>

#include <bit>
#include <cstring>
#include <optional>

#include "model/printable.h"

namespace thermocline {
namespace {

// Field numbers of sentencepiece_model.proto.
enum ModelField : uint32_t { kPieces = 1, kTrainerSpec = 2, kNormalizerSpec = 3, kDenormalizerSpec = 5 };
enum PieceField : uint32_t { kPieceText = 1, kPieceScore = 2, kPieceType = 3 };
enum TrainerField : uint32_t {
  kModelType = 3,
  kWhitespaceAsSuffix = 24,
  kByteFallback = 35,
  kBosPiece = 46,
  kEosPiece = 47,
};
enum NormalizerField : uint32_t {
  kPrecompiledCharsmap = 2,
  kAddDummyPrefix = 3,
  kRemoveExtraWhitespaces = 4,
  kEscapeWhitespaces = 5,
};
constexpr uint64_t kBpe = 2;

struct Field {
  uint32_t number = 0;
  uint32_t wire_type = 0;
  uint64_t integer = 0;    // varint and fixed
  std::string_view bytes;  // length-delimited
};

// Hands out the fields of one message; nullopt at its end.
class WireReader {
 public:
  WireReader(std::string_view bytes, const std::string& file) : rest_(bytes), file_(file) {}

  absl::StatusOr<std::optional<Field>> Next() {
    if (rest_.empty()) return std::nullopt;
    TC_ASSIGN_OR_RETURN(const uint64_t tag, Varint());
    Field field{static_cast<uint32_t>(tag >> 3), static_cast<uint32_t>(tag & 7), 0, {}};
    if (tag >> 32 != 0 || field.number == 0) return InvalidArgument("{}: not a sentencepiece model", file_);
    switch (field.wire_type) {
      case 0: {
        TC_ASSIGN_OR_RETURN(field.integer, Varint());
        break;
      }
      case 1: {
        TC_ASSIGN_OR_RETURN(field.bytes, Take(8));
        std::memcpy(&field.integer, field.bytes.data(), 8);
        break;
      }
      case 2: {
        TC_ASSIGN_OR_RETURN(const uint64_t length, Varint());
        TC_ASSIGN_OR_RETURN(field.bytes, Take(length));
        break;
      }
      case 5: {
        TC_ASSIGN_OR_RETURN(field.bytes, Take(4));
        std::memcpy(&field.integer, field.bytes.data(), 4);
        break;
      }
      default:
        return InvalidArgument("{}: not a sentencepiece model (wire type {})", file_, field.wire_type);
    }
    return field;
  }

  // InvalidArgument unless the field was written with this wire type.
  absl::Status Expect(const Field& field, uint32_t wire_type, std::string_view name) const {
    if (field.wire_type == wire_type) return absl::OkStatus();
    return InvalidArgument("{}: {} has wire type {}, not {}", file_, name, field.wire_type, wire_type);
  }

 private:
  absl::StatusOr<uint64_t> Varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (rest_.empty()) return InvalidArgument("{}: ends within a number", file_);
      const auto byte = static_cast<uint8_t>(rest_.front());
      rest_.remove_prefix(1);
      value |= uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return value;
    }
    return InvalidArgument("{}: a number of more than 64 bits", file_);
  }

  absl::StatusOr<std::string_view> Take(uint64_t length) {
    if (length > rest_.size()) {
      return InvalidArgument("{}: a field of {} bytes where {} remain", file_, length, rest_.size());
    }
    const std::string_view taken = rest_.substr(0, length);
    rest_.remove_prefix(length);
    return taken;
  }

  std::string_view rest_;
  const std::string& file_;
};

absl::Status ParsePiece(std::string_view bytes, SentencePieceModel& model) {
  const std::string& file = model.vocabulary.source;
  const auto index = static_cast<int64_t>(model.vocabulary.texts.size());
  if (index >= kMaxVocabularySize) {
    return InvalidArgument("{}: more than {} pieces, the limit", file, kMaxVocabularySize);
  }
  std::string_view text;
  float score = 0;
  TokenType type = TokenType::kNormal;
  WireReader reader(bytes, file);
  while (true) {
    TC_ASSIGN_OR_RETURN(const std::optional<Field> field, reader.Next());
    if (!field) break;
    if (field->number == kPieceText) {
      TC_RETURN_IF_ERROR(reader.Expect(*field, 2, "piece"));
      text = field->bytes;
    } else if (field->number == kPieceScore) {
      TC_RETURN_IF_ERROR(reader.Expect(*field, 5, "score"));
      score = std::bit_cast<float>(static_cast<uint32_t>(field->integer));
    } else if (field->number == kPieceType) {
      TC_RETURN_IF_ERROR(reader.Expect(*field, 0, "type"));
      TC_ASSIGN_OR_RETURN(type, TokenTypeFromNumber(static_cast<int64_t>(field->integer), file, index));
    }
  }
  if (text.empty()) return InvalidArgument("{}: piece {} is empty", file, index);
  model.vocabulary.texts.emplace_back(text);
  model.vocabulary.types.push_back(type);
  model.options.scores.push_back(score);
  return absl::OkStatus();
}

struct Trainer {
  uint64_t model_type = 1;  // Unigram is the format's default
  bool byte_fallback = false;
  std::string_view bos = "<s>";
  std::string_view eos = "</s>";
};

absl::Status ParseTrainer(std::string_view bytes, const std::string& file, Trainer& trainer) {
  WireReader reader(bytes, file);
  while (true) {
    TC_ASSIGN_OR_RETURN(const std::optional<Field> field, reader.Next());
    if (!field) return absl::OkStatus();
    switch (field->number) {
      case kModelType:
        TC_RETURN_IF_ERROR(reader.Expect(*field, 0, "model_type"));
        trainer.model_type = field->integer;
        break;
      case kWhitespaceAsSuffix:
        if (field->integer != 0) return Unimplemented("{}: treat_whitespace_as_suffix", file);
        break;
      case kByteFallback:
        trainer.byte_fallback = field->integer != 0;
        break;
      case kBosPiece:
        trainer.bos = field->bytes;
        break;
      case kEosPiece:
        trainer.eos = field->bytes;
        break;
      default:
        break;
    }
  }
}

absl::Status ParseNormalizer(std::string_view bytes, const std::string& file, SentencePieceOptions& options) {
  WireReader reader(bytes, file);
  while (true) {
    TC_ASSIGN_OR_RETURN(const std::optional<Field> field, reader.Next());
    if (!field) return absl::OkStatus();
    switch (field->number) {
      case kPrecompiledCharsmap:
        if (!field->bytes.empty()) {
          return Unimplemented("{}: a precompiled_charsmap (such as nmt_nfkc); only identity is known", file);
        }
        break;
      case kAddDummyPrefix:
        options.dummy_prefix = field->integer != 0 ? SentencePieceOptions::DummyPrefix::kEachFragment
                                                   : SentencePieceOptions::DummyPrefix::kNone;
        break;
      case kRemoveExtraWhitespaces:
        options.remove_extra_whitespaces = field->integer != 0;
        break;
      case kEscapeWhitespaces:
        if (field->integer == 0) return Unimplemented("{}: escape_whitespaces false", file);
        break;
      default:
        break;
    }
  }
}

absl::Status CheckModelType(uint64_t type, const std::string& file) {
  if (type == kBpe) return absl::OkStatus();
  constexpr std::string_view kNames[] = {"0", "Unigram", "BPE", "word", "char"};
  return Unimplemented("{}: a sentencepiece model of type {}; only BPE is known", file,
                       type < std::size(kNames) ? std::string(kNames[type]) : std::to_string(type));
}

// Ids of BOS and EOS, the literals of control tokens, and that sentencepiece would have accepted the pieces.
absl::Status FinishVocabulary(const Trainer& trainer, Vocabulary& vocabulary) {
  absl::flat_hash_set<std::string_view> seen;
  bool has_byte[256] = {};
  for (size_t i = 0; i < vocabulary.texts.size(); ++i) {
    const std::string& text = vocabulary.texts[i];
    const auto id = static_cast<TokenId>(i);
    if (!seen.insert(text).second) {
      return InvalidArgument("{}: piece \"{}\" is there twice", vocabulary.source, Printable(text));
    }
    const TokenType type = vocabulary.types[i];
    if (type == TokenType::kControl || type == TokenType::kUnknown) {
      vocabulary.added.push_back({id, text, /*special=*/true});
    }
    if (type == TokenType::kControl) {
      if (text == trainer.bos) vocabulary.bos = id;
      if (text == trainer.eos) vocabulary.AddEndToken(id);
    } else if (type == TokenType::kByte) {
      if (const std::optional<uint8_t> byte = ByteTokenValue(text)) has_byte[*byte] = true;
    }
  }
  for (int byte = 0; trainer.byte_fallback && byte < 256; ++byte) {
    if (!has_byte[byte]) return InvalidArgument("{}: no piece <0x{:02X}>", vocabulary.source, byte);
  }
  vocabulary.adds_bos = vocabulary.bos.has_value();
  vocabulary.AddEndTokensBySpelling();
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SentencePieceModel> ParseSentencePieceModel(std::string_view bytes, const std::string& file) {
  SentencePieceModel model;
  model.vocabulary.source = file;
  model.options.remove_extra_whitespaces = true;  // the format's default, as is the dummy prefix
  Trainer trainer;
  WireReader reader(bytes, file);
  while (true) {
    TC_ASSIGN_OR_RETURN(const std::optional<Field> field, reader.Next());
    if (!field) break;
    switch (field->number) {
      case kPieces:
        TC_RETURN_IF_ERROR(reader.Expect(*field, 2, "pieces"));
        TC_RETURN_IF_ERROR(ParsePiece(field->bytes, model));
        break;
      case kTrainerSpec:
        TC_RETURN_IF_ERROR(reader.Expect(*field, 2, "trainer_spec"));
        TC_RETURN_IF_ERROR(ParseTrainer(field->bytes, file, trainer));
        break;
      case kNormalizerSpec:
        TC_RETURN_IF_ERROR(reader.Expect(*field, 2, "normalizer_spec"));
        TC_RETURN_IF_ERROR(ParseNormalizer(field->bytes, file, model.options));
        break;
      case kDenormalizerSpec: {
        TC_RETURN_IF_ERROR(reader.Expect(*field, 2, "denormalizer_spec"));
        SentencePieceOptions unused;
        TC_RETURN_IF_ERROR(ParseNormalizer(field->bytes, file, unused));
        break;
      }
      default:
        break;
    }
  }
  TC_RETURN_IF_ERROR(CheckModelType(trainer.model_type, file));
  TC_RETURN_IF_ERROR(FinishVocabulary(trainer, model.vocabulary));
  return model;
}

}  // namespace thermocline
