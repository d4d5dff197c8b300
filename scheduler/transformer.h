// Transformer: the forward pass of a LLaMA-shaped decoder over the devices of a plan.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/matrix.h"
#include "core/status.h"
#include "kernels_cpu/parallel.h"
#include "model/config.h"
#include "model/weights.h"
#include "scheduler/execution_trace.h"
#include "scheduler/graph_executor.h"
#include "scheduler/load_devices.h"
#include "scheduler/model_runner.h"
#include "scheduler/neuron_activity.h"
#include "scheduler/step_graph.h"

namespace thermocline {

struct TransformerOptions {
  int64_t context_tokens = 0;  // most of a sequence; 0: the model's context length
  int64_t kv_tokens = 0;       // of all sequences, in the KV cache; at least the context; 0: as much
  // Of the KV cache on the CPU and on emulated accelerators.
  ElementType kv_type = ElementType::kF16;
  int64_t block_tokens = 512;                // most tokens in one step; scratch grows with it
  bool pack_weights = true;                  // CpuDeviceOptions
  NeuronMode mode = NeuronMode::kDense;      // of decode steps
  const PredictorSet* predictors = nullptr;  // needed by kPredicted, and by audits; read while creating only
  const ThresholdSet* thresholds = nullptr;  // needed by kThreshold; read while creating only
  const Plan* plan = nullptr;                // nullptr: the CPU alone; read while creating only
  bool keep_host_copy = false;               // LoadDevices
  GpuOpener open_gpu = OpenGpu;
};

// Prefill steps are dense. Decode steps are computed in the runner's mode; of quality kExact a step of
// kPredicted is exact, and one of kThreshold dense. Steps that leave something out take at most
// kMostSparseTokens tokens at a time; longer ones are cut.
class Transformer final : public ModelRunner {
 public:
  // `config`, `weights` and the context's team and kernels must outlive the result; with a plan, the neurons
  // of split layers leave `weights` (LoadDevices). InvalidArgument when the context is above the model's,
  // when the mode needs silent neurons, predictors or thresholds that are not there, when these are of
  // another shape, or when a plan has an accelerator for kThreshold; ResourceExhausted when cache, scratch or
  // a device's part do not fit. All memory is taken here, but for the room that products keep for
  // activations in 8 bits, listed columns and panels of prompts: it grows with the longest step so far.
  static absl::StatusOr<std::unique_ptr<Transformer>> Create(const ModelConfig& config, ModelWeights& weights,
                                                             CpuContext context,
                                                             const TransformerOptions& options);

  int64_t context_length() const override { return context_tokens_; }
  int64_t n_vocab() const override { return config_.n_vocab; }
  int64_t max_step_tokens() const override { return block_tokens_; }
  bool predicts() const override {
    return mode_ == NeuronMode::kPredicted || mode_ == NeuronMode::kThreshold;
  }
  int64_t n_kv_pages() const override { return static_cast<int64_t>(all_pages_.size()); }
  absl::Status ForwardBatch(const BatchStep& step, MatrixView<float> logits) override;
  absl::StatusOr<AuditFigures> ForwardBatchAudited(const BatchStep& step, MatrixView<float> logits) override;
  absl::Status health() const override { return health_; }
  StepFigures last_step() const override { return figures_; }

  // A step of a sequence that is alone, with the logits of every token: (n_tokens, n_vocab).
  absl::Status ForwardAll(const StepInput& step, MatrixView<float> logits);

  // Not owned; must outlive the passes it sees. nullptr, as at first: nobody looks. Sees dense passes, on the
  // CPU alone.
  void SetFeedForwardObserver(FeedForwardObserver* observer);
  // The same.
  void SetInputObserver(InputObserver* observer);
  // Those of the steps to come, in mode kThreshold. InvalidArgument when they are of another shape.
  absl::Status SetThresholds(const ThresholdSet& thresholds);

  // ---- A layer by itself, on the CPU alone, of a sequence from its start: what thresholds are judged by. At
  // most max_step_tokens() tokens.

