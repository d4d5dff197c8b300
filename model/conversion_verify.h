// Verification of a converted file against its source.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <absl/functional/function_ref.h>

#include <span>
#include <string>

#include "core/status.h"
#include "model/conversion.h"
#include "model/conversion_plan.h"

namespace thermocline {

// The most that the root mean square error of a block of `type` may be. values: a block, as the source has
// it.
double ErrorBound(ElementType type, std::span<const float> values);

// Opens `path` as any model is opened, compares its configuration and tensors with the plan, and every block
// of every row with the source, within ErrorBound; fills report.types. FailedPrecondition naming what
// differs. `progress` gets the share of the bytes that are compared.
absl::Status VerifyConversion(const std::string& path, const Checkpoint& source, const ConversionPlan& plan,
                              const CpuContext& context,
                              absl::FunctionRef<absl::Status(double share)> progress,
                              ConversionReport& report);

}  // namespace thermocline
