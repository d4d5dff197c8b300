// The fields of OpenAI's API and its usual extensions that would change an answer and cannot be honoured.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "core/status.h"

namespace thermocline {

// A FieldError about the first of them that the body sets to something that matters. null, false, what is
// empty and the field's neutral value do not.
absl::Status RefuseUnsupported(const nlohmann::json& body);

}  // namespace thermocline
