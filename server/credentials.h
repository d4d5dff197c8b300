// Credentials: the bearer tokens and API keys that a server accepts, from files, replaceable while it runs.
// SPDX-License-Identifier: Apache-2.0
//
// A key file holds one key a line, `KEY` or `NAME:KEY`; empty lines and lines that start with # are left out.
// Keys are kept as SHA-256 digests and compared in constant time against every digest, so that neither how
// long a comparison takes nor a memory dump tells a key.
#pragma once

#include <array>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"

namespace thermocline {

enum class CredentialScope { kCompletions, kAdmin };

struct CredentialOptions {
  // A scope without a file is open to everybody; Validate() of the server decides where that is allowed.
  std::string completions_file;
  std::string admin_file;
};

// Safe to use from several threads.
class Credentials {
 public:
  // FailedPrecondition, NotFound or InvalidArgument naming file and line, never a key: a file that others on
  // the machine may read or write, no key in it, a key shorter than 16 or longer than 512 characters or with
  // others than visible ASCII, a name or a key twice, more than 4096 keys or 1 MiB.
  static absl::StatusOr<std::unique_ptr<Credentials>> Load(CredentialOptions options);

  // Reads the files again. On an error the old keys stay in force, of both scopes.
  absl::Status Reload();

  // Whether a caller must show a key for this scope.
  bool required(CredentialScope scope) const;

  // The key's name (empty where it has none) when `key` opens the scope or the scope is open; else
  // Unauthenticated (none given, or unknown) or PermissionDenied (a completions key shown to admin). A key of
  // admin opens completions too.
  absl::StatusOr<std::string> Check(CredentialScope scope, std::string_view key) const;

  // Check() of the value of an `Authorization` header or metadata entry: "Bearer KEY", the scheme in any
  // case.
  absl::StatusOr<std::string> CheckAuthorization(CredentialScope scope, std::string_view header) const;

 private:
  using Digest = std::array<unsigned char, 32>;
  struct Key {
    Digest digest;
    std::string name;
  };
  struct Keys {
    std::optional<std::vector<Key>> completions;  // absent: open
    std::optional<std::vector<Key>> admin;
  };
  explicit Credentials(CredentialOptions options);
  std::shared_ptr<const Keys> keys() const;

  const CredentialOptions options_;
  std::mutex reload_mutex_;  // one reload at a time
  mutable std::mutex mutex_;
  std::shared_ptr<const Keys> keys_;  // guarded by mutex_; what it points to never changes
};

}  // namespace thermocline
