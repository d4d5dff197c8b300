// Reads config.json of the known architectures, as transformers 4 and 5 write it.
// SPDX-License-Identifier: Apache-2.0
#include "model/huggingface_config.h"

#include <cmath>

#include "model/architecture.h"
#include "model/printable.h"
#include "model/strict_json.h"

namespace thermocline {
namespace {

using Json = nlohmann::json;

constexpr int64_t kMostPatternLayers = 4096;      // Validate's limit
constexpr int64_t kMostWidth = int64_t{1} << 20;  // the same

// Typed access to the fields of one object; a null counts as absent, as in transformers.
class Fields {
 public:
  // `prefix` is put before names in messages: "rope_scaling.".
  Fields(const Json& object, const std::string& file, std::string prefix = "")
      : object_(object), file_(file), prefix_(std::move(prefix)) {}

  // Null when absent.
  const Json* Find(std::string_view name) const {
    const auto found = object_.find(std::string(name));
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }
  bool Has(std::string_view name) const { return Find(name) != nullptr; }

  absl::StatusOr<int64_t> Integer(std::string_view name) const {
    TC_ASSIGN_OR_RETURN(const Json* value, Require(name));
    if (!value->is_number_integer()) return WrongType(name, "an integer", *value);
    if (value->is_number_unsigned() && value->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) {
      return InvalidArgument("{}: {}{} is {}, the limit is {}", file_, prefix_, name, value->get<uint64_t>(),
                             INT64_MAX);
    }
    return value->get<int64_t>();
  }
  absl::StatusOr<int64_t> IntegerOr(std::string_view name, int64_t otherwise) const {
    return Has(name) ? Integer(name) : otherwise;
  }
  absl::StatusOr<double> Number(std::string_view name) const {
    TC_ASSIGN_OR_RETURN(const Json* value, Require(name));
    if (!value->is_number()) return WrongType(name, "a number", *value);
    return value->get<double>();
  }
  absl::StatusOr<double> NumberOr(std::string_view name, double otherwise) const {
    return Has(name) ? Number(name) : otherwise;
  }
  absl::StatusOr<bool> BooleanOr(std::string_view name, bool otherwise) const {
    const Json* value = Find(name);
    if (value == nullptr) return otherwise;
    if (!value->is_boolean()) return WrongType(name, "a boolean", *value);
    return value->get<bool>();
  }
  absl::StatusOr<std::string> String(std::string_view name) const {
    TC_ASSIGN_OR_RETURN(const Json* value, Require(name));
    if (!value->is_string()) return WrongType(name, "a string", *value);
    return value->get<std::string>();
  }

  absl::Status WrongType(std::string_view name, std::string_view wanted, const Json& found) const {
    return InvalidArgument("{}: {}{} must be {}, found {}", file_, prefix_, name, wanted, found.type_name());
  }

 private:
  absl::StatusOr<const Json*> Require(std::string_view name) const {
    const Json* value = Find(name);
    if (value == nullptr) return NotFound("{}: {}{} is missing", file_, prefix_, name);
    return value;
  }

