// The neuron-aware feed-forward block on the GPU by sparsity, beside the dense block of cuBLAS.
// SPDX-License-Identifier: Apache-2.0
//
// Sparsity is the share of neurons that no token of the step needs; each of the others is needed by a random
// half of the tokens. With SiLU every needed neuron is active, so that the bytes are known: the rows of the
// needed neurons, once each. Steps take turns with disjoint sets of neurons and several blocks of weights.
#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <random>

#include "kernels_cpu/sparse_ffn.h"
#include "tests/bench/cublas_dense.h"
#include "tests/bench/gpu_bench.h"
#include "tests/bench/result_json.h"
#include "tests/support/reference_data.h"

namespace thermocline::bench {
namespace {

using nlohmann::ordered_json;

struct Shape {
  const char* name;
  int64_t d_model;
  int64_t d_ff;
  bool gated;
};
constexpr Shape kShapes[] = {{"falcon-40b", 8192, 32768, false},
                             {"llama-70b", 8192, 28672, true},
                             {"opt-30b", 7168, 28672, false},
                             {"llama-7b", 4096, 11008, true}};
constexpr Shape kTinyShapes[] = {{"tiny gated", 64, 32, true}, {"tiny ungated", 64, 32, false}};
constexpr ElementType kTypes[] = {ElementType::kF16, ElementType::kBF16, ElementType::kQ8_0,
                                  ElementType::kQ4_0};
constexpr double kSparsities[] = {0, 0.5, 0.8, 0.9, 0.95, 0.99};
constexpr double kTinySparsities[] = {0, 0.9};
constexpr int64_t kTokens[] = {1, 4, 16};
constexpr int64_t kMostTinySets = 2;

// Sums of F32 products of the same weights in another order.
constexpr double kTolerance = 1e-4;

// A layer's bundles without gaps, in host memory; as a quantised model's, `down` of 4-bit types is Q8_0.
class LayerBundles {
 public:
  LayerBundles(const Shape& shape, ElementType type) {
    const ElementType down = type == ElementType::kQ4_0 ? ElementType::kQ8_0 : type;
    const auto row_bytes = [&](ElementType t) { return *RowBytes(t, shape.d_model); };
    view_ = {.n_neurons = shape.d_ff,
             .d_model = shape.d_model,
             .gate_type = type,
             .up_type = type,
             .down_type = down,
             .gated = shape.gated};
    view_.up_offset_bytes = row_bytes(type);
    view_.down_offset_bytes = row_bytes(type) * (shape.gated ? 2 : 1);
    view_.stride_bytes = view_.down_offset_bytes + row_bytes(down);
    constexpr int64_t kMostDrawn = 61;
    const reference::RandomBundles drawn({type, type, down}, shape.gated, std::min(shape.d_ff, kMostDrawn),
                                         shape.d_model, 1, /*gap_bytes=*/0);
    storage_ = std::make_unique_for_overwrite<std::byte[]>(static_cast<size_t>(size_bytes()));
    for (int64_t i = 0; i < shape.d_ff; ++i) {
      const std::byte* const bundle = drawn.view().data + i % drawn.view().n_neurons * view_.stride_bytes;
      std::copy_n(bundle, view_.stride_bytes, storage_.get() + i * view_.stride_bytes);
    }
    view_.data = storage_.get();
  }
  const BundleView& view() const { return view_; }
  int64_t size_bytes() const { return view_.n_neurons * view_.stride_bytes; }

