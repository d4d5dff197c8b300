// CorsPolicy: which web pages of other origins may read the server's answers.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/status.h"
#include "server/http_message.h"

namespace thermocline {

// Off without origins. Cookies are never allowed: keys travel in a header that pages must set themselves.
struct CorsPolicy {
  std::vector<std::string> allowed_origins;  // "https://example.org", or "*" alone for all

  // A FieldError about an origin that no browser would send.
  absl::Status Validate() const;

  // What an answer to the request says besides.
  void AddHeaders(const HttpRequest& request, HttpResponse& response) const;
  // The answer to a browser's question whether it may send a request; nullopt for other requests and for
  // origins that are not allowed. `methods`: of the path, "GET, HEAD".
  std::optional<HttpResponse> AnswerPreflight(const HttpRequest& request, const std::string& methods) const;

 private:
  bool Allows(std::string_view origin) const;
};

}  // namespace thermocline
