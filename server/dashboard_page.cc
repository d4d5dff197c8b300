// Puts the dashboard together from its embedded files.
// SPDX-License-Identifier: Apache-2.0
#include "server/dashboard_page.h"

#include <absl/strings/escaping.h>
#include <fmt/format.h>
#include <openssl/sha.h>

#include <string>
#include <string_view>

#include "core/status.h"
#include "server/dashboard_assets.h"

namespace thermocline {
namespace {

// Puts `text` before the closing tag, which the page has once.
void Insert(std::string& page, std::string_view closing_tag, std::string_view text) {
  const size_t at = page.find(closing_tag);
  TC_CHECK(at != std::string::npos);
  page.insert(at, text);
}

// How a Content-Security-Policy names an inline script or style sheet.
std::string HashOf(std::string_view text) {
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest);
  return "'sha256-" +
         absl::Base64Escape(absl::string_view(reinterpret_cast<const char*>(digest), sizeof(digest))) + "'";
}

HttpResponse MakeResponse() {
  const std::string style = fmt::format("\n{}", kDashboardStyle);
  const std::string script = fmt::format("\n{}\n{}", kDashboardMapScript, kDashboardScript);
  std::string page(kDashboardMarkup);
  Insert(page, "</style>", style);
  Insert(page, "</script>", script);
  return {.content_type = "text/html; charset=utf-8",
          .body = std::move(page),
          .headers = {{"Content-Security-Policy",
                       fmt::format("default-src 'none'; script-src {}; style-src {}; img-src data:; "
                                   "connect-src 'self'; base-uri 'none'; form-action 'none'; "
                                   "frame-ancestors 'none'",
                                   HashOf(script), HashOf(style))},
                      {"Cache-Control", "no-cache"},
                      {"Referrer-Policy", "no-referrer"},
                      {"X-Content-Type-Options", "nosniff"}}};
}

}  // namespace

HttpResponse DashboardResponse() {
  static const HttpResponse response = MakeResponse();
  return response;
}

}  // namespace thermocline