 private:
  std::unique_ptr<std::byte[]> storage_;
  BundleView view_;
};

// The neurons of the steps of a cycle, (sets, d_ff) masks.
struct Marks {
  int64_t sets = 0;
  int64_t needed = 0;  // neurons of each
  std::vector<GpuTokenMask> masks;
};

Marks DealMarks(int64_t d_ff, double sparsity, int64_t tokens, int64_t most_sets, std::mt19937& random) {
  Marks marks;
  marks.needed = std::max<int64_t>(1, std::llround((1 - sparsity) * static_cast<double>(d_ff)));
  marks.sets = std::min(d_ff / marks.needed, most_sets);
  marks.masks.assign(static_cast<size_t>(marks.sets * d_ff), 0);
  std::vector<int64_t> order(static_cast<size_t>(d_ff));
  std::iota(order.begin(), order.end(), 0);
  std::ranges::shuffle(order, random);
  const auto all = static_cast<uint32_t>((1 << tokens) - 1);
  for (int64_t i = 0; i < marks.sets * marks.needed; ++i) {
    const uint32_t some = random() & all;
    marks.masks[static_cast<size_t>(i / marks.needed * d_ff + order[static_cast<size_t>(i)])] =
        static_cast<GpuTokenMask>(some == 0 ? all : some);
  }
  return marks;
}

class FfnBench {
 public:
  FfnBench(GpuBench& bench, CublasDense* cublas, const Shape& shape, double copy_gb_per_second)
      : bench_(bench), cublas_(cublas), shape_(shape), copy_(copy_gb_per_second) {}

  // One object a type and number of tokens.
  absl::Status Run(ordered_json& cases) {
    std::vector<Samples> cublas_micros(std::size(kTokens));
    if (cublas_ != nullptr) TC_RETURN_IF_ERROR(RunCublas(cublas_micros));
    for (const ElementType type : kTypes) {
      if (bench_.out_of_time()) return absl::OkStatus();
      TC_RETURN_IF_ERROR(RunType(type, cublas_micros, cases));
    }
    return absl::OkStatus();
  }

 private:
  absl::Status RunCublas(std::vector<Samples>& micros) {
    CublasFfn ffn{.d_model = shape_.d_model, .d_ff = shape_.d_ff, .gated = shape_.gated};
    const int64_t block_bytes = ffn.weight_bytes();
    const int64_t blocks = (bench_.options().working_set_bytes + block_bytes - 1) / block_bytes;
    const TiledWeights weights(ElementType::kF16, (shape_.gated ? 3 : 2) * shape_.d_ff, shape_.d_model, 5);
    TC_ASSIGN_OR_RETURN(const GpuOwned<DeviceBlock> memory, bench_.Allocate(blocks * block_bytes));
    for (int64_t b = 0; b < blocks; ++b)
      TC_RETURN_IF_ERROR(
          bench_.Upload(memory.get().data + b * block_bytes, weights.view().data, block_bytes));
    const TiledWeights x(ElementType::kF16, std::ranges::max(kTokens), shape_.d_model, 6);
    TC_ASSIGN_OR_RETURN(const GpuOwned<DeviceBlock> input, bench_.Allocate(x.view().size_bytes()));
    TC_RETURN_IF_ERROR(bench_.Upload(input.get().data, x.view().data, x.view().size_bytes()));
    TC_ASSIGN_OR_RETURN(const GpuOwned<DeviceBlock> hidden,
                        bench_.Allocate(2 * std::ranges::max(kTokens) * shape_.d_ff * 2));
    TC_ASSIGN_OR_RETURN(const GpuOwned<DeviceBlock> y,
                        bench_.Allocate(std::ranges::max(kTokens) * shape_.d_model * 2));
    ffn.x = input.get().data;
    ffn.hidden = hidden.get().data;
    ffn.y = y.get().data;
    for (size_t i = 0; i < std::size(kTokens); ++i) {
      ffn.tokens = kTokens[i];
      TC_ASSIGN_OR_RETURN(micros[i], bench_.MicrosOf(blocks, [&](int64_t b) {
        ffn.weights = memory.get().data + b * block_bytes;
        return cublas_->FeedForward(ffn, bench_.stream());
      }));
    }
    return absl::OkStatus();
  }

  absl::Status RunType(ElementType type, const std::vector<Samples>& cublas_micros, ordered_json& cases) {
    const LayerBundles host(shape_, type);
    const int64_t block_bytes = host.size_bytes();
    blocks_ = (bench_.options().working_set_bytes + block_bytes - 1) / block_bytes;
    TC_ASSIGN_OR_RETURN(memory_, bench_.Allocate(blocks_ * block_bytes));
    for (int64_t b = 0; b < blocks_; ++b)
      TC_RETURN_IF_ERROR(bench_.Upload(memory_.get().data + b * block_bytes, host.view().data, block_bytes));
    for (size_t i = 0; i < std::size(kTokens); ++i) {
      TC_RETURN_IF_ERROR(RunTokens(host.view(), kTokens[i], cublas_micros[i], cases));
    }
    memory_ = {};
    return absl::OkStatus();
  }

