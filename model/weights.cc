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
  TC_ASSIGN_OR_RETURN(BundleView shape,
                      BundleLayout(d_ff, d_model, ffn.gate.type, ffn.up.type, ffn.down.type));
  const int64_t gate_bytes = shape.up_offset_bytes, up_bytes = shape.down_offset_bytes - gate_bytes;
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

ElementType BundledDownType(ElementType file_type) {
  return InfoOf(file_type).quantized() ? ElementType::kQ8_0 : file_type;
}

absl::StatusOr<BundleView> BundleLayout(int64_t n_neurons, int64_t d_model, ElementType gate, ElementType up,
                                        ElementType down) {
  BundleView layout{.n_neurons = n_neurons,
                    .d_model = d_model,
                    .gate_type = gate,
                    .up_type = up,
                    .down_type = BundledDownType(down)};
  TC_ASSIGN_OR_RETURN(layout.up_offset_bytes, RowBytes(gate, d_model));
  TC_ASSIGN_OR_RETURN(const int64_t up_bytes, RowBytes(up, d_model));
  TC_ASSIGN_OR_RETURN(const int64_t down_bytes, RowBytes(layout.down_type, d_model));
  layout.down_offset_bytes = layout.up_offset_bytes + up_bytes;
  layout.stride_bytes =
      *CheckedAlignUp(static_cast<uint64_t>(layout.down_offset_bytes + down_bytes), kBundleAlignment);
  return layout;
}

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

int64_t LayerWeights::attention_bytes() const {
  return query.size_bytes() + key.size_bytes() + value.size_bytes() + attention_output.size_bytes() +
         static_cast<int64_t>((attention_norm.size() + ffn_norm.size()) * sizeof(float));
}

int64_t ModelWeights::head_bytes() const {
  return head.size_bytes() + static_cast<int64_t>(output_norm.size() * sizeof(float));
}

int64_t ModelWeights::bytes_per_token() const {
  int64_t bytes = head_bytes() + token_embedding.Rows(0, 1).size_bytes() + ffn_bytes();
  for (const LayerWeights& layer : layers) bytes += layer.attention_bytes();
  return bytes;
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
