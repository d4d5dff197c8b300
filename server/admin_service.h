// AdminService: the calls of thermocline.v1.AdminService.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "scheduler/scheduler.h"
#include "server/completion_server.h"
#include "thermocline/v1/admin.grpc.pb.h"

namespace thermocline {

// Refuses nothing and waits for nothing, so that it answers while the server drains too.
class AdminService final : public v1::AdminService::CallbackService {
 public:
  AdminService(const Scheduler& scheduler, const ServedModel& model);

  grpc::ServerUnaryReactor* GetStats(grpc::CallbackServerContext* context, const v1::GetStatsRequest* request,
                                     v1::GetStatsResponse* response) override;
  grpc::ServerUnaryReactor* GetPlacement(grpc::CallbackServerContext* context,
                                         const v1::GetPlacementRequest* request,
                                         v1::GetPlacementResponse* response) override;

 private:
  const Scheduler& scheduler_;
  const std::string mode_;
  const v1::Placement placement_;
};

}  // namespace thermocline
