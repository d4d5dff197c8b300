// gRPC's own log lines, sent to ours.
// SPDX-License-Identifier: Apache-2.0
#include "server/grpc_log.h"

#include <grpc/support/log.h>
#include <spdlog/spdlog.h>

namespace thermocline {

void SendGrpcLogToSpdlog() {
  gpr_set_log_function([](gpr_log_func_args* line) {
    spdlog::debug("gRPC {}:{}: {}", line->file, line->line, line->message);
  });
}

}  // namespace thermocline
