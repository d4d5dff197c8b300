// CompletionServer: the gRPC server over a scheduler, with admin, health, reflection and drain.
// SPDX-License-Identifier: Apache-2.0
#include "server/completion_server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>

#include <algorithm>
#include <charconv>
#include <mutex>
#include <optional>
#include <string_view>
#include <utility>

#include "server/admin_service.h"
#include "server/completion_service.h"

namespace thermocline {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr int64_t kLeastMessageBytes = 1 << 10;
constexpr int64_t kMostMessageBytes = 1 << 30;
constexpr milliseconds kOneDay = std::chrono::hours(24);
// For the statuses of completions that the shutdown timeout cut short to reach their clients.
constexpr milliseconds kLastWords{1'000};

// Names under which health is reported, besides "" for the whole server.
constexpr const char* kOtherServices[] = {"grpc.health.v1.Health",
                                          "grpc.reflection.v1alpha.ServerReflection"};

absl::StatusOr<std::string> HostOf(const std::string& listen) {
  const size_t colon = listen.rfind(':');
  if (colon == std::string::npos || colon == 0) {
    return FieldError("listen", fmt::format("\"{}\" is not HOST:PORT", listen));
  }
  const std::string host = listen.substr(0, colon);
  const std::string_view port = std::string_view(listen).substr(colon + 1);
  const bool bracketed = host.front() == '[' && host.back() == ']';
  if (host.find(':') != std::string::npos && !bracketed) {
    return FieldError("listen", fmt::format("the IPv6 address of \"{}\" must stand in brackets", listen));
  }
  uint16_t number = 0;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
  if (error != std::errc() || end != port.data() + port.size()) {
    return FieldError("listen",
                      fmt::format("port \"{}\" of \"{}\" is not a number in [0, 65535]", port, listen));
  }
  return host;
}

absl::Status CheckMillis(const char* option, milliseconds value, milliseconds least) {
  if (value >= least && value <= kOneDay) return absl::OkStatus();
  return FieldError(option, fmt::format("is {} ms, allowed are [{}, {}] ms", value.count(), least.count(),
                                        kOneDay.count()));
}

// gRPC keeps both choices in globals that every later server of the process follows.
void EnableHealthAndReflection() {
  static std::once_flag once;
  std::call_once(once, [] {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  });
}

}  // namespace

absl::Status CompletionServerOptions::Validate() const {
  TC_RETURN_IF_ERROR(HostOf(listen).status());
  if (max_message_bytes < kLeastMessageBytes || max_message_bytes > kMostMessageBytes) {
    return FieldError("max_message_bytes", fmt::format("is {}, allowed are [{}, {}]", max_message_bytes,
                                                       kLeastMessageBytes, kMostMessageBytes));
  }
  TC_RETURN_IF_ERROR(CheckMillis("min_client_ping_interval", min_client_ping_interval, milliseconds(1)));
  TC_RETURN_IF_ERROR(CheckMillis("keepalive_interval", keepalive_interval, milliseconds(1000)));
  TC_RETURN_IF_ERROR(CheckMillis("keepalive_timeout", keepalive_timeout, milliseconds(1)));
  return CheckMillis("shutdown_timeout", shutdown_timeout, milliseconds(0));
}

struct CompletionServer::Impl {
  Impl(Scheduler& s, const Tokenizer& tokenizer, const ServedModel& model, const CompletionServerOptions& o)
      : scheduler(s), options(o), service(s, tokenizer, model), admin(s, model) {}

  Scheduler& scheduler;
  const CompletionServerOptions options;
  CompletionService service;
  AdminService admin;
  std::unique_ptr<grpc::Server> server;
  std::string host;
  int port = 0;

  std::mutex shutdown_mutex;
  std::optional<bool> shut_down_cleanly;  // guarded by shutdown_mutex; set once shut down

  bool Shutdown(milliseconds timeout);
};

CompletionServer::CompletionServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

absl::StatusOr<std::unique_ptr<CompletionServer>> CompletionServer::Start(
    Scheduler& scheduler, const Tokenizer& tokenizer, ServedModel model,
    const CompletionServerOptions& options) {
  TC_RETURN_IF_ERROR(options.Validate());
  EnableHealthAndReflection();
  auto impl = std::make_unique<Impl>(scheduler, tokenizer, model, options);
  TC_ASSIGN_OR_RETURN(impl->host, HostOf(options.listen));

  grpc::ServerBuilder builder;
  // Without this a second server could listen on the same port, and the two would share its calls.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             static_cast<int>(options.min_client_ping_interval.count()));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS,
                             static_cast<int>(options.keepalive_interval.count()));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
                             static_cast<int>(options.keepalive_timeout.count()));
  builder.SetMaxReceiveMessageSize(static_cast<int>(options.max_message_bytes));
  builder.AddListeningPort(options.listen, grpc::InsecureServerCredentials(), &impl->port);
  builder.RegisterService(&impl->service);
  builder.RegisterService(&impl->admin);
  impl->server = builder.BuildAndStart();
  if (impl->server == nullptr || impl->port == 0) {
    return FailedPrecondition("cannot listen on {}: the port is in use, or the address is not this machine's",
                              options.listen);
  }
  grpc::HealthCheckServiceInterface& health = *impl->server->GetHealthCheckService();
  health.SetServingStatus(v1::CompletionService::service_full_name(), true);
  health.SetServingStatus(v1::AdminService::service_full_name(), true);
  for (const char* name : kOtherServices) health.SetServingStatus(name, true);
  return std::unique_ptr<CompletionServer>(new CompletionServer(std::move(impl)));
}

CompletionServer::~CompletionServer() { impl_->Shutdown(milliseconds(0)); }

int CompletionServer::port() const { return impl_->port; }

std::string CompletionServer::address() const { return fmt::format("{}:{}", impl_->host, impl_->port); }

CompletionServerStats CompletionServer::stats() const { return impl_->service.calls().stats(); }

bool CompletionServer::Shutdown() { return impl_->Shutdown(impl_->options.shutdown_timeout); }

bool CompletionServer::Impl::Shutdown(milliseconds timeout) {
  const std::lock_guard lock(shutdown_mutex);
  if (shut_down_cleanly) return *shut_down_cleanly;
  const steady_clock::time_point deadline = steady_clock::now() + timeout;
  server->GetHealthCheckService()->Shutdown();
  service.RefuseNewCalls();
  // The port stays open meanwhile, so that health checks and new calls get their answers.
  const bool drained = scheduler.Drain(timeout);
  const bool delivered = service.calls().WaitIdle(std::max(deadline, steady_clock::now() + kLastWords));
  // Ends what never ends by itself: health watches, and clients that do not read.
  server->Shutdown(std::chrono::system_clock::now());
  service.calls().WaitIdle();
  shut_down_cleanly = drained && delivered;
  return *shut_down_cleanly;
}

}  // namespace thermocline
