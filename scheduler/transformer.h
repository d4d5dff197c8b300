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
#include "scheduler/step_graph.h"

namespace thermocline {

struct TransformerOptions {
  int64_t context_tokens = 0;                // capacity of the KV cache; 0: the model's context length
  int64_t block_tokens = 128;                // most tokens in one step; scratch grows with it
  NeuronMode mode = NeuronMode::kDense;      // of decode steps
  const PredictorSet* predictors = nullptr;  // needed by kPredicted, and by audits; read while creating only
  const Plan* plan = nullptr;                // nullptr: the CPU alone; read while creating only
  bool keep_host_copy = false;               // LoadDevices
};

// Prefill steps are dense. Decode steps are computed in the runner's mode; of kPredicted a step of quality
// kExact is exact. Steps with neurons left out take at most kMostSparseTokens tokens at a time; longer ones
// are cut.
class Transformer final : public ModelRunner {
 public:
  // `config`, `weights` and the context's team and kernels must outlive the result; with a plan, the neurons
  // of split layers leave `weights` (LoadDevices). InvalidArgument when the context is above the model's,
  // when the mode needs silent neurons or predictors that are not there, or when predictors are of another
  // shape; ResourceExhausted when cache, scratch or a device's part do not fit. All memory is taken here:
  // Forward allocates nothing.
  static absl::StatusOr<std::unique_ptr<Transformer>> Create(const ModelConfig& config, ModelWeights& weights,
                                                             CpuContext context,
                                                             const TransformerOptions& options);

  int64_t context_length() const override { return context_tokens_; }
  int64_t n_vocab() const override { return config_.n_vocab; }
  int64_t max_step_tokens() const override { return block_tokens_; }
  bool predicts() const override { return mode_ == NeuronMode::kPredicted; }
  absl::Status Forward(const StepInput& step, std::span<float> logits) override;
  absl::StatusOr<AuditFigures> ForwardAudited(const StepInput& step, std::span<float> logits) override;
  StepFigures last_step() const override { return figures_; }

  // The same with the logits of every token: (n_tokens, n_vocab).
  absl::Status ForwardAll(const StepInput& step, MatrixView<float> logits);

  // Not owned; must outlive the passes it sees. nullptr, as at first: nobody looks. Sees dense passes, on the
  // CPU alone.
  void SetFeedForwardObserver(FeedForwardObserver* observer);
  // Not owned; every step's operators are added to it. nullptr, as at first: none.
  void SetTrace(ExecutionTrace* trace) { trace_ = trace; }

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
  absl::Status CheckStep(const StepInput& step, int64_t logit_rows) const;
  NeuronMode ModeOf(const StepInput& step) const;

  // Runs a checked step; logits: (1 or n_tokens, n_vocab).
  void RunStep(const StepInput& step, NeuronMode mode, bool audit, MatrixView<float> logits);
  void RunGraph(const StepInput& step, NeuronMode mode, bool audit, MatrixView<float> logits);
  void Embed();
  void AddFigures(NeuronMode mode, bool predicted);

  const ModelConfig& config_;
  const ModelWeights& weights_;
  const CpuContext context_;
  NeuronMode mode_ = NeuronMode::kDense;
  int64_t context_tokens_ = 0;
  int64_t block_tokens_ = 0;
  int64_t dense_bytes_ = 0;      // of attention, norms, embedding row and head: read by every step
  int64_t predictor_bytes_ = 0;  // of all layers
  bool has_predictors_ = false;
  ModelPlacement placement_;
  LoadedDevices devices_;
  std::unique_ptr<StepState> state_;
  OperatorGraph graphs_[kGraphs];
  std::unique_ptr<GraphExecutor> executor_;
  std::vector<Quality> qualities_;   // (kMostSparseTokens)
  std::vector<float> exact_logits_;  // (n_vocab), of audits
  StepFigures figures_;
  int64_t marked_active_ = 0;  // of the last step, an audit
  ExecutionTrace* trace_ = nullptr;
};

}  // namespace thermocline
