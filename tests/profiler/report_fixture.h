// Made-up profiles, plans and hardware for tests of the report.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "profiler/report.h"

namespace thermocline {

// Owns what a ReportInput points to.
struct ReportSample {
  std::string model_name = "sample-7b-relu.gguf";
  ActivationProfile profile;
  Plan plan;
  HardwareProfile hardware;
  std::vector<SweepPoint> sweep;

  ReportInput input() const { return {model_name, &profile, &plan, &hardware, sweep}; }
};

// Frequencies that fall with a neuron's rank, faster in the middle layers; the most frequent neurons of the
// model are hot, as far as the budget goes. The same for the same arguments.
ReportSample SkewedSample(int64_t n_layers, int64_t d_ff);
// The demo model's real counts over its validation text (models/demo/golden.json), planned for the emulated
// accelerator; nothing held out.
ReportSample DemoSample();
// Nothing measured, nothing active, no accelerator, no budget.
ReportSample EmptySample(int64_t n_layers, int64_t d_ff);

}  // namespace thermocline
