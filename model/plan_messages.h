// Parts of plans as messages, for those who send them too.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "model/plan.h"
#include "thermocline/v1/plan.pb.h"

namespace thermocline {

v1::DeviceKind ToProto(DeviceKind kind);

}  // namespace thermocline
