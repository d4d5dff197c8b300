// Keys of a converted model, as llama.cpp calls them.
// SPDX-License-Identifier: Apache-2.0
#include "model/conversion_metadata.h"

#include <algorithm>

#include "model/architecture.h"
#include "model/gguf_config.h"

namespace thermocline {
namespace {

constexpr uint32_t kQuantizationVersion = 2;  // of ggml's block layouts

// Adds keys that start with the architecture's name.
class KeyWriter {
 public:
  KeyWriter(std::string_view architecture, GgufHeader& header) : prefix_(architecture), header_(header) {}

  void Integer(std::string_view name, int64_t value) {
    header_.AddUint(Key(name), static_cast<uint32_t>(value));
  }
  void Float(std::string_view name, double value) { header_.AddFloat(Key(name), static_cast<float>(value)); }
  void String(std::string_view name, std::string_view value) { header_.AddString(Key(name), value); }
  void Bools(std::string_view name, const std::vector<bool>& values) { header_.AddBools(Key(name), values); }

 private:
  std::string Key(std::string_view name) const { return fmt::format("{}.{}", prefix_, name); }

  std::string_view prefix_;
  GgufHeader& header_;
};

// The n of "every n-th layer sees everything", where the layers have one.
std::optional<int64_t> PatternOf(const std::vector<bool>& sliding) {
  for (int64_t n = 2; n <= std::ssize(sliding); ++n) {
    bool fits = true;
    for (int64_t l = 0; l < std::ssize(sliding); ++l)
      fits &= sliding[static_cast<size_t>(l)] == ((l + 1) % n != 0);
    if (fits) return n;
  }
  return std::nullopt;
}

void AddWindow(const Architecture& architecture, const ModelConfig& config, KeyWriter& keys) {
  std::vector<bool> sliding;
  for (int64_t l = 0; l < config.n_layers; ++l) sliding.push_back(config.window.On(l));
  if (std::ranges::count(sliding, true) == 0) return;
  keys.Integer("attention.sliding_window", config.window.tokens);
  if (config.window.rope_theta > 0) keys.Float("rope.freq_base_swa", config.window.rope_theta);
  const bool all = std::ranges::count(sliding, false) == 0;
  if (all && architecture.window_pattern == 0) return;
  if (const std::optional<int64_t> pattern = PatternOf(sliding)) {
    keys.Integer("attention.sliding_window_pattern", *pattern);
  } else {
    keys.Bools("attention.sliding_window_pattern", sliding);
  }
}

void AddScales(const ModelConfig& config, KeyWriter& keys) {
  if (config.attention_scale > 0) keys.Float("attention.scale", config.attention_scale);
  if (config.architecture == "gemma2") keys.Float("attn_logit_softcapping", config.attention_soft_cap);
  if (config.architecture == "gemma2" || config.logit_soft_cap > 0)
    keys.Float("final_logit_softcapping", config.logit_soft_cap);
  if (config.architecture != "minicpm") return;
  keys.Float("embedding_scale", config.embedding_scale);
  keys.Float("residual_scale", config.residual_scale);
  keys.Float("logit_scale", 1 / config.logit_scale);  // a divisor there
}

void AddActivation(const ModelConfig& config, GgufHeader& header) {
  header.AddString(kGgufActivationKey, NameOf(config.activation));
  if (config.activation == Activation::kFatRelu)
    header.AddFloat(kGgufThresholdKey, config.activation_threshold);
}

}  // namespace

void AddGeneralKeys(const ModelConfig& config, const std::string& name, uint32_t file_type,
                    GgufHeader& header) {
  header.AddString("general.architecture", FindArchitecture(config.architecture, "")->gguf)
      .AddString("general.type", "model")
      .AddString("general.name", name)
      .AddUint("general.file_type", file_type)
      .AddUint("general.quantization_version", kQuantizationVersion);
}

void AddConfigKeys(const ModelConfig& config, GgufHeader& header) {
  const Architecture architecture = *FindArchitecture(config.architecture, "");
  KeyWriter keys(architecture.gguf, header);
  keys.Integer("vocab_size", config.n_vocab);
  keys.Integer("context_length", config.context_length);
  keys.Integer("embedding_length", config.d_model);
  keys.Integer("block_count", config.n_layers);
  keys.Integer("feed_forward_length", config.d_ff);
  keys.Integer("attention.head_count", config.n_heads);
  keys.Integer("attention.head_count_kv", config.n_kv_heads);
  keys.Integer("attention.key_length", config.d_head);
  keys.Integer("attention.value_length", config.d_head);
  keys.Float(
      config.norm == NormKind::kRms ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon",
      config.norm_epsilon);
  if (config.positions == PositionKind::kRotary) {
    keys.Float("rope.freq_base", config.rope_theta);
    keys.Integer("rope.dimension_count", config.rope_dimensions);
    if (config.rope_scaling.kind == RopeScaling::Kind::kLinear) {
      keys.String("rope.scaling.type", "linear");
      keys.Float("rope.scaling.factor", config.rope_scaling.factor);
    }
  }
  AddWindow(architecture, config, keys);
  AddScales(config, keys);
  if (config.activation != architecture.activation) AddActivation(config, header);
}

void CopyKeys(const GgufMetadata& metadata, uint32_t file_type, std::optional<Activation> activation,
              GgufHeader& header) {
  for (const GgufMetadata::RawPair& pair : metadata.raw_pairs()) {
    const bool of_the_tensors = pair.key == "general.file_type" || pair.key == "general.alignment" ||
                                pair.key == "general.quantization_version" ||
                                pair.key.starts_with("split.") || pair.key.starts_with("quantize.");
    if (of_the_tensors || (activation && pair.key == kGgufActivationKey)) continue;
    header.AddRaw(pair.key, pair.value);
  }
  header.AddUint("general.file_type", file_type)
      .AddUint("general.quantization_version", kQuantizationVersion);
  if (activation) header.AddString(kGgufActivationKey, NameOf(*activation));
}

void AddNoTokenizer(GgufHeader& header) { header.AddString("tokenizer.ggml.model", "no_vocab"); }

}  // namespace thermocline
