// AdminService: the calls of thermocline.v1.AdminService.
// SPDX-License-Identifier: Apache-2.0
#include "server/admin_service.h"

#include "server/admin_conversion.h"

namespace thermocline {
namespace {

grpc::ServerUnaryReactor* Answered(grpc::CallbackServerContext& context) {
  grpc::ServerUnaryReactor* const reactor = context.DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

}  // namespace

AdminService::AdminService(const Scheduler& scheduler, const ServedModel& model)
    : scheduler_(scheduler), mode_(model.mode), placement_(PlacementMessage(model)) {}

grpc::ServerUnaryReactor* AdminService::GetStats(grpc::CallbackServerContext* context,
                                                 const v1::GetStatsRequest*, v1::GetStatsResponse* response) {
  *response->mutable_stats() = ToMessage(scheduler_.stats(), scheduler_.options(), mode_);
  return Answered(*context);
}

grpc::ServerUnaryReactor* AdminService::GetPlacement(grpc::CallbackServerContext* context,
                                                     const v1::GetPlacementRequest*,
                                                     v1::GetPlacementResponse* response) {
  *response->mutable_placement() = placement_;
  return Answered(*context);
}

}  // namespace thermocline