  absl::Status RunTokens(const BundleView& host, int64_t tokens, const Samples& cublas_micros,
                         ordered_json& cases) {
    // Small inputs: a SiLU of gates far below zero would be zero, and its neuron silent.
    reference::FloatMatrix x = reference::FloatMatrix::Random(tokens, shape_.d_model, 7);
    for (int64_t t = 0; t < tokens; ++t)
      for (float& value : x.view().row(t)) value *= 0.125f;
    ordered_json rows = ordered_json::array();
    double ours_dense = 0;
    ordered_json wins_from = nullptr;  // the least sparsity from which on it is faster
    std::mt19937 random(11);
    const bool tiny = bench_.options().tiny;
    const std::span<const double> sparsities = tiny ? std::span<const double>(kTinySparsities) : kSparsities;
    for (const double sparsity : sparsities) {
      if (bench_.out_of_time()) break;
      TC_ASSIGN_OR_RETURN(
          ordered_json row,
          RunSparsity(host, x.view(),
                      DealMarks(shape_.d_ff, sparsity, tokens, tiny ? kMostTinySets : shape_.d_ff, random)));
      row["sparsity"] = sparsity;
      const double micros = row["micros"]["median"].get<double>();
      if (sparsity == 0) ours_dense = micros;
      // The fastest dense block of the same type: of F16 that is cuBLAS' or ours.
      double dense = ours_dense;
      if (host.gate_type == ElementType::kF16 && !cublas_micros.values.empty())
        dense = std::min(dense, cublas_micros.median());
      row["speedup_over_dense"] = dense / micros;
      if (micros >= dense) wins_from = nullptr;
      if (micros < dense && wins_from.is_null()) wins_from = sparsity;
      rows.push_back(std::move(row));
    }
    cases.push_back({{"shape", shape_.name},
                     {"d_model", shape_.d_model},
                     {"d_ff", shape_.d_ff},
                     {"gated", shape_.gated},
                     {"type", NameOf(host.gate_type)},
                     {"down_type", NameOf(host.down_type)},
                     {"tokens", tokens},
                     {"cublas_f16_dense_micros",
                      cublas_micros.values.empty() ? ordered_json(nullptr) : ToJson(cublas_micros)},
                     {"sparse_wins_from", wins_from},
                     {"rows", std::move(rows)}});
    return absl::OkStatus();
  }

