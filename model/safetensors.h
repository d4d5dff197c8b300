// safetensors reader: one file, or the shards that an index names.
// SPDX-License-Identifier: Apache-2.0
//
// Nothing in a file is trusted: the header lies inside the file and below 100 MB, names are unique, and the
// tensors cover the data exactly, without overlap or hole. Errors are one line: file, field, limit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"
#include "model/tensor_table.h"

namespace thermocline {

// A tensor as the format describes it.
struct SafetensorsTensor {
  std::string name;
  std::string type;  // "F32", "I8"
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;  // borrowed; no alignment promised
};

struct SafetensorsContents {
  std::vector<SafetensorsTensor> tensors;       // in the header's order; names may repeat
  std::map<std::string, std::string> metadata;  // the header's "__metadata__"
};

// Bytes of one element of the types that the format knows; nothing for other names.
std::optional<uint64_t> SafetensorsElementBytes(std::string_view type);

// Everything in one file in memory, whatever its types; the tensors borrow from `bytes`.
absl::StatusOr<SafetensorsContents> ReadSafetensors(std::span<const std::byte> bytes,
                                                    const std::string& file);

// Adds the tensors of one file in memory; they borrow from `bytes`. F32, F16 and BF16 are readable; tensors
// of other types are noted as unreadable. `file` is for messages.
absl::Status ParseSafetensors(std::span<const std::byte> bytes, const std::string& file, TensorTable& table);

// The tensors of `folder`: model.safetensors, else the shards of model.safetensors.index.json. NotFound where
// there is neither, or a shard is missing.
absl::StatusOr<TensorTable> OpenSafetensorsFolder(const std::string& folder);

}  // namespace thermocline
