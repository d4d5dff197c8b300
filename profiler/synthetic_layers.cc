// Layers of equal weights.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/synthetic_layers.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "core/checked.h"
#include "model/quantize.h"
#include "model/weights.h"
#include "profiler/bandwidth.h"

namespace thermocline {
namespace {

constexpr int64_t kBundlesAtOnce = 64;
constexpr int64_t kMostDimension = int64_t{1} << 24;
constexpr float kWeight = 1.0f / 64;  // of every weight and input

// Appends a row of `cols` weights to the bundle; returns its place.
absl::StatusOr<int64_t> AppendRow(ElementType type, int64_t cols, std::vector<std::byte>& bundle) {
  if (!CanQuantize(type)) {
    return InvalidArgument("synthetic layers: weight type {}, allowed are F32, F16, BF16, Q8_0 and Q4_0",
                           NameOf(type));
  }
  TC_ASSIGN_OR_RETURN(const int64_t row_bytes, RowBytes(type, cols));
  const size_t place = bundle.size();
  bundle.resize(place + static_cast<size_t>(row_bytes));
  QuantizeRow(type, std::vector<float>(static_cast<size_t>(cols), kWeight), bundle.data() + place);
  return static_cast<int64_t>(place);
}

}  // namespace

absl::StatusOr<SyntheticLayers> SyntheticLayers::Create(const CpuContext& context,
                                                        const SyntheticShape& shape,
                                                        int64_t working_set_bytes) {
  const int64_t d_model = shape.d_model, d_ff = shape.d_ff;
  if (d_model < 1 || d_model > kMostDimension || d_ff < 1 || d_ff > kMostDimension) {
    return InvalidArgument("synthetic layers: {} neurons of width {}, allowed are 1 to {}", d_ff, d_model,
                           kMostDimension);
  }
  if (working_set_bytes < 0)
    return InvalidArgument("synthetic layers: a working set of {} bytes", working_set_bytes);

  BundleView bundles{.n_neurons = d_ff,
                     .d_model = d_model,
                     .gate_type = shape.gate_type,
                     .up_type = shape.up_type,
                     .down_type = shape.down_type,
                     .gated = shape.gated};
  std::vector<std::byte> bundle;
  TC_RETURN_IF_ERROR(AppendRow(shape.gate_type, d_model, bundle).status());
  if (shape.gated) {
    TC_ASSIGN_OR_RETURN(bundles.up_offset_bytes, AppendRow(shape.up_type, d_model, bundle));
  }
  TC_ASSIGN_OR_RETURN(bundles.down_offset_bytes, AppendRow(shape.down_type, d_model, bundle));
  // No overflow: dimensions are at most 2^24, so a layer has at most 2^52 bytes.
  bundles.stride_bytes = static_cast<int64_t>(*CheckedAlignUp(bundle.size(), kBundleAlignment));
  const int64_t layer_bytes = d_ff * bundles.stride_bytes;
  const int64_t wanted_bytes = working_set_bytes == 0 ? UncachedWorkingSetBytes() : working_set_bytes;
  const int64_t n_layers =
      std::max<int64_t>(1, wanted_bytes / layer_bytes + (wanted_bytes % layer_bytes != 0));
  const auto storage_bytes = CheckedMul(static_cast<uint64_t>(n_layers), static_cast<uint64_t>(layer_bytes));
  if (!storage_bytes || *storage_bytes > static_cast<uint64_t>(INT64_MAX))
    return ResourceExhausted("synthetic layers: a working set of {} bytes", wanted_bytes);

  SyntheticLayers layers;
  layers.context_ = context;
  TC_ASSIGN_OR_RETURN(layers.storage_, AlignedBuffer::Create(static_cast<int64_t>(*storage_bytes)));
  std::byte* const storage = layers.storage_.data();
  context.team->ParallelFor(n_layers * d_ff, kBundlesAtOnce, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      std::memcpy(storage + i * bundles.stride_bytes, bundle.data(), bundle.size());
  });
  for (int64_t l = 0; l < n_layers; ++l) {
    bundles.data = storage + l * layer_bytes;
    layers.layers_.push_back(bundles);
  }
  TC_ASSIGN_OR_RETURN(layers.input_, Matrix<float>::Create(1, d_model));
  std::ranges::fill(layers.input_.row(0), kWeight);
  TC_ASSIGN_OR_RETURN(layers.gate_, Matrix<float>::Create(1, d_ff));
  TC_ASSIGN_OR_RETURN(layers.up_, Matrix<float>::Create(1, d_ff));
  TC_ASSIGN_OR_RETURN(layers.partials_, Matrix<float>::Create(1, FfnPartialsSize(d_model)));
  TC_ASSIGN_OR_RETURN(layers.sparse_, Matrix<float>::Create(1, SparseFfnScratchSize(d_ff, d_model, 1)));
  TC_ASSIGN_OR_RETURN(layers.output_, Matrix<float>::Create(1, d_model));
  layers.fired_.resize(static_cast<size_t>(d_ff));
  return layers;
}

int64_t SyntheticLayers::layer_bytes() const {
  const int64_t n = n_neurons();
  return NeuronReads{.gate_rows = n, .up_rows = layers_[0].gated ? n : 0, .down_rows = n}.Bytes(layers_[0]);
}

void SyntheticLayers::RunDense(size_t layer) {
  DenseFeedForward(context_, {.bundles = layers_[layer],
                              .activation = Activation::kRelu,
                              .x = input_.view(),
                              .y = output_.view(),
                              .gate = gate_.view(),
                              .up = up_.view(),
                              .partials = partials_.row(0)});
}

int64_t SyntheticLayers::RunSparse(size_t layer, std::span<const uint32_t> neurons) {
  const NeuronReads reads = SparseFeedForward(context_,
                                              {.bundles = layers_[layer],
                                               .activation = Activation::kRelu,
                                               .x = input_.view(),
                                               .candidates = {.rows = neurons, .tokens = {}},
                                               .y = output_.view(),
                                               .fired = std::span(fired_).first(neurons.size())},
                                              sparse_.row(0));
  TC_CHECK(reads.down_rows == static_cast<int64_t>(neurons.size()));
  return reads.Bytes(layers_[layer]);
}

std::vector<std::vector<uint32_t>> DealNeurons(int64_t n, int64_t per_token, std::mt19937_64& random) {
  TC_CHECK(per_token >= 1 && per_token <= n);
  std::vector<uint32_t> shuffled(static_cast<size_t>(n));
  std::iota(shuffled.begin(), shuffled.end(), 0u);
  std::ranges::shuffle(shuffled, random);
  std::vector<std::vector<uint32_t>> marks(static_cast<size_t>((n + per_token - 1) / per_token));
  size_t next = 0;
  for (std::vector<uint32_t>& token : marks) {
    for (int64_t i = 0; i < per_token; ++i) token.push_back(shuffled[next++ % shuffled.size()]);
    std::ranges::sort(token);
  }
  return marks;
}

}  // namespace thermocline
