// WriteSafetensors: named tensors and text as one safetensors file.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/status.h"
#include "model/safetensors.h"

namespace thermocline {

// Written beside and renamed; the same bytes for the same arguments. Every tensor starts at a multiple of its
// element's size, those of wide elements first, else in the given order. Names must be unique, types known
// and sizes as the shapes say.
absl::Status WriteSafetensors(const std::vector<SafetensorsTensor>& tensors,
                              const std::map<std::string, std::string>& metadata, const std::string& path);

}  // namespace thermocline
