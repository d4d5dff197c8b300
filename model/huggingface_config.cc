// Reads config.json of LlamaForCausalLM, as transformers 4 and 5 write it.
// SPDX-License-Identifier: Apache-2.0
#include "model/huggingface_config.h"

#include "model/architecture.h"
#include "model/printable.h"
#include "model/strict_json.h"

namespace thermocline {
namespace {

using Json = nlohmann::json;

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

// What changes the computation and is not supported is refused by name.
absl::Status RefuseUnsupported(const Fields& fields, const std::string& file) {
  for (const std::string_view name : {"attention_bias", "mlp_bias"}) {
    TC_ASSIGN_OR_RETURN(const bool bias, fields.BooleanOr(name, false));
    if (bias)
      return Unimplemented("{}: {} is true, the limit is false: biases are not supported", file, name);
  }
  if (fields.Has("quantization_config")) {
    return Unimplemented(
        "{}: quantization_config is given: only F32, F16 and BF16 weights are supported here", file);
  }
  TC_ASSIGN_OR_RETURN(const double rotated, fields.NumberOr("partial_rotary_factor", 1.0));
  if (rotated != 1.0) {
    return Unimplemented("{}: partial_rotary_factor is {}, the limit is 1", file, rotated);
  }
  return absl::OkStatus();
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
  if (!rope.Has("rope_type") && !rope.Has("type") && object == "rope_parameters") return "default";
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

absl::Status ReadRope(const Fields& fields, const std::string& file, ModelConfig& config) {
  TC_ASSIGN_OR_RETURN(config.rope_theta, fields.NumberOr("rope_theta", 10000.0));
  config.rope_dimensions = config.d_head;
  config.rope_pairing = RopePairing::kHalf;
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
  TC_ASSIGN_OR_RETURN(config.rope_theta, rope.NumberOr("rope_theta", config.rope_theta));
  TC_ASSIGN_OR_RETURN(const double rotated, rope.NumberOr("partial_rotary_factor", 1.0));
  if (rotated != 1.0) {
    return Unimplemented("{}: {}.partial_rotary_factor is {}, the limit is 1", file, name, rotated);
  }
  return ReadScaling(rope, file, name, config.rope_scaling);
}

absl::StatusOr<Activation> ReadActivation(const Fields& fields, const std::string& file,
                                          Activation otherwise) {
  if (!fields.Has("hidden_act")) return otherwise;
  TC_ASSIGN_OR_RETURN(const std::string name, fields.String("hidden_act"));
  const auto activation = ParseActivation(name);
  if (!activation.ok()) {
    return Unimplemented("{}: hidden_act: activation '{}' is not supported; known are relu, silu, fatrelu",
                         file, Printable(name));
  }
  return *activation;
}

}  // namespace

absl::StatusOr<ModelConfig> ConfigFromHuggingFace(std::string_view text, const std::string& file,
                                                  std::optional<Activation> activation) {
  TC_ASSIGN_OR_RETURN(const Json document, ParseStrictJson(text, file));
  const Fields fields(document, file);
  TC_ASSIGN_OR_RETURN(const Architecture architecture, ReadArchitecture(fields, file));
  TC_RETURN_IF_ERROR(RefuseUnsupported(fields, file));
  ModelConfig config;
  config.architecture = architecture.name;
  config.gated = architecture.gated;
  if (activation) {
    config.activation = *activation;
  } else {
    TC_ASSIGN_OR_RETURN(config.activation, ReadActivation(fields, file, architecture.activation));
  }
  if (config.activation == Activation::kFatRelu) {
    TC_ASSIGN_OR_RETURN(const double threshold, fields.Number("hidden_act_param"));
    TC_ASSIGN_OR_RETURN(config.activation_threshold, CheckThreshold(threshold, file, "hidden_act_param"));
  }
  TC_ASSIGN_OR_RETURN(config.n_layers, fields.Integer("num_hidden_layers"));
  TC_ASSIGN_OR_RETURN(config.d_model, fields.Integer("hidden_size"));
  TC_ASSIGN_OR_RETURN(config.d_ff, fields.Integer("intermediate_size"));
  TC_ASSIGN_OR_RETURN(config.n_vocab, fields.Integer("vocab_size"));
  TC_ASSIGN_OR_RETURN(config.context_length, fields.Integer("max_position_embeddings"));
  TC_ASSIGN_OR_RETURN(config.norm_epsilon, fields.NumberOr("rms_norm_eps", 1e-6));
  TC_ASSIGN_OR_RETURN(config.tied_head, fields.BooleanOr("tie_word_embeddings", false));
  TC_RETURN_IF_ERROR(ReadHeads(fields, file, config));
  TC_RETURN_IF_ERROR(ReadRope(fields, file, config));
  TC_RETURN_IF_ERROR(Validate(config, file));
  return config;
}

}  // namespace thermocline
