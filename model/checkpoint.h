// Checkpoint: a model on disk, opened and checked but not yet laid out: configuration, tensors, tokenizer.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "core/status.h"
#include "model/config.h"
#include "model/tensor_table.h"
#include "model/tokenizer.h"

namespace thermocline {

// How an architecture's tensors are called in a file. Each takes the layer number where it has one.
struct TensorNames {
  std::string token_embedding;
  std::string output_norm;
  std::string head;  // absent in the file when tied
  struct Layer {
    std::string attention_norm, query, key, value, attention_output, ffn_norm, gate, up, down;
  };
  Layer (*layer)(int64_t index) = nullptr;
};

struct CheckpointOptions {
  std::optional<Activation> activation;  // overrides what the file or the architecture table says
};

struct Checkpoint {
  std::string path;    // as given
  std::string format;  // "gguf" or "safetensors"
  ModelConfig config;
  TensorNames names;
  TensorTable tensors;
  std::shared_ptr<const Tokenizer> tokenizer;

  // `path`: a GGUF file or a Hugging Face folder. Unknown architectures are refused by name.
  static absl::StatusOr<Checkpoint> Open(const std::string& path, const CheckpointOptions& options = {});

  // Lower-case hexadecimal SHA-256 over the weight files in the order of their names. Reads them whole.
  std::string Sha256() const;
  int64_t total_bytes() const;  // of all tensors
};

}  // namespace thermocline
