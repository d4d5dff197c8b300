// ReadPredictors: predictor.safetensors, of which nothing is trusted.
// SPDX-License-Identifier: Apache-2.0
#include <fmt/ranges.h>

#include <cmath>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/half.h"
#include "core/mapped_file.h"
#include "model/printable.h"
#include "model/safetensors.h"
#include "model/strict_json.h"
#include "predictor/predictor_format.h"
#include "predictor/predictor_set.h"

namespace thermocline {
namespace {

constexpr int64_t kBlockElements = 32;
constexpr size_t kScaleBytes = 2;
constexpr size_t kBlockBytes = kScaleBytes + kBlockElements;

// One object of the metadata; `where` says which, for messages.
class Fields {
 public:
  Fields(const nlohmann::json& json, std::string where) : json_(json), where_(std::move(where)) {}

  absl::StatusOr<int64_t> Integer(const char* name) const {
    const auto found = json_.find(name);
    if (found == json_.end() || !found->is_number_integer() ||
        (found->is_number_unsigned() && found->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX))) {
      return Wrong(name, "a 64-bit integer");
    }
    return found->get<int64_t>();
  }
  absl::StatusOr<double> Number(const char* name) const {
    const auto found = json_.find(name);
    if (found == json_.end() || !found->is_number()) return Wrong(name, "a number");
    return found->get<double>();
  }
  absl::StatusOr<std::string> Text(const char* name) const {
    const auto found = json_.find(name);
    if (found == json_.end() || !found->is_string()) return Wrong(name, "a string");
    return found->get<std::string>();
  }
  absl::StatusOr<PredictorFigures> Figures(const char* name) const {
    const auto found = json_.find(name);
    if (found == json_.end() || !found->is_object()) return Wrong(name, "an object");
    const Fields fields(*found, fmt::format("{}: {}", where_, name));
    PredictorFigures figures;
    TC_ASSIGN_OR_RETURN(figures.recall, fields.Number("recall"));
    TC_ASSIGN_OR_RETURN(figures.precision, fields.Number("precision"));
    TC_ASSIGN_OR_RETURN(figures.marked, fields.Number("marked"));
    return figures;
  }

 private:
  absl::Status Wrong(const char* name, std::string_view wanted) const {
    return InvalidArgument("{}: {} must be {}{}", where_, name, wanted,
                           json_.contains(name) ? "" : ", it is missing");
  }
  const nlohmann::json& json_;
  const std::string where_;
};

class PredictorReader {
 public:
  PredictorReader(const std::string& path, const ModelIdentity& model) : path_(path), model_(model) {}

