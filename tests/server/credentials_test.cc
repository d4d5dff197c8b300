// Key files, scopes, and reloading them while they are asked.
// SPDX-License-Identifier: Apache-2.0
#include "server/credentials.h"
#include "tests/support/temporary_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <thread>

namespace thermocline {
namespace {

using ::testing::HasSubstr;
using Scope = CredentialScope;

const std::string kAlice = "alice-key-0123456789";
const std::string kBob = "bob-key-0123456789==";
const std::string kRoot = "admin-key-0123456789";

class CredentialsTest : public ::testing::Test {
 protected:
  std::string Path(const std::string& name) const { return folder_.Path(name); }
  std::string Write(const std::string& name, const std::string& text, mode_t mode = 0600) const {
    folder_.Write(name, text);
    EXPECT_EQ(chmod(Path(name).c_str(), mode), 0);
    return Path(name);
  }
  std::string Refusal(const std::string& text, mode_t mode = 0600) const {
    const auto loaded = Credentials::Load({.completions_file = Write("keys", text, mode)});
    return loaded.ok() ? "" : std::string(MessageOf(loaded.status()));
  }
  std::unique_ptr<Credentials> Both() const {
    auto loaded = Credentials::Load(
        {.completions_file = Write("keys", "# keys\n\n alice : " + kAlice + "\r\n" + kBob + "\n"),
         .admin_file = Write("admin", "root:" + kRoot)});
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    return loaded.ok() ? *std::move(loaded) : nullptr;
  }

