// GpuDevice: memory and loading. Its operators are in gpu_device_step.cc and gpu_device_kernels.cc.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/gpu_device.h"

#include <cstring>
#include <utility>

#include "kernels_cpu/sparse_ffn.h"
#include "scheduler/gpu_device_limits.h"

namespace thermocline {
namespace {

int64_t ArrayBytes(std::span<const float> array) {
  return GpuArena::Aligned(static_cast<int64_t>(array.size_bytes()));
}

// Floats for the attention of any step. Launches take fewer tokens where they see more positions, so what
// they need neither grows nor shrinks with these: the most of all sizes that Begin chooses.
int64_t MostAttentionScratch(const ModelConfig& config, int64_t context_tokens, int64_t block_tokens) {
  int64_t most = 0;
  for (int64_t positions = kGpuLeastPositions;; positions *= 2) {
    most = std::max(most, GpuAttentionScratch(block_tokens, config.n_heads, config.d_head,
                                              std::min(positions, context_tokens)));
    if (positions >= context_tokens) return most;
  }
}

int64_t MatrixBytes(const WeightView& weights) { return GpuArena::Aligned(GpuMatrixBytes(weights)); }

}  // namespace

GpuDevice::GpuDevice(const ModelConfig& config, const KernelTable& kernels, std::unique_ptr<Gpu> gpu,
                     const GpuDeviceOptions& options)
    : config_(config),
      kernels_(kernels),
      gpu_(std::move(gpu)),
      options_(options),
      rope_(config),
      layout_(LayOutStep(config, options.context_tokens, options.block_tokens)),
      graphs_(*gpu_) {
  layers_.resize(static_cast<size_t>(config.n_layers));
}

absl::StatusOr<std::unique_ptr<GpuDevice>> GpuDevice::Create(const ModelConfig& config,
                                                             const KernelTable& kernels,
                                                             std::unique_ptr<Gpu> gpu,
                                                             const GpuDeviceOptions& options) {
  TC_RETURN_IF_ERROR(CheckSupported(config));
  std::unique_ptr<GpuDevice> device(new GpuDevice(config, kernels, std::move(gpu), options));
  TC_RETURN_IF_ERROR(device->Allocate());
  return device;
}

absl::Status GpuDevice::CheckSupported(const ModelConfig& config) {
  const Activation activation = config.activation;
  const bool known_activation = activation == Activation::kRelu || activation == Activation::kSilu ||
                                activation == Activation::kFatRelu;
  const std::pair<bool, std::string> lacking[] = {
      {!known_activation, fmt::format("activation {}", NameOf(activation))},
      {config.norm != NormKind::kRms, "LayerNorm"},
      {config.positions != PositionKind::kRotary, "learned positions"},
      {config.query_key_value_bias || config.attention_output_bias || config.ffn_bias, "biases"},
      {config.query_key_norms, "norms of queries and keys"},
      {config.post_norms || config.sub_norms, "norms inside or behind a block"},
      {config.parallel_blocks, "attention beside the feed-forward block"},
      {config.window.tokens > 0, "a sliding window"},
      {config.attention_soft_cap != 0 || config.logit_soft_cap != 0, "soft caps"},
      {config.attention_scale != 0 || config.residual_scale != 1 || config.logit_scale != 1,
       "scales of attention, residual stream or logits"},
  };
  for (const auto& [lacks, what] : lacking) {
    if (lacks) {
      return Unimplemented("architecture {} needs {}, which the GPU's kernels lack: the CPU computes it",
                           config.architecture, what);
    }
  }
  return absl::OkStatus();
}

// ---- Memory

GpuDevice::StepLayout GpuDevice::LayOutStep(const ModelConfig& config, int64_t context_tokens,
                                            int64_t block_tokens) {
  StepLayout layout{.most_pages = PagesFor(context_tokens)};
  const int64_t pairs = RopeTable(config).pairs();
  const auto place = [&layout](int64_t count) {
    const int64_t begin = layout.size_bytes;
    layout.size_bytes += GpuArena::Aligned(count * 4);  // floats and 32-bit numbers alike
    return begin;
  };
  layout.positions = place(block_tokens);
  layout.slices = place(block_tokens);
  layout.cos = place(block_tokens * pairs);
  layout.sin = place(block_tokens * pairs);
  layout.thresholds = place(config.n_layers * kMostSparseTokens);
  layout.pages = place(block_tokens * layout.most_pages);
  return layout;
}

template <typename Visit>
absl::Status GpuDevice::ForEachScratch(const ModelConfig& config, int64_t context_tokens,
                                       int64_t block_tokens, const Visit& visit) {
  const int64_t n = block_tokens, q_width = config.n_heads * config.d_head;
  const int64_t kv_width = config.n_kv_heads * config.d_head;
  const int64_t predictor =
      kMostSparseTokens *
      std::max(config.d_ff, 2 * BitWords(config.d_model));  // hidden layers are at most d_ff
  TC_RETURN_IF_ERROR(visit(&Scratch::residual, n * config.d_model));
  TC_RETURN_IF_ERROR(visit(&Scratch::normed, n * config.d_model));
  TC_RETURN_IF_ERROR(visit(&Scratch::input, n * config.d_model));
  TC_RETURN_IF_ERROR(visit(&Scratch::update, n * config.d_model));
  TC_RETURN_IF_ERROR(visit(&Scratch::other, n * config.d_model));
  TC_RETURN_IF_ERROR(visit(&Scratch::queries, n * q_width));
  TC_RETURN_IF_ERROR(visit(&Scratch::attended, n * q_width));
  TC_RETURN_IF_ERROR(visit(&Scratch::keys, n * kv_width));
  TC_RETURN_IF_ERROR(visit(&Scratch::values, n * kv_width));
  TC_RETURN_IF_ERROR(visit(&Scratch::gate, n * config.d_ff));
  TC_RETURN_IF_ERROR(visit(&Scratch::up, n * config.d_ff));
  TC_RETURN_IF_ERROR(visit(&Scratch::logits, kGpuLogitRows * config.n_vocab));
  TC_RETURN_IF_ERROR(visit(&Scratch::attention, MostAttentionScratch(config, context_tokens, n)));
  TC_RETURN_IF_ERROR(
      visit(&Scratch::ffn, GpuSparseFfnScratch(kMostSparseTokens, config.d_ff, config.d_model)));
  TC_RETURN_IF_ERROR(visit(&Scratch::predictor, predictor));
  TC_RETURN_IF_ERROR(visit(&Scratch::tile, kGpuTileFloats));
  TC_RETURN_IF_ERROR(visit(&Scratch::marks, config.d_ff));
  TC_RETURN_IF_ERROR(visit(&Scratch::fired, config.d_ff));
  TC_RETURN_IF_ERROR(visit(&Scratch::counts, config.n_layers * 2));
  return visit(&Scratch::step, LayOutStep(config, context_tokens, block_tokens).size_bytes);
}

int64_t GpuDevice::ScratchBytes(const ModelConfig& config, int64_t context_tokens, int64_t block_tokens) {
  int64_t bytes = 0;
  const absl::Status counted = ForEachScratch(
      config, context_tokens, block_tokens, [&bytes]<typename T>(T* Scratch::*, int64_t count) {
        bytes += GpuArena::Aligned(count * static_cast<int64_t>(sizeof(T)));
        return absl::OkStatus();
      });
  TC_CHECK(counted.ok());
  return bytes;
}

absl::Status GpuDevice::Allocate() {
  TC_ASSIGN_OR_RETURN(arena_, GpuArena::Create(*gpu_, options_.name, options_.size_bytes));
  TC_RETURN_IF_ERROR(ForEachScratch(config_, options_.context_tokens, options_.block_tokens,
                                    [this]<typename T>(T* Scratch::*array, int64_t count) -> absl::Status {
                                      TC_ASSIGN_OR_RETURN(scratch_.*array,
                                                          arena_.TakeArray<T>("scratch", count));
                                      return absl::OkStatus();
                                    }));
  TC_ASSIGN_OR_RETURN(GpuUpload upload, GpuUpload::Create(*gpu_, kernels_));
  upload_.emplace(std::move(upload));

  const int64_t width_bytes = options_.block_tokens * config_.d_model * static_cast<int64_t>(sizeof(float));
  const int64_t marks_bytes = config_.d_ff * static_cast<int64_t>(sizeof(GpuTokenMask));
  const auto pin = [this](GpuOwned<HostBlock>& block, int64_t bytes) -> absl::Status {
    TC_ASSIGN_OR_RETURN(block, gpu_->AllocatePinned("staging", bytes));
    return absl::OkStatus();
  };
  TC_RETURN_IF_ERROR(pin(step_staging_, layout_.size_bytes));
  TC_RETURN_IF_ERROR(pin(residual_staging_, width_bytes));
  TC_RETURN_IF_ERROR(pin(input_staging_, width_bytes));
  TC_RETURN_IF_ERROR(pin(partial_staging_, width_bytes));
  TC_RETURN_IF_ERROR(pin(other_staging_, width_bytes));
  TC_RETURN_IF_ERROR(
      pin(logits_staging_, kGpuLogitRows * config_.n_vocab * static_cast<int64_t>(sizeof(float))));
  TC_RETURN_IF_ERROR(pin(marks_staging_, marks_bytes));
  TC_RETURN_IF_ERROR(pin(fired_staging_, marks_bytes));
  TC_RETURN_IF_ERROR(pin(counts_staging_, config_.n_layers * 2 * static_cast<int64_t>(sizeof(uint64_t))));
  TC_ASSIGN_OR_RETURN(computed_, gpu_->CreateEvent(/*timed=*/false));
  TC_ASSIGN_OR_RETURN(brought_, gpu_->CreateEvent(/*timed=*/false));
  TC_ASSIGN_OR_RETURN(delivered_, gpu_->CreateEvent(/*timed=*/false));
  return absl::OkStatus();
}

int64_t GpuDevice::AttentionBytes(const LayerWeights& weights) {
  return ArrayBytes(weights.attention_norm.weight) + MatrixBytes(weights.query) + MatrixBytes(weights.key) +
         MatrixBytes(weights.value) + MatrixBytes(weights.attention_output) +
         ArrayBytes(weights.ffn_norm.weight);
}

int64_t GpuDevice::NeuronBytes(const BundleView& bundles, int64_t n_neurons) {
  return GpuArena::Aligned(n_neurons * GpuBundleLayout(bundles, n_neurons).stride_bytes);
}

int64_t GpuDevice::MatricesBytes(const FeedForward& ffn) {
  return MatrixBytes(ffn.gate) + (ffn.up.rows > 0 ? MatrixBytes(ffn.up) : 0) + MatrixBytes(ffn.down);
}

int64_t GpuDevice::HeadBytes(const NormWeights& norm, const WeightView& head) {
  return ArrayBytes(norm.weight) + MatrixBytes(head);
}

int64_t GpuDevice::PredictorBytes(const LayerPredictor& predictor, const ModelConfig& config) {
  if (predictor.kind == PredictorKind::kSign) {
    return GpuArena::Aligned(config.d_ff * BitWords(config.d_model) * static_cast<int64_t>(sizeof(uint64_t)));
  }
  return MatrixBytes(predictor.w1.view()) + ArrayBytes(predictor.b1) + MatrixBytes(predictor.w2.view()) +
         ArrayBytes(predictor.b2);
}

// ---- Loading

absl::StatusOr<const float*> GpuDevice::HoldArray(std::string_view what, std::span<const float> array) {
  TC_ASSIGN_OR_RETURN(float* const held, arena_.TakeArray<float>(what, std::ssize(array)));
  TC_RETURN_IF_ERROR(upload_->Array(held, array));
  return held;
}

absl::StatusOr<WeightView> GpuDevice::HoldMatrix(std::string_view what, const WeightView& weights,
                                                 std::span<const uint32_t> rows) {
  TC_ASSIGN_OR_RETURN(std::byte* const held, arena_.Take(what, GpuMatrixBytes(weights)));
  return upload_->Rows(held, weights, rows);
}

absl::Status GpuDevice::LoadAttention(int64_t layer, const LayerWeights& weights) {
  const std::string what = fmt::format("layer {}'s attention", layer);
  AttentionWeights attention;
  TC_ASSIGN_OR_RETURN(attention.attention_norm, HoldArray(what, weights.attention_norm.weight));
  TC_ASSIGN_OR_RETURN(attention.query, HoldMatrix(what, weights.query));
  TC_ASSIGN_OR_RETURN(attention.key, HoldMatrix(what, weights.key));
  TC_ASSIGN_OR_RETURN(attention.value, HoldMatrix(what, weights.value));
  TC_ASSIGN_OR_RETURN(attention.output, HoldMatrix(what, weights.attention_output));
  TC_ASSIGN_OR_RETURN(attention.ffn_norm, HoldArray(what, weights.ffn_norm.weight));
  const int64_t cache_bytes = KvPages::SizeBytes(config_, ElementType::kF32, options_.kv_pages);
  TC_ASSIGN_OR_RETURN(std::byte* const cache,
                      arena_.Take(fmt::format("layer {}'s KV cache", layer), cache_bytes));
  // Pages that nothing wrote hold no NaN.
  TC_RETURN_IF_ERROR(gpu_->Fill(cache, 0, cache_bytes, gpu_->compute()));
  attention.cache = {.data = reinterpret_cast<float*>(cache),
                     .n_pages = options_.kv_pages,
                     .page_tokens = kKvPageTokens,
                     .n_kv_heads = config_.n_kv_heads,
                     .d_head = config_.d_head};
  layers_[static_cast<size_t>(layer)].attention = attention;
  return absl::OkStatus();
}

absl::Status GpuDevice::LoadNeurons(int64_t layer, const BundleView& bundles, std::vector<uint32_t> neurons) {
  const auto count = static_cast<int64_t>(neurons.size());
  TC_ASSIGN_OR_RETURN(std::byte* const held,
                      arena_.Take(fmt::format("{} neurons of layer {}", count, layer),
                                  count * GpuBundleLayout(bundles, count).stride_bytes));
  Layer& loaded = layers_[static_cast<size_t>(layer)];
  TC_ASSIGN_OR_RETURN(loaded.neurons, upload_->Bundles(held, bundles, neurons));
  loaded.numbers = std::move(neurons);
  return absl::OkStatus();
}

absl::Status GpuDevice::LoadMatrices(int64_t layer, const FeedForward& ffn) {
  const std::string what = fmt::format("the feed-forward block of layer {}", layer);
  Matrices& matrices = layers_[static_cast<size_t>(layer)].matrices.emplace();
  TC_ASSIGN_OR_RETURN(matrices.gate, HoldMatrix(what, ffn.gate));
  if (config_.gated) {
    TC_ASSIGN_OR_RETURN(matrices.up, HoldMatrix(what, ffn.up));
  }
  TC_ASSIGN_OR_RETURN(matrices.down, HoldMatrix(what, ffn.down));
  return absl::OkStatus();
}

absl::Status GpuDevice::LoadPredictor(int64_t layer, const LayerPredictor& predictor,
                                      std::span<const std::vector<uint32_t>> tables, const WeightView& gate) {
  const std::string what = fmt::format("layer {}'s predictor", layer);
  // The device's own table comes first: kernels read its masks at an aligned address.
  const auto own = static_cast<size_t>(options_.table);
  std::vector<std::vector<uint32_t>> own_first = {tables[own]};
  for (size_t t = 0; t < tables.size(); ++t)
    if (t != own) own_first.push_back(tables[t]);
  const std::vector<uint32_t> order = NeuronOrder(own_first, config_.d_ff);
  Predictor held{.kind = predictor.kind,
                 .balanced_threshold = static_cast<float>(predictor.balanced_threshold),
                 .fast_threshold = static_cast<float>(predictor.fast_threshold)};
  int64_t begin = std::ssize(tables[own]);
  for (size_t t = 0; t < tables.size(); ++t) {
    held.masks.push_back({t == own ? 0 : begin, std::ssize(tables[t])});
    if (t != own) begin += std::ssize(tables[t]);
  }
  if (predictor.kind == PredictorKind::kMlp) {
    TC_ASSIGN_OR_RETURN(held.w1, HoldMatrix(what, predictor.w1.view()));
    TC_ASSIGN_OR_RETURN(held.b1, HoldArray(what, predictor.b1));
    TC_ASSIGN_OR_RETURN(held.w2, HoldMatrix(what, predictor.w2.view(), order));
    std::vector<float> b2;
    for (const uint32_t neuron : order) b2.push_back(predictor.b2[neuron]);
    TC_ASSIGN_OR_RETURN(held.b2, HoldArray(what, b2));
  } else {
    const int64_t words = BitWords(config_.d_model);
    std::vector<uint64_t> signs(static_cast<size_t>(config_.d_ff * words));
    std::vector<float> row(static_cast<size_t>(config_.d_model));
    for (size_t i = 0; i < order.size(); ++i) {
      kernels_.dequantize(gate.type, gate.row_data(order[i]), gate.cols, row.data());
      kernels_.pack_signs(
          row, std::span(signs).subspan(i * static_cast<size_t>(words), static_cast<size_t>(words)));
    }
    TC_ASSIGN_OR_RETURN(uint64_t* const data, arena_.TakeArray<uint64_t>(what, std::ssize(signs)));
    TC_RETURN_IF_ERROR(upload_->Array(data, std::span<const uint64_t>(signs)));
    held.signs = {data, config_.d_ff, words, words};
  }
  layers_[static_cast<size_t>(layer)].predictor = std::move(held);
  return absl::OkStatus();
}

absl::Status GpuDevice::LoadHead(const NormWeights& norm, const WeightView& head) {
  TC_ASSIGN_OR_RETURN(head_norm_, HoldArray("the head", norm.weight));
  TC_ASSIGN_OR_RETURN(head_, HoldMatrix("the head", head));
  return absl::OkStatus();
}

}  // namespace thermocline