  absl::StatusOr<ordered_json> RunSparsity(const BundleView& host, MatrixView<const float> x,
                                           const Marks& marks) {
    const int64_t tokens = x.rows, d_model = shape_.d_model, d_ff = shape_.d_ff;
    const std::vector<float> inputs(x.data, x.data + tokens * d_model);
    TC_ASSIGN_OR_RETURN(const GpuOwned<DeviceBlock> input, bench_.Hold(inputs));
    TC_ASSIGN_OR_RETURN(const GpuOwned<DeviceBlock> masks, bench_.Hold(marks.masks));
    TC_ASSIGN_OR_RETURN(const GpuOwned<DeviceBlock> counts, bench_.Hold(std::vector<uint64_t>(2)));
    TC_ASSIGN_OR_RETURN(const GpuOwned<DeviceBlock> output,
                        bench_.Hold(std::vector<float>(inputs.size(), NAN)));
    const int64_t scratch_floats = GpuSparseFfnScratch(tokens, d_ff, d_model);
    TC_ASSIGN_OR_RETURN(const GpuOwned<DeviceBlock> scratch, bench_.Allocate(scratch_floats * 4));
    const bool dense = marks.needed == d_ff;
    GpuSparseFfnArgs args{.n_neurons = d_ff,
                          .d_model = d_model,
                          .stride_bytes = host.stride_bytes,
                          .up_offset_bytes = host.up_offset_bytes,
                          .down_offset_bytes = host.down_offset_bytes,
                          .gate_type = host.gate_type,
                          .up_type = host.up_type,
                          .down_type = host.down_type,
                          .gated = host.gated,
                          .activation = {GpuActivation::kSilu, 0},
                          .x = {AddressIn<float>(input), tokens, d_model, d_model},
                          .y = {AddressIn<float>(output), tokens, d_model, d_model},
                          .counts = AddressIn<uint64_t>(counts),
                          .scratch = {AddressIn<float>(scratch), static_cast<size_t>(scratch_floats)}};
    const auto launch = [&](int64_t i) {
      args.data = memory_.get().data + i % blocks_ * d_ff * host.stride_bytes;
      args.marked = dense ? nullptr : AddressIn<GpuTokenMask>(masks) + i / blocks_ * d_ff;
      return bench_.gpu().kernels().sparse_ffn(args, bench_.stream());
    };
    TC_RETURN_IF_ERROR(launch(0));
    std::vector<float> y(inputs.size());
    std::vector<uint64_t> read(2);
    TC_RETURN_IF_ERROR(bench_.Download(y.data(), output.get().data, std::ssize(y) * 4));
    TC_RETURN_IF_ERROR(bench_.Download(read.data(), counts.get().data, 16));
    const double error = LargestError(y, OnCpu(host, x, marks, dense));
    const auto needed = static_cast<uint64_t>(marks.needed);
    if (!(error <= kTolerance) || read[0] != needed || read[1] != needed) {
      return Internal(
          "sparse_ffn of {}, {}, {} tokens, {} neurons: off by {} of the largest value; read {} gate and {} "
          "down rows",
          shape_.name, NameOf(host.gate_type), tokens, marks.needed, error, read[0], read[1]);
    }
    args.counts = nullptr;
    TC_ASSIGN_OR_RETURN(const Samples micros, bench_.MicrosOf(blocks_ * marks.sets, launch));
    const int64_t bytes = NeuronReads{marks.needed, host.gated ? marks.needed : 0, marks.needed}.Bytes(host);
    ordered_json row = SpeedJson(micros, bytes, copy_);
    row["largest_error"] = error;
    return row;
  }

  // Set 0 by the CPU's operator.
  std::vector<float> OnCpu(const BundleView& host, MatrixView<const float> x, const Marks& marks,
                           bool dense) const {
    std::vector<uint32_t> rows;
    std::vector<TokenMask> tokens;
    const auto all = static_cast<TokenMask>((1 << x.rows) - 1);
    for (int64_t i = 0; i < host.n_neurons; ++i) {
      const TokenMask mask = dense ? all : marks.masks[static_cast<size_t>(i)];
      if (mask == 0) continue;
      rows.push_back(static_cast<uint32_t>(i));
      tokens.push_back(mask);
    }
    std::vector<float> y(static_cast<size_t>(x.rows * host.d_model));
    std::vector<TokenMask> fired(rows.size());
    std::vector<float> scratch(
        static_cast<size_t>(SparseFfnScratchSize(host.n_neurons, host.d_model, x.rows)));
    SparseFeedForward(bench_.cpu(),
                      {.bundles = host,
                       .activation = Activation::kSilu,
                       .x = x,
                       .candidates = {rows, tokens},
                       .y = {y.data(), x.rows, host.d_model, host.d_model},
                       .fired = fired},
                      scratch);
    return y;
  }

  GpuBench& bench_;
  CublasDense* cublas_;
  const Shape& shape_;
  const double copy_;
  int64_t blocks_ = 0;
  GpuOwned<DeviceBlock> memory_;  // (blocks_) of the layer
};

}  // namespace

absl::StatusOr<ordered_json> BenchSparseFfn(GpuBench& bench, double copy_gb_per_second) {
  const GpuBenchOptions& options = bench.options();
  std::unique_ptr<CublasDense> cublas;
  if (!options.tiny) {
    TC_ASSIGN_OR_RETURN(cublas, OpenCublasDense(bench.gpu()));
  }
  std::span<const Shape> shapes = kShapes;
  if (options.quick) shapes = shapes.first(1);
  if (options.tiny) shapes = kTinyShapes;
  ordered_json cases = ordered_json::array();
  for (const Shape& shape : shapes) {
    if (bench.out_of_time()) break;
    TC_RETURN_IF_ERROR(FfnBench(bench, cublas.get(), shape, copy_gb_per_second).Run(cases));
  }
  return cases;
}

}  // namespace thermocline::bench
