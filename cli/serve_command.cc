// thermocline serve: the gRPC and HTTP servers, until SIGINT or SIGTERM.
// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "cli/audit_flag.h"
#include "cli/commands.h"
#include "cli/config_file.h"
#include "cli/duration_flag.h"
#include "cli/grpc_flags.h"
#include "cli/http_flags.h"
#include "cli/load_model.h"
#include "cli/stop_signals.h"
#include "scheduler/kv_pages.h"
#include "scheduler/scheduler.h"
#include "server/completion_server.h"
#include "server/credentials.h"
#include "server/grpc_log.h"
#include "server/metrics.h"
#include "server/openai_server.h"
#include "server/request_log.h"
#include "server/request_traces.h"

namespace thermocline {
namespace {

// For answers of completions that have ended to reach their clients.
constexpr std::chrono::milliseconds kLastAnswers{1'000};

struct Flags {
  ModelFlags model;
  ExecutionFlags execution;
  SchedulerOptions scheduler{.audit_every = 256};
  CompletionServerOptions server;
  HttpFlags http;
  SecurityFlags security;
  KvCacheFlags cache{.shared = true};
  std::string log_level = "info";
  bool log_prompts = false;
  int64_t request_traces = 0;
  int64_t shutdown_timeout_ms = CompletionServerOptions().shutdown_timeout.count();
};

// In the order of the plan's devices, which is the runner's.
std::vector<ServedDevice> DescribeDevices(const LoadedModel& model) {
  std::vector<ServedDevice> served;
  for (const Device* device : model.runner->devices()) {
    const int64_t budget = model.plan ? model.plan->devices[served.size()].budget_bytes : 0;
    served.push_back({.name = device->name(),
                      .kind = device->kind(),
                      .used_bytes = device->used_bytes(),
                      .budget_bytes = budget});
  }
  return served;
}

// Of each layer, those on accelerators.
std::vector<int64_t> HotNeurons(const LoadedModel& model) {
  std::vector<int64_t> hot(static_cast<size_t>(model.checkpoint.config.n_layers));
  if (!model.plan) return hot;
  for (size_t layer = 0; layer < hot.size(); ++layer) {
    for (const PlanUnit& unit : model.plan->layers[layer].units)
      if (unit.device > 0) hot[layer] += static_cast<int64_t>(unit.neurons.size());
  }
  return hot;
}

ServedModel Describe(const LoadedModel& model) {
  const Checkpoint& checkpoint = model.checkpoint;
  const ModelConfig& config = checkpoint.config;
  std::vector<std::string> weight_types;
  for (const ElementType type : checkpoint.tensors.TypesByBytes()) weight_types.emplace_back(NameOf(type));
  return {.name = FileNameOf(checkpoint.path),
          .architecture = config.architecture,
          .activation = std::string(NameOf(config.activation)),
          .gated = config.gated,
          .n_layers = config.n_layers,
          .d_model = config.d_model,
          .d_ff = config.d_ff,
          .n_heads = config.n_heads,
          .n_kv_heads = config.n_kv_heads,
          .d_head = config.d_head,
          .weight_types = std::move(weight_types),
          .weight_bytes = checkpoint.total_bytes(),
          .mode = std::string(NameOf(model.runner->mode())),
          .devices = DescribeDevices(model),
          .hot_neurons = HotNeurons(model)};
}

// What both servers work with, and the servers.
struct Serving {
  Serving(const Flags& flags, LoadedModel& loaded, std::function<void(const absl::Status&)> on_runner_lost)
      : tokenizer(*loaded.checkpoint.tokenizer),
        model(Describe(loaded)),
        scheduler(*loaded.runner, tokenizer, WithCallback(flags.scheduler, std::move(on_runner_lost))),
        metrics(model.name, {.tokens_per_page = kKvPageTokens, .pages = scheduler.stats().pages}),
        log({.level = *ParseLogLevel(flags.log_level), .log_prompts = flags.log_prompts}),
        traces(flags.request_traces),
        traces_if_any(flags.request_traces > 0 ? &traces : nullptr) {}

  static SchedulerOptions WithCallback(SchedulerOptions options,
                                       std::function<void(const absl::Status&)> on_runner_lost) {
    options.on_runner_lost = std::move(on_runner_lost);
    return options;
  }
  absl::Status Start(const Flags& flags, const CompletionServerOptions& options, LoadedModel& loaded);
  // Certificates and keys, a line each.
  void Reload();
  void RefuseNewCalls();
  // True when nothing was cut short.
  bool Shutdown();

  const Tokenizer& tokenizer;
  const ServedModel model;
  Scheduler scheduler;
  ServerMetrics metrics;
  RequestLog log;
  RequestTraces traces;
  RequestTraces* const traces_if_any;        // nullptr: none may be asked for
  std::unique_ptr<Credentials> credentials;  // nullptr: everybody may call
  std::optional<ChatTemplate> chat_template;
  std::unique_ptr<CompletionServer> grpc;
  std::unique_ptr<OpenAiServer> http;  // nullptr where it is not asked for
};

absl::Status Serving::Start(const Flags& flags, const CompletionServerOptions& options, LoadedModel& loaded) {
  TC_ASSIGN_OR_RETURN(chat_template,
                      ChatTemplate::Select(flags.http.chat_template, loaded.checkpoint.chat_template,
                                           ChatTokensOf(tokenizer)));
  TC_ASSIGN_OR_RETURN(credentials, flags.security.LoadKeys());
  TC_ASSIGN_OR_RETURN(grpc, CompletionServer::Start({.scheduler = scheduler,
                                                     .tokenizer = tokenizer,
                                                     .chat_template = *chat_template,
                                                     .model = model,
                                                     .metrics = metrics,
                                                     .log = log,
                                                     .credentials = credentials.get(),
                                                     .traces = traces_if_any},
                                                    options));
  if (!flags.http.enabled()) return absl::OkStatus();
  TC_ASSIGN_OR_RETURN(const OpenAiServerOptions http_options, flags.http.Options(flags.security.tls));
  TC_ASSIGN_OR_RETURN(http, OpenAiServer::Start({.scheduler = scheduler,
                                                 .tokenizer = tokenizer,
                                                 .chat_template = *chat_template,
                                                 .model = model,
                                                 .metrics = metrics,
                                                 .log = log,
                                                 .credentials = credentials.get(),
                                                 .activity = &loaded.runner->activity(),
                                                 .traces = traces_if_any},
                                                http_options));
  return absl::OkStatus();
}

void Serving::Reload() {
  const auto say = [this](const char* what, const absl::Status& status) {
    if (status.ok()) return log.Event(LogLevel::kInfo, "reloaded", {{"what", what}});
    log.Event(LogLevel::kError, "not_reloaded", {{"what", what}, {"error", std::string(MessageOf(status))}});
  };
  if (credentials) say("keys", credentials->Reload());
  say("grpc certificates", grpc->ReloadTls());
  if (http) say("http certificates", http->ReloadTls());
}

void Serving::RefuseNewCalls() {
  grpc->RefuseNewCalls();
  if (http) http->RefuseNewCalls();
}

bool Serving::Shutdown() {
  RefuseNewCalls();
  bool clean = grpc->Shutdown();  // drains the scheduler
  if (http) clean &= http->Shutdown(std::chrono::steady_clock::now() + kLastAnswers);
  return clean;
}

absl::Status Serve(const Flags& flags) {
  TC_RETURN_IF_ERROR(CheckCapacityFlags(flags.scheduler, flags.cache));
  TC_RETURN_IF_ERROR(CheckAuditFlag(flags.scheduler));
  if (flags.request_traces < 0 || flags.request_traces > RequestTraces::kMost) {
    return FieldError("--request-traces",
                      fmt::format("is {}, allowed are [0, {}]", flags.request_traces, RequestTraces::kMost));
  }
  CompletionServerOptions options = flags.server;
  options.tls = flags.security.tls;
  options.shutdown_timeout = std::chrono::milliseconds(flags.shutdown_timeout_ms);
  TC_RETURN_IF_ERROR(options.Validate());  // before the model is loaded, which takes time
  if (flags.http.enabled()) TC_RETURN_IF_ERROR(flags.http.Options(flags.security.tls).status());

  StopSignals stop;
  SendGrpcLogToSpdlog();
  TC_ASSIGN_OR_RETURN(const std::unique_ptr<LoadedModel> model,
                      LoadModel(flags.model, flags.execution, flags.cache));
  Serving serving(flags, *model, [&stop](const absl::Status&) { stop.Stop(); });
  TC_RETURN_IF_ERROR(serving.Start(flags, options, *model));
  stop.Arm();
  fmt::print(stderr, "thermocline: listening on {}\n", serving.grpc->address());
  if (serving.http) fmt::print(stderr, "thermocline: HTTP on {}\n", serving.http->address());
  while (stop.Wait() == Wake::kReload) serving.Reload();
  if (const absl::Status health = serving.scheduler.health(); !health.ok()) {
    serving.Shutdown();
    return FailedPrecondition("stopped: the device is lost: {}", MessageOf(health));
  }
  serving.RefuseNewCalls();
  fmt::print(stderr, "thermocline: draining, for at most {} ms; a second signal ends at once\n",
             flags.shutdown_timeout_ms);
  const bool clean = serving.Shutdown();
  fmt::print(stderr, "thermocline: stopped{}\n", clean ? "" : "; completions that still ran were cut short");
  return absl::OkStatus();
}

}  // namespace

void AddServeCommand(CLI::App& program, Command& command) {
  CLI::App* serve =
      program.add_subcommand("serve", "Serve a model over gRPC and HTTP until SIGINT or SIGTERM");
  auto flags = std::make_shared<Flags>();
  AddConfigFlag(*serve);
  AddModelFlags(*serve, flags->model);
  AddExecutionFlags(*serve, flags->execution);
  serve->add_option("--listen", flags->server.listen, "HOST:PORT; port 0 takes any free one")
      ->capture_default_str();
  AddCapacityFlags(*serve, flags->scheduler, flags->cache);
  AddSecurityFlags(*serve, flags->security);
  AddHttpFlags(*serve, flags->http);
  AddAuditFlag(*serve, flags->scheduler);
  serve->add_option("--log-level", flags->log_level, "the least that is logged: debug, info, warning, error")
      ->check(CLI::IsMember({"debug", "info", "warning", "error"}))
      ->capture_default_str();
  serve->add_flag("--log-prompts", flags->log_prompts,
                  "prompts and completions are logged too, up to 64 KiB of each");
  serve
      ->add_option("--request-traces", flags->request_traces,
                   "requests that may have a trace of theirs in their answer, at once; at most 64, 0: none")
      ->capture_default_str();
  serve
      ->add_option("--shutdown-timeout", flags->shutdown_timeout_ms,
                   "what running completions get to finish after a signal, such as 30s or 500ms")
      ->transform(InMilliseconds())
      ->default_str("30s");
  serve->callback([flags, &command] { command.action = [flags] { return Serve(*flags); }; });
}

}  // namespace thermocline
