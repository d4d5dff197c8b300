// Neuron-aware bandwidth: sparse feed-forward layers over bundles that are all read once a sample.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/neuron_probe.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "core/buffer.h"
#include "core/checked.h"
#include "core/half.h"
#include "model/quantize.h"
#include "profiler/bandwidth.h"
#include "profiler/probe_samples.h"

namespace thermocline {
namespace {

constexpr int64_t kBundleAlignment = 64;     // as model/weights.cc lays them out
constexpr int64_t kPieceBytes = 256 * 1024;  // weights that a thread takes at a time, as in MatMul
constexpr int64_t kMostDimension = int64_t{1} << 24;
constexpr float kWeight = 1.0f / 64;  // every weight and input: positive, so that marked neurons fire

// A row of `cols` weights, all kWeight.
absl::Status EncodeRow(ElementType type, int64_t cols, std::span<std::byte> target) {
  const auto fill = [&](auto value) {
    for (int64_t c = 0; c < cols; ++c)
      std::memcpy(target.data() + c * static_cast<int64_t>(sizeof value), &value, sizeof value);
    return absl::OkStatus();
  };
  switch (type) {
    case ElementType::kF32:
      return fill(kWeight);
    case ElementType::kF16:
      return fill(FloatToHalf(kWeight));
    case ElementType::kBF16:
      return fill(FloatToBFloat16(kWeight));
    case ElementType::kQ8_0:
      QuantizeQ8_0(std::vector<float>(static_cast<size_t>(cols), kWeight), target.data());
      return absl::OkStatus();
    default:
      return InvalidArgument("neuron probe: weight type {}, allowed are F32, F16, BF16 and Q8_0",
                             NameOf(type));
  }
}

// A layer's bundles, and for each token of a sample the neurons it marks, ascending.
struct ProbeLayer {
  BundleView bundles;
  std::vector<std::vector<int64_t>> marks;
};

// Deals the neurons out to the tokens at random, the same way each time.
std::vector<std::vector<int64_t>> DealNeurons(int64_t d_ff, int64_t tokens, std::mt19937_64& random) {
  std::vector<int64_t> neurons(static_cast<size_t>(d_ff));
  std::iota(neurons.begin(), neurons.end(), 0);
  std::ranges::shuffle(neurons, random);
  std::vector<std::vector<int64_t>> marks(static_cast<size_t>(tokens));
  for (size_t i = 0; i < neurons.size(); ++i) marks[i % marks.size()].push_back(neurons[i]);
  for (auto& token : marks) std::ranges::sort(token);
  return marks;
}

absl::Status CheckShape(const NeuronProbeOptions& options) {
  const NeuronShape& shape = options.shape;
  if (shape.d_model < 1 || shape.d_model > kMostDimension || shape.d_ff < 1 || shape.d_ff > kMostDimension) {
    return InvalidArgument("neuron probe: {} neurons of width {}, allowed are 1 to {}", shape.d_ff,
                           shape.d_model, kMostDimension);
  }
  if (!(shape.active_share > 0 && shape.active_share <= 1)) {
    return InvalidArgument("neuron probe: an active share of {}, allowed are above 0 and at most 1",
                           shape.active_share);
  }
  if (options.working_set_bytes < 0 || options.repetitions < 1) {
    return InvalidArgument("neuron probe: {} bytes and {} repetitions, allowed are from 0 and from 1",
                           options.working_set_bytes, options.repetitions);
  }
  return absl::OkStatus();
}

class NeuronProbe {
 public:
  static absl::StatusOr<NeuronProbe> Create(const CpuContext& context, const NeuronProbeOptions& options) {
    TC_RETURN_IF_ERROR(CheckShape(options));
    const NeuronShape& shape = options.shape;
    TC_ASSIGN_OR_RETURN(const int64_t row_bytes, RowBytes(shape.weight_type, shape.d_model));
    std::vector<std::byte> row(static_cast<size_t>(row_bytes));
    TC_RETURN_IF_ERROR(EncodeRow(shape.weight_type, shape.d_model, row));

    // No overflow: dimensions are at most 2^24, so a layer has at most 2^51 bytes.
    const int64_t stride =
        static_cast<int64_t>(*CheckedAlignUp(static_cast<uint64_t>(3 * row_bytes), kBundleAlignment));
    const int64_t layer_bytes = shape.d_ff * stride;
    const int64_t wanted_bytes =
        options.working_set_bytes == 0 ? UncachedWorkingSetBytes() : options.working_set_bytes;
    const int64_t n_layers =
        std::max<int64_t>(1, wanted_bytes / layer_bytes + (wanted_bytes % layer_bytes != 0));
    const auto storage_bytes =
        CheckedMul(static_cast<uint64_t>(n_layers), static_cast<uint64_t>(layer_bytes));
    if (!storage_bytes || *storage_bytes > static_cast<uint64_t>(INT64_MAX)) {
      return ResourceExhausted("neuron probe: a working set of {} bytes", wanted_bytes);
    }

    NeuronProbe probe;
    probe.context_ = context;
    TC_ASSIGN_OR_RETURN(probe.storage_, AlignedBuffer::Create(static_cast<int64_t>(*storage_bytes)));
    for (int64_t i = 0; i < n_layers * shape.d_ff; ++i) {
      for (int64_t part = 0; part < 3; ++part)
        std::memcpy(probe.storage_.data() + i * stride + part * row_bytes, row.data(), row.size());
    }
    const auto tokens =
        static_cast<int64_t>(std::round(std::min(1 / shape.active_share, static_cast<double>(shape.d_ff))));
    std::mt19937_64 random(1);
    for (int64_t l = 0; l < n_layers; ++l) {
      const BundleView bundles{.data = probe.storage_.data() + l * layer_bytes,
                               .n_neurons = shape.d_ff,
                               .d_model = shape.d_model,
                               .stride_bytes = stride,
                               .up_offset_bytes = row_bytes,
                               .down_offset_bytes = 2 * row_bytes,
                               .gate_type = shape.weight_type,
                               .up_type = shape.weight_type,
                               .down_type = shape.weight_type};
      probe.layers_.push_back({bundles, DealNeurons(shape.d_ff, tokens, random)});
    }
    probe.tokens_ = static_cast<size_t>(tokens);
    probe.piece_neurons_ = std::max<int64_t>(1, kPieceBytes / (2 * row_bytes));
    probe.touched_bytes_ = n_layers * shape.d_ff * 3 * row_bytes;
    TC_ASSIGN_OR_RETURN(probe.input_, Matrix<float>::Create(1, shape.d_model));
    std::ranges::fill(probe.input_.row(0), kWeight);
    TC_ASSIGN_OR_RETURN(probe.hidden_, Matrix<float>::Create(1, shape.d_ff));
    TC_ASSIGN_OR_RETURN(probe.partials_, Matrix<float>::Create(1, FfnPartialsSize(shape.d_model)));
    TC_ASSIGN_OR_RETURN(probe.output_, Matrix<float>::Create(1, shape.d_model));
    return probe;
  }

