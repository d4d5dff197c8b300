// Binding of tensors, and the layout of neuron-major bundles.
// SPDX-License-Identifier: Apache-2.0
#include "model/weights.h"

#include <algorithm>
#include <cstring>
#include <mutex>

#include "core/checked.h"
#include "model/quantize.h"
#include "model/ternary.h"

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
absl::Status LayOutBundles(const CpuContext& context, bool gated, FeedForward& ffn) {
  const int64_t d_ff = ffn.gate.rows, d_model = ffn.gate.cols;
  TC_ASSIGN_OR_RETURN(BundleView shape,
                      gated ? BundleLayout(d_ff, d_model, ffn.gate.type, ffn.up.type, ffn.down.type)
                            : UngatedBundleLayout(d_ff, d_model, ffn.gate.type, ffn.down.type));
  const int64_t gate_bytes = *RowBytes(ffn.gate.type, d_model);
  const int64_t up_bytes = gated ? *RowBytes(ffn.up.type, d_model) : 0;
  TC_ASSIGN_OR_RETURN(ffn.bundle_storage, AlignedBuffer::CreateToFill(d_ff * shape.stride_bytes));
  std::byte* storage = ffn.bundle_storage.data();
  shape.data = storage;
  if (!ffn.gate_bias.empty()) shape.gate_bias = ffn.gate_bias.data();

  constexpr int64_t kColumnsAtOnce = 256;  // a multiple of every block
  absl::Status status;
  std::mutex status_mutex;
  context.team->ParallelFor(d_ff, kColumnsAtOnce, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      std::byte* bundle = storage + i * shape.stride_bytes;
      std::memcpy(bundle, ffn.gate.row_data(i), static_cast<size_t>(gate_bytes));
      if (gated)
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
  ffn.gate = ffn.up = {};
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

absl::StatusOr<BundleView> UngatedBundleLayout(int64_t n_neurons, int64_t d_model, ElementType fc1,
                                               ElementType fc2) {
  BundleView layout{.n_neurons = n_neurons,
                    .d_model = d_model,
                    .gate_type = fc1,
                    .down_type = BundledDownType(fc2),
                    .gated = false};
  TC_ASSIGN_OR_RETURN(layout.down_offset_bytes, RowBytes(fc1, d_model));
  TC_ASSIGN_OR_RETURN(const int64_t down_bytes, RowBytes(layout.down_type, d_model));
  layout.stride_bytes =
      *CheckedAlignUp(static_cast<uint64_t>(layout.down_offset_bytes + down_bytes), kBundleAlignment);
  return layout;
}

namespace {

// Binds a checkpoint's tensors under their names.
class Binder {
 public:
  Binder(const Checkpoint& checkpoint, const KernelTable& kernels, std::vector<AlignedBuffer>& copies)
      : config_(checkpoint.config),
        names_(checkpoint.names),
        tensors_(checkpoint.tensors),
        kernels_(kernels),
        copies_(copies) {}

  absl::Status Bind(int64_t index, LayerWeights& layer) {
    const int64_t q_width = config_.n_heads * config_.d_head, d_model = config_.d_model;
    const TensorNames::Layer name = names_.layer(index);
    TC_RETURN_IF_ERROR(Norm(name.attention_norm, d_model, layer.attention_norm));
    TC_RETURN_IF_ERROR(QueryKeyValue(name, layer));
    TC_RETURN_IF_ERROR(Norm(name.query_norm, config_.d_head, layer.query_norm));
    TC_RETURN_IF_ERROR(Norm(name.key_norm, config_.d_head, layer.key_norm));
    TC_RETURN_IF_ERROR(Norm(name.attention_sub_norm, q_width, layer.attention_sub_norm));
    TC_RETURN_IF_ERROR(Linear(name.attention_output, d_model, q_width, layer.attention_output));
    if (config_.attention_output_bias)
      TC_RETURN_IF_ERROR(Bias(name.attention_output, d_model, layer.output_bias));
    TC_RETURN_IF_ERROR(Norm(name.post_attention_norm, d_model, layer.post_attention_norm));
    TC_RETURN_IF_ERROR(Norm(name.ffn_norm, d_model, layer.ffn_norm));
    TC_RETURN_IF_ERROR(Norm(name.post_ffn_norm, d_model, layer.post_ffn_norm));
    if (config_.ffn_bias) TC_RETURN_IF_ERROR(Bias(name.down, d_model, layer.down_bias));
    return Neurons(name, layer.ffn);
  }

  absl::Status Norm(const std::string& name, int64_t width, NormWeights& norm) const {
    if (name.empty()) return absl::OkStatus();
    TC_ASSIGN_OR_RETURN(norm.weight, tensors_.Vector(name, width));
    if (names_.unit_offset_norms)
      for (float& weight : norm.weight) weight += 1.0f;
    if (config_.norm == NormKind::kLayer) TC_RETURN_IF_ERROR(Bias(name, width, norm.bias));
    return absl::OkStatus();
  }

  absl::Status Matrix(const std::string& name, int64_t rows, int64_t cols, WeightView& matrix) const {
    TC_ASSIGN_OR_RETURN(matrix, tensors_.Matrix(name, rows, cols));
    return absl::OkStatus();
  }

 private:
  absl::Status Bias(const std::string& weight, int64_t width, std::vector<float>& bias) const {
    TC_ASSIGN_OR_RETURN(bias, tensors_.Vector(BiasOf(weight), width));
    return absl::OkStatus();
  }

  absl::Status QueryKeyValue(const TensorNames::Layer& name, LayerWeights& layer) {
    const int64_t q_width = config_.n_heads * config_.d_head, kv_width = config_.n_kv_heads * config_.d_head;
    const bool biased = config_.query_key_value_bias;
    if (!name.query_key_value.empty()) {
      WeightView fused;
      TC_RETURN_IF_ERROR(Matrix(name.query_key_value, q_width + 2 * kv_width, config_.d_model, fused));
      if (names_.grouped_rows) {
        TC_ASSIGN_OR_RETURN(fused, Ungroup(fused));
      }
      layer.query = fused.Rows(0, q_width);
      layer.key = fused.Rows(q_width, kv_width);
      layer.value = fused.Rows(q_width + kv_width, kv_width);
      if (!biased) return absl::OkStatus();
      std::vector<float> bias;
      TC_RETURN_IF_ERROR(Bias(name.query_key_value, q_width + 2 * kv_width, bias));
      layer.query_bias.assign(bias.begin(), bias.begin() + q_width);
      layer.key_bias.assign(bias.begin() + q_width, bias.begin() + q_width + kv_width);
      layer.value_bias.assign(bias.begin() + q_width + kv_width, bias.end());
      return absl::OkStatus();
    }
    TC_RETURN_IF_ERROR(Linear(name.query, q_width, config_.d_model, layer.query));
    TC_RETURN_IF_ERROR(Linear(name.key, kv_width, config_.d_model, layer.key));
    TC_RETURN_IF_ERROR(Linear(name.value, kv_width, config_.d_model, layer.value));
    if (!biased) return absl::OkStatus();
    TC_RETURN_IF_ERROR(Bias(name.query, q_width, layer.query_bias));
    TC_RETURN_IF_ERROR(Bias(name.key, kv_width, layer.key_bias));
    return Bias(name.value, kv_width, layer.value_bias);
  }

  // A matrix of a layer, which may be ternary.
  absl::Status Linear(const std::string& name, int64_t rows, int64_t cols, WeightView& matrix) {
    if (config_.ternary == TernaryWeights::kNone) return Matrix(name, rows, cols, matrix);
    ExpandedTernary expanded;
    if (config_.ternary == TernaryWeights::kPacked) {
      TC_ASSIGN_OR_RETURN(const auto bytes, tensors_.Packed(name, "U8", {rows / kTernaryRowsOfAByte, cols}));
      TC_ASSIGN_OR_RETURN(const std::vector<float> scale, tensors_.Vector(ScaleOf(name), 1));
      TC_ASSIGN_OR_RETURN(expanded, ExpandPackedTernary(bytes, rows, cols, scale.front()));
    } else {
      TC_RETURN_IF_ERROR(Matrix(name, rows, cols, matrix));
      TC_ASSIGN_OR_RETURN(expanded, RoundToTernary(kernels_, matrix));
    }
    matrix = expanded.view;
    copies_.push_back(std::move(expanded.storage));
    return absl::OkStatus();
  }

  // Rows that go KV head by KV head, its queries, its key, its value, as all queries, all keys, all values.
  absl::StatusOr<WeightView> Ungroup(const WeightView& fused) {
    const int64_t groups = config_.n_kv_heads;
    if (groups == 1) return fused;
    const int64_t heads = config_.n_heads / groups, d_head = config_.d_head;
    const int64_t row_bytes = *RowBytes(fused.type, fused.cols), head_bytes = d_head * row_bytes;
    TC_ASSIGN_OR_RETURN(AlignedBuffer copy, AlignedBuffer::Create(fused.rows * row_bytes));
    const auto move = [&](int64_t from, int64_t to, int64_t count) {  // numbers of heads
      std::memcpy(copy.data() + to * head_bytes, fused.data + from * head_bytes,
                  static_cast<size_t>(count * head_bytes));
    };
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t from = g * (heads + 2);
      move(from, g * heads, heads);
      move(from + heads, config_.n_heads + g, 1);
      move(from + heads + 1, config_.n_heads + groups + g, 1);
    }
    WeightView view = fused;
    view.data = copy.data();
    view.row_stride_bytes = row_bytes;
    copies_.push_back(std::move(copy));
    return view;
  }

  absl::Status Neurons(const TensorNames::Layer& name, FeedForward& ffn) {
    const int64_t d_ff = config_.d_ff, d_model = config_.d_model;
    if (!name.gate_up.empty()) {
      WeightView fused;
      TC_RETURN_IF_ERROR(Matrix(name.gate_up, 2 * d_ff, d_model, fused));
      ffn.gate = fused.Rows(0, d_ff);
      ffn.up = fused.Rows(d_ff, d_ff);
    } else if (config_.gated) {
      TC_RETURN_IF_ERROR(Linear(name.gate, d_ff, d_model, ffn.gate));
      TC_RETURN_IF_ERROR(Linear(name.up, d_ff, d_model, ffn.up));
    } else {
      TC_RETURN_IF_ERROR(Linear(name.up, d_ff, d_model, ffn.gate));
      if (config_.ffn_bias) TC_RETURN_IF_ERROR(Bias(name.up, d_ff, ffn.gate_bias));
    }
    TC_RETURN_IF_ERROR(Norm(name.ffn_sub_norm, d_ff, ffn.sub_norm));
    return Linear(name.down, d_model, d_ff, ffn.down);
  }

  const ModelConfig& config_;
  const TensorNames& names_;
  const TensorTable& tensors_;
  const KernelTable& kernels_;
  std::vector<AlignedBuffer>& copies_;
};

}  // namespace

absl::StatusOr<ModelWeights> ModelWeights::Load(const Checkpoint& checkpoint, const CpuContext& context,
                                                const WeightOptions& options) {
  const ModelConfig& config = checkpoint.config;
  const TensorNames& names = checkpoint.names;
  if (options.ffn_layout == FfnLayout::kBundles && config.sub_norms) {
    return InvalidArgument("{}: bundles are not possible: architecture {} norms the whole hidden layer",
                           checkpoint.path, config.architecture);
  }
  const bool bundles = options.ffn_layout == FfnLayout::kBundles ||
                       (options.ffn_layout == FfnLayout::kAuto && config.has_silent_neurons());

  ModelWeights weights;
  Binder binder(checkpoint, *context.kernels, weights.copies);
  TC_RETURN_IF_ERROR(
      binder.Matrix(names.token_embedding, config.n_vocab, config.d_model, weights.token_embedding));
  if (!names.positions.empty()) {
    TC_RETURN_IF_ERROR(binder.Matrix(names.positions, config.context_length + config.position_offset,
                                     config.d_model, weights.positions));
  }
  for (int64_t l = 0; l < config.n_layers; ++l) {
    LayerWeights& layer = weights.layers.emplace_back();
    TC_RETURN_IF_ERROR(binder.Bind(l, layer));
    if (bundles) {
      layer.ffn.layout = FfnLayout::kBundles;
      TC_RETURN_IF_ERROR(LayOutBundles(context, config.gated, layer.ffn));
    }
  }
  TC_RETURN_IF_ERROR(binder.Norm(names.output_norm, config.d_model, weights.output_norm));
  weights.head = weights.token_embedding;
  if (!config.tied_head)
    TC_RETURN_IF_ERROR(binder.Matrix(names.head, config.n_vocab, config.d_model, weights.head));
  return weights;
}

int64_t LayerWeights::attention_bytes() const {
  int64_t bytes = query.size_bytes() + key.size_bytes() + value.size_bytes() + attention_output.size_bytes();
  for (const NormWeights* norm : {&attention_norm, &query_norm, &key_norm, &attention_sub_norm,
                                  &post_attention_norm, &ffn_norm, &post_ffn_norm}) {
    bytes += norm->size_bytes();
  }
  for (const auto* bias : {&query_bias, &key_bias, &value_bias, &output_bias, &down_bias})
    bytes += static_cast<int64_t>(bias->size() * sizeof(float));
  return bytes;
}

int64_t ModelWeights::head_bytes() const { return head.size_bytes() + output_norm.size_bytes(); }

int64_t ModelWeights::bytes_per_token() const {
  int64_t bytes = head_bytes() + token_embedding.Rows(0, 1).size_bytes() + ffn_bytes();
  for (const LayerWeights& layer : layers) bytes += layer.attention_bytes();
  return bytes;
}

int64_t FeedForward::size_bytes() const {
  const bool bundled = layout == FfnLayout::kBundles;
  int64_t bytes = (bundled ? bundles.gate() : gate).size_bytes() +
                  (bundled ? bundles.down() : down).size_bytes() + sub_norm.size_bytes() +
                  static_cast<int64_t>(gate_bias.size() * sizeof(float));
  if (!bundled) {
    bytes += up.size_bytes();
  } else if (bundles.gated) {
    bytes += bundles.up().size_bytes();
  }
  return bytes;
}

int64_t ModelWeights::ffn_bytes() const {
  int64_t bytes = 0;
  for (const LayerWeights& layer : layers) bytes += layer.ffn.size_bytes();
  return bytes;
}

}  // namespace thermocline
