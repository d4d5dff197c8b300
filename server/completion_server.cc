// CompletionServer: the gRPC server over a scheduler, with admin, health, reflection and drain.
// SPDX-License-Identifier: Apache-2.0
#include "server/completion_server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>

#include <algorithm>
#include <mutex>
#include <optional>
#include <utility>

#include "server/admin_service.h"
#include "server/completion_service.h"
#include "server/grpc_tls.h"
#include "server/listen_address.h"

namespace thermocline {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr int64_t kLeastMessageBytes = 1 << 10;
constexpr int64_t kMostMessageBytes = 1 << 30;
// For the statuses of completions that the shutdown timeout cut short to reach their clients.
constexpr milliseconds kLastWords{1'000};

// Names under which health is reported, besides "" for the whole server.
constexpr const char* kOtherServices[] = {"grpc.health.v1.Health",
                                          "grpc.reflection.v1alpha.ServerReflection"};

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
  TC_RETURN_IF_ERROR(ParseListenAddress("listen", listen).status());
  TC_RETURN_IF_ERROR(
      CheckOptionRange("max_message_bytes", max_message_bytes, kLeastMessageBytes, kMostMessageBytes));
  TC_RETURN_IF_ERROR(
      CheckOptionMillis("min_client_ping_interval", min_client_ping_interval, milliseconds(1)));
  TC_RETURN_IF_ERROR(CheckOptionMillis("keepalive_interval", keepalive_interval, milliseconds(1000)));
  TC_RETURN_IF_ERROR(CheckOptionMillis("keepalive_timeout", keepalive_timeout, milliseconds(1)));
  TC_RETURN_IF_ERROR(CheckOptionMillis("shutdown_timeout", shutdown_timeout, milliseconds(0)));
  return tls.Validate();
}

struct CompletionServer::Impl {
  Impl(const CompletionServerParts& parts, const CompletionServerOptions& o)
      : scheduler(parts.scheduler), options(o), service(parts), admin(parts) {}

  Scheduler& scheduler;
  const CompletionServerOptions options;
  std::unique_ptr<GrpcTls> tls;  // nullptr: in the clear
  CompletionService service;
  AdminService admin;
  std::unique_ptr<grpc::Server> server;
  std::string host;
  int port = 0;

  std::mutex shutdown_mutex;
  std::optional<bool> shut_down_cleanly;  // guarded by shutdown_mutex; set once shut down

  void RefuseNewCalls();
  bool Shutdown(milliseconds timeout);
};

CompletionServer::CompletionServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

absl::StatusOr<std::unique_ptr<CompletionServer>> CompletionServer::Start(
    const CompletionServerParts& parts, const CompletionServerOptions& options) {
  TC_RETURN_IF_ERROR(options.Validate());
  EnableHealthAndReflection();
  auto impl = std::make_unique<Impl>(parts, options);
  TC_ASSIGN_OR_RETURN(const ListenAddress address, ParseListenAddress("listen", options.listen));
  impl->host = address.host;
  std::shared_ptr<grpc::ServerCredentials> credentials = grpc::InsecureServerCredentials();
  if (options.tls.enabled()) {
    TC_ASSIGN_OR_RETURN(impl->tls, GrpcTls::Load(options.tls));
    credentials = impl->tls->ServerCredentials();
  }

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
  builder.AddListeningPort(options.listen, credentials, &impl->port);
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

absl::Status CompletionServer::ReloadTls() {
  return impl_->tls == nullptr ? absl::OkStatus() : impl_->tls->Reload();
}

void CompletionServer::RefuseNewCalls() { impl_->RefuseNewCalls(); }

bool CompletionServer::Shutdown() { return impl_->Shutdown(impl_->options.shutdown_timeout); }

void CompletionServer::Impl::RefuseNewCalls() {
  server->GetHealthCheckService()->Shutdown();
  service.RefuseNewCalls();
  admin.EndWatches();
}

bool CompletionServer::Impl::Shutdown(milliseconds timeout) {
  const std::lock_guard lock(shutdown_mutex);
  if (shut_down_cleanly) return *shut_down_cleanly;
  const steady_clock::time_point deadline = steady_clock::now() + timeout;
  RefuseNewCalls();
  // The port stays open meanwhile, so that health checks and new calls get their answers.
  const bool drained = scheduler.Drain(timeout);
  const steady_clock::time_point last_words = std::max(deadline, steady_clock::now() + kLastWords);
  const bool delivered = service.calls().WaitIdle(last_words);
  admin.WaitForWatches(steady_clock::now() + kLastWords);
  // Ends what never ends by itself: health watches, and clients that do not read.
  server->Shutdown(std::chrono::system_clock::now());
  service.calls().WaitIdle();
  shut_down_cleanly = drained && delivered;
  return *shut_down_cleanly;
}

}  // namespace thermocline
