// GpuDevice: what was noted becomes launches of kernels.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "kernels_cpu/sparse_ffn.h"
#include "scheduler/gpu_device.h"
#include "scheduler/gpu_device_limits.h"

namespace thermocline {
namespace {

GpuActivationFunction ActivationOf(const ModelConfig& config) {
  const ActivationFunction activation = config.activation_function();
  switch (activation.kind) {
    case Activation::kRelu:
      return {.kind = GpuActivation::kRelu};
    case Activation::kSilu:
      return {.kind = GpuActivation::kSilu};
    case Activation::kFatRelu:
      return {.kind = GpuActivation::kFatRelu, .threshold = activation.threshold};
    default:  // CheckSupported refuses the others
      break;
  }
  TC_CHECK(false);
}

}  // namespace

// ---- Stretches

void GpuDevice::Flush() {
  if (pending_.empty()) return;
  if (!failed()) {
    const auto enqueue = [this]() -> absl::Status {
      for (const Pending& pending : pending_) TC_RETURN_IF_ERROR(Enqueue(pending));
      return absl::OkStatus();
    };
    if (step_.n_tokens > kMostSparseTokens) {  // long steps wait for arithmetic, not for launches
      Note(enqueue());
    } else {
      key_.clear();
      for (const int64_t part : {step_.n_tokens, static_cast<int64_t>(step_.mode), most_positions_})
        key_.push_back(static_cast<uint32_t>(part));
      for (const Pending& pending : pending_) {
        key_.push_back(pending.kind);
        for (const int64_t part : {pending.layer, pending.from_row, pending.to_row, pending.rows})
          key_.push_back(static_cast<uint32_t>(part));
      }
      Note(graphs_.Run(key_, enqueue));
    }
  }
  pending_.clear();
}

absl::Status GpuDevice::Enqueue(const Pending& pending) {
  const GpuStream stream = gpu_->compute();
  const GpuKernels& kernels = gpu_->kernels();
  const int64_t width = config_.d_model;
  switch (pending.kind) {
    case Pending::kAttention:
      return EnqueueAttention(pending.layer);
    case Pending::kPredict:
      return EnqueuePredict(pending.layer);
    case Pending::kNeurons:
      return EnqueueNeurons(pending.layer);
    case Pending::kAddOwn:
      return kernels.add(Rows(scratch_.update, width), Rows(scratch_.residual, width), stream);
    case Pending::kAddOther:
      return kernels.add(Rows(scratch_.other, width), Rows(scratch_.residual, width), stream);
    case Pending::kHeadNorm:
      return kernels.rms_norm(Rows(scratch_.residual, width).Rows(pending.from_row, pending.rows), head_norm_,
                              static_cast<float>(config_.norm_epsilon),
                              Rows(scratch_.normed, width).Rows(pending.to_row, pending.rows), stream);
    case Pending::kHead:
      return MatMul(head_, Rows(scratch_.normed, width).Rows(0, pending.rows),
                    {scratch_.logits, pending.rows, config_.n_vocab, config_.n_vocab});
  }
  TC_CHECK(false);
}

absl::Status GpuDevice::EnqueueAttention(int64_t layer) {
  const AttentionWeights& weights = *layers_[static_cast<size_t>(layer)].attention;
  const GpuStream stream = gpu_->compute();
  const GpuKernels& kernels = gpu_->kernels();
  const int64_t q_width = config_.n_heads * config_.d_head, kv_width = config_.n_kv_heads * config_.d_head;
  const auto x = Rows(scratch_.residual, config_.d_model), normed = Rows(scratch_.normed, config_.d_model);
  const auto update = Rows(scratch_.update, config_.d_model);
  const auto q = Rows(scratch_.queries, q_width), attended = Rows(scratch_.attended, q_width);
  const auto k = Rows(scratch_.keys, kv_width), v = Rows(scratch_.values, kv_width);
  const auto angles = [this](int64_t offset) {
    const auto* const data = reinterpret_cast<const float*>(scratch_.step + offset);
    return MatrixView<const float>{data, step_.n_tokens, rope_.pairs(), rope_.pairs()};
  };
  const auto epsilon = static_cast<float>(config_.norm_epsilon);
  const bool half = config_.rope_pairing == RopePairing::kHalf;

  TC_RETURN_IF_ERROR(kernels.rms_norm(x, weights.attention_norm, epsilon, normed, stream));
  TC_RETURN_IF_ERROR(MatMul(weights.query, normed, q));
  TC_RETURN_IF_ERROR(MatMul(weights.key, normed, k));
  TC_RETURN_IF_ERROR(MatMul(weights.value, normed, v));
  TC_RETURN_IF_ERROR(kernels.rope(angles(layout_.cos), angles(layout_.sin), config_.d_head, half, q, stream));
  TC_RETURN_IF_ERROR(kernels.rope(angles(layout_.cos), angles(layout_.sin), config_.d_head, half, k, stream));
  TC_RETURN_IF_ERROR(kernels.store_kv(k, v, weights.cache, StepView(), stream));
  TC_RETURN_IF_ERROR(
      kernels.attention({.queries = q,
                         .output = attended,
                         .cache = weights.cache,
                         .step = StepView(),
                         .n_heads = config_.n_heads,
                         .most_positions = most_positions_,
                         .scale = 1.0f / std::sqrt(static_cast<float>(config_.d_head)),
                         .scratch = {scratch_.attention,
                                     static_cast<size_t>(GpuAttentionScratch(
                                         step_.n_tokens, config_.n_heads, config_.d_head, most_positions_))}},
                        stream));
  TC_RETURN_IF_ERROR(MatMul(weights.output, attended, update));
  TC_RETURN_IF_ERROR(kernels.add(update, x, stream));
  return kernels.rms_norm(x, weights.ffn_norm, epsilon, Rows(scratch_.input, config_.d_model), stream);
}

absl::Status GpuDevice::EnqueuePredict(int64_t layer) {
  const Predictor& predictor = *layers_[static_cast<size_t>(layer)].predictor;
  const auto x = Rows(scratch_.input, config_.d_model);
  const float* const thresholds =
      reinterpret_cast<const float*>(scratch_.step + layout_.thresholds) + layer * kMostSparseTokens;
  const std::span<float> scratch(
      scratch_.predictor,
      static_cast<size_t>(kMostSparseTokens * std::max(config_.d_ff, 2 * BitWords(config_.d_model))));
  if (predictor.kind == PredictorKind::kSign) {
    return gpu_->kernels().sign_predictor({.signs = predictor.signs,
                                           .x = x,
                                           .thresholds = thresholds,
                                           .marked = scratch_.marks,
                                           .scratch = scratch},
                                          gpu_->compute());
  }
  return gpu_->kernels().mlp_predictor({.w1 = predictor.w1,
                                        .b1 = predictor.b1,
                                        .w2 = predictor.w2,
                                        .b2 = predictor.b2,
                                        .x = x,
                                        .thresholds = thresholds,
                                        .marked = scratch_.marks,
                                        .scratch = scratch},
                                       gpu_->compute());
}

absl::Status GpuDevice::EnqueueMatrices(const Matrices& matrices) {
  const auto input = Rows(scratch_.input, config_.d_model), update = Rows(scratch_.update, config_.d_model);
  const auto gate = Rows(scratch_.gate, config_.d_ff), up = Rows(scratch_.up, config_.d_ff);
  TC_RETURN_IF_ERROR(MatMul(matrices.gate, input, gate));
  if (config_.gated) TC_RETURN_IF_ERROR(MatMul(matrices.up, input, up));
  TC_RETURN_IF_ERROR(gpu_->kernels().gated_activation(
      ActivationOf(config_), gate, config_.gated ? up : MatrixView<float>{}, gate, gpu_->compute()));
  return MatMul(matrices.down, gate, update);
}

absl::Status GpuDevice::EnqueueNeurons(int64_t layer) {
  const Layer& weights = layers_[static_cast<size_t>(layer)];
  if (weights.matrices) return EnqueueMatrices(*weights.matrices);
  const BundleView& neurons = weights.neurons;
  const bool dense = step_.mode == NeuronMode::kDense;
  if (dense && step_.n_tokens > kMostSparseTokens) return EnqueueDense(neurons);
  return gpu_->kernels().sparse_ffn(
      {.data = neurons.data,
       .n_neurons = neurons.n_neurons,
       .d_model = neurons.d_model,
       .stride_bytes = neurons.stride_bytes,
       .up_offset_bytes = neurons.up_offset_bytes,
       .down_offset_bytes = neurons.down_offset_bytes,
       .gate_type = neurons.gate_type,
       .up_type = neurons.up_type,
       .down_type = neurons.down_type,
       .gated = neurons.gated,
       // One token reads every row: dense means that every neuron is computed.
       .read_silent = dense && step_.n_tokens == 1,
       .activation = ActivationOf(config_),
       .x = Rows(scratch_.input, config_.d_model),
       // The device's own come first, whoever predicted.
       .marked = step_.mode == NeuronMode::kPredicted ? scratch_.marks : nullptr,
       .y = Rows(scratch_.update, config_.d_model),
       .fired = scratch_.fired,
       .counts = dense ? nullptr : scratch_.counts + 2 * layer,
       .scratch = {scratch_.ffn, static_cast<size_t>(
                                     GpuSparseFfnScratch(kMostSparseTokens, config_.d_ff, config_.d_model))}},
      gpu_->compute());
}

absl::Status GpuDevice::EnqueueDense(const BundleView& neurons) {
  const auto input = Rows(scratch_.input, config_.d_model), update = Rows(scratch_.update, config_.d_model);
  const auto gate = Rows(scratch_.gate, neurons.n_neurons), up = Rows(scratch_.up, neurons.n_neurons);
  TC_RETURN_IF_ERROR(MatMul(neurons.gate(), input, gate));
  if (neurons.gated) TC_RETURN_IF_ERROR(MatMul(neurons.up(), input, up));
  TC_RETURN_IF_ERROR(gpu_->kernels().gated_activation(
      ActivationOf(config_), gate, neurons.gated ? up : MatrixView<float>{}, gate, gpu_->compute()));
  return ForEachTile(neurons.down(), [&](MatrixView<const float> rows, int64_t first) {
    return gpu_->kernels().sgemm_nn(*gpu_, 1.0f, gate.Columns(first, rows.rows), rows,
                                    first == 0 ? 0.0f : 1.0f, update, gpu_->compute());
  });
}

template <typename Work>
absl::Status GpuDevice::ForEachTile(const WeightView& w, const Work& work) {
  const int64_t at_once = kGpuTileFloats / w.cols;
  if (at_once == 0) return InvalidArgument("rows of {} weights, a tile holds {}", w.cols, kGpuTileFloats);
  for (int64_t first = 0; first < w.rows; first += at_once) {
    const int64_t rows = std::min(at_once, w.rows - first);
    const MatrixView<float> tile{scratch_.tile, rows, w.cols, w.cols};
    TC_RETURN_IF_ERROR(gpu_->kernels().dequantize(w.Rows(first, rows), tile, gpu_->compute()));
    TC_RETURN_IF_ERROR(work(MatrixView<const float>(tile), first));
  }
  return absl::OkStatus();
}

absl::Status GpuDevice::MatMul(const WeightView& w, MatrixView<const float> x, MatrixView<float> y) {
  if (x.rows <= kMostSparseTokens) return gpu_->kernels().mat_mul(w, x, y, gpu_->compute());
  return ForEachTile(w, [&](MatrixView<const float> rows, int64_t first) {
    return gpu_->kernels().sgemm_nt(*gpu_, 1.0f, x, rows, 0.0f, y.Columns(first, rows.rows), gpu_->compute());
  });
}

}  // namespace thermocline
