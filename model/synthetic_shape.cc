// Shapes by name and by numbers, and the checks of a synthetic model's options.
// SPDX-License-Identifier: Apache-2.0
#include "model/synthetic_shape.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>

#include <algorithm>
#include <vector>

#include "model/planted_frequencies.h"
#include "model/printable.h"
#include "model/quantize.h"
#include "model/synthetic_model.h"

namespace thermocline {
namespace {

struct NamedShape {
  std::string_view name;
  SyntheticShape shape;
};
constexpr NamedShape kShapes[] = {
    {"7b", {32, 4096, 11008, 32, 32, 32000}},  {"13b", {40, 5120, 13824, 40, 40, 32000}},
    {"30b", {60, 6656, 17920, 52, 52, 32000}}, {"70b", {80, 8192, 28672, 64, 8, 32000}},
    {"tiny", {3, 256, 768, 4, 2, 4096}},
};

struct Field {
  std::string_view name;
  int64_t SyntheticShape::*member;
};
constexpr Field kFields[] = {
    {"layers", &SyntheticShape::n_layers},     {"d_model", &SyntheticShape::d_model},
    {"d_ff", &SyntheticShape::d_ff},           {"heads", &SyntheticShape::n_heads},
    {"kv-heads", &SyntheticShape::n_kv_heads}, {"vocab", &SyntheticShape::n_vocab},
};

constexpr int64_t kBlock = 32;         // of the quantised types, and of the predictors' weights
constexpr int64_t kRankMultiple = 16;  // two hidden units each, in blocks of 32
constexpr int64_t kMostContext = 4096;

absl::Status CheckWithin(double value, double least, double most) {
  if (value >= least && value <= most) return absl::OkStatus();  // false for NaN
  return InvalidArgument("is {}, the limit is {} to {}", value, least, most);
}

int64_t RankOf(const SyntheticOptions& options) {
  return options.rank == 0 ? DefaultRank(options.shape) : options.rank;
}

}  // namespace

absl::StatusOr<SyntheticShape> ParseSyntheticShape(std::string_view text) {
  for (const NamedShape& named : kShapes) {
    if (text == named.name) return named.shape;
  }
  SyntheticShape shape;
  const std::vector<std::string> parts = absl::StrSplit(std::string(text), ',');
  for (const std::string& part : parts) {
    const size_t equals = part.find('=');
    const auto* field = std::find_if(std::begin(kFields), std::end(kFields), [&](const Field& known) {
      return part.substr(0, equals) == known.name;
    });
    if (equals == std::string::npos || field == std::end(kFields)) {
      return InvalidArgument(
          "'{}' is unknown; known are 7b, 13b, 30b, 70b, tiny, or layers=, d_model=, d_ff=, heads=, "
          "kv-heads= "
          "and vocab= with commas between",
          Printable(part));
    }
    int64_t& value = shape.*(field->member);
    if (value != 0) return InvalidArgument("{} is given twice", field->name);
    if (!absl::SimpleAtoi(part.substr(equals + 1), &value) || value < 1) {
      return InvalidArgument("{} is '{}', the limit is a whole number above 0", field->name,
                             Printable(part.substr(equals + 1)));
    }
  }
  for (const Field& field : kFields) {
    if (shape.*(field.member) == 0) return InvalidArgument("{} is missing", field.name);
  }
  return shape;
}

int64_t DefaultRank(const SyntheticShape& shape) {
  return std::clamp<int64_t>(shape.d_model / 32 / kRankMultiple * kRankMultiple, kRankMultiple, 128);
}

ModelConfig SyntheticConfig(const SyntheticShape& shape) {
  ModelConfig config;
  config.architecture = "llama";
  config.activation = Activation::kFatRelu;
  config.activation_threshold = kPlantedThreshold;
  config.n_layers = shape.n_layers;
  config.d_model = shape.d_model;
  config.d_ff = shape.d_ff;
  config.n_heads = shape.n_heads;
  config.n_kv_heads = shape.n_kv_heads;
  config.d_head = shape.n_heads > 0 ? shape.d_model / shape.n_heads : 0;
  config.n_vocab = shape.n_vocab;
  config.context_length = kMostContext;
  config.rope_dimensions = config.d_head;
  config.rope_pairing = RopePairing::kInterleaved;
  return config;
}

absl::Status CheckSyntheticShape(const SyntheticOptions& options) {
  const SyntheticShape& shape = options.shape;
  if (shape.n_heads > 0 && shape.d_model % shape.n_heads != 0) {
    return InvalidArgument("has {} heads, the limit is a divisor of d_model {}", shape.n_heads,
                           shape.d_model);
  }
  TC_RETURN_IF_ERROR(Validate(SyntheticConfig(shape), "synthetic model"));
  for (const auto& [name, value] : {std::pair("d_model", shape.d_model), std::pair("d_ff", shape.d_ff)}) {
    if (value % kBlock != 0) {
      return InvalidArgument("has {} {}, the limit is a multiple of {}, the block of {} and of predictors",
                             name, value, kBlock, NameOf(options.type));
    }
  }
  if (shape.n_vocab < kLeastSyntheticVocabulary || shape.n_vocab > kMostSyntheticVocabulary) {
    return InvalidArgument("has vocab {}, the limit is {} to {}", shape.n_vocab, kLeastSyntheticVocabulary,
                           kMostSyntheticVocabulary);
  }
  return absl::OkStatus();
}

absl::Status CheckSyntheticType(const SyntheticOptions& options) {
  if (CanQuantize(options.type)) return absl::OkStatus();
  return InvalidArgument("is {}, the limit is one of f32, f16, bf16, q8_0, q4_0", NameOf(options.type));
}

absl::Status CheckSyntheticSparsity(const SyntheticOptions& options) {
  return CheckWithin(options.sparsity, 0.05, 0.999);
}

absl::Status CheckSyntheticSkew(const SyntheticOptions& options) {
  return SpreadForShare(1 - options.sparsity, options.skew).status();
}

absl::Status CheckSyntheticPredictability(const SyntheticOptions& options) {
  return CheckWithin(options.predictability, 0.1, 0.999);
}

absl::Status CheckSyntheticRank(const SyntheticOptions& options) {
  const int64_t rank = RankOf(options), most = options.shape.d_model / 2;
  if (rank >= kRankMultiple && rank <= most && rank % kRankMultiple == 0) return absl::OkStatus();
  return InvalidArgument("is {}, the limit is a multiple of {} up to half of d_model, {}", rank,
                         kRankMultiple, most);
}

}  // namespace thermocline
