// The report of a profile directory: one HTML page without external assets.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/activation_profile.h"
#include "model/plan.h"
#include "predictor/predictor_set.h"
#include "predictor/predictor_sizing.h"
#include "profiler/hardware.h"

namespace thermocline {

// A point of the curve of speed against memory.
struct SweepPoint {
  int64_t budget_bytes = 0;
  double tokens_per_second = 0;
  double held_out_coverage = 0;
  int64_t hot_neurons = 0;
};

struct ReportInput {
  std::string model_name;
  const ActivationProfile* profile = nullptr;
  const Plan* plan = nullptr;
  const HardwareProfile* hardware = nullptr;
  std::vector<SweepPoint> sweep;  // may be empty
  // Where there are predictors, of the same model:
  const PredictorSet* predictors = nullptr;
  int64_t predictor_limit_bytes = 0;  // of all predictors together; 0: not known
  NeuronBytes neuron_bytes;
};

// Activation CDF per layer, a heat map of layers and sorted neurons with the hot/cold border, skewness per
// layer, coverage on held-out text, predictors, memory by tenant, speed against budget, the comparison with
// simple plans. Text from files is escaped.
std::string RenderReport(const ReportInput& input);

}  // namespace thermocline