  // Every token of a sample through every layer.
  void Run() {
    for (size_t token = 0; token < tokens_; ++token)
      for (const ProbeLayer& layer : layers_) RunLayer(layer.bundles, layer.marks[token]);
  }

  int64_t touched_bytes() const { return touched_bytes_; }

 private:
  void RunLayer(const BundleView& bundles, const std::vector<int64_t>& marked) {
    const std::span<float> hidden = hidden_.row(0);
    context_.team->ParallelFor(
        static_cast<int64_t>(marked.size()), piece_neurons_, [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) {
            const int64_t neuron = marked[static_cast<size_t>(i)];
            const WeightView gate_and_up{bundles.data + neuron * bundles.stride_bytes, bundles.gate_type, 2,
                                         bundles.d_model, bundles.up_offset_bytes};
            float products[2];
            context_.kernels->mat_mul(gate_and_up, input_.view(), {products, 1, 2, 2});
            context_.kernels->gated_activation(Activation::kRelu, {products, 1}, {products + 1, 1},
                                               hidden.subspan(static_cast<size_t>(neuron), 1));
          }
        });
    NeuronMajorDown(context_, bundles.down(), hidden_.view(), partials_.row(0), output_.view());
    for (const int64_t neuron : marked) {
      TC_CHECK(hidden[static_cast<size_t>(neuron)] > 0);  // it fired, so its down row was read
      hidden[static_cast<size_t>(neuron)] = 0;
    }
  }

  CpuContext context_;
  AlignedBuffer storage_;
  std::vector<ProbeLayer> layers_;
  size_t tokens_ = 0;
  int64_t piece_neurons_ = 0;
  int64_t touched_bytes_ = 0;
  Matrix<float> input_;     // (1, d_model)
  Matrix<float> hidden_;    // (1, d_ff), zero but for marked neurons
  Matrix<float> partials_;  // (1, FfnPartialsSize)
  Matrix<float> output_;    // (1, d_model)
};

}  // namespace

absl::StatusOr<Samples> MeasureNeuronBandwidth(const CpuContext& context, const NeuronProbeOptions& options) {
  TC_ASSIGN_OR_RETURN(NeuronProbe probe, NeuronProbe::Create(context, options));
  return SampleBandwidth(options.repetitions, probe.touched_bytes(), [&] { probe.Run(); });
}

}  // namespace thermocline
