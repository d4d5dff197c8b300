// Flags that say how tokens are computed and sampled and when a completion ends.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/status.h"
#include "scheduler/request.h"

namespace thermocline {

struct SamplingFlags {
  SamplingOptions sampling;
  StoppingOptions stopping{.max_tokens = 256};
  std::vector<std::string> logit_bias;  // "ID=VALUE"
  std::optional<int64_t> time_limit_ms;
  std::optional<std::string> quality;
};

void AddSamplingFlags(CLI::App& command, SamplingFlags& flags);

// Copies the flags into the request. FieldError for what cannot be read; ranges are the scheduler's to check.
absl::Status FillRequest(const SamplingFlags& flags, CompletionRequest& request);

}  // namespace thermocline
