// Plans of conversions: names of both sides from the table of architectures, types by rule.
// SPDX-License-Identifier: Apache-2.0
#include "model/conversion_plan.h"

#include <absl/container/flat_hash_map.h>
#include <absl/strings/match.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

#include "model/printable.h"

namespace thermocline {
namespace {

struct NamedType {
  std::string_view name;
  ElementType type;
  uint32_t file_type;  // of llama.cpp
};
constexpr NamedType kTypes[] = {
    {"f32", ElementType::kF32, 0},    {"f16", ElementType::kF16, 1},   {"bf16", ElementType::kBF16, 32},
    {"q8_0", ElementType::kQ8_0, 7},  {"q4_0", ElementType::kQ4_0, 2}, {"q4_k", ElementType::kQ4_K, 14},
    {"q6_k", ElementType::kQ6_K, 18},
};

// Of the frequencies of llama3's scaling (docs of RopeScaling): 1 for short wavelengths, the factor for long
// ones, a blend of the frequencies between.
std::vector<float> Llama3Divisors(const ModelConfig& config) {
  const RopeScaling& scaling = config.rope_scaling;
  const auto original = static_cast<double>(scaling.original_context_length);
  std::vector<float> divisors;
  for (int64_t i = 0; i < config.rope_dimensions / 2; ++i) {
    const double exponent = 2.0 * static_cast<double>(i) / static_cast<double>(config.rope_dimensions);
    const double turns = original / (2 * std::numbers::pi * std::pow(config.rope_theta, exponent));
    const double share =
        (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor);
    const double blend = std::clamp(share, 0.0, 1.0);
    divisors.push_back(static_cast<float>(1 / ((1 - blend) / scaling.factor + blend)));
  }
  return divisors;
}

// What is to be done with the tensors that are more than copied.
class Roles {
 public:
  Roles(const ModelConfig& source, const ModelConfig& target, const TensorNames& names) {
    embeddings_ = {names.token_embedding, names.head};
    positions_ = names.positions;
    const bool interleave =
        source.rope_pairing == RopePairing::kHalf && target.rope_pairing == RopePairing::kInterleaved;
    if (!interleave) return;
    for (int64_t l = 0; l < target.n_layers; ++l) {
      const TensorNames::Layer layer = names.layer(l);
      for (const auto& [name, heads] :
           {std::pair(layer.query, target.n_heads), std::pair(layer.key, target.n_kv_heads)}) {
        rotated_[name] = heads;
        rotated_[BiasOf(name)] = heads;
      }
    }
  }
  bool IsEmbeddingOrHead(const std::string& name) const {
    return name == embeddings_.first || name == embeddings_.second;
  }
  bool IsPositions(const std::string& name) const { return name == positions_; }
  int64_t InterleavedHeads(const std::string& name) const {  // 0: rows stay
    const auto found = rotated_.find(name);
    return found == rotated_.end() ? 0 : found->second;
  }

