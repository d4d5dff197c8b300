// thermocline convert: a model as a GGUF file of other types.
// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/load_model.h"
#include "cli/progress_bar.h"
#include "cli/size_format.h"
#include "core/timer.h"
#include "model/conversion.h"
#include "model/conversion_plan.h"
#include "scheduler/request.h"

namespace thermocline {
namespace {

struct Flags {
  ConversionOptions options;
  std::string type = "q8_0";
  std::string activation;
  bool without_tokenizer = false;
  int threads = 0;
  bool json = false;
};

absl::StatusOr<ConversionOptions> ReadOptions(const Flags& flags) {
  ConversionOptions options = flags.options;
  const auto type = ParseConversionType(flags.type);
  if (!type.ok()) return FieldError("--type", MessageOf(type.status()));
  options.type = *type;
  if (!flags.activation.empty()) {
    const auto activation = ParseActivation(flags.activation);
    if (!activation.ok()) return FieldError("--activation", MessageOf(activation.status()));
    options.activation = *activation;
  }
  options.tokenizer = !flags.without_tokenizer;
  return options;
}

nlohmann::ordered_json Describe(const ConversionOptions& options, const ConversionReport& report,
                                double seconds) {
  nlohmann::ordered_json types = nlohmann::ordered_json::object();
  for (const auto& [name, type] : report.types) {
    types[name] = {{"tensors", type.tensors},
                   {"weights", type.weights},
                   {"bytes", type.bytes},
                   {"relative_error", type.relative_error()}};
  }
  return {{"file", options.out},
          {"source", options.source},
          {"architecture", report.architecture},
          {"type", NameOf(options.type)},
          {"bytes", report.file_bytes},
          {"bits_per_weight", report.bits_per_weight()},
          {"tensors", report.tensors},
          {"resumed_tensors", report.resumed_tensors},
          {"types", types},
          {"notes", report.notes},
          {"seconds", seconds}};
}

void PrintForPeople(const ConversionOptions& options, const ConversionReport& report, double seconds) {
  fmt::print("{}: {}, {:.2f} bits a weight, {} tensors, architecture {}, verified, {:.1f} s\n", options.out,
             FormatBytes(report.file_bytes), report.bits_per_weight(), report.tensors, report.architecture,
             seconds);
  for (const auto& [name, type] : report.types) {
    fmt::print("  {:5} {:5} tensors, {:>10}, error {:.3g} of the weights' root mean square\n", name,
               type.tensors, FormatBytes(type.bytes), type.relative_error());
  }
}

absl::Status RunConvert(const Flags& flags) {
  const Stopwatch watch;
  TC_ASSIGN_OR_RETURN(const ConversionOptions options, ReadOptions(flags));
  TC_ASSIGN_OR_RETURN(const std::unique_ptr<ThreadTeam> team, CreateTeam({.threads = flags.threads}));
  const CpuContext context{.team = team.get(), .kernels = &BestKernels()};
  auto bar = std::make_unique<ProgressBar>(!flags.json);
  const auto show = [&](const ConversionProgress& progress) {
    bar->Show(progress.share, progress.what);
    return absl::OkStatus();
  };
  TC_ASSIGN_OR_RETURN(const ConversionReport report, Convert(options, context, show));
  bar.reset();
  if (flags.json) {
    fmt::print("{}\n", Describe(options, report, watch.Seconds()).dump());
    return absl::OkStatus();
  }
  PrintForPeople(options, report, watch.Seconds());
  if (report.resumed_tensors > 0)
    fmt::print("  {} tensors were there from an interrupted conversion\n", report.resumed_tensors);
  for (const std::string& note : report.notes) fmt::print(stderr, "[{}]\n", note);
  return absl::OkStatus();
}

}  // namespace

void AddConvertCommand(CLI::App& program, Command& command) {
  CLI::App* convert =
      program.add_subcommand("convert", "Write a model as a GGUF file, its matrices quantised");
  convert->footer(
      "Norms, biases and other vectors stay F32. Files of q4_0 and q4_k have Q6_K for the token embedding "
      "and "
      "the head. Rows that are no multiple of 256 get Q5_0 instead of Q4_K and Q8_0 instead of Q6_K; rows "
      "that "
      "are no multiple of 32 either get F16. An interrupted conversion leaves OUT.partial; the same command "
      "goes on with it.");
  auto flags = std::make_shared<Flags>();
  convert->add_option("SRC", flags->options.source, "GGUF file or Hugging Face folder")->required();
  convert->add_option("OUT", flags->options.out, "GGUF file to write")->required();
  convert->add_option("--type", flags->type, std::string(kConversionTypes))->capture_default_str();
  convert->add_option("--activation", flags->activation,
                      "written to the file instead of what SRC or its architecture says");
  convert->add_flag(
      "--without-tokenizer", flags->without_tokenizer,
      "write a file without a tokenizer from a folder that has none, or one that GGUF cannot say");
  convert->add_flag("--force", flags->options.force, "overwrite OUT, and OUT.partial of other work");
  convert->add_option("--threads", flags->threads, "CPU threads; 0 takes every usable CPU")
      ->capture_default_str();
  convert->add_flag("--json", flags->json, "print one JSON object");
  convert->callback([flags, &command] { command.action = [flags] { return RunConvert(*flags); }; });
}

}  // namespace thermocline
