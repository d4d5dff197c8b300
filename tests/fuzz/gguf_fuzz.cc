// Fuzzes the GGUF reader, and the configuration and tensor binding behind it.
// SPDX-License-Identifier: Apache-2.0
#include "model/architecture.h"
#include "model/gguf_config.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/support/gguf_writer.h"

namespace thermocline {

std::vector<std::string> FuzzSeeds() {
  GgufWriter quantised = TinyLlamaGguf();
  quantised.version = 2;
  quantised.tensors.clear();
  for (const ElementTypeInfo& type : AllElementTypes()) quantised.AddTensor(type.name, {1, 256}, type.type);
  GgufWriter arrays;
  arrays.SetStrings("tokenizer.ggml.tokens", {"<unk>", "a", "bc"})
      .SetFloats("tokenizer.ggml.scores", {0, -1, -2});
  arrays.SetInts("tokenizer.ggml.token_type", {2, 1, 1}).SetBool("b", true).SetUint("general.alignment", 32);
  arrays.AddTensor("a", {2, 2}).AddTensor("b", {3});
  return {TinyLlamaGguf().Bytes(), quantised.Bytes(), arrays.Bytes()};
}

}  // namespace thermocline

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace thermocline;
  const std::string file = "fuzz.gguf";
  const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  const auto gguf = GgufFile::Parse(bytes, file);
  if (!gguf.ok()) {
    FuzzExpectOneLine(gguf.status(), file);
    return 0;
  }
  for (const TensorInfo& tensor : gguf->tensors.tensors()) FuzzExpectInside(tensor.bytes, bytes);
  const auto config = ConfigFromGguf(*gguf);
  if (!config.ok()) {
    FuzzExpectOneLine(config.status(), file);
    return 0;
  }
  for (const ExpectedTensor& expected : ExpectedTensors(*config, GgufTensorNames(*config))) {
    const auto status =
        expected.shape.size() == 1
            ? gguf->tensors.Vector(expected.name, expected.shape[0]).status()
            : gguf->tensors.Matrix(expected.name, expected.shape[0], expected.shape[1]).status();
    if (!status.ok()) FuzzExpectOneLine(status, file);
  }
  return 0;
}
