// thermocline inspect: what a model file or a profile directory holds.
// SPDX-License-Identifier: Apache-2.0
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/inspect_directory.h"
#include "cli/size_format.h"
#include "model/checkpoint.h"
#include "scheduler/request.h"

namespace thermocline {
namespace {

struct Flags {
  std::string path;
  std::string activation;
  bool json = false;
  bool tensors = false;
};

nlohmann::ordered_json Describe(const Checkpoint& checkpoint, bool with_tensors) {
  const ModelConfig& config = checkpoint.config;
  std::map<std::string, int64_t> types;  // tensors of each type
  for (const TensorInfo& tensor : checkpoint.tensors.tensors()) ++types[std::string(NameOf(tensor.type))];
  nlohmann::ordered_json json = {{"file", checkpoint.path},
                                 {"format", checkpoint.format},
                                 {"architecture", config.architecture},
                                 {"activation", NameOf(config.activation)},
                                 {"activation_threshold", config.activation_threshold},
                                 {"gated", config.gated},
                                 {"n_layers", config.n_layers},
                                 {"d_model", config.d_model},
                                 {"d_ff", config.d_ff},
                                 {"n_heads", config.n_heads},
                                 {"n_kv_heads", config.n_kv_heads},
                                 {"d_head", config.d_head},
                                 {"n_vocab", config.n_vocab},
                                 {"context_length", config.context_length},
                                 {"tied_head", config.tied_head},
                                 {"tokenizer", checkpoint.tokenizer->kind()},
                                 {"types", types},
                                 {"bytes", checkpoint.total_bytes()},
                                 {"sha256", checkpoint.Sha256()}};
  if (with_tensors) {
    json["tensors"] = nlohmann::ordered_json::array();
    for (const TensorInfo& tensor : checkpoint.tensors.tensors()) {
      json["tensors"].push_back({{"name", tensor.name},
                                 {"type", NameOf(tensor.type)},
                                 {"shape", tensor.shape},
                                 {"bytes", tensor.bytes.size()}});
    }
  }
  return json;
}

void PrintForPeople(const nlohmann::ordered_json& json) {
  for (const auto& [key, value] : json.items()) {
    if (key == "tensors") continue;
    if (key == "activation_threshold" && value == 0) continue;  // only FATReLU has one
    if (key == "bytes") {
      fmt::print("{:20} {} ({})\n", key, value.get<int64_t>(), FormatBytes(value.get<int64_t>()));
    } else {
      fmt::print("{:20} {}\n", key, value.is_string() ? value.get<std::string>() : value.dump());
    }
  }
  if (!json.contains("tensors")) return;
  for (const auto& tensor : json["tensors"]) {
    fmt::print("  {:48} {:5} {}\n", tensor["name"].get<std::string>(), tensor["type"].get<std::string>(),
               tensor["shape"].dump());
  }
}

absl::Status InspectDirectory(const Flags& flags) {
  TC_ASSIGN_OR_RETURN(const nlohmann::ordered_json json, DescribeProfileDirectory(flags.path));
  if (flags.json) {
    fmt::print("{}\n", json.dump());
  } else {
    PrintProfileDirectory(json);
  }
  return absl::OkStatus();
}

absl::Status Inspect(const Flags& flags) {
  if (IsProfileDirectory(flags.path)) return InspectDirectory(flags);
  CheckpointOptions options;
  if (!flags.activation.empty()) {
    const auto activation = ParseActivation(flags.activation);
    if (!activation.ok()) return FieldError("--activation", MessageOf(activation.status()));
    options.activation = *activation;
  }
  TC_ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(flags.path, options));
  const nlohmann::ordered_json json = Describe(checkpoint, flags.tensors);
  if (flags.json) {
    fmt::print("{}\n", json.dump());
  } else {
    PrintForPeople(json);
  }
  return absl::OkStatus();
}

}  // namespace

void AddInspectCommand(CLI::App& program, Command& command) {
  CLI::App* inspect =
      program.add_subcommand("inspect", "Say what a model file or folder, or a profile directory, holds");
  inspect->footer(
      "With --json, of a profile directory: directory, model_sha256, profile{architecture, activation, "
      "threshold, n_layers, d_model, d_ff, tokens, held_out_tokens, corpus, corpus_share}, "
      "predictors{target_recall, fast_recall, bytes, layers[{kind, hidden, recall, precision, marked, bytes, "
      "balanced, fast}]}, thresholds{method, target, tokens, skipped, layers[{attention, attention_output, "
      "feed_forward, down, gate: {magnitude, share}, skipped, error}]}, plan{as of `plan --json`, "
      "of_this_profile}, hardware{cpu, isa, threads, "
      "memory_bytes, accelerators}, report. What is not there is null.");
  auto flags = std::make_shared<Flags>();
  inspect->add_option("MODEL", flags->path, "GGUF file, Hugging Face folder or profile directory")
      ->required();
  inspect->add_option("--activation", flags->activation,
                      "relu, silu or fatrelu, instead of what the file or its architecture says");
  inspect->add_flag("--tensors", flags->tensors, "list every tensor");
  inspect->add_flag("--json", flags->json, "print one JSON object");
  inspect->callback([flags, &command] { command.action = [flags] { return Inspect(*flags); }; });
}

}  // namespace thermocline
