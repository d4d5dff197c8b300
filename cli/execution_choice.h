// ExecutionChoice: which mode, predictors and plan a command decodes with.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

#include "cli/load_model.h"

namespace thermocline {

struct ExecutionChoice {
  NeuronMode mode = NeuronMode::kDense;
  std::string why;  // "auto: the profile holds predictors"
  std::optional<PredictorSet> predictors;
  std::optional<ThresholdSet> thresholds;
  std::optional<Plan> plan;  // none: the CPU alone
};

// FieldError naming the flag for unknown names and sizes.
absl::Status CheckExecutionFlags(const ExecutionFlags& flags);

// auto: predicted where the profile holds predictors, else exact where the activation has true zeros, else
// dense; never threshold, which runs on the CPU alone and is refused beside a plan for another device. A plan
// for a device that is not here is left aside with a line on standard error; asked for by name, that is an
// error. A host plan is used, or made, for --device host only. Predictors, thresholds and plans of another
// model are refused.
absl::StatusOr<ExecutionChoice> ChooseExecution(const ModelFlags& model, const ExecutionFlags& flags,
                                                const Checkpoint& checkpoint, int64_t context_tokens);

}  // namespace thermocline
