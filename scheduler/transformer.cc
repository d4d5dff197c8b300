// The forward pass: checks, the choice of graph, figures. What a layer does is in step_graph.cc and
// cpu_device.cc.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/transformer.h"

#include <algorithm>
#include <cmath>

#include "scheduler/distribution.h"

namespace thermocline {
namespace {

std::string_view LabelOf(const StepInput& step) {
  return step.kind == StepKind::kPrefill ? "prefill" : "decode";
}

}  // namespace

Transformer::Transformer(const ModelConfig& config, const ModelWeights& weights, CpuContext context)
    : config_(config), weights_(weights), context_(context) {}

absl::StatusOr<std::unique_ptr<Transformer>> Transformer::Create(const ModelConfig& config,
                                                                 ModelWeights& weights, CpuContext context,
                                                                 const TransformerOptions& options) {
  if (options.context_tokens < 0 || options.context_tokens > config.context_length) {
    return InvalidArgument("--context is {}, the model's context is {} tokens", options.context_tokens,
                           config.context_length);
  }
  if (options.block_tokens < 1)
    return InvalidArgument("a step of {} tokens is not possible", options.block_tokens);
  const bool bundled = weights.layers.front().ffn.layout == FfnLayout::kBundles;
  if (options.mode != NeuronMode::kDense && !(bundled && HasTrueZeros(config.activation))) {
    return InvalidArgument("mode {} leaves silent neurons out; with {} none is ever silent",
                           NameOf(options.mode), NameOf(config.activation));
  }
  if (options.plan != nullptr && !bundled)
    return InvalidArgument("a plan places neurons, the model's weights are laid out as matrices");
  if (options.mode == NeuronMode::kPredicted && options.predictors == nullptr)
    return InvalidArgument("mode predicted needs predictors; thermocline profile trains them");
  std::unique_ptr<Transformer> transformer(new Transformer(config, weights, context));
  TC_RETURN_IF_ERROR(transformer->Prepare(weights, options));
  return transformer;
}

absl::Status Transformer::Prepare(ModelWeights& weights, const TransformerOptions& options) {
  mode_ = options.mode;
  context_tokens_ = options.context_tokens > 0 ? options.context_tokens : config_.context_length;
  block_tokens_ = std::min(options.block_tokens, context_tokens_);
  if (options.plan != nullptr && options.plan->devices.size() > 1)
    block_tokens_ = std::min(block_tokens_, kAcceleratorBlockTokens);
  if (options.predictors != nullptr) {
    const ModelIdentity& model = options.predictors->model;
    if (model.n_layers != config_.n_layers || model.d_model != config_.d_model ||
        model.d_ff != config_.d_ff) {
      return InvalidArgument(
          "the predictors are for {} layers of {} neurons of width {}, the model has {}, {}, {}",
          model.n_layers, model.d_ff, model.d_model, config_.n_layers, config_.d_ff, config_.d_model);
    }
    has_predictors_ = true;
    for (const LayerPredictor& predictor : options.predictors->layers)
      predictor_bytes_ += predictor.SizeBytes(config_.d_model, config_.d_ff);
  }
  dense_bytes_ = weights.bytes_per_token() - weights.ffn_bytes();

  if (options.plan != nullptr) {
    TC_ASSIGN_OR_RETURN(placement_, PlacementOf(*options.plan, config_));
  } else {
    placement_ = PlaceOnCpu(config_);
  }
  TC_ASSIGN_OR_RETURN(devices_, LoadDevices(config_, weights, context_, placement_,
                                            {.context_tokens = context_tokens_,
                                             .block_tokens = block_tokens_,
                                             .plan = options.plan,
                                             .predictors = options.predictors,
                                             .keep_host_copy = options.keep_host_copy}));
  TC_ASSIGN_OR_RETURN(state_, StepState::Create(config_, placement_, block_tokens_));
  TC_ASSIGN_OR_RETURN(executor_, GraphExecutor::Create(placement_.n_devices));
  const auto build = [this](bool predict) {
    return BuildStepGraph(
        placement_, devices_.devices, *state_, [this] { Embed(); }, predict);
  };
  graphs_[kPlain] = build(false);
  if (has_predictors_) graphs_[kPredicting] = build(true);
  qualities_.resize(kMostSparseTokens);
  if (predicts()) exact_logits_.resize(static_cast<size_t>(config_.n_vocab));
  return absl::OkStatus();
}

void Transformer::SetFeedForwardObserver(FeedForwardObserver* observer) {
  TC_CHECK(placement_.n_devices == 1);
  devices_.cpu->SetFeedForwardObserver(observer);
}

std::vector<const Device*> Transformer::devices() const {
  std::vector<const Device*> devices;
  for (const auto& device : devices_.devices) devices.push_back(device.get());
  return devices;
}

absl::Status Transformer::CheckStep(const StepInput& step, int64_t logit_rows) const {
  const auto n_tokens = static_cast<int64_t>(step.tokens.size());
  if (n_tokens < 1 || n_tokens > block_tokens_) {
    return InvalidArgument("a step of {} tokens, allowed are 1 to {}", n_tokens, block_tokens_);
  }
  if (step.first_position < 0 || step.first_position + n_tokens > context_tokens_) {
    return OutOfRange("positions {} to {} are outside the context of {} tokens", step.first_position,
                      step.first_position + n_tokens - 1, context_tokens_);
  }
  for (const TokenId token : step.tokens) {
    if (token < 0 || token >= config_.n_vocab) {
      return InvalidArgument("token {} is outside the vocabulary of {}", token, config_.n_vocab);
    }
  }
  if (step.kind == StepKind::kDecode && step.quality != Quality::kExact && !predicts()) {
    return FailedPrecondition("quality '{}' needs mode predicted, the mode is {}", NameOf(step.quality),
                              NameOf(mode_));
  }
  TC_CHECK(logit_rows == 1 || logit_rows == n_tokens);
  return absl::OkStatus();
}

NeuronMode Transformer::ModeOf(const StepInput& step) const {
  if (step.kind == StepKind::kPrefill) return NeuronMode::kDense;
  if (mode_ == NeuronMode::kPredicted && step.quality == Quality::kExact) return NeuronMode::kExact;
  return mode_;
}

absl::Status Transformer::Forward(const StepInput& step, std::span<float> logits) {
  TC_RETURN_IF_ERROR(CheckStep(step, 1));
  TC_CHECK(static_cast<int64_t>(logits.size()) == config_.n_vocab);
  RunStep(step, ModeOf(step), /*audit=*/false, {logits.data(), 1, config_.n_vocab, config_.n_vocab});
  return absl::OkStatus();
}

absl::Status Transformer::ForwardAll(const StepInput& step, MatrixView<float> logits) {
  TC_RETURN_IF_ERROR(CheckStep(step, logits.rows));
  TC_CHECK(logits.cols == config_.n_vocab);
  RunStep(step, ModeOf(step), /*audit=*/false, logits);
  return absl::OkStatus();
}

absl::StatusOr<AuditFigures> Transformer::ForwardAudited(const StepInput& step, std::span<float> logits) {
  TC_RETURN_IF_ERROR(CheckStep(step, 1));
  if (step.tokens.size() != 1 || ModeOf(step) != NeuronMode::kPredicted)
    return InvalidArgument("an audit compares one token of a predicted step with the exact one");
  // The exact step first: its keys and values at this position are then written over.
  RunStep(step, NeuronMode::kExact, /*audit=*/true,
          {exact_logits_.data(), 1, config_.n_vocab, config_.n_vocab});
  AuditFigures audit{.active_neurons = figures_.active_neurons, .marked_active_neurons = marked_active_};
  TC_RETURN_IF_ERROR(Forward(step, logits));
  const DistributionDistance distance = CompareDistributions(exact_logits_, logits);
  audit.kl_divergence = distance.kl_divergence;
  audit.same_top = distance.same_top;
  return audit;
}

void Transformer::RunStep(const StepInput& step, NeuronMode mode, bool audit, MatrixView<float> logits) {
  figures_ = {};
  marked_active_ = 0;
  const auto n_tokens = static_cast<int64_t>(step.tokens.size());
  const int64_t most = mode == NeuronMode::kDense ? n_tokens : kMostSparseTokens;
  for (int64_t begin = 0; begin < n_tokens; begin += most) {
    const int64_t count = std::min(most, n_tokens - begin);
    StepInput part = step;
    part.tokens = step.tokens.subspan(static_cast<size_t>(begin), static_cast<size_t>(count));
    part.first_position = step.first_position + begin;
    const bool last = begin + count == n_tokens;
    const bool every_token = logits.rows > 1;
    RunGraph(part, mode, audit, every_token ? logits.Rows(begin, count) : logits.Rows(0, last ? 1 : 0));
  }
}

void Transformer::RunGraph(const StepInput& step, NeuronMode mode, bool audit, MatrixView<float> logits) {
  const bool predict = mode == NeuronMode::kPredicted || audit;
  const auto n_tokens = static_cast<int64_t>(step.tokens.size());
  StepState& state = *state_;
  state.tokens = step.tokens;
  state.logits = logits;
  state.step = {.n_tokens = n_tokens, .first_position = step.first_position, .mode = mode, .audit = audit};
  if (predict) {
    std::ranges::fill(qualities_, step.quality);
    state.step.qualities = std::span(qualities_).first(static_cast<size_t>(n_tokens));
  }
  std::ranges::fill(state.work, NeuronWork{});
  const OperatorGraph& graph = graphs_[predict ? kPredicting : kPlain];
  executor_->Run(graph);
  AddFigures(mode, predict);
  if (trace_ != nullptr) {
    trace_->AddStep(fmt::format("{} at {} ({} tokens)", LabelOf(step), step.first_position, n_tokens), graph,
                    executor_->timings());
  }
}

void Transformer::Embed() {
  const WeightView& embedding = weights_.token_embedding;
  for (size_t t = 0; t < state_->tokens.size(); ++t) {
    context_.kernels->dequantize(embedding.type, embedding.row_data(state_->tokens[t]), config_.d_model,
                                 state_->residual.row(static_cast<int64_t>(t)).data());
  }
}

void Transformer::AddFigures(NeuronMode mode, bool predicted) {
  const DeviceStep& step = state_->step;
  NeuronWork all;
  for (size_t d = 0; d < state_->work.size(); ++d) {
    all += state_->work[d];
    if (d > 0) figures_.active_on_accelerators += state_->work[d].active;
  }
  figures_.neurons += config_.n_layers * config_.d_ff;
  figures_.marked_neurons += all.marked;
  figures_.active_neurons += all.active;
  figures_.bytes += all.bytes + dense_bytes_ +
                    config_.n_layers * KvCache::SizeBytes(config_, step.first_position + step.n_tokens);
  if (predicted) figures_.bytes += predictor_bytes_;
  if (mode == NeuronMode::kExact) marked_active_ += all.marked_active;
}

}  // namespace thermocline