  // residual: (n_tokens, d_model), in front of the first layer.
  absl::Status EmbedTokens(std::span<const TokenId> tokens, MatrixView<float> residual);
  // behind = the residual stream behind the layer, of the one before it; both (n_tokens, d_model).
  // thresholds: what is left out, in place of the layer's own, which are gone; nullptr: nothing. Keys and
  // values go to pages 0, 1, ...
  void RunLayer(int64_t layer, const LayerThresholds* thresholds, MatrixView<const float> before,
                MatrixView<float> behind);
  // logits: (n_tokens, n_vocab), of the residual stream behind the last layer.
  void RunHead(MatrixView<const float> residual, MatrixView<float> logits);
  // Not owned; every step's operators are added to it. nullptr, as at first: none.
  void SetTrace(ExecutionTrace* trace) { trace_ = trace; }

  // Records decode steps while it is watched; audits are left out, not so the steps that they compare.
  NeuronActivity& activity() { return *activity_; }

  const ModelConfig& config() const { return config_; }
  const CpuContext& context() const { return context_; }
  NeuronMode mode() const { return mode_; }
  std::vector<const Device*> devices() const;
  const ExecutionStats& execution_stats() const override { return executor_->stats(); }
  void ResetExecutionStats() { executor_->ResetStats(); }

 private:
  // Which graph a step runs: with the predictors' operators or without.
  enum GraphKind { kPlain, kPredicting, kGraphs };

  Transformer(const ModelConfig& config, const ModelWeights& weights, CpuContext context);
  absl::Status Prepare(ModelWeights& weights, const TransformerOptions& options);
  absl::Status CheckStep(const BatchStep& step) const;
  absl::Status CheckSlice(const SequenceSlice& slice, StepKind kind) const;

  NeuronMode ModeOf(StepKind kind, Quality quality) const;

  // Runs a checked step. every_token: logits of all tokens instead of those that the slices want.
  absl::Status RunStep(const BatchStep& step, bool audit, bool every_token, MatrixView<float> logits);
  // Runs the tokens of parts_, a part of the step and all of one mode.
  absl::Status RunGraph(const BatchStep& step, std::span<const TokenId> tokens, NeuronMode mode, bool audit,
                        MatrixView<float> logits);
  // The first device's error, if any; keeps it where it is for good.
  absl::Status CheckDevices();
  void Embed();
  void AddPositions();  // learned ones, to the residual stream
  void AddFigures(NeuronMode mode, bool predicted);

  const ModelConfig& config_;
  const ModelWeights& weights_;
  const CpuContext context_;
  NeuronMode mode_ = NeuronMode::kDense;
  int64_t context_tokens_ = 0;
  int64_t block_tokens_ = 0;
  int64_t dense_bytes_ = 0;      // of attention, norms, embedding row and head: read by every step
  int64_t predictor_bytes_ = 0;  // of all layers
  int64_t kv_token_bytes_ = 0;   // of all layers, for one position
  bool has_predictors_ = false;
  ModelPlacement placement_;
  LoadedDevices devices_;
  std::unique_ptr<StepState> state_;
  std::unique_ptr<NeuronActivity> activity_;
  OperatorGraph graphs_[kGraphs];
  std::unique_ptr<GraphExecutor> executor_;
  std::vector<KvPage> all_pages_;     // 0, 1, 2, ...: of a sequence that is alone
  std::vector<SequenceSlice> parts_;  // of the part of a step that runs
  std::vector<int64_t> logit_rows_;   // of that part
  std::vector<Quality> qualities_;    // (kMostSparseTokens)
  std::vector<float> position_;       // (d_model), a row of the learned table
  std::vector<float> exact_logits_;   // (n_vocab), of audits
  absl::Status health_;
  StepFigures figures_;
  int64_t marked_active_ = 0;          // of the last step, an audit
  NeuronActivity* watcher_ = nullptr;  // of the step that runs
  ExecutionTrace* trace_ = nullptr;
};

}  // namespace thermocline
