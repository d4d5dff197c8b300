// Fuzzes config.json.
// SPDX-License-Identifier: Apache-2.0
#include "model/huggingface_config.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/support/safetensors_writer.h"

namespace thermocline {

std::vector<std::string> FuzzSeeds() {
  const std::string config = TinyLlamaConfigJson();
  const std::string open = config.substr(0, config.size() - 1);
  return {
      config, open + R"(,"head_dim":8,"rope_theta":5e5,"rope_scaling":{"rope_type":"llama3","factor":8.0,
          "low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":8192}})",
      open +
          R"(,"rope_parameters":{"rope_type":"linear","factor":2,"rope_theta":1e4},"attention_bias":false})"};
}

}  // namespace thermocline

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace thermocline;
  const std::string file = "config.json";
  const auto config = ConfigFromHuggingFace({reinterpret_cast<const char*>(data), size}, file);
  if (!config.ok()) {
    FuzzExpectOneLine(config.status(), file);
    return 0;
  }
  FuzzExpect(Validate(*config, file).ok(), "an accepted configuration is not valid");
  return 0;
}
