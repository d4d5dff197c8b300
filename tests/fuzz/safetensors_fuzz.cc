// Fuzzes the safetensors reader.
// SPDX-License-Identifier: Apache-2.0
#include "model/safetensors.h"

#include "tests/fuzz/fuzz_target.h"
#include "tests/support/safetensors_writer.h"

namespace thermocline {

std::vector<std::string> FuzzSeeds() {
  SafetensorsWriter types;
  types.Add("a", {2, 3})
      .Add("b", {2}, "BF16", "abcd")
      .Add("ids", {1}, "I64", "01234567")
      .Add("none", {0}, "F32", "");
  return {TinyLlamaSafetensors().Bytes(), types.Bytes(), SafetensorsBytes("{}", "")};
}

}  // namespace thermocline

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace thermocline;
  const std::string file = "fuzz.safetensors";
  const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  TensorTable table("fuzz");
  const absl::Status status = ParseSafetensors(bytes, file, table);
  if (!status.ok()) {
    FuzzExpectOneLine(status, file);
    return 0;
  }
  for (const TensorInfo& tensor : table.tensors()) {
    FuzzExpectInside(tensor.bytes, bytes);
    if (tensor.shape.size() == 2) {
      FuzzExpect(table.Matrix(tensor.name, tensor.shape[0], tensor.shape[1]).ok(),
                 "a readable matrix does not bind");
    } else if (tensor.shape.size() == 1) {
      FuzzExpect(table.Vector(tensor.name, tensor.shape[0]).ok(), "a readable vector does not bind");
    }
  }
  return 0;
}
