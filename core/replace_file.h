// ReplaceFile: writes a whole file so that whoever reads the path sees the old one or the new one.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "core/status.h"

namespace thermocline {

// Writes `bytes` to a file beside `path`, forces it to the disk and renames it over `path`. On failure the
// old file is whole, nothing is left beside it, and the error names the path and the reason.
absl::Status ReplaceFile(const std::string& path, std::string_view bytes);

}  // namespace thermocline