  absl::StatusOr<PredictorSet> Read() {
    TC_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path_));
    TC_ASSIGN_OR_RETURN(const SafetensorsContents contents, ReadSafetensors(file.bytes(), path_));
    const auto text = contents.metadata.find(kPredictorMetadata);
    if (text == contents.metadata.end()) {
      return InvalidArgument("{}: not a file of predictors: its metadata lack '{}'", path_,
                             kPredictorMetadata);
    }
    TC_ASSIGN_OR_RETURN(const nlohmann::json json,
                        ParseStrictJson(text->second, fmt::format("{}: metadata", path_)));
    const Fields fields(json, path_);
    TC_RETURN_IF_ERROR(CheckModel(fields));
    PredictorSet predictors{.model = model_};
    TC_ASSIGN_OR_RETURN(predictors.target_recall, fields.Number("target_recall"));
    TC_ASSIGN_OR_RETURN(predictors.fast_recall, fields.Number("fast_recall"));
    TC_RETURN_IF_ERROR(CheckPredictorTargets(predictors, path_));
    TC_RETURN_IF_ERROR(Index(contents));
    const auto layers = json.find("layers");
    if (layers == json.end() || !layers->is_array() || std::ssize(*layers) != model_.n_layers) {
      return InvalidArgument(
          "{}: layers must be an array of {}, one a layer{}", path_, model_.n_layers,
          layers != json.end() && layers->is_array() ? fmt::format(", found are {}", layers->size()) : "");
    }
    for (size_t l = 0; l < layers->size(); ++l) {
      TC_ASSIGN_OR_RETURN(LayerPredictor layer, ReadLayer((*layers)[l], l));
      predictors.layers.push_back(std::move(layer));
    }
    if (!tensors_.empty()) {
      return InvalidArgument("{}: tensor '{}' belongs to no predictor", path_,
                             Printable(tensors_.begin()->first));
    }
    return predictors;
  }

 private:
  absl::Status CheckModel(const Fields& fields) const {
    TC_ASSIGN_OR_RETURN(const int64_t format, fields.Integer("format"));
    if (format != kPredictorFormat) {
      return InvalidArgument("{}: format is {}, this program reads {}", path_, format, kPredictorFormat);
    }
    TC_ASSIGN_OR_RETURN(const std::string sha256, fields.Text("model_sha256"));
    if (sha256 != model_.sha256) {
      return FailedPrecondition("{}: made for the model with SHA-256 {}, this one has {}", path_,
                                Printable(sha256), model_.sha256);
    }
    TC_ASSIGN_OR_RETURN(const int64_t n_layers, fields.Integer("n_layers"));
    TC_ASSIGN_OR_RETURN(const int64_t d_model, fields.Integer("d_model"));
    TC_ASSIGN_OR_RETURN(const int64_t d_ff, fields.Integer("d_ff"));
    if (n_layers == model_.n_layers && d_model == model_.d_model && d_ff == model_.d_ff)
      return absl::OkStatus();
    return FailedPrecondition("{}: made for {} layers, d_model {}, d_ff {}; this model has {}, {}, {}", path_,
                              n_layers, d_model, d_ff, model_.n_layers, model_.d_model, model_.d_ff);
  }

  absl::Status Index(const SafetensorsContents& contents) {
    for (const SafetensorsTensor& tensor : contents.tensors) {
      if (!tensors_.emplace(tensor.name, &tensor).second) {
        return InvalidArgument("{}: tensor '{}' is given twice, the limit is once", path_,
                               Printable(tensor.name));
      }
    }
    return absl::OkStatus();
  }

  absl::StatusOr<LayerPredictor> ReadLayer(const nlohmann::json& json, size_t l) {
    const std::string where = fmt::format("{}: layer {}", path_, l);
    if (!json.is_object()) return InvalidArgument("{}: must be an object", where);
    const Fields fields(json, where);
    LayerPredictor layer;
    TC_ASSIGN_OR_RETURN(const std::string kind, fields.Text("kind"));
    if (kind == NameOf(PredictorKind::kMlp)) {
      layer.kind = PredictorKind::kMlp;
    } else if (kind == NameOf(PredictorKind::kSign)) {
      layer.kind = PredictorKind::kSign;
    } else {
      return InvalidArgument("{}: kind '{}' is unknown; known are mlp, sign", where, Printable(kind));
    }
    TC_ASSIGN_OR_RETURN(layer.hidden, fields.Integer("hidden"));
    TC_ASSIGN_OR_RETURN(layer.balanced_threshold, fields.Number("balanced_threshold"));
    TC_ASSIGN_OR_RETURN(layer.fast_threshold, fields.Number("fast_threshold"));
    TC_ASSIGN_OR_RETURN(layer.balanced, fields.Figures("balanced"));
    TC_ASSIGN_OR_RETURN(layer.fast, fields.Figures("fast"));
    TC_RETURN_IF_ERROR(CheckPredictorFields(layer, l, model_.d_model, path_));
    if (layer.kind == PredictorKind::kMlp) {
      if (model_.d_model % kBlockElements != 0) {
        return InvalidArgument("{}: kind is mlp, which needs a d_model that is a multiple of {}, not {}",
                               where, kBlockElements, model_.d_model);
      }
      TC_ASSIGN_OR_RETURN(layer.w1, Matrix(l, "w1", layer.hidden, model_.d_model));
      TC_ASSIGN_OR_RETURN(layer.b1, Vector(l, "b1", layer.hidden));
      TC_ASSIGN_OR_RETURN(layer.w2, Matrix(l, "w2", model_.d_ff, layer.hidden));
      TC_ASSIGN_OR_RETURN(layer.b2, Vector(l, "b2", model_.d_ff));
    }
    TC_ASSIGN_OR_RETURN(const int64_t bytes, fields.Integer("bytes"));
    if (const int64_t size = layer.SizeBytes(model_.d_model, model_.d_ff); bytes != size) {
      return InvalidArgument("{}: bytes is {}, its weights have {}", where, bytes, size);
    }
    return layer;
  }

  // Removes the tensor from those that are left, so that what remains at the end belongs to no predictor.
  absl::StatusOr<std::span<const std::byte>> Take(size_t layer, const std::string& name,
                                                  std::string_view type, const std::vector<int64_t>& shape) {
    const auto found = tensors_.find(PredictorTensorName(layer, name));
    if (found == tensors_.end()) return InvalidArgument("{}: layer {}: {} is missing", path_, layer, name);
    const SafetensorsTensor& tensor = *found->second;
    tensors_.erase(found);
    if (tensor.type != type || tensor.shape != shape) {
      return InvalidArgument("{}: layer {}: {} is [{}] of {}, expected is [{}] of {}", path_, layer, name,
                             fmt::join(tensor.shape, ", "), Printable(tensor.type), fmt::join(shape, ", "),
                             type);
    }
    return tensor.bytes;
  }

  absl::StatusOr<std::vector<float>> Vector(size_t layer, const std::string& name, int64_t size) {
    TC_ASSIGN_OR_RETURN(const std::span<const std::byte> bytes, Take(layer, name, "F32", {size}));
    std::vector<float> values(static_cast<size_t>(size));
    std::memcpy(values.data(), bytes.data(), bytes.size());
    for (size_t i = 0; i < values.size(); ++i) {
      if (!std::isfinite(values[i])) {
        return InvalidArgument("{}: layer {}: {}[{}] is {}, it must be finite", path_, layer, name, i,
                               values[i]);
      }
    }
    return values;
  }

  absl::StatusOr<QuantizedMatrix> Matrix(size_t layer, const std::string& name, int64_t rows, int64_t cols) {
    const std::string scales_name = name + ".scales";
    const int64_t row_blocks = cols / kBlockElements;
    TC_ASSIGN_OR_RETURN(const std::span<const std::byte> scales,
                        Take(layer, scales_name, "F16", {rows, row_blocks}));
    TC_ASSIGN_OR_RETURN(const std::span<const std::byte> quants,
                        Take(layer, name + ".quants", "I8", {rows, cols}));
    const auto n_blocks = static_cast<size_t>(rows * row_blocks);
    QuantizedMatrix matrix{
        .rows = rows, .cols = cols, .blocks = std::vector<std::byte>(n_blocks * kBlockBytes)};
    for (size_t block = 0; block < n_blocks; ++block) {
      uint16_t scale = 0;
      std::memcpy(&scale, scales.data() + block * kScaleBytes, kScaleBytes);
      if (!std::isfinite(HalfToFloat(scale))) {
        return InvalidArgument("{}: layer {}: {}[{}, {}] is {}, it must be finite", path_, layer, scales_name,
                               block / static_cast<size_t>(row_blocks),
                               block % static_cast<size_t>(row_blocks), HalfToFloat(scale));
      }
      std::byte* target = matrix.blocks.data() + block * kBlockBytes;
      std::memcpy(target, &scale, kScaleBytes);
      std::memcpy(target + kScaleBytes, quants.data() + block * kBlockElements, kBlockElements);
    }
    return matrix;
  }

  const std::string& path_;
  const ModelIdentity& model_;
  std::map<std::string, const SafetensorsTensor*> tensors_;  // not yet taken
};

}  // namespace

absl::StatusOr<PredictorSet> ReadPredictors(const std::string& path, const ModelIdentity& model) {
  return PredictorReader(path, model).Read();
}

}  // namespace thermocline
