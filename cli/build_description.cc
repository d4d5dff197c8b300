// Takes the description from the build's definitions.
// SPDX-License-Identifier: Apache-2.0
#include "cli/build_description.h"

namespace thermocline {

nlohmann::ordered_json DescribeBuild() {
  const std::string revision = THERMOCLINE_REVISION;
  return {{"version", THERMOCLINE_VERSION},
          {"revision", revision.empty() ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(revision)},
          {"compiler", THERMOCLINE_COMPILER},
          {"type", THERMOCLINE_BUILD_TYPE},
          {"flags", THERMOCLINE_BUILD_FLAGS}};
}

}  // namespace thermocline
