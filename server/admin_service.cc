// AdminService: the calls of thermocline.v1.AdminService.
// SPDX-License-Identifier: Apache-2.0
#include "server/admin_service.h"

#include <grpcpp/server_context.h>

#include <utility>

#include "server/admin_conversion.h"

namespace thermocline {

AdminService::AdminService(const CompletionServerParts& parts)
    : parts_(parts), placement_(PlacementMessage(parts.model)) {}

void AdminService::EndWatches() { watches_.End(); }

v1::Stats AdminService::Stats() const {
  return ToMessage(parts_.scheduler.stats(), parts_.scheduler.options(), parts_.model.mode);
}

grpc::ServerUnaryReactor* AdminService::Answered(GrpcCall& call, grpc::CallbackServerContext& context,
                                                 const absl::Status& status) const {
  grpc::ServerUnaryReactor* const reactor = context.DefaultReactor();
  grpc::Status finished = call.Finished(status);
  call.Log();
  reactor->Finish(std::move(finished));
  return reactor;
}

grpc::ServerUnaryReactor* AdminService::GetStats(grpc::CallbackServerContext* context,
                                                 const v1::GetStatsRequest*, v1::GetStatsResponse* response) {
  GrpcCall call(*context, "/thermocline.v1.AdminService/GetStats", parts_.log);
  const absl::Status status = call.CheckKey(parts_.credentials, CredentialScope::kAdmin);
  if (status.ok()) *response->mutable_stats() = Stats();
  return Answered(call, *context, status);
}

grpc::ServerWriteReactor<v1::WatchStatsResponse>* AdminService::WatchStats(
    grpc::CallbackServerContext* context, const v1::WatchStatsRequest* request) {
  GrpcCall call(*context, "/thermocline.v1.AdminService/WatchStats", parts_.log);
  const auto interval = [&]() -> absl::StatusOr<std::chrono::milliseconds> {
    TC_RETURN_IF_ERROR(call.CheckKey(parts_.credentials, CredentialScope::kAdmin));
    return WatchInterval(*request);
  }();
  return watches_.Start(std::move(call), interval, [this] { return Stats(); });
}

grpc::ServerUnaryReactor* AdminService::GetPlacement(grpc::CallbackServerContext* context,
                                                     const v1::GetPlacementRequest*,
                                                     v1::GetPlacementResponse* response) {
  GrpcCall call(*context, "/thermocline.v1.AdminService/GetPlacement", parts_.log);
  const absl::Status status = call.CheckKey(parts_.credentials, CredentialScope::kAdmin);
  if (status.ok()) *response->mutable_placement() = placement_;
  return Answered(call, *context, status);
}

}  // namespace thermocline
