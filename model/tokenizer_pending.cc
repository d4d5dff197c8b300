// Refuses every tokenizer; goes away with the branch that brings them.
// SPDX-License-Identifier: Apache-2.0
#include "model/gguf_file.h"
#include "model/tokenizer.h"

namespace thermocline {

absl::StatusOr<std::unique_ptr<Tokenizer>> CreateTokenizer(const GgufMetadata& metadata) {
  return Unimplemented("{}: tokenizers are not built in", metadata.file());
}

absl::StatusOr<std::unique_ptr<Tokenizer>> CreateTokenizerFromFolder(const std::string& folder) {
  return Unimplemented("{}: tokenizers are not built in", folder);
}

}  // namespace thermocline
