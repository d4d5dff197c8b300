// PredictorSet: sizes, what holds of every predictor, and writing.
// SPDX-License-Identifier: Apache-2.0
#include "predictor/predictor_set.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>

#include "kernels_cpu/sparse_ffn.h"
#include "model/safetensors_writer.h"
#include "predictor/predictor_format.h"

namespace thermocline {
namespace {

constexpr int64_t kBlockElements = 32;
constexpr int64_t kBlockBytes = 34;  // an F16 scale and 32 quants
constexpr size_t kScaleBytes = 2;

// A matrix of blocks taken apart, as the file holds it.
struct SplitMatrix {
  std::vector<std::byte> scales;
  std::vector<std::byte> quants;
};

SplitMatrix Split(const QuantizedMatrix& matrix) {
  SplitMatrix split;
  const auto n_blocks = static_cast<size_t>(matrix.rows * matrix.cols / kBlockElements);
  TC_CHECK(matrix.blocks.size() == n_blocks * kBlockBytes);
  split.scales.resize(n_blocks * kScaleBytes);
  split.quants.resize(n_blocks * kBlockElements);
  for (size_t block = 0; block < n_blocks; ++block) {
    const std::byte* source = matrix.blocks.data() + block * kBlockBytes;
    std::memcpy(split.scales.data() + block * kScaleBytes, source, kScaleBytes);
    std::memcpy(split.quants.data() + block * kBlockElements, source + kScaleBytes, kBlockElements);
  }
  return split;
}

nlohmann::ordered_json FiguresJson(const PredictorFigures& figures) {
  return {{"recall", figures.recall}, {"precision", figures.precision}, {"marked", figures.marked}};
}

nlohmann::ordered_json LayerJson(const LayerPredictor& layer, const ModelIdentity& model) {
  return {{"kind", NameOf(layer.kind)},
          {"hidden", layer.hidden},
          {"balanced_threshold", layer.balanced_threshold},
          {"fast_threshold", layer.fast_threshold},
          {"balanced", FiguresJson(layer.balanced)},
          {"fast", FiguresJson(layer.fast)},
          {"bytes", layer.SizeBytes(model.d_model, model.d_ff)}};
}

nlohmann::ordered_json SetJson(const PredictorSet& predictors) {
  nlohmann::ordered_json layers = nlohmann::ordered_json::array();
  for (const LayerPredictor& layer : predictors.layers) layers.push_back(LayerJson(layer, predictors.model));
  return {{"format", kPredictorFormat},
          {"model_sha256", predictors.model.sha256},
          {"n_layers", predictors.model.n_layers},
          {"d_model", predictors.model.d_model},
          {"d_ff", predictors.model.d_ff},
          {"target_recall", predictors.target_recall},
          {"fast_recall", predictors.fast_recall},
          {"layers", layers}};
}

// Fits a float and is within `most` of 0; false for NaN.
bool Within(double value, double most) { return std::abs(value) <= most; }

}  // namespace

std::string_view NameOf(PredictorKind kind) { return kind == PredictorKind::kMlp ? "mlp" : "sign"; }

WeightView QuantizedMatrix::view() const {
  return {blocks.data(), ElementType::kQ8_0, rows, cols, cols / kBlockElements * kBlockBytes};
}

int64_t LayerPredictor::SizeBytes(int64_t d_model, int64_t d_ff) const {
  if (kind == PredictorKind::kSign) return d_ff * BitWords(d_model) * static_cast<int64_t>(sizeof(uint64_t));
  const int64_t weights = hidden * d_model + d_ff * hidden;
  return weights / kBlockElements * kBlockBytes + (hidden + d_ff) * static_cast<int64_t>(sizeof(float));
}

std::string PredictorTensorName(size_t layer, std::string_view tensor) {
  return fmt::format("layers.{}.{}", layer, tensor);
}

absl::Status CheckPredictorFields(const LayerPredictor& predictor, size_t layer, int64_t d_model,
                                  const std::string& path) {
  const bool mlp = predictor.kind == PredictorKind::kMlp;
  const double most =
      mlp ? static_cast<double>(std::numeric_limits<float>::max()) : static_cast<double>(d_model);
  if (!Within(predictor.balanced_threshold, most)) {
    return InvalidArgument("{}: layer {}: balanced_threshold is {}, allowed are -{:g} to {:g}", path, layer,
                           predictor.balanced_threshold, most, most);
  }
  if (!Within(predictor.fast_threshold, most)) {
    return InvalidArgument("{}: layer {}: fast_threshold is {}, allowed are -{:g} to {:g}", path, layer,
                           predictor.fast_threshold, most, most);
  }
  if (predictor.fast_threshold < predictor.balanced_threshold) {
    return InvalidArgument("{}: layer {}: fast_threshold is {}, the least is the balanced_threshold of {}",
                           path, layer, predictor.fast_threshold, predictor.balanced_threshold);
  }
  struct Share {
    std::string_view name;
    double value;
  };
  const PredictorFigures& balanced = predictor.balanced;
  const PredictorFigures& fast = predictor.fast;
  for (const Share& share :
       {Share{"balanced.recall", balanced.recall}, Share{"balanced.precision", balanced.precision},
        Share{"balanced.marked", balanced.marked}, Share{"fast.recall", fast.recall},
        Share{"fast.precision", fast.precision}, Share{"fast.marked", fast.marked}}) {
    if (!(share.value >= 0 && share.value <= 1)) {
      return InvalidArgument("{}: layer {}: {} is {}, allowed are 0 to 1", path, layer, share.name,
                             share.value);
    }
  }
  const bool fits = mlp ? predictor.hidden >= kBlockElements && predictor.hidden <= kMostPredictorHidden &&
                              predictor.hidden % kBlockElements == 0
                        : predictor.hidden == 0;
  if (fits) return absl::OkStatus();
  return InvalidArgument(
      "{}: layer {}: hidden is {}, allowed {}", path, layer, predictor.hidden,
      mlp ? fmt::format("are multiples of {} up to {}", kBlockElements, kMostPredictorHidden)
          : "is 0, sign predictors have none");
}

absl::Status CheckPredictorTargets(const PredictorSet& predictors, const std::string& path) {
  if (!(predictors.target_recall > 0 && predictors.target_recall <= 1)) {
    return InvalidArgument("{}: target_recall is {}, allowed are above 0 to 1", path,
                           predictors.target_recall);
  }
  if (!(predictors.fast_recall > 0 && predictors.fast_recall <= predictors.target_recall)) {
    return InvalidArgument("{}: fast_recall is {}, allowed are above 0 to the target_recall of {}", path,
                           predictors.fast_recall, predictors.target_recall);
  }
  return absl::OkStatus();
}

absl::Status WritePredictors(const PredictorSet& predictors, const std::string& path) {
  const ModelIdentity& model = predictors.model;
  TC_CHECK(std::ssize(predictors.layers) == model.n_layers);
  TC_RETURN_IF_ERROR(CheckPredictorTargets(predictors, path));
  std::vector<SafetensorsTensor> tensors;
  std::vector<SplitMatrix> matrices;  // what the tensors borrow from
  matrices.reserve(2 * predictors.layers.size());
  for (size_t l = 0; l < predictors.layers.size(); ++l) {
    const LayerPredictor& layer = predictors.layers[l];
    TC_RETURN_IF_ERROR(CheckPredictorFields(layer, l, model.d_model, path));
    if (layer.kind == PredictorKind::kSign) continue;
    const auto add_vector = [&](std::string_view name, const std::vector<float>& values, int64_t size) {
      TC_CHECK(std::ssize(values) == size);
      tensors.push_back({PredictorTensorName(l, name), "F32", {size}, std::as_bytes(std::span(values))});
    };
    const auto add_matrix = [&](const std::string& name, const QuantizedMatrix& matrix, int64_t rows,
                                int64_t cols) {
      TC_CHECK(matrix.rows == rows && matrix.cols == cols && cols % kBlockElements == 0);
      const SplitMatrix& split = matrices.emplace_back(Split(matrix));
      tensors.push_back(
          {PredictorTensorName(l, name + ".scales"), "F16", {rows, cols / kBlockElements}, split.scales});
      tensors.push_back({PredictorTensorName(l, name + ".quants"), "I8", {rows, cols}, split.quants});
    };
    add_matrix("w1", layer.w1, layer.hidden, model.d_model);
    add_vector("b1", layer.b1, layer.hidden);
    add_matrix("w2", layer.w2, model.d_ff, layer.hidden);
    add_vector("b2", layer.b2, model.d_ff);
  }
  return WriteSafetensors(tensors, {{kPredictorMetadata, SetJson(predictors).dump()}}, path);
}

}  // namespace thermocline
