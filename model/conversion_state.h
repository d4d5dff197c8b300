// What an interrupted conversion leaves beside its part of the file, so that another one can go on.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "core/status.h"
#include "model/checkpoint.h"

namespace thermocline {

struct ConversionState {
  std::string source;  // SourceFingerprint
  std::string header;  // SHA-256 of the file's header: metadata, names, types
  size_t tensors = 0;  // that lie on the disk whole

  bool SameWork(const ConversionState& other) const {
    return source == other.source && header == other.header;
  }
};

// OUT.partial.json
std::string ConversionStatePath(const std::string& out);

// SHA-256 over the length of every weight file and 256 samples of 4 KiB spread evenly over it, in the order
// of the files' names: cheap for any size, and other weights change it.
std::string SourceFingerprint(const Checkpoint& source);

// Nothing where there is no state. InvalidArgument for a file that is none.
absl::StatusOr<std::optional<ConversionState>> ReadConversionState(const std::string& out);
absl::Status WriteConversionState(const std::string& out, const ConversionState& state);

}  // namespace thermocline
