// What a profile directory holds.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "core/status.h"

namespace thermocline {

// Whether the path is a folder with files of a profile directory and none of a model.
bool IsProfileDirectory(const std::string& path);

// Everything in it, each file checked against the profile's model. NotFound without profile.pb, which says
// whose the others are.
//   directory, model_sha256
//   profile     architecture, activation, threshold, n_layers, d_model, d_ff, tokens, held_out_tokens,
//   corpus,
//               corpus_share (of its bytes, counted)
//   predictors  target_recall, fast_recall, bytes, layers[{kind, hidden, recall, precision, marked, bytes,
//               balanced{}, fast{}}]; null: none
//   thresholds  method, target, tokens, skipped, layers[{SITE{magnitude, share}, skipped, error}]; null: none
//   plan        the object of `plan --json`, and of_this_profile; null: none
//   hardware    cpu, isa, threads, memory_bytes, accelerators[{name, memory_bytes, emulated}]; null: none
//   report      whether report.html is there
absl::StatusOr<nlohmann::ordered_json> DescribeProfileDirectory(const std::string& path);

void PrintProfileDirectory(const nlohmann::ordered_json& json);

}  // namespace thermocline
