// Between the messages of thermocline.v1 and the scheduler's plain data.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

#include "core/status.h"
#include "model/tokenizer.h"
#include "scheduler/request.h"
#include "thermocline/v1/completion.pb.h"

namespace thermocline {

// Text is tokenised, with a beginning-of-text token where the tokenizer's model asks for one. FieldErrors for
// what cannot be said in a CompletionRequest; its ranges are left to ValidateRequest. The deadline is not
// set.
absl::StatusOr<CompletionRequest> ToCompletionRequest(const v1::CompleteRequest& message,
                                                      const Tokenizer& tokenizer);
absl::StatusOr<CompletionRequest> ToCompletionRequest(const v1::StreamCompleteRequest& message,
                                                      const Tokenizer& tokenizer);

v1::CompletionDelta ToMessage(CompletionDelta delta);
v1::CompletionSummary ToMessage(const CompletionSummary& summary);
v1::Quality ToMessage(Quality quality);
v1::Sparsity ToMessage(const StepSums& sums);

// nullopt for what is no quality of ours.
std::optional<Quality> ToQuality(v1::Quality quality);

// Adds the delta to what the response holds already.
void AppendDelta(CompletionDelta delta, v1::CompleteResponse& response);

absl::StatusOr<v1::TokenizeResponse> Tokenize(const v1::TokenizeRequest& request, const Tokenizer& tokenizer);
absl::StatusOr<v1::DetokenizeResponse> Detokenize(const v1::DetokenizeRequest& request,
                                                  const Tokenizer& tokenizer);

}  // namespace thermocline
