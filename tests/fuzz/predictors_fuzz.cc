// Fuzzes the reader of predictor.safetensors.
// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests/fuzz/fuzz_target.h"
#include "tests/predictor/predictor_testing.h"

namespace thermocline {
namespace {

// The reader maps files, so every input becomes one.
const std::string& Path() {
  static const std::string* const path =
      new std::string((std::filesystem::temp_directory_path() /
                       ("thermocline_fuzz_" + std::to_string(getpid()) + ".safetensors"))
                          .string());
  return *path;
}

void ExpectFinite(std::span<const float> values) {
  for (const float value : values)
    FuzzExpect(std::isfinite(value), "a weight that is no finite number was read");
}

}  // namespace

std::vector<std::string> FuzzSeeds() {
  FuzzExpect(WritePredictors(testing::SomePredictors(), Path()).ok(), "the seed cannot be written");
  std::ifstream file(Path(), std::ios::binary);
  return {std::string(std::istreambuf_iterator<char>(file), {})};
}

}  // namespace thermocline

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace thermocline;
  std::ofstream(Path(), std::ios::binary)
      .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  const ModelIdentity model = testing::SomePredictors().model;
  const auto read = ReadPredictors(Path(), model);
  std::filesystem::remove(Path());
  if (!read.ok()) {
    FuzzExpectOneLine(read.status(), Path());
    return 0;
  }
  FuzzExpect(read->layers.size() == 2, "a layer is missing");
  for (const LayerPredictor& layer : read->layers) {
    FuzzExpect(layer.balanced_threshold <= layer.fast_threshold, "thresholds are out of order");
    FuzzExpect(layer.SizeBytes(model.d_model, model.d_ff) > 0, "a predictor reads nothing");
    ExpectFinite(layer.b1);
    ExpectFinite(layer.b2);
  }
  return 0;
}
