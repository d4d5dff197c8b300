// What TLS files must come together.
// SPDX-License-Identifier: Apache-2.0
#include "server/tls_files.h"

#include "scheduler/request.h"

namespace thermocline {

absl::Status TlsFiles::Validate() const {
  if (certificate.empty() != private_key.empty()) {
    return FieldError(certificate.empty() ? "tls_cert" : "tls_key",
                      "is missing: a certificate and its private key go together");
  }
  if (!client_ca.empty() && !enabled()) {
    return FieldError("tls_client_ca", "needs a certificate and private key of the server");
  }
  return absl::OkStatus();
}

}  // namespace thermocline
