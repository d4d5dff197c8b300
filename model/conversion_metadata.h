// The metadata of a GGUF file that a conversion writes.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/status.h"
#include "model/config.h"
#include "model/gguf_file.h"
#include "model/gguf_writer.h"
#include "model/tokenizer_parts.h"

namespace thermocline {

// general.*: what the file is. `file_type` is GgufFileType's.
void AddGeneralKeys(const ModelConfig& config, const std::string& name, uint32_t file_type,
                    GgufHeader& header);

// The keys of a configuration that ConfigInGguf returned, as llama.cpp reads them, and ours for an activation
// that is not its architecture's.
void AddConfigKeys(const ModelConfig& config, GgufHeader& header);

// tokenizer.ggml.*, with as many tokens as the model has rows of its embedding: those without a token are
// unused. Unimplemented, naming what is in the way, for a pre-tokenizer that GGUF has no name for.
absl::Status AddTokenizerKeys(const FolderTokenizer& tokenizer, int64_t n_vocab, GgufHeader& header);

// Says that there is no tokenizer, as llama.cpp does.
void AddNoTokenizer(GgufHeader& header);

// All pairs of another file but those that describe how its tensors were written; `activation` replaces the
// file's.
void CopyKeys(const GgufMetadata& metadata, uint32_t file_type, std::optional<Activation> activation,
              GgufHeader& header);

}  // namespace thermocline
