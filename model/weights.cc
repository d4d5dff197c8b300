// Binding of tensors, and the layout of neuron-major bundles.
// SPDX-License-Identifier: Apache-2.0
#include "model/weights.h"

#include <algorithm>
#include <cstring>
#include <mutex>

#include "core/checked.h"
#include "model/quantize.h"

namespace thermocline {
namespace {

constexpr int64_t kBundleAlignment = 64;  // bytes; a bundle starts on a cache line

// Plain floats are transposed as they are. A quantised block runs along d_ff and cannot be cut into columns:
// such a matrix is expanded and stored again as Q8_0 along d_model, which costs at most half a 127th of each
// block's largest weight.
ElementType TransposedType(ElementType type) { return InfoOf(type).quantized() ? ElementType::kQ8_0 : type; }

void CopyColumns(const WeightView& down, int64_t begin, int64_t end, const BundleView& shape,
                 std::byte* storage) {
  const int64_t element_bytes = InfoOf(down.type).block_bytes;
  for (int64_t r = 0; r < down.rows; ++r) {
    const std::byte* source = down.row_data(r) + begin * element_bytes;
    std::byte* target = storage + begin * shape.stride_bytes + shape.down_offset_bytes + r * element_bytes;
    for (int64_t c = begin; c < end; ++c, source += element_bytes, target += shape.stride_bytes) {
      std::memcpy(target, source, static_cast<size_t>(element_bytes));
    }
  }
}

absl::Status RequantizeColumns(const KernelTable& kernels, const WeightView& down, int64_t begin, int64_t end,
                               const BundleView& shape, std::byte* storage) {
  const ElementTypeInfo& info = InfoOf(down.type);
  const int64_t begin_bytes = begin / info.block_elements * info.block_bytes;
  TC_ASSIGN_OR_RETURN(Matrix<float> columns, Matrix<float>::Create(end - begin, down.rows));
  std::vector<float> row(static_cast<size_t>(end - begin));
  for (int64_t r = 0; r < down.rows; ++r) {
    kernels.dequantize(down.type, down.row_data(r) + begin_bytes, end - begin, row.data());
    for (int64_t c = 0; c < end - begin; ++c)
      columns.row(c)[static_cast<size_t>(r)] = row[static_cast<size_t>(c)];
  }
  for (int64_t c = begin; c < end; ++c) {
    QuantizeQ8_0(columns.row(c - begin), storage + c * shape.stride_bytes + shape.down_offset_bytes);
  }
  return absl::OkStatus();
}

// Lays gate_i, up_i and down's column i side by side for every neuron i.
absl::Status LayOutBundles(const CpuContext& context, FeedForward& ffn) {
  const int64_t d_ff = ffn.gate.rows, d_model = ffn.gate.cols;
  BundleView shape{.n_neurons = d_ff,
                   .d_model = d_model,
                   .gate_type = ffn.gate.type,
                   .up_type = ffn.up.type,
                   .down_type = TransposedType(ffn.down.type)};
  TC_ASSIGN_OR_RETURN(const int64_t gate_bytes, RowBytes(shape.gate_type, d_model));
  TC_ASSIGN_OR_RETURN(const int64_t up_bytes, RowBytes(shape.up_type, d_model));
  TC_ASSIGN_OR_RETURN(const int64_t down_bytes, RowBytes(shape.down_type, d_model));
  shape.up_offset_bytes = gate_bytes;
  shape.down_offset_bytes = gate_bytes + up_bytes;
  shape.stride_bytes =
      *CheckedAlignUp(static_cast<uint64_t>(gate_bytes + up_bytes + down_bytes), kBundleAlignment);
  TC_ASSIGN_OR_RETURN(ffn.bundle_storage, AlignedBuffer::Create(d_ff * shape.stride_bytes));
  std::byte* storage = ffn.bundle_storage.data();
  shape.data = storage;

  constexpr int64_t kColumnsAtOnce = 256;  // a multiple of every block
  absl::Status status;
  std::mutex status_mutex;
  context.team->ParallelFor(d_ff, kColumnsAtOnce, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      std::byte* bundle = storage + i * shape.stride_bytes;
      std::memcpy(bundle, ffn.gate.row_data(i), static_cast<size_t>(gate_bytes));
      std::memcpy(bundle + shape.up_offset_bytes, ffn.up.row_data(i), static_cast<size_t>(up_bytes));
    }
    if (shape.down_type == ffn.down.type && !InfoOf(ffn.down.type).quantized()) {
      CopyColumns(ffn.down, begin, end, shape, storage);
      return;
    }
    for (int64_t c = begin; c < end; c += kColumnsAtOnce) {
      const int64_t last = std::min(end, c + kColumnsAtOnce);
      const absl::Status part = RequantizeColumns(*context.kernels, ffn.down, c, last, shape, storage);
      const std::lock_guard lock(status_mutex);
      status.Update(part);
    }
  });
  TC_RETURN_IF_ERROR(status);
  ffn.bundles = shape;
  ffn.gate = ffn.up = ffn.down = {};
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelWeights> ModelWeights::Load(const Checkpoint& checkpoint, const CpuContext& context,
                                                const WeightOptions& options) {
  const ModelConfig& config = checkpoint.config;
  const TensorTable& tensors = checkpoint.tensors;
  const TensorNames& names = checkpoint.names;
  const int64_t q_width = config.n_heads * config.d_head, kv_width = config.n_kv_heads * config.d_head;
  const bool bundles = options.ffn_layout == FfnLayout::kBundles ||
                       (options.ffn_layout == FfnLayout::kAuto && HasTrueZeros(config.activation));

  ModelWeights weights;
  TC_ASSIGN_OR_RETURN(weights.token_embedding,
                      tensors.Matrix(names.token_embedding, config.n_vocab, config.d_model));
  for (int64_t l = 0; l < config.n_layers; ++l) {
    const TensorNames::Layer name = names.layer(l);
    LayerWeights& layer = weights.layers.emplace_back();
    TC_ASSIGN_OR_RETURN(layer.attention_norm, tensors.Vector(name.attention_norm, config.d_model));
    TC_ASSIGN_OR_RETURN(layer.query, tensors.Matrix(name.query, q_width, config.d_model));
    TC_ASSIGN_OR_RETURN(layer.key, tensors.Matrix(name.key, kv_width, config.d_model));
    TC_ASSIGN_OR_RETURN(layer.value, tensors.Matrix(name.value, kv_width, config.d_model));
    TC_ASSIGN_OR_RETURN(layer.attention_output,
                        tensors.Matrix(name.attention_output, config.d_model, q_width));
    TC_ASSIGN_OR_RETURN(layer.ffn_norm, tensors.Vector(name.ffn_norm, config.d_model));
    TC_ASSIGN_OR_RETURN(layer.ffn.gate, tensors.Matrix(name.gate, config.d_ff, config.d_model));
    TC_ASSIGN_OR_RETURN(layer.ffn.up, tensors.Matrix(name.up, config.d_ff, config.d_model));
    TC_ASSIGN_OR_RETURN(layer.ffn.down, tensors.Matrix(name.down, config.d_model, config.d_ff));
    if (bundles) {
      layer.ffn.layout = FfnLayout::kBundles;
      TC_RETURN_IF_ERROR(LayOutBundles(context, layer.ffn));
    }
  }
  TC_ASSIGN_OR_RETURN(weights.output_norm, tensors.Vector(names.output_norm, config.d_model));
  weights.head = weights.token_embedding;
  if (!config.tied_head) {
    TC_ASSIGN_OR_RETURN(weights.head, tensors.Matrix(names.head, config.n_vocab, config.d_model));
  }
  return weights;
}

int64_t ModelWeights::bytes_per_token() const {
  int64_t bytes = head.size_bytes() + token_embedding.Rows(0, 1).size_bytes() +
                  static_cast<int64_t>(output_norm.size() * sizeof(float));
  for (const LayerWeights& layer : layers) {
    bytes += static_cast<int64_t>((layer.attention_norm.size() + layer.ffn_norm.size()) * sizeof(float));
    for (const WeightView* w : {&layer.query, &layer.key, &layer.value, &layer.attention_output})
      bytes += w->size_bytes();
  }
  return bytes + ffn_bytes();
}

int64_t ModelWeights::ffn_bytes() const {
  int64_t bytes = 0;
  for (const LayerWeights& layer : layers) {
    const FeedForward& ffn = layer.ffn;
    const bool bundled = ffn.layout == FfnLayout::kBundles;
    bytes += (bundled ? ffn.bundles.gate() : ffn.gate).size_bytes() +
             (bundled ? ffn.bundles.up() : ffn.up).size_bytes() +
             (bundled ? ffn.bundles.down() : ffn.down).size_bytes();
  }
  return bytes;
}

}  // namespace thermocline
