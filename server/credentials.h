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
  std::string completions_file;  // empty: completions are open to everybody
  std::string admin_file;        // empty: admin calls are open where completions are, else closed to all
};

// Safe to use from several threads.
class Credentials {
 public:
  // FailedPrecondition, NotFound or InvalidArgument naming file and line, never a key: a file of more rights
  // than 0640 (others could read keys or add some), no key in it, a key of fewer than 16 or more than 512
  // characters or of others than a bearer token may have, a name or a key twice, more than 4096 keys or 1
  // MiB.
  static absl::StatusOr<std::unique_ptr<Credentials>> Load(CredentialOptions options);

  // Reads the files again. On an error the old keys stay in force, of both scopes.
  absl::Status Reload();

  // Whether a caller must show a key for this scope.
  bool required(CredentialScope scope) const;

  // The key's name (empty where it has none, or is unknown) when `key` opens the scope or the scope is open;
  // else Unauthenticated (none given, or unknown) or PermissionDenied (a completions key shown to admin, or
  // admin closed to all). A key of admin opens completions too.
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
  Credentials(CredentialOptions options, std::shared_ptr<const Keys> keys);
  static absl::StatusOr<std::vector<Key>> ReadKeys(const std::string& path);
  static absl::StatusOr<std::shared_ptr<const Keys>> ReadAll(const CredentialOptions& options);
  static const Key* Find(const std::optional<std::vector<Key>>& keys, const Digest& digest);
  std::shared_ptr<const Keys> keys() const;

  const CredentialOptions options_;
  std::mutex reload_mutex_;  // one reload at a time
  mutable std::mutex mutex_;
  std::shared_ptr<const Keys> keys_;  // guarded by mutex_; what it points to never changes
};

}  // namespace thermocline