 private:
  std::pair<std::string, std::string> embeddings_;
  std::string positions_;
  absl::flat_hash_map<std::string, int64_t> rotated_;
};

bool Differs(double a, double b) { return std::abs(a - b) > 1e-6 * std::max(std::abs(a), std::abs(b)); }

double AttentionScale(const ModelConfig& config) {
  return config.attention_scale > 0 ? config.attention_scale
                                    : 1 / std::sqrt(static_cast<double>(config.d_head));
}

// The first difference, or nothing.
std::string WindowDifference(const ModelConfig& expected, const ModelConfig& found) {
  bool any = false;
  for (int64_t l = 0; l < expected.n_layers; ++l) {
    any |= expected.window.On(l);
    if (expected.window.On(l) != found.window.On(l)) return fmt::format("the sliding window of layer {}", l);
  }
  if (any && expected.window.tokens != found.window.tokens) return "the sliding window's tokens";
  const auto theta = [](const ModelConfig& config) {
    return config.window.rope_theta > 0 ? config.window.rope_theta : config.rope_theta;
  };
  return any && Differs(theta(expected), theta(found)) ? "the sliding layers' rope_theta" : "";
}

std::string ScalingDifference(const RopeScaling& expected, const RopeScaling& found) {
  if (expected.kind != found.kind) return "the kind of RoPE scaling";
  if (expected.kind != RopeScaling::Kind::kNone && Differs(expected.factor, found.factor))
    return "the factor of RoPE scaling";
  return expected.frequency_divisors != found.frequency_divisors ? "the RoPE frequency divisors" : "";
}

}  // namespace

absl::StatusOr<ElementType> ParseConversionType(std::string_view name) {
  for (const NamedType& type : kTypes) {
    if (absl::EqualsIgnoreCase({type.name.data(), type.name.size()}, {name.data(), name.size()}))
      return type.type;
  }
  return InvalidArgument("'{}' is unknown; known are {}", Printable(name), kConversionTypes);
}

uint32_t GgufFileType(ElementType asked) {
  for (const NamedType& type : kTypes) {
    if (type.type == asked) return type.file_type;
  }
  TC_CHECK(false);
}

ElementType MatrixType(ElementType asked, bool embedding_or_head, int64_t cols) {
  ElementType type = asked;
  if (embedding_or_head && (asked == ElementType::kQ4_0 || asked == ElementType::kQ4_K))
    type = ElementType::kQ6_K;
  if (cols % InfoOf(type).block_elements == 0) return type;
  if (cols % InfoOf(ElementType::kQ8_0).block_elements != 0) return ElementType::kF16;
  return type == ElementType::kQ4_K ? ElementType::kQ5_0 : ElementType::kQ8_0;
}

ModelConfig ConfigInGguf(const ModelConfig& config) {
  ModelConfig result = config;
  const auto own = FindArchitecture(config.architecture, "");
  TC_CHECK(own.ok());
  const auto shared = FindArchitecture(own->gguf, "");
  TC_CHECK(shared.ok());
  result.architecture = shared->name;
  result.rope_pairing = shared->gguf_rope;
  result.ternary = TernaryWeights::kNone;
  if (config.rope_scaling.kind == RopeScaling::Kind::kLlama3)
    result.rope_scaling = {.frequency_divisors = Llama3Divisors(config)};
  return result;
}

ConversionPlan PlanConversion(const Checkpoint& source, ElementType asked) {
  ConversionPlan plan{.config = ConfigInGguf(source.config), .tensors = {}};
  ModelConfig plain = source.config;
  plain.ternary = TernaryWeights::kNone;
  const TensorNames names = GgufTensorNames(plan.config);
  const std::vector<ExpectedTensor> from = ExpectedTensors(plain, source.names);
  const std::vector<ExpectedTensor> to = ExpectedTensors(plan.config, names);
  TC_CHECK(from.size() == to.size());
  const Roles roles(source.config, plan.config, names);
  for (size_t i = 0; i < to.size(); ++i) {
    TC_CHECK(from[i].shape == to[i].shape);
    PlannedTensor tensor{.source = from[i].name, .target = to[i].name, .shape = to[i].shape};
    tensor.heads = roles.InterleavedHeads(tensor.target);
    if (tensor.heads > 0) tensor.order = RowOrder::kInterleaved;
    if (source.names.grouped_rows && tensor.target.find(".attn_qkv.") != std::string::npos)
      tensor.order = RowOrder::kUngrouped;
    if (tensor.shape.size() == 1) {
      tensor.add_one = source.names.unit_offset_norms && tensor.target.ends_with(".weight");
    } else if (roles.IsPositions(tensor.target)) {
      tensor.type = InfoOf(asked).quantized() ? ElementType::kF16 : asked;
    } else {
      tensor.type = MatrixType(asked, roles.IsEmbeddingOrHead(tensor.target), tensor.cols());
    }
    plan.tensors.push_back(std::move(tensor));
  }
  return plan;
}

int64_t SourceRow(const PlannedTensor& tensor, const ModelConfig& config, int64_t row) {
  const int64_t d_head = config.d_head, head = row / d_head, place = row % d_head;
  if (tensor.order == RowOrder::kInterleaved) {
    const int64_t rotated = config.rope_dimensions;
    if (place >= rotated) return row;
    return head * d_head + place % 2 * (rotated / 2) + place / 2;
  }
  if (tensor.order == RowOrder::kUngrouped) {
    const int64_t groups = config.n_kv_heads, queries = config.n_heads / groups, group = queries + 2;
    int64_t from = head / queries * group + head % queries;
    if (head >= config.n_heads) from = (head - config.n_heads) % groups * group + queries;
    if (head >= config.n_heads + groups) ++from;
    return from * d_head + place;
  }
  return row;
}

absl::Status CheckSameModel(const ModelConfig& expected, const ModelConfig& found, const std::string& file) {
  std::string difference;
  const auto check = [&](std::string_view field, bool differs) {
    if (differs && difference.empty()) difference = field;
  };
  using Config = ModelConfig;
  check("architecture", expected.architecture != found.architecture);
  check("activation", expected.activation != found.activation);
  check("the activation's threshold", expected.activation_threshold != found.activation_threshold);
  for (const auto& [field, member] :
       {std::pair("n_layers", &Config::n_layers), std::pair("d_model", &Config::d_model),
        std::pair("d_ff", &Config::d_ff), std::pair("n_heads", &Config::n_heads),
        std::pair("n_kv_heads", &Config::n_kv_heads), std::pair("d_head", &Config::d_head),
        std::pair("n_vocab", &Config::n_vocab), std::pair("context_length", &Config::context_length),
        std::pair("position_offset", &Config::position_offset),
        std::pair("rope_dimensions", &Config::rope_dimensions)}) {
    check(field, expected.*member != found.*member);
  }
  for (const auto& [field, member] :
       {std::pair("gated", &Config::gated), std::pair("parallel_blocks", &Config::parallel_blocks),
        std::pair("shared_norm", &Config::shared_norm), std::pair("post_norms", &Config::post_norms),
        std::pair("sub_norms", &Config::sub_norms), std::pair("query_key_norms", &Config::query_key_norms),
        std::pair("query_key_value_bias", &Config::query_key_value_bias),
        std::pair("attention_output_bias", &Config::attention_output_bias),
        std::pair("ffn_bias", &Config::ffn_bias), std::pair("tied_head", &Config::tied_head)}) {
    check(field, expected.*member != found.*member);
  }
  for (const auto& [field, member] :
       {std::pair("norm_epsilon", &Config::norm_epsilon), std::pair("rope_theta", &Config::rope_theta),
        std::pair("attention_soft_cap", &Config::attention_soft_cap),
        std::pair("logit_soft_cap", &Config::logit_soft_cap),
        std::pair("embedding_scale", &Config::embedding_scale),
        std::pair("residual_scale", &Config::residual_scale),
        std::pair("logit_scale", &Config::logit_scale)}) {
    check(field, Differs(expected.*member, found.*member));
  }
  check("norm", expected.norm != found.norm);
  check("positions", expected.positions != found.positions);
  check("the order of rotated rows", expected.rope_pairing != found.rope_pairing);
  check("attention_scale", Differs(AttentionScale(expected), AttentionScale(found)));
  for (const std::string& more :
       {WindowDifference(expected, found), ScalingDifference(expected.rope_scaling, found.rope_scaling)}) {
    check(more, !more.empty());
  }
  if (difference.empty()) return absl::OkStatus();
  return FailedPrecondition("{}: GGUF's keys cannot say {} of this model", file, difference);
}

}  // namespace thermocline
