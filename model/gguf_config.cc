// Reads GGUF's keys of the known architectures.
// SPDX-License-Identifier: Apache-2.0
#include "model/gguf_config.h"

#include <algorithm>
#include <cmath>
#include <variant>

#include "model/architecture.h"
#include "model/printable.h"

namespace thermocline {
namespace {

constexpr int64_t kMostPatternLayers = 4096;  // Validate's limit

// Reads the keys that start with the architecture's name.
class KeyReader {
 public:
  KeyReader(const GgufMetadata& metadata, std::string_view architecture)
      : metadata_(metadata), prefix_(fmt::format("{}.", architecture)) {}

  std::string Key(std::string_view name) const { return fmt::format("{}{}", prefix_, name); }
  bool Has(std::string_view name) const { return metadata_.Has(Key(name)); }

  absl::StatusOr<int64_t> Integer(std::string_view name) const {
    TC_ASSIGN_OR_RETURN(const uint64_t value, metadata_.Uint(Key(name)));
    if (value > static_cast<uint64_t>(INT64_MAX)) {
      return InvalidArgument("{}: metadata key '{}' is {}, the limit is {}", metadata_.file(), Key(name),
                             value, INT64_MAX);
    }
    return static_cast<int64_t>(value);
  }
  absl::StatusOr<int64_t> IntegerOr(std::string_view name, int64_t otherwise) const {
    return Has(name) ? Integer(name) : otherwise;
  }
  absl::StatusOr<double> Float(std::string_view name) const { return metadata_.Float(Key(name)); }
  absl::StatusOr<double> FloatOr(std::string_view name, double otherwise) const {
    return Has(name) ? Float(name) : otherwise;
  }
  absl::StatusOr<std::string_view> String(std::string_view name) const { return metadata_.String(Key(name)); }
  // Null unless the key holds an array of booleans.
  const std::vector<bool>* Bools(std::string_view name) const {
    const GgufMetadata::Value* value = metadata_.Find(Key(name));
    return value == nullptr ? nullptr : std::get_if<std::vector<bool>>(value);
  }