  const TemporaryFolder folder_;
};

absl::StatusCode CodeOf(const absl::StatusOr<std::string>& result) { return result.status().code(); }

TEST_F(CredentialsTest, KeysOpenTheirScope) {
  const auto credentials = Both();
  EXPECT_TRUE(credentials->required(Scope::kCompletions));
  EXPECT_TRUE(credentials->required(Scope::kAdmin));
  EXPECT_EQ(*credentials->Check(Scope::kCompletions, kAlice), "alice");
  EXPECT_EQ(*credentials->Check(Scope::kCompletions, kBob), "");
  EXPECT_EQ(*credentials->Check(Scope::kCompletions, kRoot), "root");
  EXPECT_EQ(*credentials->Check(Scope::kAdmin, kRoot), "root");
  EXPECT_EQ(CodeOf(credentials->Check(Scope::kAdmin, kAlice)), absl::StatusCode::kPermissionDenied);
  for (const std::string& wrong :
       {std::string(), std::string("x"), kAlice + "x", kAlice.substr(1), std::string("alice:") + kAlice,
        " " + kAlice, kAlice + std::string(1, '\0')}) {
    for (const Scope scope : {Scope::kCompletions, Scope::kAdmin}) {
      const auto result = credentials->Check(scope, wrong);
      EXPECT_EQ(CodeOf(result), absl::StatusCode::kUnauthenticated) << wrong;
      // A refusal never repeats what was shown.
      EXPECT_EQ(MessageOf(result.status()).find(kAlice.substr(1)), std::string_view::npos);
    }
  }
}

TEST_F(CredentialsTest, ReadsTheAuthorizationHeader) {
  const auto credentials = Both();
  for (const std::string& good : {"Bearer " + kAlice, "bearer " + kAlice, "BEARER  " + kAlice + " "}) {
    EXPECT_EQ(*credentials->CheckAuthorization(Scope::kCompletions, good), "alice") << good;
  }
  const std::string wrong[] = {"",
                               kAlice,
                               "Basic " + kAlice,
                               "Bearer",
                               "Bearer ",
                               "Bearer" + kAlice,
                               "Bearer " + kAlice + " " + kAlice};
  for (const std::string& bad : wrong) {
    EXPECT_EQ(CodeOf(credentials->CheckAuthorization(Scope::kCompletions, bad)),
              absl::StatusCode::kUnauthenticated)
        << bad;
  }
}

TEST_F(CredentialsTest, ScopesWithoutFiles) {
  const auto open = Credentials::Load({});
  ASSERT_TRUE(open.ok()) << open.status();
  for (const Scope scope : {Scope::kCompletions, Scope::kAdmin}) {
    EXPECT_FALSE((*open)->required(scope));
    EXPECT_TRUE((*open)->Check(scope, "").ok());
    EXPECT_TRUE((*open)->CheckAuthorization(scope, "Bearer anything").ok());
  }
  // Who guards completions does not mean to leave admin calls to everybody.
  const auto guarded = Credentials::Load({.completions_file = Write("keys", kAlice)});
  ASSERT_TRUE(guarded.ok()) << guarded.status();
  EXPECT_EQ(CodeOf((*guarded)->Check(Scope::kAdmin, kAlice)), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(CodeOf((*guarded)->Check(Scope::kAdmin, "")), absl::StatusCode::kPermissionDenied);
  const auto admin_only = Credentials::Load({.admin_file = Write("admin", kRoot)});
  ASSERT_TRUE(admin_only.ok()) << admin_only.status();
  EXPECT_TRUE((*admin_only)->Check(Scope::kCompletions, "").ok());
  EXPECT_EQ(CodeOf((*admin_only)->Check(Scope::kAdmin, "")), absl::StatusCode::kUnauthenticated);
  EXPECT_TRUE((*admin_only)->Check(Scope::kAdmin, kRoot).ok());
}

TEST_F(CredentialsTest, BadFilesAreRefusedByLineWithoutTheKey) {
  const std::string path = Path("keys");
  EXPECT_EQ(Refusal(""), path + ": no key in it");
  EXPECT_EQ(Refusal("# nothing\n\n"), path + ": no key in it");
  EXPECT_EQ(Refusal("\nfifteen-letters"), path + ": line 2: a key of 15 characters, allowed are [16, 512]");
  EXPECT_EQ(Refusal(std::string(16, 'x')), "");
  EXPECT_EQ(Refusal(std::string(512, 'x')), "");
  EXPECT_EQ(Refusal(std::string(513, 'x')),
            path + ": line 1: a key of 513 characters, allowed are [16, 512]");
  EXPECT_EQ(Refusal("a:"), path + ": line 1: a key of 0 characters, allowed are [16, 512]");
  for (const std::string& odd :
       {kAlice + " " + kBob, kAlice + "\x01", kAlice + "é", kAlice + ":" + kBob + ":x"}) {
    const std::string refusal = Refusal(odd);
    EXPECT_THAT(refusal, HasSubstr("line 1")) << odd;
    EXPECT_EQ(refusal.find(kAlice), std::string::npos) << odd;
    EXPECT_EQ(refusal.find(kBob), std::string::npos) << odd;
  }
  EXPECT_THAT(Refusal("a b:" + kAlice), HasSubstr("line 1: a name is 1 to 64 letters"));
  EXPECT_THAT(Refusal(":" + kAlice), HasSubstr("line 1: a name is 1 to 64 letters"));
  EXPECT_EQ(Refusal("a:" + kAlice + "\na:" + kBob), path + ": line 2: the name 'a' is given twice");
  EXPECT_EQ(Refusal("a:" + kAlice + "\n\nb:" + kAlice), path + ": line 3: the key is given twice");
  std::string many;
  for (int i = 0; i < 4096; ++i) many += fmt::format("key-number-{:08}\n", i);
  EXPECT_EQ(Refusal(many), "");
  EXPECT_EQ(Refusal(many + kAlice), path + ": more keys than the limit of 4096");
  EXPECT_EQ(Refusal(std::string("#").append(1 << 20, 'x')), path + ": 1048577 bytes, the limit is 1048576");
}

TEST_F(CredentialsTest, FilesThatOthersMayReadOrWriteAreRefused) {
  for (const mode_t good : {0600, 0400, 0640, 0440}) EXPECT_EQ(Refusal(kAlice, good), "") << good;
  for (const mode_t bad : {0644, 0604, 0606, 0660, 0620, 0602, 0601}) {
    EXPECT_THAT(Refusal(kAlice, bad), HasSubstr("lets others read keys or add some")) << bad;
  }
  EXPECT_EQ(Credentials::Load({.admin_file = Path("absent")}).status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(MessageOf(Credentials::Load({.admin_file = folder_.path()}).status())),
              HasSubstr("not a file"));
  const std::string fifo = Path("fifo");
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_THAT(std::string(MessageOf(Credentials::Load({.admin_file = fifo}).status())),
              HasSubstr("not a file"));
}

TEST_F(CredentialsTest, ReloadTakesNewKeysAndKeepsOldOnesOnErrors) {
  const auto credentials = Both();
  Write("keys", "carol:" + kBob);
  ASSERT_TRUE(credentials->Reload().ok());
  EXPECT_EQ(*credentials->Check(Scope::kCompletions, kBob), "carol");
  EXPECT_FALSE(credentials->Check(Scope::kCompletions, kAlice).ok());
  // One bad file keeps both scopes as they are.
  Write("keys", "dave:" + kAlice);
  Write("admin", "short");
  const absl::Status refused = credentials->Reload();
  EXPECT_EQ(MessageOf(refused), Path("admin") + ": line 1: a key of 5 characters, allowed are [16, 512]");
  EXPECT_EQ(*credentials->Check(Scope::kCompletions, kBob), "carol");
  EXPECT_EQ(*credentials->Check(Scope::kAdmin, kRoot), "root");
  std::filesystem::remove(Path("keys"));
  EXPECT_EQ(credentials->Reload().code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(credentials->Check(Scope::kCompletions, kBob).ok());
}

TEST_F(CredentialsTest, ReloadWhileOthersAsk) {
  const auto credentials = Both();
  std::atomic<bool> done = false;
  std::atomic<int> refused = 0;
  std::thread asker([&] {
    while (!done) refused += credentials->Check(Scope::kCompletions, kAlice).ok() ? 0 : 1;
  });
  for (int i = 0; i < 50; ++i) EXPECT_TRUE(credentials->Reload().ok());
  done = true;
  asker.join();
  EXPECT_EQ(refused, 0);
}

}  // namespace
}  // namespace thermocline
