// What this program was built from and with.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>

namespace thermocline {

// {version, revision, compiler, type, flags}. revision: git's, as it was when the build was configured, with
// "-dirty" where files differed from it; null where that was not known.
nlohmann::ordered_json DescribeBuild();

}  // namespace thermocline
