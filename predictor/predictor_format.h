// The layout of predictor.safetensors: names of its tensors and metadata, and what holds of every layer.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/status.h"
#include "predictor/predictor_set.h"

namespace thermocline {

inline constexpr char kPredictorMetadata[] = "thermocline";  // key of the JSON text
inline constexpr int64_t kPredictorFormat = 1;
// Far above any layer that pays, and small enough that sizes cannot overflow.
inline constexpr int64_t kMostPredictorHidden = 65536;

// "layers.3.w1.quants": I8 (rows, cols); "layers.3.w1.scales": F16 (rows, cols / 32); "layers.3.b1": F32
// (rows).
std::string PredictorTensorName(size_t layer, std::string_view tensor);

// InvalidArgument naming path, layer and field for thresholds and figures out of range, and a hidden size
// that no predictor has.
absl::Status CheckPredictorFields(const LayerPredictor& predictor, size_t layer, int64_t d_model,
                                  const std::string& path);
// Recalls within (0, 1], fast at most the target.
absl::Status CheckPredictorTargets(const PredictorSet& predictors, const std::string& path);

}  // namespace thermocline
