// TlsFiles: where a server's certificate, its key and its clients' authority lie.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "core/status.h"

namespace thermocline {

// PEM files. Without a certificate a server speaks in the clear.
struct TlsFiles {
  std::string certificate;  // the server's own first, then the chain
  std::string private_key;
  std::string client_ca;  // clients must show a certificate of one of these; empty: they need none

  bool enabled() const { return !certificate.empty(); }
  // A FieldError where one goes without the other. Files are not looked at.
  absl::Status Validate() const;
};

}  // namespace thermocline
