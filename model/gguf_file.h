// GGUF reader, versions 2 and 3 (little-endian): metadata and tensor table of one mapped file.
// SPDX-License-Identifier: Apache-2.0
//
// Nothing in the file is trusted: every count and length is compared with the bytes that remain before
// anything is allocated, and all arithmetic is checked. Errors are one line: file, field, limit.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "core/status.h"
#include "model/tensor_table.h"

namespace thermocline {

class GgufMetadata {
 public:
  // Integers of all widths are widened; strings borrow from the mapping of the file. An array of arrays is
  // refused at parsing.
  using Value = std::variant<bool, uint64_t, int64_t, double, std::string_view, std::vector<bool>,
                             std::vector<uint64_t>, std::vector<int64_t>, std::vector<double>,
                             std::vector<std::string_view>>;

  explicit GgufMetadata(std::string file) : file_(std::move(file)) {}
  // A pair as it lies in the file, for who copies it.
  struct RawPair {
    std::string_view key;
    std::span<const std::byte> value;  // its type and the value
  };

  // InvalidArgument on a duplicate or empty key. `raw` is of the same pair.
  absl::Status Add(std::string_view key, Value value, std::span<const std::byte> raw = {});

  bool Has(std::string_view key) const { return Find(key) != nullptr; }
  const Value* Find(std::string_view key) const;
  // Typed access. NotFound names file and key; InvalidArgument names the key, the type wanted and the type
  // found. Uint accepts non-negative signed values.
  absl::StatusOr<uint64_t> Uint(std::string_view key) const;
  absl::StatusOr<double> Float(std::string_view key) const;
  absl::StatusOr<bool> Bool(std::string_view key) const;
  absl::StatusOr<std::string_view> String(std::string_view key) const;
  absl::StatusOr<const std::vector<std::string_view>*> Strings(std::string_view key) const;
  absl::StatusOr<std::vector<float>> Floats(std::string_view key) const;
  absl::StatusOr<std::vector<int64_t>> Ints(std::string_view key) const;

  const std::string& file() const { return file_; }
  const absl::flat_hash_map<std::string, Value>& values() const { return values_; }
  const std::vector<RawPair>& raw_pairs() const {
    return raw_pairs_;
  }  // in the file's order; borrowed from it

 private:
  std::string file_;
  std::vector<RawPair> raw_pairs_;
  absl::flat_hash_map<std::string, Value> values_;
};

struct GgufFile {
  GgufMetadata metadata;
  TensorTable tensors;  // keeps the mapping that `metadata` borrows from

  // A single file, or the first part of a split one ("NAME-00001-of-00003.gguf"): the other parts are taken
  // from the same folder.
  static absl::StatusOr<GgufFile> Open(const std::string& path);
  // One file or part in memory; the result borrows from `bytes`. `file` is for messages.
  static absl::StatusOr<GgufFile> Parse(std::span<const std::byte> bytes, const std::string& file);
};

}  // namespace thermocline
