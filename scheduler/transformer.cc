// The forward pass. A layer reads as in the paper: norm, attention, add; norm, feed-forward, add.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/transformer.h"

#include <algorithm>
#include <cmath>

namespace thermocline {

Transformer::Transformer(const ModelConfig& config, const ModelWeights& weights, CpuContext context)
    : config_(config), weights_(weights), context_(context), rope_(config) {}

absl::StatusOr<std::unique_ptr<Transformer>> Transformer::Create(const ModelConfig& config,
                                                                 const ModelWeights& weights,
                                                                 CpuContext context,
                                                                 const TransformerOptions& options) {
  if (options.context_tokens < 0 || options.context_tokens > config.context_length) {
    return InvalidArgument("--context is {}, the model's context is {} tokens", options.context_tokens,
                           config.context_length);
  }
  if (options.block_tokens < 1)
    return InvalidArgument("a step of {} tokens is not possible", options.block_tokens);
  std::unique_ptr<Transformer> transformer(new Transformer(config, weights, context));
  TC_RETURN_IF_ERROR(transformer->Allocate(options));
  return transformer;
}

absl::Status Transformer::Allocate(const TransformerOptions& options) {
  const int64_t context_tokens = options.context_tokens > 0 ? options.context_tokens : config_.context_length;
  block_tokens_ = std::min(options.block_tokens, context_tokens);
  TC_ASSIGN_OR_RETURN(cache_, KvCache::Create(config_, context_tokens));

  const int64_t q_width = config_.n_heads * config_.d_head;
  const int64_t kv_width = config_.n_kv_heads * config_.d_head;
  const auto allocate = [&](Matrix<float>& matrix, int64_t rows, int64_t cols) -> absl::Status {
    TC_ASSIGN_OR_RETURN(matrix, Matrix<float>::Create(rows, cols));
    return absl::OkStatus();
  };
  TC_RETURN_IF_ERROR(allocate(scratch_.residual, block_tokens_, config_.d_model));
  TC_RETURN_IF_ERROR(allocate(scratch_.normed, block_tokens_, config_.d_model));
  TC_RETURN_IF_ERROR(allocate(scratch_.update, block_tokens_, config_.d_model));
  TC_RETURN_IF_ERROR(allocate(scratch_.queries, block_tokens_, q_width));
  TC_RETURN_IF_ERROR(allocate(scratch_.keys, block_tokens_, kv_width));
  TC_RETURN_IF_ERROR(allocate(scratch_.values, block_tokens_, kv_width));
  TC_RETURN_IF_ERROR(allocate(scratch_.attended, block_tokens_, q_width));
  TC_RETURN_IF_ERROR(allocate(scratch_.scores, config_.n_heads, context_tokens));
  TC_RETURN_IF_ERROR(allocate(scratch_.gate, block_tokens_, config_.d_ff));
  TC_RETURN_IF_ERROR(allocate(scratch_.up, block_tokens_, config_.d_ff));
  TC_RETURN_IF_ERROR(allocate(scratch_.partials, 1, FfnPartialsSize(config_.d_model)));
  TC_RETURN_IF_ERROR(allocate(scratch_.cos, block_tokens_, rope_.pairs()));
  return allocate(scratch_.sin, block_tokens_, rope_.pairs());
}

absl::Status Transformer::CheckStep(std::span<const TokenId> tokens, int64_t first_position,
                                    int64_t logit_rows) const {
  const auto n_tokens = static_cast<int64_t>(tokens.size());
  if (n_tokens < 1 || n_tokens > block_tokens_) {
    return InvalidArgument("a step of {} tokens, allowed are 1 to {}", n_tokens, block_tokens_);
  }
  if (first_position < 0 || first_position + n_tokens > cache_.capacity_tokens()) {
    return OutOfRange("positions {} to {} are outside the context of {} tokens", first_position,
                      first_position + n_tokens - 1, cache_.capacity_tokens());
  }
  for (const TokenId token : tokens) {
    if (token < 0 || token >= config_.n_vocab) {
      return InvalidArgument("token {} is outside the vocabulary of {}", token, config_.n_vocab);
    }
  }
  TC_CHECK(logit_rows == 1 || logit_rows == n_tokens);
  return absl::OkStatus();
}

absl::Status Transformer::Forward(const StepInput& step, std::span<float> logits) {
  TC_RETURN_IF_ERROR(CheckStep(step.tokens, step.first_position, 1));
  TC_CHECK(static_cast<int64_t>(logits.size()) == config_.n_vocab);
  ForwardLayers(step.tokens, step.first_position);
  Head(static_cast<int64_t>(step.tokens.size()) - 1, {logits.data(), 1, config_.n_vocab, config_.n_vocab});
  return absl::OkStatus();
}

absl::Status Transformer::ForwardAll(const StepInput& step, MatrixView<float> logits) {
  TC_RETURN_IF_ERROR(CheckStep(step.tokens, step.first_position, logits.rows));
  TC_CHECK(logits.cols == config_.n_vocab);
  ForwardLayers(step.tokens, step.first_position);
  Head(0, logits);
  return absl::OkStatus();
}

absl::StatusOr<AuditFigures> Transformer::ForwardAudited(const StepInput&, std::span<float>) {
  return FailedPrecondition("no predictors to audit");
}

void Transformer::ForwardLayers(std::span<const TokenId> tokens, int64_t first_position) {
  const auto n_tokens = static_cast<int64_t>(tokens.size());
  const WeightView& embedding = weights_.token_embedding;
  for (int64_t t = 0; t < n_tokens; ++t) {
    context_.kernels->dequantize(embedding.type, embedding.row_data(tokens[static_cast<size_t>(t)]),
                                 config_.d_model, scratch_.residual.row(t).data());
  }
  rope_.Angles(first_position, scratch_.cos.view().Rows(0, n_tokens), scratch_.sin.view().Rows(0, n_tokens));
  for (int64_t l = 0; l < config_.n_layers; ++l) {
    const LayerWeights& layer = weights_.layers[static_cast<size_t>(l)];
    AttentionBlock(layer, l, n_tokens, first_position);
    FeedForwardBlock(layer, l, n_tokens);
  }
}

void Transformer::AttentionBlock(const LayerWeights& layer, int64_t index, int64_t n_tokens,
                                 int64_t first_position) {
  const auto rows = [n_tokens](Matrix<float>& matrix) { return matrix.view().Rows(0, n_tokens); };
  const auto x = rows(scratch_.residual), normed = rows(scratch_.normed), update = rows(scratch_.update);
  const auto q = rows(scratch_.queries), k = rows(scratch_.keys), v = rows(scratch_.values);
  const auto cos = rows(scratch_.cos), sin = rows(scratch_.sin), attended = rows(scratch_.attended);
  const auto epsilon = static_cast<float>(config_.norm_epsilon);
  const bool half = config_.rope_pairing == RopePairing::kHalf;

  RmsNorm(context_, x, layer.attention_norm, epsilon, normed);
  MatMul(context_, layer.query, normed, q);
  MatMul(context_, layer.key, normed, k);
  MatMul(context_, layer.value, normed, v);
  Rope(context_, cos, sin, config_.d_head, half, q);
  Rope(context_, cos, sin, config_.d_head, half, k);
  cache_.Store(index, first_position, k, v);
  Attention(context_,
            {.queries = q,
             .output = attended,
             .keys = cache_.keys(index),
             .values = cache_.values(index),
             .head_stride = cache_.head_stride(),
             .n_heads = config_.n_heads,
             .n_kv_heads = config_.n_kv_heads,
             .d_head = config_.d_head,
             .first_position = first_position,
             .scale = 1.0f / std::sqrt(static_cast<float>(config_.d_head))},
            scratch_.scores.view());
  MatMul(context_, layer.attention_output, attended, update);
  AddRows(context_, update, x);
}

void Transformer::FeedForwardBlock(const LayerWeights& layer, int64_t index, int64_t n_tokens) {
  const auto rows = [n_tokens](Matrix<float>& matrix) { return matrix.view().Rows(0, n_tokens); };
  const auto x = rows(scratch_.residual), normed = rows(scratch_.normed), update = rows(scratch_.update);
  const auto gate = rows(scratch_.gate), up = rows(scratch_.up);
  const FeedForward& ffn = layer.ffn;
  const bool bundled = ffn.layout == FfnLayout::kBundles;

  RmsNorm(context_, x, layer.ffn_norm, static_cast<float>(config_.norm_epsilon), normed);
  MatMul(context_, bundled ? ffn.bundles.gate() : ffn.gate, normed, gate);
  if (observer_ != nullptr) observer_->OnGate(index, normed, gate);
  MatMul(context_, bundled ? ffn.bundles.up() : ffn.up, normed, up);
  GatedActivation(context_, config_.activation_function(), gate, up, gate);
  if (bundled) {
    NeuronMajorDown(context_, ffn.bundles.down(), gate, scratch_.partials.row(0), update);
  } else {
    MatMul(context_, ffn.down, gate, update);
  }
  AddRows(context_, update, x);
}

void Transformer::Head(int64_t first_row, MatrixView<float> logits) {
  const auto normed = scratch_.normed.view().Rows(0, logits.rows);
  RmsNorm(context_, scratch_.residual.view().Rows(first_row, logits.rows), weights_.output_norm,
          static_cast<float>(config_.norm_epsilon), normed);
  MatMul(context_, weights_.head, normed, logits);
}

}  // namespace thermocline
