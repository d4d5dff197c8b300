// AdminService: the calls of thermocline.v1.AdminService.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "server/completion_server.h"
#include "server/grpc_call.h"
#include "server/stats_watch.h"
#include "thermocline/v1/admin.grpc.pb.h"

namespace thermocline {

// Waits for nothing, so that it answers while the server drains too. Calls need a key of the admin's where
// there are any, and where completions need one.
class AdminService final : public v1::AdminService::CallbackService {
 public:
  explicit AdminService(const CompletionServerParts& parts);

  grpc::ServerUnaryReactor* GetStats(grpc::CallbackServerContext* context, const v1::GetStatsRequest* request,
                                     v1::GetStatsResponse* response) override;
  grpc::ServerWriteReactor<v1::WatchStatsResponse>* WatchStats(grpc::CallbackServerContext* context,
                                                               const v1::WatchStatsRequest* request) override;
  grpc::ServerUnaryReactor* GetPlacement(grpc::CallbackServerContext* context,
                                         const v1::GetPlacementRequest* request,
                                         v1::GetPlacementResponse* response) override;

  // Ends the watches that there are after the figures as they are, and later ones after their first.
  void EndWatches();
  void WaitForWatches(std::chrono::steady_clock::time_point deadline) { watches_.WaitEnded(deadline); }

 private:
  v1::Stats Stats() const;
  // Finishes the call: whether its key is the admin's is its status.
  grpc::ServerUnaryReactor* Answered(GrpcCall& call, grpc::CallbackServerContext& context,
                                     const absl::Status& status) const;

  const CompletionServerParts parts_;
  const v1::Placement placement_;
  StatsWatches watches_;
};

}  // namespace thermocline
