// Checkpoint: opens a GGUF file or a Hugging Face folder and checks that every tensor is there.
// SPDX-License-Identifier: Apache-2.0
#include "model/checkpoint.h"

#include <fmt/ranges.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <set>

#include "model/chat_template_source.h"
#include "model/gguf_config.h"
#include "model/gguf_file.h"
#include "model/huggingface_config.h"
#include "model/printable.h"
#include "model/safetensors.h"

namespace thermocline {
namespace {

constexpr int64_t kMostConfigBytes = int64_t{1} << 20;

// Every tensor of the architecture has the right shape and a type whose blocks fit its rows, and none is
// there that the computation would leave out.
absl::Status CheckTensors(const Checkpoint& checkpoint) {
  std::set<std::string> known;
  for (const ExpectedTensor& expected : ExpectedTensors(checkpoint.config, checkpoint.names)) {
    known.insert(expected.name);
    if (expected.packed) {
      TC_RETURN_IF_ERROR(checkpoint.tensors.Packed(expected.name, "U8", expected.shape).status());
    } else if (expected.shape.size() == 1) {
      TC_RETURN_IF_ERROR(checkpoint.tensors.Vector(expected.name, expected.shape[0]).status());
    } else {
      TC_RETURN_IF_ERROR(
          checkpoint.tensors.Matrix(expected.name, expected.shape[0], expected.shape[1]).status());
    }
  }
  for (const TensorInfo& tensor : checkpoint.tensors.tensors()) {
    if (!known.contains(tensor.name) && !IsDispensable(tensor.name, checkpoint.config, checkpoint.names)) {
      return Unimplemented(
          "{}: tensor '{}' of shape [{}] is not part of architecture '{}', whose result it would change",
          tensor.file, Printable(tensor.name), fmt::join(tensor.shape, ", "), checkpoint.config.architecture);
    }
  }
  return absl::OkStatus();
}

absl::Status CheckTokenizer(const Checkpoint& checkpoint) {
  const int64_t size = checkpoint.tokenizer->vocabulary_size();
  if (size <= checkpoint.config.n_vocab) return absl::OkStatus();
  return InvalidArgument("{}: the tokenizer has {} tokens, the limit is the model's n_vocab of {}",
                         checkpoint.path, size, checkpoint.config.n_vocab);
}

absl::StatusOr<Checkpoint> OpenFolder(const std::string& path, const CheckpointOptions& options) {
  const std::string config_path = path + "/config.json";
  const auto text = ReadTextFile(config_path, kMostConfigBytes);
  if (absl::IsNotFound(text.status())) {
    return NotFound("{}: not a Hugging Face folder: config.json is missing", path);
  }
  TC_RETURN_IF_ERROR(text.status());
  TC_ASSIGN_OR_RETURN(const ModelConfig config,
                      ConfigFromHuggingFace(*text, config_path, options.activation));
  TC_ASSIGN_OR_RETURN(TensorTable tensors, OpenSafetensorsFolder(path));
  Checkpoint checkpoint{.path = path,
                        .format = "safetensors",
                        .config = config,
                        .names = HuggingFaceTensorNames(config),
                        .tensors = std::move(tensors),
                        .tokenizer = nullptr};
  checkpoint.config.tied_head |= !checkpoint.tensors.Contains(checkpoint.names.head);
  TC_RETURN_IF_ERROR(CheckTensors(checkpoint));
  if (options.load_tokenizer) {
    TC_ASSIGN_OR_RETURN(checkpoint.tokenizer, CreateTokenizerFromFolder(path));
    TC_ASSIGN_OR_RETURN(checkpoint.chat_template, ChatTemplateSourceOfFolder(path));
    TC_RETURN_IF_ERROR(CheckTokenizer(checkpoint));
  }
  return checkpoint;
}

absl::StatusOr<Checkpoint> OpenGguf(const std::string& path, const CheckpointOptions& options) {
  if (path.ends_with(".safetensors")) {
    return InvalidArgument("{}: give the folder that holds this file and config.json, or a GGUF file", path);
  }
  TC_ASSIGN_OR_RETURN(GgufFile gguf, GgufFile::Open(path));
  TC_ASSIGN_OR_RETURN(const ModelConfig config, ConfigFromGguf(gguf, options.activation));
  Checkpoint checkpoint{.path = path,
                        .format = "gguf",
                        .config = config,
                        .names = GgufTensorNames(config),
                        .tensors = std::move(gguf.tensors),
                        .tokenizer = nullptr};
  TC_RETURN_IF_ERROR(CheckTensors(checkpoint));
  if (options.load_tokenizer) {
    TC_ASSIGN_OR_RETURN(checkpoint.tokenizer, CreateTokenizer(gguf.metadata));
    TC_ASSIGN_OR_RETURN(checkpoint.chat_template, ChatTemplateSource(gguf.metadata));
    TC_RETURN_IF_ERROR(CheckTokenizer(checkpoint));
  }
  return checkpoint;
}

}  // namespace

absl::StatusOr<Checkpoint> Checkpoint::Open(const std::string& path, const CheckpointOptions& options) {
  std::error_code ignored;
  return std::filesystem::is_directory(path, ignored) ? OpenFolder(path, options) : OpenGguf(path, options);
}

std::string Checkpoint::Sha256() const {
  if (!known_sha256.empty()) return known_sha256;
  std::vector<const MappedFile*> files;
  for (const auto& file : tensors.files()) files.push_back(file.get());
  std::sort(files.begin(), files.end(),
            [](const MappedFile* a, const MappedFile* b) { return a->path() < b->path(); });
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  TC_CHECK(context != nullptr && EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) == 1);
  for (const MappedFile* file : files) {
    TC_CHECK(EVP_DigestUpdate(context.get(), file->bytes().data(), file->bytes().size()) == 1);
  }
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int length = 0;
  TC_CHECK(EVP_DigestFinal_ex(context.get(), digest.data(), &length) == 1);
  std::string hex;
  for (unsigned int i = 0; i < length; ++i) hex += fmt::format("{:02x}", digest[i]);
  known_sha256 = hex;
  return hex;
}

int64_t Checkpoint::total_bytes() const { return tensors.total_bytes(); }

}  // namespace thermocline
