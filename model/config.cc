// Validate: ranges, divisibility and products of a model's configuration.
// SPDX-License-Identifier: Apache-2.0
#include "model/config.h"

#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "core/checked.h"

namespace thermocline {
namespace {

struct IntegerRange {
  std::string_view field;
  int64_t value;
  int64_t least;
  int64_t most;
};

absl::Status CheckPositive(const std::string& file, std::string_view field, double value, double most) {
  if (value > 0 && value <= most) return absl::OkStatus();  // false for NaN
  return InvalidArgument("{}: {} is {}, the limit is above 0 and at most {}", file, field, value, most);
}

// The values of a full KV cache, 4 bytes each, must fit 63 bits, so that sizes can be computed unchecked.
absl::Status CheckCacheSize(const ModelConfig& config, const std::string& file) {
  constexpr auto kMost = static_cast<uint64_t>(INT64_MAX) / 4;
  std::optional<uint64_t> product = 2;  // keys and values
  for (const int64_t factor : {config.n_layers, config.context_length, config.n_kv_heads, config.d_head}) {
    if (product) product = CheckedMul(*product, static_cast<uint64_t>(factor));
  }
  if (product && *product <= kMost) return absl::OkStatus();
  return InvalidArgument(
      "{}: the KV cache of 2 x n_layers {} x context_length {} x n_kv_heads {} x d_head {} exceeds "
      "the limit of {} values",
      file, config.n_layers, config.context_length, config.n_kv_heads, config.d_head, kMost);
}

absl::Status ValidateScaling(const ModelConfig& config, const std::string& file) {
  const RopeScaling& scaling = config.rope_scaling;
  if (!scaling.frequency_divisors.empty()) {
    const auto pairs = static_cast<size_t>(config.rope_dimensions / 2);
    if (scaling.frequency_divisors.size() != pairs) {
      return InvalidArgument(
          "{}: the RoPE frequency divisors are {}, the limit is {}, half of rope_dimensions", file,
          scaling.frequency_divisors.size(), pairs);
    }
    for (size_t i = 0; i < pairs; ++i) {
      TC_RETURN_IF_ERROR(CheckPositive(file, fmt::format("RoPE frequency divisor {}", i),
                                       static_cast<double>(scaling.frequency_divisors[i]), 1e9));
    }
  }
  if (scaling.kind == RopeScaling::Kind::kNone) return absl::OkStatus();
  TC_RETURN_IF_ERROR(CheckPositive(file, "rope_scaling factor", scaling.factor, 1e6));
  if (scaling.kind == RopeScaling::Kind::kLinear) return absl::OkStatus();
  TC_RETURN_IF_ERROR(CheckPositive(file, "rope_scaling low_freq_factor", scaling.low_freq_factor, 1e6));
  TC_RETURN_IF_ERROR(CheckPositive(file, "rope_scaling high_freq_factor", scaling.high_freq_factor, 1e6));
  if (scaling.high_freq_factor <= scaling.low_freq_factor) {
    return InvalidArgument("{}: rope_scaling high_freq_factor is {}, the limit is above low_freq_factor {}",
                           file, scaling.high_freq_factor, scaling.low_freq_factor);
  }
  if (scaling.original_context_length < 1 || scaling.original_context_length > INT32_MAX) {
    return InvalidArgument("{}: rope_scaling original_max_position_embeddings is {}, the limit is 1 to {}",
                           file, scaling.original_context_length, INT32_MAX);
  }
  return absl::OkStatus();
}

absl::Status ValidateScales(const ModelConfig& config, const std::string& file) {
  TC_RETURN_IF_ERROR(CheckPositive(file, "embedding_scale", config.embedding_scale, 1e6));
  TC_RETURN_IF_ERROR(CheckPositive(file, "residual_scale", config.residual_scale, 1e6));
  TC_RETURN_IF_ERROR(CheckPositive(file, "logit_scale", config.logit_scale, 1e6));
  for (const auto& [field, value] : {std::pair("attention scale", config.attention_scale),
                                     std::pair("attention soft cap", config.attention_soft_cap),
                                     std::pair("logit soft cap", config.logit_soft_cap),
                                     std::pair("the sliding layers' rope_theta", config.window.rope_theta)}) {
    if (value != 0) TC_RETURN_IF_ERROR(CheckPositive(file, field, value, 1e15));
  }
  if (!config.window.layers.empty() && std::ssize(config.window.layers) != config.n_layers) {
    return InvalidArgument("{}: {} layers are said to have a sliding window or none, the limit is {}", file,
                           config.window.layers.size(), config.n_layers);
  }
  if (config.ternary == TernaryWeights::kPacked) {
    for (const auto& [field, rows] : {std::pair("d_model", config.d_model), std::pair("d_ff", config.d_ff),
                                      std::pair("n_kv_heads x d_head", config.n_kv_heads * config.d_head)}) {
      if (rows % 4 != 0)
        return InvalidArgument("{}: {} is {}, the limit is a multiple of 4: weights are packed", file, field,
                               rows);
    }
  }
  if (config.activation == Activation::kDRelu && !config.gated)
    return InvalidArgument("{}: activation drelu needs a gated feed-forward block", file);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<float> CheckThreshold(double threshold, const std::string& file, std::string_view field) {
  constexpr float kMost = std::numeric_limits<float>::max();
  if (threshold >= 0 && threshold <= static_cast<double>(kMost)) {  // false for NaN
    return static_cast<float>(threshold);
  }
  return InvalidArgument("{}: {} is {}, the limit is 0 to {}", file, field, threshold, kMost);
}

absl::Status Validate(const ModelConfig& config, const std::string& file) {
  const IntegerRange ranges[] = {
      {"n_layers", config.n_layers, 1, 4096},
      {"d_model", config.d_model, 1, int64_t{1} << 20},
      {"d_ff", config.d_ff, 1, int64_t{1} << 24},
      {"n_heads", config.n_heads, 1, 65536},
      {"n_kv_heads", config.n_kv_heads, 1, config.n_heads},
      {"d_head", config.d_head, 2, 65536},
      {"n_vocab", config.n_vocab, 1, INT32_MAX},  // token ids are 32 bits wide
      {"context_length", config.context_length, 1, INT32_MAX},
      {"rope_dimensions", config.rope_dimensions, 2, config.d_head},
      {"sliding_window", config.window.tokens, 0, INT32_MAX},
  };
  for (const IntegerRange& range : ranges) {
    if (range.value < range.least || range.value > range.most) {
      return InvalidArgument("{}: {} is {}, the limit is {} to {}", file, range.field, range.value,
                             range.least, range.most);
    }
  }
  if (config.n_heads % config.n_kv_heads != 0) {
    return InvalidArgument("{}: n_heads is {}, the limit is a multiple of n_kv_heads, which is {}", file,
                           config.n_heads, config.n_kv_heads);
  }
  if (config.d_head % 2 != 0) {
    return InvalidArgument("{}: d_head is {}, the limit is an even number", file, config.d_head);
  }
  if (config.rope_dimensions % 2 != 0) {
    return InvalidArgument("{}: rope_dimensions is {}, the limit is an even number", file,
                           config.rope_dimensions);
  }
  TC_RETURN_IF_ERROR(ValidateScales(config, file));
  TC_RETURN_IF_ERROR(CheckPositive(file, "norm_epsilon", config.norm_epsilon, 1.0));
  TC_RETURN_IF_ERROR(CheckPositive(file, "rope_theta", config.rope_theta, 1e15));
  TC_RETURN_IF_ERROR(ValidateScaling(config, file));
  // Within these ranges no weight matrix comes near 2^61 elements; the KV cache can.
  return CheckCacheSize(config, file);
}

}  // namespace thermocline
