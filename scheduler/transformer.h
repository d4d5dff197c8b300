// Transformer: the forward pass of a LLaMA-shaped decoder on the CPU.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <span>

#include "core/matrix.h"
#include "core/status.h"
#include "kernels_cpu/parallel.h"
#include "model/config.h"
#include "model/weights.h"
#include "scheduler/kv_cache.h"
#include "scheduler/model_runner.h"
#include "scheduler/rope_table.h"

namespace thermocline {

struct TransformerOptions {
  int64_t context_tokens = 0;  // capacity of the KV cache; 0: the model's context length
  int64_t block_tokens = 128;  // most tokens in one step; scratch grows with it
};

// Sees what happens inside the feed-forward blocks of every forward pass, layer after layer.
class FeedForwardObserver {
 public:
  virtual ~FeedForwardObserver() = default;
  // input: (n_tokens, d_model), what the gate multiplies; gate: (n_tokens, d_ff), before the activation.
  // Valid during the call, which comes on Forward's thread.
  virtual void OnGate(int64_t layer, MatrixView<const float> input, MatrixView<const float> gate) = 0;
};

class Transformer final : public ModelRunner {
 public:
  // `weights` and the context's team and kernels must outlive the result. InvalidArgument when the context is
  // above the model's; ResourceExhausted when cache or scratch do not fit. All memory is taken here: Forward
  // allocates nothing.
  static absl::StatusOr<std::unique_ptr<Transformer>> Create(const ModelConfig& config,
                                                             const ModelWeights& weights, CpuContext context,
                                                             const TransformerOptions& options);

  int64_t context_length() const override { return cache_.capacity_tokens(); }
  int64_t n_vocab() const override { return config_.n_vocab; }
  int64_t max_step_tokens() const override { return block_tokens_; }
  bool predicts() const override { return false; }
  absl::Status Forward(const StepInput& step, std::span<float> logits) override;
  absl::StatusOr<AuditFigures> ForwardAudited(const StepInput& step, std::span<float> logits) override;
  StepFigures last_step() const override { return {}; }

  // The same with the logits of every token: (n_tokens, n_vocab).
  absl::Status ForwardAll(const StepInput& step, MatrixView<float> logits);

  // Not owned; must outlive the passes it sees. nullptr, as at first: nobody looks.
  void SetFeedForwardObserver(FeedForwardObserver* observer) { observer_ = observer; }

  const ModelConfig& config() const { return config_; }
  const CpuContext& context() const { return context_; }

 private:
  // Activations of one block of tokens.
  struct Scratch {
    Matrix<float> residual;  // (n_tokens, d_model)
    Matrix<float> normed;    // (n_tokens, d_model)
    Matrix<float> update;    // (n_tokens, d_model), what a block adds to the residual
    Matrix<float> queries;   // (n_tokens, n_heads * d_head)
    Matrix<float> keys;      // (n_tokens, n_kv_heads * d_head)
    Matrix<float> values;    // (n_tokens, n_kv_heads * d_head)
    Matrix<float> attended;  // (n_tokens, n_heads * d_head)
    Matrix<float> scores;    // (n_heads, context)
    Matrix<float> gate;      // (n_tokens, d_ff)
    Matrix<float> up;        // (n_tokens, d_ff)
    Matrix<float> partials;  // (1, FfnPartialsSize)
    Matrix<float> cos, sin;  // (n_tokens, rotated pairs)
  };

  Transformer(const ModelConfig& config, const ModelWeights& weights, CpuContext context);
  absl::Status Allocate(const TransformerOptions& options);
  absl::Status CheckStep(std::span<const TokenId> tokens, int64_t first_position, int64_t logit_rows) const;

  // residual rows [0, n_tokens) from the embedding through all layers.
  void ForwardLayers(std::span<const TokenId> tokens, int64_t first_position);
  void AttentionBlock(const LayerWeights& layer, int64_t index, int64_t n_tokens, int64_t first_position);
  void FeedForwardBlock(const LayerWeights& layer, int64_t index, int64_t n_tokens);
  // Final norm and head of the residual rows [first_row, first_row + logits.rows).
  void Head(int64_t first_row, MatrixView<float> logits);

  const ModelConfig& config_;
  const ModelWeights& weights_;
  const CpuContext context_;
  const RopeTable rope_;
  FeedForwardObserver* observer_ = nullptr;
  int64_t block_tokens_ = 0;
  KvCache cache_;
  Scratch scratch_;
};

}  // namespace thermocline