  const Json& object_;
  const std::string& file_;
  std::string prefix_;
};

absl::StatusOr<Architecture> ReadArchitecture(const Fields& fields, const std::string& file) {
  const Json* classes = fields.Find("architectures");
  if (classes == nullptr) {
    TC_ASSIGN_OR_RETURN(const std::string type, fields.String("model_type"));
    return FindArchitecture(type, file);
  }
  if (!classes->is_array() || classes->size() != 1 || !classes->front().is_string()) {
    return InvalidArgument("{}: architectures must be an array of one string", file);
  }
  TC_ASSIGN_OR_RETURN(const Architecture architecture,
                      FindArchitecture(classes->front().get_ref<const std::string&>(), file));
  if (fields.Has("model_type")) {
    TC_ASSIGN_OR_RETURN(const std::string type, fields.String("model_type"));
    if (type != architecture.model_type) {
      return InvalidArgument("{}: model_type is '{}', expected '{}' for {}", file, Printable(type),
                             architecture.model_type, architecture.class_name);
    }
  }
  return architecture;
}

// Of quantised weights those of BitNet are known; its quantisation of activations is not part of the model.
absl::Status ReadQuantization(const Fields& fields, const std::string& file, ModelConfig& config) {
  const Json* object = fields.Find("quantization_config");
  if (object == nullptr) return absl::OkStatus();
  if (!object->is_object()) return fields.WrongType("quantization_config", "an object", *object);
  const Fields quantization(*object, file, "quantization_config.");
  const auto is = [&](std::string_view name, std::string_view value) {
    const Json* found = quantization.Find(name);
    return found != nullptr && *found == std::string(value);
  };
  if (config.architecture == "bitnet" && is("quant_method", "bitnet") &&
      is("linear_class", "autobitlinear")) {
    TC_ASSIGN_OR_RETURN(const bool norms, quantization.BooleanOr("use_rms_norm", false));
    const bool packed = is("quantization_mode", "offline");
    if (!norms && (packed || is("quantization_mode", "online"))) {
      config.ternary = packed ? TernaryWeights::kPacked : TernaryWeights::kMaster;
      return absl::OkStatus();
    }
  }
  return Unimplemented(
      "{}: quantization_config is given: only F32, F16 and BF16 weights, and BitNet's ternary ones, are "
      "supported here",
      file);
}

absl::Status RefuseUnless(const Fields& fields, const std::string& file, std::string_view name, bool wanted) {
  TC_ASSIGN_OR_RETURN(const bool found, fields.BooleanOr(name, wanted));
  if (found == wanted) return absl::OkStatus();
  return Unimplemented("{}: {} is {}, the limit is {}: nothing else is supported", file, name, found, wanted);
}

absl::Status ReadHeads(const Fields& fields, const std::string& file, ModelConfig& config) {
  TC_ASSIGN_OR_RETURN(config.n_heads, fields.Integer("num_attention_heads"));
  TC_ASSIGN_OR_RETURN(config.n_kv_heads, fields.IntegerOr("num_key_value_heads", config.n_heads));
  if (fields.Has("head_dim")) {
    TC_ASSIGN_OR_RETURN(config.d_head, fields.Integer("head_dim"));
  } else if (config.n_heads > 0) {
    if (config.d_model % config.n_heads != 0) {
      return InvalidArgument("{}: num_attention_heads is {}, the limit is a divisor of hidden_size {}", file,
                             config.n_heads, config.d_model);
    }
    config.d_head = config.d_model / config.n_heads;
  }
  return absl::OkStatus();
}

// The scaling's name: "rope_type", or "type" as it was called before; where both are given they must agree.
absl::StatusOr<std::string> ScalingType(const Fields& rope, const std::string& file,
                                        std::string_view object) {
  if (!rope.Has("rope_type") && !rope.Has("type") && object != "rope_scaling") return "default";
  TC_ASSIGN_OR_RETURN(std::string type, rope.String(rope.Has("rope_type") ? "rope_type" : "type"));
  if (rope.Has("rope_type") && rope.Has("type")) {
    TC_ASSIGN_OR_RETURN(const std::string old, rope.String("type"));
    if (old != type) {
      return InvalidArgument("{}: {} has rope_type '{}' and type '{}', which must agree", file, object,
                             Printable(type), Printable(old));
    }
  }
  return type;
}

absl::Status ReadScaling(const Fields& rope, const std::string& file, std::string_view object,
                         RopeScaling& scaling) {
  TC_ASSIGN_OR_RETURN(const std::string type, ScalingType(rope, file, object));
  if (type == "default") return absl::OkStatus();
  if (type != "linear" && type != "llama3") {
    return Unimplemented("{}: {} type '{}' is not supported; known are default, linear, llama3", file, object,
                         Printable(type));
  }
  TC_ASSIGN_OR_RETURN(scaling.factor, rope.Number("factor"));
  scaling.kind = RopeScaling::Kind::kLinear;
  if (type == "linear") return absl::OkStatus();
  scaling.kind = RopeScaling::Kind::kLlama3;
  TC_ASSIGN_OR_RETURN(scaling.low_freq_factor, rope.Number("low_freq_factor"));
  TC_ASSIGN_OR_RETURN(scaling.high_freq_factor, rope.Number("high_freq_factor"));
  TC_ASSIGN_OR_RETURN(scaling.original_context_length, rope.Integer("original_max_position_embeddings"));
  return absl::OkStatus();
}

// How many leading dimensions of a head a factor rotates.
absl::Status ReadRotated(const Fields& fields, const std::string& file, ModelConfig& config) {
  if (!fields.Has("partial_rotary_factor")) return absl::OkStatus();
  TC_ASSIGN_OR_RETURN(const double rotated, fields.Number("partial_rotary_factor"));
  if (!(rotated > 0 && rotated <= 1)) {
    return InvalidArgument("{}: partial_rotary_factor is {}, the limit is above 0 and at most 1", file,
                           rotated);
  }
  config.rope_dimensions = static_cast<int64_t>(static_cast<double>(config.d_head) * rotated);
  return absl::OkStatus();
}

// Gemma 3 has an object a kind of layer in rope_parameters; its sliding layers are never scaled.
absl::Status ReadRopeOfLayerKinds(const Fields& kinds, const std::string& file, ModelConfig& config) {
  for (const std::string_view kind : {"full_attention", "sliding_attention"}) {
    const std::string name = fmt::format("rope_parameters.{}", kind);
    const Json* object = kinds.Find(kind);
    if (object == nullptr) return NotFound("{}: {} is missing", file, name);
    if (!object->is_object()) return kinds.WrongType(kind, "an object", *object);
    const Fields rope(*object, file, name + ".");
    double& theta = kind == "full_attention" ? config.rope_theta : config.window.rope_theta;
    RopeScaling scaling;
    TC_ASSIGN_OR_RETURN(theta, rope.Number("rope_theta"));
    TC_RETURN_IF_ERROR(ReadScaling(rope, file, name, scaling));
    if (kind == "full_attention") {
      config.rope_scaling = scaling;
    } else if (scaling.kind != RopeScaling::Kind::kNone) {
      return Unimplemented("{}: {} has a scaling, which is not supported", file, name);
    }
  }
  return absl::OkStatus();
}

absl::Status ReadRope(const Fields& fields, const std::string& file, ModelConfig& config) {
  const bool gemma3 = config.architecture == "gemma3";
  TC_ASSIGN_OR_RETURN(config.rope_theta, fields.NumberOr("rope_theta", gemma3 ? 1e6 : 10000.0));
  if (gemma3) {
    TC_ASSIGN_OR_RETURN(config.window.rope_theta, fields.NumberOr("rope_local_base_freq", 10000.0));
  }
  config.rope_dimensions = config.architecture == "nemotron" ? config.d_head / 2 : config.d_head;
  config.rope_pairing = RopePairing::kHalf;
  TC_RETURN_IF_ERROR(ReadRotated(fields, file, config));
  // transformers 5 puts everything into rope_parameters, the base too.
  const bool newer = fields.Has("rope_parameters");
  if (newer && fields.Has("rope_scaling")) {
    return InvalidArgument("{}: both rope_parameters and rope_scaling are given, the limit is one of them",
                           file);
  }
  const std::string name = newer ? "rope_parameters" : "rope_scaling";
  const Json* object = fields.Find(name);
  if (object == nullptr) return absl::OkStatus();
  if (!object->is_object()) return fields.WrongType(name, "an object", *object);
  const Fields rope(*object, file, name + ".");
  if (gemma3 && newer) return ReadRopeOfLayerKinds(rope, file, config);
  TC_ASSIGN_OR_RETURN(config.rope_theta, rope.NumberOr("rope_theta", config.rope_theta));
  TC_RETURN_IF_ERROR(ReadRotated(rope, file, config));
  return ReadScaling(rope, file, name, config.rope_scaling);
}

absl::StatusOr<Activation> ReadActivation(const Fields& fields, const std::string& file,
                                          const Architecture& architecture) {
  const std::string_view field = architecture.activation_field;
  if (!fields.Has(field)) return architecture.activation;
  TC_ASSIGN_OR_RETURN(const std::string name, fields.String(field));
  const auto activation = ParseActivation(name);
  if (!activation.ok()) {
    return Unimplemented("{}: {}: activation '{}' is not supported; known are {}", file, field,
                         Printable(name), kKnownActivations);
  }
  // Bamboo's "relu" is of gate and up.
  if (architecture.activation == Activation::kDRelu && *activation == Activation::kRelu)
    return Activation::kDRelu;
  return *activation;
}

// ---- What single architectures have besides

// Which layers slide: the list that newer files have, else every one but each pattern-th.
absl::Status ReadWindow(const Fields& fields, const Architecture& architecture, const std::string& file,
                        ModelConfig& config) {
  TC_ASSIGN_OR_RETURN(
      const bool used,
      fields.BooleanOr("use_sliding_window", architecture.name != "qwen2" && architecture.name != "qwen3"));
  if (!used || !fields.Has("sliding_window")) return absl::OkStatus();
  TC_ASSIGN_OR_RETURN(config.window.tokens, fields.Integer("sliding_window"));
  if (const Json* types = fields.Find("layer_types")) {
    if (!types->is_array()) return fields.WrongType("layer_types", "an array", *types);
    for (const Json& type : *types) {
      if (type != "sliding_attention" && type != "full_attention") {
        return Unimplemented("{}: layer_types has {}; known are sliding_attention, full_attention", file,
                             Printable(type.dump()));
      }
      config.window.layers.push_back(type == "sliding_attention");
    }
    return absl::OkStatus();
  }
  if (config.n_layers < 1 || config.n_layers > kMostPatternLayers) return absl::OkStatus();  // Validate says
  const bool qwen = architecture.name.starts_with("qwen");
  TC_ASSIGN_OR_RETURN(const int64_t first, fields.IntegerOr("max_window_layers", qwen ? 28 : 0));
  TC_ASSIGN_OR_RETURN(const int64_t pattern,
                      fields.IntegerOr("sliding_window_pattern", architecture.window_pattern));
  for (int64_t l = 0; l < config.n_layers; ++l) {
    const bool full = qwen ? l < first : pattern > 0 && (l + 1) % pattern == 0;
    config.window.layers.push_back(!full);
  }
  return absl::OkStatus();
}

absl::Status ReadGemma(const Fields& fields, const std::string& file, ModelConfig& config) {
  config.embedding_scale = std::sqrt(static_cast<double>(config.d_model));
  if (config.architecture == "gemma") return absl::OkStatus();
  TC_ASSIGN_OR_RETURN(const double scalar, fields.NumberOr("query_pre_attn_scalar", 256));
  config.attention_scale = 1.0 / std::sqrt(scalar);
  TC_RETURN_IF_ERROR(RefuseUnless(fields, file, "use_bidirectional_attention", false));
  TC_ASSIGN_OR_RETURN(config.logit_soft_cap, fields.NumberOr("final_logit_softcapping", 0));
  TC_ASSIGN_OR_RETURN(config.attention_soft_cap, fields.NumberOr("attn_logit_softcapping", 0));
  // Gemma 3's implementation does not read that field.
  if (config.architecture == "gemma3") config.attention_soft_cap = 0;
  return absl::OkStatus();
}

absl::Status ReadMiniCpm(const Fields& fields, const std::string& /*file*/, ModelConfig& config) {
  TC_ASSIGN_OR_RETURN(config.embedding_scale, fields.NumberOr("scale_emb", 1));
  TC_ASSIGN_OR_RETURN(const double depth, fields.NumberOr("scale_depth", 1));
  config.residual_scale = depth / std::sqrt(static_cast<double>(config.n_layers));
  TC_ASSIGN_OR_RETURN(const double base, fields.NumberOr("dim_model_base", 1));
  config.logit_scale = base / static_cast<double>(config.d_model);
  return absl::OkStatus();
}

absl::Status ReadOpt(const Fields& fields, const std::string& file, ModelConfig& config) {
  TC_RETURN_IF_ERROR(RefuseUnless(fields, file, "do_layer_norm_before", true));
  TC_RETURN_IF_ERROR(RefuseUnless(fields, file, "_remove_final_layer_norm", false));
  TC_RETURN_IF_ERROR(RefuseUnless(fields, file, "enable_bias", true));
  TC_RETURN_IF_ERROR(RefuseUnless(fields, file, "layer_norm_elementwise_affine", true));
  TC_ASSIGN_OR_RETURN(const int64_t width, fields.IntegerOr("word_embed_proj_dim", config.d_model));
  if (width != config.d_model) {
    return Unimplemented("{}: word_embed_proj_dim is {}, the limit is hidden_size {}", file, width,
                         config.d_model);
  }
  config.position_offset = 2;  // the table's first two rows belong to padding
  TC_ASSIGN_OR_RETURN(config.tied_head, fields.BooleanOr("tie_word_embeddings", true));
  return absl::OkStatus();
}

absl::Status ReadFalcon(const Fields& fields, const std::string& file, ModelConfig& config) {
  TC_RETURN_IF_ERROR(RefuseUnless(fields, file, "alibi", false));
  TC_RETURN_IF_ERROR(RefuseUnless(fields, file, "bias", false));
  TC_ASSIGN_OR_RETURN(const bool newer, fields.BooleanOr("new_decoder_architecture", false));
  TC_ASSIGN_OR_RETURN(const bool multi_query, fields.BooleanOr("multi_query", true));
  if (newer) {
    TC_ASSIGN_OR_RETURN(config.n_kv_heads, fields.IntegerOr("num_kv_heads", config.n_heads));
  } else {
    config.n_kv_heads = multi_query ? 1 : config.n_heads;
  }
  TC_ASSIGN_OR_RETURN(config.parallel_blocks, fields.BooleanOr("parallel_attn", true));
  TC_ASSIGN_OR_RETURN(const int64_t norms, fields.IntegerOr("num_ln_in_parallel_attn", newer ? 2 : 1));
  config.shared_norm = config.parallel_blocks && !(newer && norms == 2);
  TC_ASSIGN_OR_RETURN(config.tied_head, fields.BooleanOr("tie_word_embeddings", true));
  return absl::OkStatus();
}

absl::Status ReadMore(const Fields& fields, const std::string& file, ModelConfig& config) {
  const std::string& name = config.architecture;
  if (name.starts_with("gemma")) return ReadGemma(fields, file, config);
  if (name == "minicpm") return ReadMiniCpm(fields, file, config);
  if (name == "opt") return ReadOpt(fields, file, config);
  if (name == "falcon") return ReadFalcon(fields, file, config);
  return absl::OkStatus();
}

// What the architecture always has, and the biases that a file asks for.
absl::Status ReadBlocks(const Fields& fields, const Architecture& architecture, const std::string& file,
                        ModelConfig& config) {
  SetBlocks(architecture, config);
  TC_ASSIGN_OR_RETURN(const bool attention_bias, fields.BooleanOr("attention_bias", false));
  config.query_key_value_bias = architecture.query_key_value_bias || attention_bias;
  config.attention_output_bias = architecture.attention_output_bias || attention_bias;
  TC_ASSIGN_OR_RETURN(const bool ffn_bias, fields.BooleanOr("mlp_bias", false));
  if (ffn_bias && architecture.gated) {
    return Unimplemented("{}: mlp_bias is true, the limit is false: gated blocks have no biases", file);
  }
  config.ffn_bias = architecture.ffn_bias || ffn_bias;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelConfig> ConfigFromHuggingFace(std::string_view text, const std::string& file,
                                                  std::optional<Activation> activation) {
  TC_ASSIGN_OR_RETURN(const Json document, ParseStrictJson(text, file));
  const Fields fields(document, file);
  TC_ASSIGN_OR_RETURN(const Architecture architecture, ReadArchitecture(fields, file));
  ModelConfig config;
  config.architecture = architecture.name;
  TC_RETURN_IF_ERROR(ReadQuantization(fields, file, config));
  TC_RETURN_IF_ERROR(ReadBlocks(fields, architecture, file, config));
  if (activation) {
    config.activation = *activation;
  } else {
    TC_ASSIGN_OR_RETURN(config.activation, ReadActivation(fields, file, architecture));
  }
  if (config.activation == Activation::kFatRelu) {
    TC_ASSIGN_OR_RETURN(const double threshold, fields.Number("hidden_act_param"));
    TC_ASSIGN_OR_RETURN(config.activation_threshold, CheckThreshold(threshold, file, "hidden_act_param"));
  }
  TC_ASSIGN_OR_RETURN(config.n_layers, fields.Integer("num_hidden_layers"));
  TC_ASSIGN_OR_RETURN(config.d_model, fields.Integer("hidden_size"));
  const bool falcon = architecture.name == "falcon";  // whose older files leave what follows to the defaults
  if (falcon && !fields.Has(architecture.d_ff_field)) {
    config.d_ff = config.d_model > 0 && config.d_model <= kMostWidth ? 4 * config.d_model : 0;
  } else {
    TC_ASSIGN_OR_RETURN(config.d_ff, fields.Integer(architecture.d_ff_field));
  }
  TC_ASSIGN_OR_RETURN(config.n_vocab, fields.Integer("vocab_size"));
  TC_ASSIGN_OR_RETURN(config.context_length, falcon ? fields.IntegerOr("max_position_embeddings", 2048)
                                                    : fields.Integer("max_position_embeddings"));
  const double usual_epsilon = architecture.norm == NormKind::kRms ? 1e-6 : 1e-5;
  TC_ASSIGN_OR_RETURN(config.norm_epsilon, fields.NumberOr(architecture.norm_epsilon_field, usual_epsilon));
  const bool tied = architecture.name.starts_with("gemma");
  TC_ASSIGN_OR_RETURN(config.tied_head, fields.BooleanOr("tie_word_embeddings", tied));
  TC_RETURN_IF_ERROR(ReadHeads(fields, file, config));
  if (config.positions == PositionKind::kRotary) {
    TC_RETURN_IF_ERROR(ReadRope(fields, file, config));
  } else {
    config.rope_dimensions = config.d_head;
  }
  TC_RETURN_IF_ERROR(ReadWindow(fields, architecture, file, config));
  TC_RETURN_IF_ERROR(ReadMore(fields, file, config));
  TC_RETURN_IF_ERROR(Validate(config, file));
  return config;
}

}  // namespace thermocline
