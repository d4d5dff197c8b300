// Reads the stages of a tokenizer.json into what the two algorithms can do.
// SPDX-License-Identifier: Apache-2.0
#include "model/tokenizer_json_pipeline.h"

#include "model/pre_tokenizer.h"
#include "model/printable.h"

namespace thermocline {
namespace {

using Json = nlohmann::json;
using DummyPrefix = SentencePieceOptions::DummyPrefix;

constexpr char kEscapedSpace[] = "\xE2\x96\x81";

const Json& Member(const Json& object, const char* name) {
  static const Json null;
  if (!object.is_object()) return null;
  const auto found = object.find(name);
  return found == object.end() ? null : *found;
}

bool IsText(const Json& value, std::string_view text) {
  return value.is_string() && value.get_ref<const std::string&>() == text;
}

// Whether the member is there and true; `otherwise` where it is not there.
bool Flag(const Json& object, const char* name, bool otherwise) {
  const Json& value = Member(object, name);
  return value.is_boolean() ? value.get<bool>() : otherwise;
}

absl::Status Unknown(const std::string& file, std::string_view stage, const Json& found) {
  const std::string type = StageType(found);
  return Unimplemented("{}: {} {} is not supported", file, stage,
                       type.empty() ? "without a type" : fmt::format("\"{}\"", Printable(type)));
}

absl::Status UnknownOption(const std::string& file, std::string_view stage, std::string_view option) {
  return Unimplemented("{}: {} with {} is not supported", file, stage, option);
}

// The stages of a Sequence under `name`, or the stage itself; none for null.
std::vector<const Json*> Stages(const Json& stage, const char* name) {
  if (stage.is_null()) return {};
  if (StageType(stage) != "Sequence") return {&stage};
  std::vector<const Json*> stages;
  const Json& list = Member(stage, name);
  if (!list.is_array()) return {&stage};  // refused by its type further on
  for (const Json& each : list) stages.push_back(&each);
  return stages;
}

struct Normalizers {
  bool nfc = false;
  bool prepends = false;
  bool escapes = false;
};

absl::StatusOr<Normalizers> ParseNormalizers(const Json& document, const std::string& file) {
  Normalizers result;
  for (const Json* stage : Stages(Member(document, "normalizer"), "normalizers")) {
    const std::string type = StageType(*stage);
    if (type == "NFC") {
      result.nfc = true;
    } else if (type == "Prepend" && IsText(Member(*stage, "prepend"), kEscapedSpace)) {
      result.prepends = true;
    } else if (type == "Replace" && IsText(Member(Member(*stage, "pattern"), "String"), " ") &&
               IsText(Member(*stage, "content"), kEscapedSpace)) {
      result.escapes = true;
    } else {
      return Unknown(file, "normalizer", *stage);
    }
  }
  return result;
}

absl::Status ParseByteLevel(const Json& stage, const std::string& file, TokenizerPipeline& pipeline) {
  if (Flag(stage, "add_prefix_space", true)) {
    return UnknownOption(file, "pre_tokenizer ByteLevel", "add_prefix_space");
  }
  pipeline.byte_level = true;
  if (Flag(stage, "use_regex", true)) pipeline.patterns.emplace_back(Gpt2Pattern());
  return absl::OkStatus();
}

absl::Status ParseSplit(const Json& stage, const std::string& file, TokenizerPipeline& pipeline) {
  const Json& pattern = Member(Member(stage, "pattern"), "Regex");
  if (!pattern.is_string()) return UnknownOption(file, "pre_tokenizer Split", "a pattern that is no Regex");
  if (!IsText(Member(stage, "behavior"), "Isolated")) {
    return UnknownOption(file, "pre_tokenizer Split", "a behavior other than Isolated");
  }
  if (Flag(stage, "invert", false)) return UnknownOption(file, "pre_tokenizer Split", "invert");
  pipeline.patterns.push_back(pattern.get<std::string>());
  return absl::OkStatus();
}

absl::Status ParseMetaspace(const Json& stage, const std::string& file, TokenizerPipeline& pipeline) {
  if (!IsText(Member(stage, "replacement"), kEscapedSpace)) {
    return UnknownOption(file, "pre_tokenizer Metaspace", "a replacement other than U+2581");
  }
  if (Flag(stage, "split", true)) return UnknownOption(file, "pre_tokenizer Metaspace", "split");
  const Json& scheme = Member(stage, "prepend_scheme");
  if (IsText(scheme, "first")) {
    pipeline.dummy_prefix = DummyPrefix::kTextStartUnlessSpace;
  } else if (IsText(scheme, "always") || (scheme.is_null() && Flag(stage, "add_prefix_space", true))) {
    pipeline.dummy_prefix = DummyPrefix::kEachFragmentUnlessSpace;
  } else if (IsText(scheme, "never") || scheme.is_null()) {
    pipeline.dummy_prefix = DummyPrefix::kNone;
  } else {
    return UnknownOption(file, "pre_tokenizer Metaspace", "an unknown prepend_scheme");
  }
  return absl::OkStatus();
}

absl::Status ParsePreTokenizers(const Json& document, const std::string& file, const Normalizers& normalizers,
                                TokenizerPipeline& pipeline) {
  const std::vector<const Json*> stages = Stages(Member(document, "pre_tokenizer"), "pretokenizers");
  bool metaspace = false;
  for (const Json* stage : stages) {
    if (pipeline.byte_level) return Unknown(file, "pre_tokenizer behind ByteLevel,", *stage);
    const std::string type = StageType(*stage);
    if (type == "ByteLevel") {
      TC_RETURN_IF_ERROR(ParseByteLevel(*stage, file, pipeline));
    } else if (type == "Split") {
      TC_RETURN_IF_ERROR(ParseSplit(*stage, file, pipeline));
    } else if (type == "Digits") {
      pipeline.patterns.emplace_back(Flag(*stage, "individual_digits", false) ? SingleDigitPattern()
                                                                              : DigitRunPattern());
    } else if (type == "Metaspace" && stages.size() == 1 && !normalizers.escapes) {
      TC_RETURN_IF_ERROR(ParseMetaspace(*stage, file, pipeline));
      metaspace = true;
    } else {
      return Unknown(file, "pre_tokenizer", *stage);
    }
  }
  if (pipeline.byte_level) {
    pipeline.nfc = normalizers.nfc;
    if (normalizers.prepends || normalizers.escapes) {
      return UnknownOption(file, "pre_tokenizer ByteLevel", "a Prepend or Replace normalizer");
    }
    return absl::OkStatus();
  }
  if (!pipeline.patterns.empty()) return Unknown(file, "pre_tokenizer without ByteLevel,", *stages.front());
  if (normalizers.nfc) return UnknownOption(file, "SentencePiece-like BPE", "normalizer NFC");
  if (!metaspace && !normalizers.escapes) {
    return Unimplemented("{}: neither a ByteLevel pre_tokenizer nor spaces replaced by U+2581", file);
  }
  if (normalizers.prepends) {
    if (metaspace) return UnknownOption(file, "pre_tokenizer Metaspace", "a Prepend normalizer");
    pipeline.dummy_prefix = DummyPrefix::kEachFragment;
  }
  return absl::OkStatus();
}

// Only "BOS text" and "text" are known: whatever else a template adds would be lost.
absl::Status ParseTemplate(const Json& stage, const std::string& file, TokenizerPipeline& pipeline) {
  const Json& single = Member(stage, "single");
  if (!single.is_array() || single.empty() || single.size() > 2 ||
      !Member(single.back(), "Sequence").is_object()) {
    return UnknownOption(file, "post_processor TemplateProcessing", "more than one token before the text");
  }
  if (single.size() == 1) return absl::OkStatus();
  const Json& name = Member(Member(single.front(), "SpecialToken"), "id");
  if (!name.is_string()) {
    return UnknownOption(file, "post_processor TemplateProcessing", "two sequences");
  }
  const Json& ids =
      Member(Member(Member(stage, "special_tokens"), name.get_ref<const std::string&>().c_str()), "ids");
  if (!ids.is_array() || ids.size() != 1 || !ids[0].is_number_integer()) {
    return InvalidArgument("{}: post_processor TemplateProcessing gives no single id for \"{}\"", file,
                           Printable(name.get_ref<const std::string&>()));
  }
  const auto id = ids[0].get<int64_t>();
  if (id < 0 || id >= kMaxVocabularySize) {
    return InvalidArgument("{}: post_processor TemplateProcessing names id {}", file, id);
  }
  pipeline.leading_token = static_cast<TokenId>(id);
  return absl::OkStatus();
}

absl::Status ParsePostProcessors(const Json& document, const std::string& file, TokenizerPipeline& pipeline) {
  for (const Json* stage : Stages(Member(document, "post_processor"), "processors")) {
    const std::string type = StageType(*stage);
    if (type == "ByteLevel") continue;  // only concerns offsets
    if (type != "TemplateProcessing") return Unknown(file, "post_processor", *stage);
    TC_RETURN_IF_ERROR(ParseTemplate(*stage, file, pipeline));
  }
  return absl::OkStatus();
}

// Decoding follows from the algorithm, so that a decoder only has to be one of those that go with it.
absl::Status CheckDecoders(const Json& document, const std::string& file, bool byte_level) {
  for (const Json* stage : Stages(Member(document, "decoder"), "decoders")) {
    const std::string type = StageType(*stage);
    const bool known = byte_level ? type == "ByteLevel"
                                  : type == "Replace" || type == "ByteFallback" || type == "Fuse" ||
                                        type == "Strip" || type == "Metaspace";
    if (!known) return Unknown(file, "decoder", *stage);
  }
  return absl::OkStatus();
}

}  // namespace

std::string StageType(const Json& stage) {
  const Json& type = Member(stage, "type");
  return type.is_string() ? type.get<std::string>() : "";
}

absl::StatusOr<TokenizerPipeline> ParseTokenizerPipeline(const Json& document, const std::string& file) {
  TokenizerPipeline pipeline;
  TC_ASSIGN_OR_RETURN(const Normalizers normalizers, ParseNormalizers(document, file));
  TC_RETURN_IF_ERROR(ParsePreTokenizers(document, file, normalizers, pipeline));
  TC_RETURN_IF_ERROR(ParsePostProcessors(document, file, pipeline));
  TC_RETURN_IF_ERROR(CheckDecoders(document, file, pipeline.byte_level));
  return pipeline;
}

}  // namespace thermocline
