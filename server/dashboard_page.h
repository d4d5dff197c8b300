// The dashboard: one page that holds its style and script, and the headers under which browsers run it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "server/http_message.h"

namespace thermocline {

// The answer to a request for the page. Its policy lets nothing run but the page's own script, and nothing be
// asked but this server.
HttpResponse DashboardResponse();

}  // namespace thermocline
