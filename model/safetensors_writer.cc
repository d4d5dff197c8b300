// WriteSafetensors: header and data.
// SPDX-License-Identifier: Apache-2.0
#include "model/safetensors_writer.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>

#include "core/replace_file.h"

namespace thermocline {
namespace {

static_assert(std::endian::native == std::endian::little,
              "the header's length is written as it lies in memory");

uint64_t ElementBytesOf(const SafetensorsTensor& tensor) {
  const std::optional<uint64_t> bytes = SafetensorsElementBytes(tensor.type);
  TC_CHECK(bytes.has_value());
  return *bytes;
}

void CheckSize(const SafetensorsTensor& tensor) {
  uint64_t size = ElementBytesOf(tensor);
  for (const int64_t dimension : tensor.shape) size *= static_cast<uint64_t>(dimension);
  TC_CHECK(size == tensor.bytes.size());
}

}  // namespace

absl::Status WriteSafetensors(const std::vector<SafetensorsTensor>& tensors,
                              const std::map<std::string, std::string>& metadata, const std::string& path) {
  std::vector<const SafetensorsTensor*> order;
  for (const SafetensorsTensor& tensor : tensors) order.push_back(&tensor);
  std::ranges::stable_sort(order, std::greater<>(),
                           [](const SafetensorsTensor* tensor) { return ElementBytesOf(*tensor); });
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  uint64_t data_bytes = 0;
  for (const SafetensorsTensor* tensor : order) {
    CheckSize(*tensor);
    TC_CHECK(!header.contains(tensor->name));
    header[tensor->name] = {{"dtype", tensor->type},
                            {"shape", tensor->shape},
                            {"data_offsets", {data_bytes, data_bytes + tensor->bytes.size()}}};
    data_bytes += tensor->bytes.size();
  }
  std::string text = header.dump();
  uint64_t header_bytes = text.size();
  // Spaces behind the header, so that the data starts at a multiple of 8.
  while (header_bytes % 8 != 0) ++header_bytes;
  text.resize(header_bytes, ' ');

  std::string file(sizeof(header_bytes), '\0');
  std::memcpy(file.data(), &header_bytes, sizeof(header_bytes));
  file.reserve(file.size() + text.size() + data_bytes);
  file += text;
  for (const SafetensorsTensor* tensor : order)
    file.append(reinterpret_cast<const char*>(tensor->bytes.data()), tensor->bytes.size());
  return ReplaceFile(path, file);
}

}  // namespace thermocline
