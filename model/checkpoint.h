// Checkpoint: a model on disk, opened and checked but not yet laid out: configuration, tensors, tokenizer.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "core/status.h"
#include "model/architecture.h"
#include "model/config.h"
#include "model/tensor_table.h"
#include "model/tokenizer.h"

namespace thermocline {

struct CheckpointOptions {
  std::optional<Activation> activation = {};  // overrides what the file or the architecture table says
  bool load_tokenizer = true;                 // false: `tokenizer` stays null (inspection, speed tests)
};

struct Checkpoint {
  std::string path;    // as given
  std::string format;  // "gguf" or "safetensors"
  ModelConfig config;
  TensorNames names;
  TensorTable tensors;
  std::shared_ptr<const Tokenizer> tokenizer;
  std::string chat_template;  // the model's own, for ChatTemplate; empty: none, or no tokenizer was asked for

  // `path`: a GGUF file or a Hugging Face folder. Unknown architectures are refused by name, and so are
  // tensors that are missing or of the wrong shape.
  static absl::StatusOr<Checkpoint> Open(const std::string& path, const CheckpointOptions& options = {});

  // Lower-case hexadecimal SHA-256 over the weight files, one after the other in the order of their names: of
  // a single file it is what sha256sum prints. The first call reads them whole; one thread at a time may
  // call.
  std::string Sha256() const;
  int64_t total_bytes() const;  // of all tensors

  mutable std::string known_sha256;  // what Sha256() has found
};

}  // namespace thermocline
