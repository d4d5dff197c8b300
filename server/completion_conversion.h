// Between the messages of thermocline.v1 and the scheduler's plain data.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "core/status.h"
#include "model/chat_template.h"
#include "model/tokenizer.h"
#include "scheduler/request.h"
#include "thermocline/v1/completion.pb.h"

namespace thermocline {

// What requests are read against.
struct ConversionContext {
  const Tokenizer& tokenizer;
  const ChatTemplate& chat_template;
  std::string_view model;  // the name of the one that is served
};

// The choices of a call, one or more. Text is tokenised, with a beginning-of-text token where the tokenizer's
// model asks for one. NotFound for another model; FieldErrors for what cannot be said in a CompletionRequest;
// its ranges are left to ValidateRequest. The deadline is not set.
absl::StatusOr<std::vector<CompletionRequest>> ToCompletionRequests(const v1::CompleteRequest& message,
                                                                    const ConversionContext& context);
absl::StatusOr<std::vector<CompletionRequest>> ToCompletionRequests(const v1::StreamCompleteRequest& message,
                                                                    const ConversionContext& context);

// `index`: which choice of its call.
v1::CompletionDelta ToMessage(CompletionDelta delta, int index = 0);
v1::CompletionSummary ToMessage(const CompletionSummary& summary, int index = 0);
v1::Quality ToMessage(Quality quality);
v1::Sparsity ToMessage(const StepSums& sums);

// nullopt for what is no quality of ours.
std::optional<Quality> ToQuality(v1::Quality quality);

// Adds the delta to what the response holds already of that choice.
void AppendDelta(CompletionDelta delta, v1::CompleteResponse& response);
void AppendDelta(CompletionDelta delta, v1::CompletionChoice& choice);

absl::StatusOr<v1::TokenizeResponse> Tokenize(const v1::TokenizeRequest& request, const Tokenizer& tokenizer);
absl::StatusOr<v1::DetokenizeResponse> Detokenize(const v1::DetokenizeRequest& request,
                                                  const Tokenizer& tokenizer);

}  // namespace thermocline
