// Cross-origin resource sharing.
// SPDX-License-Identifier: Apache-2.0
#include "server/http_cors.h"

#include <algorithm>

#include "scheduler/request.h"

namespace thermocline {
namespace {

constexpr std::string_view kAny = "*";

}  // namespace

absl::Status CorsPolicy::Validate() const {
  for (const std::string& origin : allowed_origins) {
    if (origin == kAny) continue;
    const size_t scheme = origin.starts_with("https://") ? 8 : origin.starts_with("http://") ? 7 : 0;
    const bool plain = std::ranges::all_of(origin, [](unsigned char c) { return c > 0x20 && c < 0x7F; });
    if (scheme == 0 || origin.size() == scheme || !plain ||
        origin.find_first_of("/,?#*", scheme) != std::string::npos) {
      return FieldError("cors_origins",
                        fmt::format("\"{}\" is no origin such as https://example.org, and not *", origin));
    }
  }
  return absl::OkStatus();
}

bool CorsPolicy::Allows(std::string_view origin) const {
  return !origin.empty() && std::ranges::any_of(allowed_origins, [&](const std::string& allowed) {
    return allowed == kAny || allowed == origin;
  });
}

void CorsPolicy::AddHeaders(const HttpRequest& request, HttpResponse& response) const {
  if (allowed_origins.empty()) return;
  response.headers.emplace_back("Vary", "Origin");
  const std::string_view origin = request.Header("origin");
  if (!Allows(origin)) return;
  response.headers.emplace_back("Access-Control-Allow-Origin", origin);
  response.headers.emplace_back("Access-Control-Expose-Headers", "x-request-id, Retry-After");
}

std::optional<HttpResponse> CorsPolicy::AnswerPreflight(const HttpRequest& request,
                                                        const std::string& methods) const {
  if (request.method != "OPTIONS" || !Allows(request.Header("origin")) ||
      request.Header("access-control-request-method").empty()) {
    return std::nullopt;
  }
  return HttpResponse{.status = 204,
                      .content_type = "",
                      .headers = {{"Access-Control-Allow-Methods", methods},
                                  {"Access-Control-Allow-Headers", "*, Authorization"},
                                  {"Access-Control-Max-Age", "600"}}};
}

}  // namespace thermocline
