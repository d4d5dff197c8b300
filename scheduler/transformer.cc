// The forward pass: checks, the choice of graph, figures. What a layer does is in step_graph.cc and
// cpu_device.cc.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/transformer.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "kernels_cpu/parallel_rows.h"
#include "scheduler/distribution.h"

namespace thermocline {
namespace {

std::string LabelOf(StepKind kind, std::span<const SequenceSlice> slices, size_t n_tokens) {
  const std::string_view name = kind == StepKind::kPrefill ? "prefill" : "decode";
  if (slices.size() > 1) return fmt::format("{} of {} sequences ({} tokens)", name, slices.size(), n_tokens);
  return fmt::format("{} at {} ({} tokens)", name, slices.front().first_position, n_tokens);
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
  if (options.kv_tokens != 0 && options.kv_tokens < options.context_tokens) {
    return InvalidArgument("a KV cache of {} tokens does not hold a context of {}", options.kv_tokens,
                           options.context_tokens);
  }
  if (options.block_tokens < 1)
    return InvalidArgument("a step of {} tokens is not possible", options.block_tokens);
  const bool bundled = weights.layers.front().ffn.layout == FfnLayout::kBundles;
  const bool leaves_neurons_out =
      options.mode == NeuronMode::kExact || options.mode == NeuronMode::kPredicted;
  if (leaves_neurons_out && config.sub_norms) {
    return InvalidArgument("mode {} leaves silent neurons out; architecture {} norms all of them together",
                           NameOf(options.mode), config.architecture);
  }
  if (leaves_neurons_out && !(bundled && HasTrueZeros(config.activation))) {
    return InvalidArgument("mode {} leaves silent neurons out; with {} none is ever silent",
                           NameOf(options.mode), NameOf(config.activation));
  }
  if (options.mode == NeuronMode::kThreshold) {
    if (options.thresholds == nullptr)
      return InvalidArgument("mode threshold needs thresholds; thermocline profile --thresholds finds them");
    if (bundled)
      return InvalidArgument("mode threshold reads columns of matrices, the weights are laid out as bundles");
    if (options.plan != nullptr && options.plan->devices.size() > 1) {
      return InvalidArgument("mode threshold runs on the CPU alone, the plan has '{}'",
                             options.plan->devices[1].name);
    }
  }
  if (options.mode == NeuronMode::kPredicted && options.predictors == nullptr)
    return InvalidArgument("mode predicted needs predictors; thermocline profile trains them");
  TC_RETURN_IF_ERROR(CheckKvType(options.kv_type, config));
  std::unique_ptr<Transformer> transformer(new Transformer(config, weights, context));
  TC_RETURN_IF_ERROR(transformer->Prepare(weights, options));
  return transformer;
}

absl::Status Transformer::Prepare(ModelWeights& weights, const TransformerOptions& options) {
  mode_ = options.mode;
  context_tokens_ = options.context_tokens > 0 ? options.context_tokens : config_.context_length;
  const int64_t kv_pages = PagesFor(std::max(options.kv_tokens, context_tokens_));
  if (kv_pages > std::numeric_limits<KvPage>::max())
    return InvalidArgument("a KV cache of {} tokens has too many pages", options.kv_tokens);
  position_.resize(static_cast<size_t>(config_.d_model));
  all_pages_.resize(static_cast<size_t>(kv_pages));
  std::iota(all_pages_.begin(), all_pages_.end(), KvPage{0});
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
    for (size_t l = 0; l < placement_.layers.size(); ++l) {
      if (weights.layers[l].ffn.layout == FfnLayout::kMatrices && !placement_.layers[l].only_device()) {
        return InvalidArgument(
            "the plan splits layer {} between devices, the model's weights are laid out as matrices: only "
            "whole layers can be placed",
            l);
      }
    }
  } else {
    placement_ = PlaceOnCpu(config_);
  }
  kv_token_bytes_ = KvTokenBytes(config_, options.kv_type, options.plan);
  TC_ASSIGN_OR_RETURN(devices_, LoadDevices(config_, weights, context_, placement_,
                                            {.context_tokens = context_tokens_,
                                             .kv_pages = kv_pages,
                                             .kv_type = options.kv_type,
                                             .pack_weights = options.pack_weights,
                                             .thresholds = mode_ == NeuronMode::kThreshold
                                                               ? std::optional(options.thresholds->method)
                                                               : std::nullopt,
                                             .block_tokens = block_tokens_,
                                             .plan = options.plan,
                                             .predictors = options.predictors,
                                             .keep_host_copy = options.keep_host_copy,
                                             .open_gpu = options.open_gpu}));
  if (options.thresholds != nullptr) TC_RETURN_IF_ERROR(SetThresholds(*options.thresholds));
  TC_ASSIGN_OR_RETURN(state_, StepState::Create(config_, placement_, block_tokens_));
  activity_ = std::make_unique<NeuronActivity>(config_, options.plan);
  TC_ASSIGN_OR_RETURN(executor_, GraphExecutor::Create(placement_.n_devices));
  const auto build = [this](bool predict) {
    return BuildStepGraph(
        placement_, devices_.devices, *state_, [this] { Embed(); }, predict);
  };
  graphs_[kPlain] = build(false);
  if (has_predictors_) graphs_[kPredicting] = build(true);
  parts_.reserve(static_cast<size_t>(block_tokens_));
  logit_rows_.reserve(static_cast<size_t>(block_tokens_));
  qualities_.resize(kMostSparseTokens);
  if (predicts()) exact_logits_.resize(static_cast<size_t>(config_.n_vocab));
  return absl::OkStatus();
}

void Transformer::SetFeedForwardObserver(FeedForwardObserver* observer) {
  TC_CHECK(placement_.n_devices == 1);
  devices_.cpu->SetFeedForwardObserver(observer);
}

void Transformer::SetInputObserver(InputObserver* observer) {
  TC_CHECK(placement_.n_devices == 1);
  devices_.cpu->SetInputObserver(observer);
}

absl::Status Transformer::SetThresholds(const ThresholdSet& thresholds) {
  const ModelIdentity& model = thresholds.model;
  if (static_cast<int64_t>(thresholds.layers.size()) != config_.n_layers ||
      model.d_model != config_.d_model || model.d_ff != config_.d_ff) {
    return InvalidArgument(
        "the thresholds are for {} layers of {} neurons of width {}, the model has {}, {}, {}",
        thresholds.layers.size(), model.d_ff, model.d_model, config_.n_layers, config_.d_ff, config_.d_model);
  }
  for (size_t l = 0; l < thresholds.layers.size(); ++l)
    devices_.cpu->SetThresholds(static_cast<int64_t>(l), thresholds.layers[l]);
  return absl::OkStatus();
}

absl::Status Transformer::EmbedTokens(std::span<const TokenId> tokens, MatrixView<float> residual) {
  const auto n_tokens = static_cast<int64_t>(tokens.size());
  const SequenceSlice slice{.n_tokens = n_tokens, .pages = all_pages_};
  TC_RETURN_IF_ERROR(CheckStep({.tokens = tokens, .slices = {&slice, 1}, .kind = StepKind::kPrefill}));
  parts_.assign(1, slice);
  state_->tokens = tokens;
  Embed();
  for (int64_t t = 0; t < n_tokens; ++t) std::ranges::copy(state_->residual.row(t), residual.row_data(t));
  return absl::OkStatus();
}

void Transformer::RunLayer(int64_t layer, const LayerThresholds* thresholds, MatrixView<const float> before,
                           MatrixView<float> behind) {
  TC_CHECK(placement_.n_devices == 1 && before.rows >= 1 && before.rows <= block_tokens_);
  CpuDevice& cpu = *devices_.cpu;
  const SequenceSlice slice{.n_tokens = before.rows, .pages = all_pages_};
  const DeviceStep step{.n_tokens = before.rows,
                        .slices = {&slice, 1},
                        .mode = thresholds != nullptr ? NeuronMode::kThreshold : NeuronMode::kDense};
  if (thresholds != nullptr) cpu.SetThresholds(layer, *thresholds);
  cpu.Begin(step);
  cpu.SetResidual(before);
  cpu.Attention(layer, step);
  cpu.Neurons(layer, step, {});
  cpu.AddOwnPartial(step);
  cpu.EndBlock(layer, step);
  cpu.GetResidual(behind);
}

void Transformer::RunHead(MatrixView<const float> residual, MatrixView<float> logits) {
  TC_CHECK(placement_.n_devices == 1 && residual.rows >= 1 && residual.rows <= block_tokens_);
  logit_rows_.resize(static_cast<size_t>(residual.rows));
  std::iota(logit_rows_.begin(), logit_rows_.end(), int64_t{0});
  devices_.cpu->SetResidual(residual);
  devices_.cpu->Head(logit_rows_, logits);
}

std::vector<const Device*> Transformer::devices() const {
  std::vector<const Device*> devices;
  for (const auto& device : devices_.devices) devices.push_back(device.get());
  return devices;
}

absl::Status Transformer::CheckStep(const BatchStep& step) const {
  const auto n_tokens = static_cast<int64_t>(step.tokens.size());
  if (n_tokens < 1 || n_tokens > block_tokens_)
    return InvalidArgument("a step of {} tokens, allowed are 1 to {}", n_tokens, block_tokens_);
  int64_t slice_tokens = 0;
  for (const SequenceSlice& slice : step.slices) {
    TC_RETURN_IF_ERROR(CheckSlice(slice, step.kind));
    slice_tokens += slice.n_tokens;
  }
  TC_CHECK(slice_tokens == n_tokens);
  for (const TokenId token : step.tokens) {
    if (token < 0 || token >= config_.n_vocab)
      return InvalidArgument("token {} is outside the vocabulary of {}", token, config_.n_vocab);
  }
  return health_;
}

absl::Status Transformer::CheckSlice(const SequenceSlice& slice, StepKind kind) const {
  TC_CHECK(slice.n_tokens >= 1 && slice.n_tokens <= block_tokens_);
  if (slice.first_position < 0 || slice.first_position > context_tokens_ - slice.n_tokens) {
    return OutOfRange("positions {} to {} are outside the context of {} tokens", slice.first_position,
                      slice.first_position + slice.n_tokens - 1, context_tokens_);
  }
  TC_CHECK(slice.pages.empty() ||
           static_cast<int64_t>(slice.pages.size()) >= PagesFor(slice.first_position + slice.n_tokens));
  if (kind == StepKind::kDecode && slice.quality != Quality::kExact && !predicts()) {
    return FailedPrecondition("quality '{}' needs mode predicted or threshold, the mode is {}",
                              NameOf(slice.quality), NameOf(mode_));
  }
  return absl::OkStatus();
}

NeuronMode Transformer::ModeOf(StepKind kind, Quality quality) const {
  if (kind != StepKind::kDecode) return NeuronMode::kDense;
  if (quality != Quality::kExact) return mode_;
  if (mode_ == NeuronMode::kPredicted) return NeuronMode::kExact;
  return mode_ == NeuronMode::kThreshold ? NeuronMode::kDense : mode_;
}

absl::Status Transformer::ForwardBatch(const BatchStep& step, MatrixView<float> logits) {
  TC_RETURN_IF_ERROR(CheckStep(step));
  TC_CHECK(logits.cols == config_.n_vocab &&
           logits.rows == std::ranges::count_if(step.slices, &SequenceSlice::wants_logits));
  return RunStep(step, /*audit=*/false, /*every_token=*/false, logits);
}

absl::Status Transformer::ForwardAll(const StepInput& step, MatrixView<float> logits) {
  const SequenceSlice slice{.n_tokens = static_cast<int64_t>(step.tokens.size()),
                            .first_position = step.first_position,
                            .quality = step.quality};
  const BatchStep batch{.tokens = step.tokens, .slices = {&slice, 1}, .kind = step.kind};
  TC_RETURN_IF_ERROR(CheckStep(batch));
  TC_CHECK(logits.cols == config_.n_vocab && logits.rows == slice.n_tokens);
  return RunStep(batch, /*audit=*/false, /*every_token=*/true, logits);
}

absl::StatusOr<AuditFigures> Transformer::ForwardBatchAudited(const BatchStep& step,
                                                              MatrixView<float> logits) {
  TC_RETURN_IF_ERROR(CheckStep(step));
  const NeuronMode mode = ModeOf(step.kind, step.slices.front().quality);
  if (step.tokens.size() != 1 || (mode != NeuronMode::kPredicted && mode != NeuronMode::kThreshold))
    return InvalidArgument(
        "an audit compares one token of a step that leaves something out with the exact one");
  // The exact step first: its keys and values at this position are then written over. Beside thresholds it is
  // a dense one.
  SequenceSlice exact_slice = step.slices.front();
  if (mode == NeuronMode::kThreshold) exact_slice.quality = Quality::kExact;
  BatchStep exact = step;
  exact.slices = {&exact_slice, 1};
  TC_RETURN_IF_ERROR(RunStep(exact, /*audit=*/mode == NeuronMode::kPredicted, /*every_token=*/false,
                             {exact_logits_.data(), 1, config_.n_vocab, config_.n_vocab}));
  AuditFigures audit{.active_neurons = figures_.active_neurons, .marked_active_neurons = marked_active_};
  TC_RETURN_IF_ERROR(ForwardBatch(step, logits));
  const DistributionDistance distance = CompareDistributions(exact_logits_, logits.row(0));
  audit.kl_divergence = distance.kl_divergence;
  audit.same_top = distance.same_top;
  return audit;
}

absl::Status Transformer::RunStep(const BatchStep& step, bool audit, bool every_token,
                                  MatrixView<float> logits) {
  figures_ = {};
  marked_active_ = 0;
  const bool watched = step.kind == StepKind::kDecode && !audit && activity_->watched();
  if (watched) activity_->BeginStep();
  watcher_ = watched && mode_ != NeuronMode::kDense ? activity_.get() : nullptr;
  int64_t begin = 0, logits_done = 0;
  bool looked = false;  // at which neurons fire
  auto slice = step.slices.begin();
  int64_t slice_left = slice->n_tokens;  // of it, from `begin` on
  while (slice != step.slices.end()) {
    const NeuronMode mode = audit ? NeuronMode::kExact : ModeOf(step.kind, slice->quality);
    looked |= mode != NeuronMode::kDense;
    int64_t room = mode == NeuronMode::kDense ? block_tokens_ : kMostSparseTokens;
    parts_.clear();
    logit_rows_.clear();
    int64_t n_tokens = 0;
    // As many tokens of the same mode as fit.
    while (room > 0 && slice != step.slices.end() && (audit || ModeOf(step.kind, slice->quality) == mode)) {
      const int64_t count = std::min(slice_left, room);
      SequenceSlice part = *slice;
      part.first_position += slice->n_tokens - slice_left;
      part.n_tokens = count;
      if (part.pages.empty()) part.pages = all_pages_;
      parts_.push_back(part);
      n_tokens += count;
      room -= count;
      slice_left -= count;
      if (every_token) {
        for (int64_t row = n_tokens - count; row < n_tokens; ++row) logit_rows_.push_back(row);
      } else if (slice_left == 0 && slice->wants_logits) {
        logit_rows_.push_back(n_tokens - 1);
      }
      if (slice_left == 0 && ++slice != step.slices.end()) slice_left = slice->n_tokens;
    }
    const auto wanted = static_cast<int64_t>(logit_rows_.size());
    const auto tokens = step.tokens.subspan(static_cast<size_t>(begin), static_cast<size_t>(n_tokens));
    TC_RETURN_IF_ERROR(RunGraph(step, tokens, mode, audit, logits.Rows(logits_done, wanted)));
    begin += n_tokens;
    logits_done += wanted;
  }
  if (watched) activity_->EndStep(begin, looked, figures_);
  return absl::OkStatus();
}

absl::Status Transformer::RunGraph(const BatchStep& step, std::span<const TokenId> tokens, NeuronMode mode,
                                   bool audit, MatrixView<float> logits) {
  const bool predict = mode == NeuronMode::kPredicted || audit;
  StepState& state = *state_;
  state.tokens = tokens;
  state.logit_rows = logit_rows_;
  state.logits = logits;
  state.step = {.n_tokens = static_cast<int64_t>(tokens.size()),
                .slices = parts_,
                .mode = mode,
                .prompt = step.kind == StepKind::kPrefill,
                .audit = audit,
                .activity = watcher_};
  if (predict) {
    auto quality = qualities_.begin();
    for (const SequenceSlice& part : parts_) quality = std::fill_n(quality, part.n_tokens, part.quality);
    state.step.qualities = std::span(qualities_).first(tokens.size());
  }
  for (const auto& device : devices_.devices) device->Begin(state.step);
  const OperatorGraph& graph = graphs_[predict ? kPredicting : kPlain];
  executor_->Run(graph);
  AddFigures(mode, predict);
  TC_RETURN_IF_ERROR(CheckDevices());
  if (step.observer != nullptr) step.observer->OnRun(graph, executor_->timings());
  if (trace_ != nullptr)
    trace_->AddStep(LabelOf(step.kind, parts_, tokens.size()), graph, executor_->timings());
  return absl::OkStatus();
}

absl::Status Transformer::CheckDevices() {
  for (const auto& device : devices_.devices) {
    const absl::Status status = device->status();
    if (status.ok()) continue;
    if (!absl::IsResourceExhausted(status)) health_ = status;
    return status;
  }
  return absl::OkStatus();
}

void Transformer::Embed() {
  const WeightView& embedding = weights_.token_embedding;
  const auto n_tokens = static_cast<int64_t>(state_->tokens.size());
  for (int64_t t = 0; t < n_tokens; ++t) {
    context_.kernels->dequantize(embedding.type, embedding.row_data(state_->tokens[static_cast<size_t>(t)]),
                                 config_.d_model, state_->residual.row(t).data());
  }
  Scale(context_, static_cast<float>(config_.embedding_scale), state_->residual.view().Rows(0, n_tokens));
  if (config_.positions == PositionKind::kLearned) AddPositions();
}

void Transformer::AddPositions() {
  const WeightView& table = weights_.positions;
  int64_t t = 0;
  for (const SequenceSlice& slice : parts_) {
    for (int64_t i = 0; i < slice.n_tokens; ++i, ++t) {
      const int64_t row = slice.first_position + i + config_.position_offset;
      context_.kernels->dequantize(table.type, table.row_data(row), config_.d_model, position_.data());
      context_.kernels->add(position_, state_->residual.row(t));
    }
  }
}

void Transformer::AddFigures(NeuronMode mode, bool predicted) {
  NeuronWork all;
  for (size_t d = 0; d < devices_.devices.size(); ++d) {
    const NeuronWork work = devices_.devices[d]->TakeWork();
    all += work;
    if (d > 0) figures_.active_on_accelerators += work.active;
  }
  executor_->CountLinkBytes(all.link_bytes);
  figures_.neurons += config_.n_layers * config_.d_ff;
  figures_.marked_neurons += all.marked;
  figures_.active_neurons += all.active;
  const int64_t neuron_bytes = all.bytes + (predicted ? predictor_bytes_ : 0);
  figures_.neuron_bytes += neuron_bytes;
  figures_.bytes += neuron_bytes + dense_bytes_ - all.attention_bytes_left_out;
  for (const SequenceSlice& part : parts_)
    figures_.bytes += (part.first_position + part.n_tokens) * kv_token_bytes_;
  if (mode == NeuronMode::kExact) marked_active_ += all.marked_active;
}

}  // namespace thermocline
