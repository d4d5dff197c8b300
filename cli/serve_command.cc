// thermocline serve: the gRPC and HTTP servers, until SIGINT or SIGTERM.
// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <memory>
#include <optional>
#include <utility>

#include "cli/audit_flag.h"
#include "cli/commands.h"
#include "cli/duration_flag.h"
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

// The HTTP server and what it alone needs.
struct HttpSide {
  explicit HttpSide(const ServedModel& served, const SchedulerStats& stats)
      : model(served), metrics(served.name, {.tokens_per_page = kKvPageTokens, .pages = stats.pages}) {}

  const ServedModel model;
  ServerMetrics metrics;
  RequestLog log;
  std::unique_ptr<Credentials> credentials;
  std::optional<ChatTemplate> chat_template;
  std::unique_ptr<OpenAiServer> server;
};

absl::StatusOr<std::unique_ptr<HttpSide>> StartHttp(const HttpFlags& flags, const LoadedModel& model,
                                                    Scheduler& scheduler) {
  auto side = std::make_unique<HttpSide>(Describe(model), scheduler.stats());
  TC_ASSIGN_OR_RETURN(const OpenAiServerOptions options, flags.Options());
  const Checkpoint& checkpoint = model.checkpoint;
  TC_ASSIGN_OR_RETURN(side->chat_template, ChatTemplate::Select(flags.chat_template, checkpoint.chat_template,
                                                                ChatTokensOf(*checkpoint.tokenizer)));
  if (!flags.api_keys.empty()) {
    TC_ASSIGN_OR_RETURN(side->credentials, Credentials::Load({.completions_file = flags.api_keys}));
  }
  TC_ASSIGN_OR_RETURN(side->server, OpenAiServer::Start({.scheduler = scheduler,
                                                         .tokenizer = *checkpoint.tokenizer,
                                                         .chat_template = *side->chat_template,
                                                         .model = side->model,
                                                         .metrics = side->metrics,
                                                         .log = side->log,
                                                         .credentials = side->credentials.get()},
                                                        options));
  return side;
}

absl::Status Serve(const Flags& flags) {
  if (flags.scheduler.max_queued_requests < 1) {
    return FieldError("--max-queued",
                      fmt::format("is {}, at least 1 is needed", flags.scheduler.max_queued_requests));
  }
  TC_RETURN_IF_ERROR(CheckAuditFlag(flags.scheduler));
  CompletionServerOptions options = flags.server;
  options.shutdown_timeout = std::chrono::milliseconds(flags.shutdown_timeout_ms);
  TC_RETURN_IF_ERROR(options.Validate());  // before the model is loaded, which takes time
  if (flags.http.enabled()) TC_RETURN_IF_ERROR(flags.http.Options().status());

  StopSignals stop;
  SendGrpcLogToSpdlog();
  TC_ASSIGN_OR_RETURN(const std::unique_ptr<LoadedModel> model, LoadModel(flags.model, flags.execution));
  const Tokenizer& tokenizer = *model->checkpoint.tokenizer;
  Scheduler scheduler(*model->runner, tokenizer, flags.scheduler);
  TC_ASSIGN_OR_RETURN(const std::unique_ptr<CompletionServer> server,
                      CompletionServer::Start(scheduler, tokenizer, Describe(*model), options));
  std::unique_ptr<HttpSide> http;
  if (flags.http.enabled()) {
    TC_ASSIGN_OR_RETURN(http, StartHttp(flags.http, *model, scheduler));
  }
  stop.Arm();
  fmt::print(stderr, "thermocline: listening on {}\n", server->address());
  if (http) fmt::print(stderr, "thermocline: HTTP on {}\n", http->server->address());
  stop.Wait();
  fmt::print(stderr, "thermocline: draining, for at most {} ms; a second signal ends at once\n",
             flags.shutdown_timeout_ms);
  if (http) http->server->RefuseNewCalls();
  bool clean = server->Shutdown();  // drains the scheduler
  if (http) clean &= http->server->Shutdown(std::chrono::steady_clock::now() + kLastAnswers);
  fmt::print(stderr, "thermocline: stopped{}\n", clean ? "" : "; completions that still ran were cut short");
  return absl::OkStatus();
}

}  // namespace

void AddServeCommand(CLI::App& program, Command& command) {
  CLI::App* serve =
      program.add_subcommand("serve", "Serve a model over gRPC and HTTP until SIGINT or SIGTERM");
  auto flags = std::make_shared<Flags>();
  AddModelFlags(*serve, flags->model);
  AddExecutionFlags(*serve, flags->execution);
  serve->add_option("--listen", flags->server.listen, "HOST:PORT; port 0 takes any free one")
      ->capture_default_str();
  serve
      ->add_option("--max-queued", flags->scheduler.max_queued_requests,
                   "requests that may wait besides the one that runs; more are refused")
      ->capture_default_str();
  AddHttpFlags(*serve, flags->http);
  AddAuditFlag(*serve, flags->scheduler);
  serve
      ->add_option("--shutdown-timeout", flags->shutdown_timeout_ms,
                   "what running completions get to finish after a signal, such as 30s or 500ms")
      ->transform(InMilliseconds())
      ->default_str("30s");
  serve->callback([flags, &command] { command.action = [flags] { return Serve(*flags); }; });
}

}  // namespace thermocline
