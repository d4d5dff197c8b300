// Reads key files and compares keys.
// SPDX-License-Identifier: Apache-2.0
#include "server/credentials.h"

#include <absl/strings/ascii.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>
#include <utility>

namespace thermocline {
namespace {

constexpr size_t kMostFileBytes = size_t{1} << 20;
constexpr size_t kMostKeys = 4096;
constexpr size_t kLeastKeyBytes = 16, kMostKeyBytes = 512, kMostNameBytes = 64;

class FileDescriptor {
 public:
  explicit FileDescriptor(int descriptor) : descriptor_(descriptor) {}
  ~FileDescriptor() {
    if (descriptor_ >= 0) close(descriptor_);
  }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  int get() const { return descriptor_; }

 private:
  const int descriptor_;
};

// A file's text that leaves nothing in memory behind.
struct SecretText {
  SecretText() = default;
  SecretText(const SecretText&) = delete;
  SecretText& operator=(const SecretText&) = delete;
  ~SecretText() { OPENSSL_cleanse(bytes.data(), bytes.size()); }
  std::string bytes;
};

// Who can read a key can use it, and who can write the file can add one. The group may read, since that is
// how services are given files of root's.
absl::Status CheckFile(int descriptor, const std::string& path) {
  struct stat facts {};
  if (fstat(descriptor, &facts) != 0) return FailedPrecondition("{}: {}", path, std::strerror(errno));
  if (!S_ISREG(facts.st_mode)) return FailedPrecondition("{}: not a file", path);
  if ((facts.st_mode & (S_IRWXO | S_IWGRP)) != 0) {
    return FailedPrecondition("{}: mode {:04o} lets others read keys or add some, at most 0640 is allowed",
                              path, facts.st_mode & 07777);
  }
  if (facts.st_size > static_cast<off_t>(kMostFileBytes)) {
    return InvalidArgument("{}: {} bytes, the limit is {}", path, facts.st_size, kMostFileBytes);
  }
  return absl::OkStatus();
}

absl::Status ReadSecret(const std::string& path, SecretText& text) {
  // Not blocking: a FIFO would hold a reload up for ever.
  const FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0) {
    return errno == ENOENT ? NotFound("{}: no such file", path)
                           : FailedPrecondition("{}: {}", path, std::strerror(errno));
  }
  TC_RETURN_IF_ERROR(CheckFile(file.get(), path));
  text.bytes.resize(kMostFileBytes);  // once, so that no copy is left behind by growth
  size_t size = 0;
  while (size < text.bytes.size()) {
    const ssize_t count = read(file.get(), text.bytes.data() + size, text.bytes.size() - size);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return FailedPrecondition("{}: {}", path, std::strerror(errno));
    if (count == 0) break;
    size += static_cast<size_t>(count);
  }
  OPENSSL_cleanse(text.bytes.data() + size, text.bytes.size() - size);
  text.bytes.resize(size);
  return absl::OkStatus();
}

std::array<unsigned char, 32> DigestOf(std::string_view key) {
  std::array<unsigned char, 32> digest{};
  unsigned int length = 0;
  TC_CHECK(EVP_Digest(key.data(), key.size(), digest.data(), &length, EVP_sha256(), nullptr) == 1 &&
           length == digest.size());
  return digest;
}

// What RFC 6750 lets a bearer token consist of.
bool IsKeyCharacter(unsigned char c) {
  return absl::ascii_isalnum(c) ||
         std::string_view("-._~+/=").find(static_cast<char>(c)) != std::string_view::npos;
}
bool IsNameCharacter(unsigned char c) {
  return absl::ascii_isalnum(c) ||
         std::string_view("-._@").find(static_cast<char>(c)) != std::string_view::npos;
}

std::string_view Trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r";
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return "";
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

absl::Status CheckLine(const std::string& path, int number, bool has_name, std::string_view name,
                       std::string_view key) {
  if (has_name &&
      (name.empty() || name.size() > kMostNameBytes || !std::ranges::all_of(name, IsNameCharacter))) {
    return InvalidArgument("{}: line {}: a name is 1 to {} letters, digits, or -._@", path, number,
                           kMostNameBytes);
  }
  if (key.size() < kLeastKeyBytes || key.size() > kMostKeyBytes) {
    return InvalidArgument("{}: line {}: a key of {} characters, allowed are [{}, {}]", path, number,
                           key.size(), kLeastKeyBytes, kMostKeyBytes);
  }
  if (!std::ranges::all_of(key, IsKeyCharacter)) {
    return InvalidArgument("{}: line {}: a key is made of letters, digits, and -._~+/=", path, number);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<Credentials::Key>> Credentials::ReadKeys(const std::string& path) {
  SecretText text;
  TC_RETURN_IF_ERROR(ReadSecret(path, text));
  std::vector<Key> keys;
  std::set<std::string, std::less<>> names;
  std::set<Digest> digests;
  std::string_view rest = text.bytes;
  for (int number = 1; !rest.empty(); ++number) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = Trimmed(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (line.empty() || line.front() == '#') continue;
    const size_t colon = line.find(':');
    const bool has_name = colon != std::string_view::npos;
    const std::string_view name = has_name ? Trimmed(line.substr(0, colon)) : "";
    const std::string_view key = has_name ? Trimmed(line.substr(colon + 1)) : line;
    TC_RETURN_IF_ERROR(CheckLine(path, number, has_name, name, key));
    if (keys.size() == kMostKeys)
      return InvalidArgument("{}: more keys than the limit of {}", path, kMostKeys);
    if (has_name && !names.emplace(name).second) {
      return InvalidArgument("{}: line {}: the name '{}' is given twice", path, number, name);
    }
    keys.push_back({DigestOf(key), std::string(name)});
    if (!digests.insert(keys.back().digest).second) {
      return InvalidArgument("{}: line {}: the key is given twice", path, number);
    }
  }
  if (keys.empty()) return InvalidArgument("{}: no key in it", path);
  return keys;
}

absl::StatusOr<std::shared_ptr<const Credentials::Keys>> Credentials::ReadAll(
    const CredentialOptions& options) {
  Keys keys;
  if (!options.completions_file.empty()) {
    TC_ASSIGN_OR_RETURN(keys.completions, ReadKeys(options.completions_file));
  }
  if (!options.admin_file.empty()) {
    TC_ASSIGN_OR_RETURN(keys.admin, ReadKeys(options.admin_file));
  }
  return std::make_shared<const Keys>(std::move(keys));
}

Credentials::Credentials(CredentialOptions options, std::shared_ptr<const Keys> keys)
    : options_(std::move(options)), keys_(std::move(keys)) {}

absl::StatusOr<std::unique_ptr<Credentials>> Credentials::Load(CredentialOptions options) {
  TC_ASSIGN_OR_RETURN(std::shared_ptr<const Keys> keys, ReadAll(options));
  return std::unique_ptr<Credentials>(new Credentials(std::move(options), std::move(keys)));
}

absl::Status Credentials::Reload() {
  const std::lock_guard one_at_a_time(reload_mutex_);
  TC_ASSIGN_OR_RETURN(std::shared_ptr<const Keys> fresh, ReadAll(options_));
  const std::lock_guard lock(mutex_);
  keys_ = std::move(fresh);
  return absl::OkStatus();
}

std::shared_ptr<const Credentials::Keys> Credentials::keys() const {
  const std::lock_guard lock(mutex_);
  return keys_;
}

bool Credentials::required(CredentialScope scope) const {
  const std::shared_ptr<const Keys> all = keys();
  return scope == CredentialScope::kCompletions ? all->completions.has_value()
                                                : all->completions.has_value() || all->admin.has_value();
}

const Credentials::Key* Credentials::Find(const std::optional<std::vector<Key>>& keys, const Digest& digest) {
  const Key* found = nullptr;
  if (!keys) return found;
  // All of them are looked at, so that the time tells nothing of which one it was.
  for (const Key& key : *keys) {
    if (CRYPTO_memcmp(key.digest.data(), digest.data(), digest.size()) == 0) found = &key;
  }
  return found;
}

absl::StatusOr<std::string> Credentials::Check(CredentialScope scope, std::string_view key) const {
  const std::shared_ptr<const Keys> all = keys();
  const Digest digest = DigestOf(key);
  const Key* admin = Find(all->admin, digest);
  const Key* completions = Find(all->completions, digest);
  if (admin != nullptr) return admin->name;
  if (scope == CredentialScope::kCompletions) {
    if (completions != nullptr) return completions->name;
    if (!all->completions) return "";
  } else {
    if (completions != nullptr) return PermissionDenied("this key does not open admin calls");
    if (!all->completions && !all->admin) return "";
    if (!all->admin)
      return PermissionDenied("admin calls need a key of their own, and the server was given none");
  }
  if (key.empty()) return Unauthenticated("a key is needed: send 'Authorization: Bearer KEY'");
  return Unauthenticated("the key is not known");
}

absl::StatusOr<std::string> Credentials::CheckAuthorization(CredentialScope scope,
                                                            std::string_view header) const {
  constexpr std::string_view kScheme = "bearer ";
  std::string_view key;
  if (header.size() > kScheme.size() && absl::AsciiStrToLower({header.data(), kScheme.size()}) == kScheme) {
    key = Trimmed(header.substr(kScheme.size()));
  }
  return Check(scope, key);
}

}  // namespace thermocline