 private:
  const GgufMetadata& metadata_;
  std::string prefix_;
};

absl::Status ReadHeads(const KeyReader& keys, const std::string& file, ModelConfig& config) {
  TC_ASSIGN_OR_RETURN(config.n_heads, keys.Integer("attention.head_count"));
  TC_ASSIGN_OR_RETURN(config.n_kv_heads, keys.IntegerOr("attention.head_count_kv", config.n_heads));
  if (keys.Has("attention.key_length")) {
    TC_ASSIGN_OR_RETURN(config.d_head, keys.Integer("attention.key_length"));
  } else if (config.n_heads > 0) {
    if (config.d_model % config.n_heads != 0) {
      return InvalidArgument("{}: {} is {}, the limit is a divisor of the embedding length {}", file,
                             keys.Key("attention.head_count"), config.n_heads, config.d_model);
    }
    config.d_head = config.d_model / config.n_heads;
  }
  TC_ASSIGN_OR_RETURN(const int64_t value_length, keys.IntegerOr("attention.value_length", config.d_head));
  if (value_length != config.d_head) {
    return InvalidArgument("{}: {} is {}, the limit is the key length {}", file,
                           keys.Key("attention.value_length"), value_length, config.d_head);
  }
  return absl::OkStatus();
}

absl::Status ReadRope(const KeyReader& keys, const GgufFile& gguf, ModelConfig& config) {
  TC_ASSIGN_OR_RETURN(config.rope_theta, keys.FloatOr("rope.freq_base", 10000.0));
  TC_ASSIGN_OR_RETURN(config.rope_dimensions, keys.IntegerOr("rope.dimension_count", config.d_head));
  RopeScaling& scaling = config.rope_scaling;
  std::string_view type =
      keys.Has("rope.scaling.factor") || keys.Has("rope.scale_linear") ? "linear" : "none";
  if (keys.Has("rope.scaling.type")) {
    TC_ASSIGN_OR_RETURN(type, keys.String("rope.scaling.type"));
  }
  if (type == "linear") {
    scaling.kind = RopeScaling::Kind::kLinear;
    // "scale_linear" is the older name.
    const bool old = !keys.Has("rope.scaling.factor") && keys.Has("rope.scale_linear");
    TC_ASSIGN_OR_RETURN(scaling.factor, keys.Float(old ? "rope.scale_linear" : "rope.scaling.factor"));
  } else if (type != "none") {
    return Unimplemented("{}: {} is '{}', which is not supported; known are none, linear",
                         gguf.metadata.file(), keys.Key("rope.scaling.type"), Printable(type));
  }
  constexpr std::string_view kDivisors = "rope_freqs.weight";
  if (gguf.tensors.Contains(kDivisors)) {
    TC_ASSIGN_OR_RETURN(scaling.frequency_divisors,
                        gguf.tensors.Vector(kDivisors, config.rope_dimensions / 2));
  }
  return absl::OkStatus();
}

// The key where it is there, else the rows of the embedding.
absl::StatusOr<int64_t> VocabularySize(const KeyReader& keys, const GgufFile& gguf) {
  if (keys.Has("vocab_size")) return keys.Integer("vocab_size");
  constexpr std::string_view kEmbedding = "token_embd.weight";
  const TensorInfo* embedding = gguf.tensors.Find(kEmbedding);
  if (embedding != nullptr) return embedding->shape.front();
  return NotFound("{}: neither metadata key '{}' nor tensor '{}' is there to tell the vocabulary's size",
                  gguf.metadata.file(), keys.Key("vocab_size"), kEmbedding);
}

absl::StatusOr<Activation> ReadActivation(const GgufMetadata& metadata, Activation otherwise) {
  if (!metadata.Has(kGgufActivationKey)) return otherwise;
  TC_ASSIGN_OR_RETURN(const std::string_view name, metadata.String(kGgufActivationKey));
  const auto activation = ParseActivation(name);
  if (activation.ok()) return activation;
  return Unimplemented("{}: {} is '{}', which is not supported; known are {}", metadata.file(),
                       kGgufActivationKey, Printable(name), kKnownActivations);
}

// Of the activation that `config` has by now.
absl::Status ReadThreshold(const GgufMetadata& metadata, ModelConfig& config) {
  if (config.activation != Activation::kFatRelu) return absl::OkStatus();
  TC_ASSIGN_OR_RETURN(const double threshold, metadata.Float(kGgufThresholdKey));
  TC_ASSIGN_OR_RETURN(config.activation_threshold,
                      CheckThreshold(threshold, metadata.file(), kGgufThresholdKey));
  return absl::OkStatus();
}

// What the architecture always has, and what the file's tensors show.
void ReadBlocks(const Architecture& architecture, const GgufFile& gguf, ModelConfig& config) {
  const auto has = [&](std::string_view tensor) { return gguf.tensors.Contains(tensor); };
  SetBlocks(architecture, config);
  // Falcon's norm in front of the feed-forward block is called so only where that follows attention.
  if (has("blk.0.ffn_norm.weight")) config.parallel_blocks = false;
  config.shared_norm = config.parallel_blocks && !has("blk.0.attn_norm_2.weight");
  config.query_key_value_bias =
      architecture.query_key_value_bias || has("blk.0.attn_q.bias") || has("blk.0.attn_qkv.bias");
  config.attention_output_bias = architecture.attention_output_bias || has("blk.0.attn_output.bias");
  config.ffn_bias = architecture.ffn_bias || (!architecture.gated && has("blk.0.ffn_up.bias"));
}

absl::Status ReadWindow(const KeyReader& keys, const Architecture& architecture, ModelConfig& config) {
  TC_ASSIGN_OR_RETURN(config.window.tokens, keys.IntegerOr("attention.sliding_window", 0));
  if (keys.Has("rope.freq_base_swa")) {
    TC_ASSIGN_OR_RETURN(config.window.rope_theta, keys.Float("rope.freq_base_swa"));
  }
  constexpr std::string_view kPattern = "attention.sliding_window_pattern";
  if (const std::vector<bool>* layers = keys.Bools(kPattern)) {  // their number is Validate's to check
    config.window.layers = *layers;
    return absl::OkStatus();
  }
  TC_ASSIGN_OR_RETURN(const int64_t pattern, keys.IntegerOr(kPattern, architecture.window_pattern));
  if (config.window.tokens == 0 || pattern == 0) return absl::OkStatus();
  if (config.n_layers < 1 || config.n_layers > kMostPatternLayers) return absl::OkStatus();  // Validate says
  for (int64_t l = 0; l < config.n_layers; ++l) config.window.layers.push_back((l + 1) % pattern != 0);
  return absl::OkStatus();
}

// How many rows of a table of positions come before the first position's.
void ReadPositions(const GgufFile& gguf, ModelConfig& config) {
  const TensorInfo* table = gguf.tensors.Find("position_embd.weight");
  if (config.positions == PositionKind::kLearned && table != nullptr)
    config.position_offset = std::max<int64_t>(0, table->shape.front() - config.context_length);
}

// What single architectures have besides. The constants are llama.cpp's for files that do not say.
absl::Status ReadScales(const KeyReader& keys, ModelConfig& config) {
  const std::string& name = config.architecture;
  const auto d_model = static_cast<double>(config.d_model);
  if (name.starts_with("gemma")) config.embedding_scale = std::sqrt(d_model);
  if (name == "gemma3" && config.window.rope_theta == 0) config.window.rope_theta = 10000.0;
  if (name == "gemma2") {
    TC_ASSIGN_OR_RETURN(config.attention_soft_cap, keys.FloatOr("attn_logit_softcapping", 50.0));
    TC_ASSIGN_OR_RETURN(config.logit_soft_cap, keys.FloatOr("final_logit_softcapping", 30.0));
    // The 27B model alone scales by its heads' share of the width.
    if (config.n_layers == 46 && config.n_heads > 0)
      config.attention_scale = 1.0 / std::sqrt(d_model / static_cast<double>(config.n_heads));
  }
  if (name == "gemma3") {
    TC_ASSIGN_OR_RETURN(config.logit_soft_cap, keys.FloatOr("final_logit_softcapping", 0.0));
    if (config.n_layers == 62 && config.n_heads > 0)
      config.attention_scale = 1.0 / std::sqrt(d_model / static_cast<double>(config.n_heads));
  }
  if (name == "minicpm") {
    TC_ASSIGN_OR_RETURN(config.embedding_scale, keys.FloatOr("embedding_scale", 12.0));
    const double usual = 1.4 / std::sqrt(static_cast<double>(config.n_layers));
    TC_ASSIGN_OR_RETURN(config.residual_scale, keys.FloatOr("residual_scale", usual));
    TC_ASSIGN_OR_RETURN(const double divisor, keys.FloatOr("logit_scale", d_model / 256.0));
    config.logit_scale = 1.0 / divisor;
  }
  if (keys.Has("attention.scale")) {
    TC_ASSIGN_OR_RETURN(config.attention_scale, keys.Float("attention.scale"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelConfig> ConfigFromGguf(const GgufFile& gguf, std::optional<Activation> activation) {
  const std::string& file = gguf.metadata.file();
  TC_ASSIGN_OR_RETURN(const std::string_view name, gguf.metadata.String("general.architecture"));
  TC_ASSIGN_OR_RETURN(const Architecture architecture, FindArchitecture(name, file));
  if (architecture.gguf != name) {
    return Unimplemented(
        "{}: general.architecture is '{}', expected '{}': GGUF has no names of its own for it", file,
        architecture.name, architecture.gguf);
  }
  const KeyReader keys(gguf.metadata, architecture.gguf);
  TC_ASSIGN_OR_RETURN(const int64_t n_experts, keys.IntegerOr("expert_count", 0));
  if (n_experts != 0) {
    return Unimplemented("{}: {} is {}, the limit is 0: mixtures of experts are not supported", file,
                         keys.Key("expert_count"), n_experts);
  }
  ModelConfig config;
  config.architecture = architecture.name;
  if (activation) {
    config.activation = *activation;
  } else {
    TC_ASSIGN_OR_RETURN(config.activation, ReadActivation(gguf.metadata, architecture.activation));
  }
  TC_RETURN_IF_ERROR(ReadThreshold(gguf.metadata, config));
  ReadBlocks(architecture, gguf, config);
  TC_ASSIGN_OR_RETURN(config.n_layers, keys.Integer("block_count"));
  TC_ASSIGN_OR_RETURN(config.d_model, keys.Integer("embedding_length"));
  TC_ASSIGN_OR_RETURN(config.d_ff, keys.Integer("feed_forward_length"));
  TC_ASSIGN_OR_RETURN(config.context_length, keys.Integer("context_length"));
  const bool rms = config.norm == NormKind::kRms;
  TC_ASSIGN_OR_RETURN(config.norm_epsilon,
                      keys.Float(rms ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon"));
  TC_RETURN_IF_ERROR(ReadHeads(keys, file, config));
  config.rope_pairing = architecture.gguf_rope;
  TC_RETURN_IF_ERROR(ReadRope(keys, gguf, config));
  ReadPositions(gguf, config);
  TC_RETURN_IF_ERROR(ReadWindow(keys, architecture, config));
  TC_RETURN_IF_ERROR(ReadScales(keys, config));
  TC_ASSIGN_OR_RETURN(config.n_vocab, VocabularySize(keys, gguf));
  config.tied_head = !gguf.tensors.Contains("output.weight");
  TC_RETURN_IF_ERROR(Validate(config, file));
  return config;
}

}  // namespace thermocline
