// gRPC's own log lines, sent to ours.
// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace thermocline {

// gRPC prints to standard error what its callers learn by a status anyway. From now on such lines go to
// spdlog, at the debug level. For the whole process; to be called before gRPC is used.
void SendGrpcLogToSpdlog();

}  // namespace thermocline
