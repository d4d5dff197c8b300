// thermocline run: one completion, or a prompt loop, on the terminal.
// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <condition_variable>
#include <csignal>
#include <iostream>
#include <iterator>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "cli/audit_flag.h"
#include "cli/commands.h"
#include "cli/completion_output.h"
#include "cli/load_model.h"
#include "cli/sampling_flags.h"
#include "scheduler/scheduler.h"

namespace thermocline {
namespace {

struct Flags {
  ModelFlags model;
  ExecutionFlags execution;
  SamplingFlags sampling;
  std::optional<std::string> prompt;
  bool parse_special = false;
  bool echo = false;
  int top_logprobs = 0;
  SchedulerOptions scheduler;
  std::string trace;  // file
  bool json = false;
};

volatile std::sig_atomic_t interrupted = 0;

// What a completion gathered; streams the text to standard output as it comes unless it is to be JSON.
class Gatherer final : public CompletionObserver {
 public:
  explicit Gatherer(bool stream) : stream_(stream) {}

  void OnDelta(CompletionDelta delta) override { AppendPiece(std::move(delta), stream_, whole); }
  void OnFinish(absl::StatusOr<CompletionSummary> result) override {
    const std::lock_guard lock(mutex_);
    result_ = std::move(result);
    finished_.notify_all();
  }

  // Waits for the end; an interrupt (Ctrl-C) cancels the request.
  absl::StatusOr<CompletionSummary> Wait(Scheduler& scheduler, RequestHandle handle) {
    std::unique_lock lock(mutex_);
    while (!finished_.wait_for(lock, std::chrono::milliseconds(50), [this] { return result_.has_value(); })) {
      if (interrupted == 0) continue;
      lock.unlock();
      scheduler.Cancel(handle);
      lock.lock();
    }
    return *result_;
  }

  CompletionDelta whole;  // complete once Wait has returned

 private:
  const bool stream_;
  std::mutex mutex_;
  std::condition_variable finished_;
  std::optional<absl::StatusOr<CompletionSummary>> result_;
};

absl::Status CompleteOne(Scheduler& scheduler, const Tokenizer& tokenizer, const Flags& flags,
                         const std::string& prompt) {
  if (prompt.empty()) return FieldError("prompt", "is empty");
  CompletionRequest request;
  TC_ASSIGN_OR_RETURN(request.prompt, tokenizer.Encode(prompt, {.parse_special = flags.parse_special}));
  TC_RETURN_IF_ERROR(FillRequest(flags.sampling, request));
  request.echo = flags.echo;
  request.top_logprobs = flags.top_logprobs;

  const auto gathered = std::make_shared<Gatherer>(/*stream=*/!flags.json);
  TC_ASSIGN_OR_RETURN(const RequestHandle handle, scheduler.Submit(std::move(request), gathered));
  const absl::StatusOr<CompletionSummary> summary = gathered->Wait(scheduler, handle);
  if (!flags.json) fmt::print("\n");
  TC_RETURN_IF_ERROR(summary.status());
  if (flags.json) {
    nlohmann::ordered_json json = CompletionJson(gathered->whole, *summary);
    if (flags.scheduler.audit_every > 0) json["audit"] = AuditJson(scheduler.stats().audits);
    fmt::print("{}\n", json.dump());
  }
  PrintSummary(*summary);
  if (flags.scheduler.audit_every > 0) PrintAudits(scheduler.stats().audits);
  if (summary->finish_reason == FinishReason::kError) return Internal("the model's logits were not finite");
  return absl::OkStatus();
}

// Reads a line, completes it, until the end of the input. A refused line does not end the loop.
absl::Status PromptLoop(Scheduler& scheduler, const Tokenizer& tokenizer, const Flags& flags) {
  fmt::print(stderr, "Each line is completed on its own; Ctrl-C ends a completion, Ctrl-D the program.\n");
  for (std::string line; fmt::print(stderr, "> "), std::getline(std::cin, line);) {
    if (line.empty()) continue;
    interrupted = 0;
    const absl::Status status = CompleteOne(scheduler, tokenizer, flags, line);
    if (!status.ok()) fmt::print(stderr, "thermocline: {}\n", MessageOf(status));
  }
  fmt::print(stderr, "\n");
  return absl::OkStatus();
}

// The prompt of the flags, or a loop over a terminal's lines, or all of standard input.
absl::Status CompletePrompts(Scheduler& scheduler, const Tokenizer& tokenizer, const Flags& flags) {
  if (flags.prompt) return CompleteOne(scheduler, tokenizer, flags, *flags.prompt);
  if (isatty(STDIN_FILENO)) return PromptLoop(scheduler, tokenizer, flags);
  const std::string prompt((std::istreambuf_iterator<char>(std::cin)), std::istreambuf_iterator<char>());
  return CompleteOne(scheduler, tokenizer, flags, prompt);
}

absl::Status Run(const Flags& flags) {
  CompletionRequest probe;  // bad flags are refused before the model is loaded
  TC_RETURN_IF_ERROR(FillRequest(flags.sampling, probe));
  TC_RETURN_IF_ERROR(CheckAuditFlag(flags.scheduler));
  TC_ASSIGN_OR_RETURN(const std::unique_ptr<LoadedModel> model, LoadModel(flags.model, flags.execution));
  const Tokenizer& tokenizer = *model->checkpoint.tokenizer;
  std::vector<std::string> device_names;
  for (const Device* device : model->runner->devices()) device_names.push_back(device->name());
  ExecutionTrace trace(std::move(device_names));
  if (!flags.trace.empty()) model->runner->SetTrace(&trace);

  Scheduler scheduler(*model->runner, tokenizer, flags.scheduler);
  struct sigaction action {};
  action.sa_handler = [](int) { interrupted = 1; };
  action.sa_flags = SA_RESTART;  // a read of the next prompt goes on
  sigaction(SIGINT, &action, nullptr);

  const absl::Status completed = CompletePrompts(scheduler, tokenizer, flags);
  if (!flags.trace.empty()) TC_RETURN_IF_ERROR(trace.Write(flags.trace));
  return completed;
}

}  // namespace

void AddRunCommand(CLI::App& program, Command& command) {
  CLI::App* run = program.add_subcommand(
      "run", "Complete a prompt (--prompt, or standard input, or a prompt loop on a terminal)");
  auto flags = std::make_shared<Flags>();
  AddModelFlags(*run, flags->model);
  AddExecutionFlags(*run, flags->execution);
  run->add_option("--prompt", flags->prompt, "text to complete");
  AddSamplingFlags(*run, flags->sampling);
  run->add_flag("--parse-special", flags->parse_special,
                "special tokens spelled out in the prompt become their ids");
  run->add_flag("--echo", flags->echo, "the prompt's text comes first");
  run->add_option("--top-logprobs", flags->top_logprobs,
                  "log-probabilities of every token and of the K likeliest [0, 20]");
  AddAuditFlag(*run, flags->scheduler);
  run->add_option(
      "--trace", flags->trace,
      "write when each operator ran on which device to this file, for Perfetto or chrome://tracing");
  run->add_flag("--json", flags->json, "print one JSON object instead of streaming");
  run->callback([flags, &command] { command.action = [flags] { return Run(*flags); }; });
}

}  // namespace thermocline
