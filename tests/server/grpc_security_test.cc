// Certificates and keys over gRPC: wrong ones, missing ones, new ones while it runs.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <sys/stat.h>

#include "server/grpc_tls.h"
#include "tests/server/server_fixture.h"
#include "tests/server/test_certificates.h"
#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"

namespace thermocline::testing {
namespace {

using ::testing::HasSubstr;

constexpr char kUserKey[] = "user-key-0123456789", kAdminKey[] = "admin-key-0123456789";

class GrpcTlsTest : public ::testing::Test {
 protected:
  ServerSetup Setup(bool mutual) {
    Install(server_);
    ServerSetup setup;
    setup.tls = {.certificate = folder_.path() + "/server.pem",
                 .private_key = folder_.path() + "/server.key"};
    if (mutual) setup.tls.client_ca = folder_.Write("clients.pem", authority_.CertificatePem());
    return setup;
  }
  void Install(const TestIdentity& identity) {
    folder_.Write("server.pem", identity.CertificatePem());
    folder_.Write("server.key", identity.KeyPem());
  }
  // A call on a connection of its own, by a client that trusts `authority` alone.
  static grpc::StatusCode Ask(TestServer& server, const TestIdentity& authority, const TestIdentity* client) {
    grpc::SslCredentialsOptions options;
    options.pem_root_certs = authority.CertificatePem();
    if (client != nullptr) {
      options.pem_private_key = client->KeyPem();
      options.pem_cert_chain = client->CertificatePem();
    }
    return AskThrough(server, grpc::SslCredentials(options));
  }
  static grpc::StatusCode AskThrough(TestServer& server,
                                     const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    const auto channel = grpc::CreateCustomChannel(server.server->address(), credentials, arguments);
    const auto stub = v1::CompletionService::NewStub(channel);
    grpc::ClientContext context;
    v1::GetModelResponse model;
    return stub->GetModel(&context, {}, &model).error_code();
  }

  const TemporaryFolder folder_;
  const TestIdentity authority_{"authority"};
  const TestIdentity stranger_{"stranger"};
  const TestIdentity server_{"server", &authority_};
  const TestIdentity client_{"client", &authority_};
  const TestIdentity strange_client_{"client", &stranger_};
};

TEST_F(GrpcTlsTest, AnswersThoseWhoTrustIt) {
  TestServer server(Setup(/*mutual=*/false));
  EXPECT_EQ(Ask(server, authority_, nullptr), grpc::OK);
  EXPECT_EQ(Ask(server, stranger_, nullptr), grpc::UNAVAILABLE);
  EXPECT_EQ(AskThrough(server, grpc::InsecureChannelCredentials()), grpc::UNAVAILABLE);
  EXPECT_EQ(Ask(server, authority_, nullptr), grpc::OK);
}

TEST_F(GrpcTlsTest, AsksClientsForTheirCertificate) {
  TestServer server(Setup(/*mutual=*/true));
  EXPECT_EQ(Ask(server, authority_, &client_), grpc::OK);
  EXPECT_EQ(Ask(server, authority_, nullptr), grpc::UNAVAILABLE);
  EXPECT_EQ(Ask(server, authority_, &strange_client_), grpc::UNAVAILABLE);
}

TEST_F(GrpcTlsTest, TakesNewCertificatesWhileItRuns) {
  TestServer server(Setup(/*mutual=*/true));
  const TestIdentity other{"server", &stranger_};
  Install(other);
  EXPECT_EQ(Ask(server, stranger_, &client_), grpc::UNAVAILABLE);  // nobody said so yet
  ASSERT_TRUE(server.server->ReloadTls().ok());
  EXPECT_EQ(Ask(server, stranger_, &client_), grpc::OK);
  EXPECT_EQ(Ask(server, authority_, &client_), grpc::UNAVAILABLE);
  // The clients' authority, too.
  folder_.Write("clients.pem", stranger_.CertificatePem());
  ASSERT_TRUE(server.server->ReloadTls().ok());
  EXPECT_EQ(Ask(server, stranger_, &client_), grpc::UNAVAILABLE);
  EXPECT_EQ(Ask(server, stranger_, &strange_client_), grpc::OK);
}

TEST_F(GrpcTlsTest, BadFilesKeepTheOldOnes) {
  TestServer server(Setup(/*mutual=*/false));
  folder_.Write("server.key", client_.KeyPem());  // of another certificate
  ExpectRefusal(server.server->ReloadTls(), {"server.key"});
  EXPECT_EQ(Ask(server, authority_, nullptr), grpc::OK);
  folder_.Write("server.pem", "nonsense");
  ExpectRefusal(server.server->ReloadTls(), {"server.pem"});
  EXPECT_EQ(Ask(server, authority_, nullptr), grpc::OK);
}

TEST_F(GrpcTlsTest, FilesThatAreNoGoodAreNamedAtTheStart) {
  ServerSetup setup = Setup(/*mutual=*/false);
  ExpectRefusal(
      GrpcTls::Load({.certificate = folder_.path() + "/none.pem", .private_key = setup.tls.private_key})
          .status(),
      {"none.pem"});
  EXPECT_FALSE(CompletionServerOptions{.tls = {.certificate = "a.pem"}}.Validate().ok());
  EXPECT_FALSE(CompletionServerOptions{.tls = {.client_ca = "a.pem"}}.Validate().ok());
}

class GrpcKeysTest : public ::testing::Test {
 protected:
  std::string KeyFile(const std::string& name, const std::string& key) {
    const std::string path = folder_.Write(name, key + "\n");
    chmod(path.c_str(), 0600);
    return path;
  }
  std::unique_ptr<Credentials> Load(bool admin) {
    CredentialOptions options{.completions_file = KeyFile("users", std::string("ann:") + kUserKey)};
    if (admin) options.admin_file = KeyFile("admins", kAdminKey);
    return Credentials::Load(options).value();
  }
  static void Show(grpc::ClientContext& context, const std::string& key) {
    if (!key.empty()) context.AddMetadata("authorization", key);
  }
  static grpc::StatusCode AskCompletion(TestServer& server, const std::string& authorization, Call call) {
    grpc::ClientContext context;
    Show(context, authorization);
    return call(server, TextRequest("abc", 2), context).status.error_code();
  }
  // Every call of the completion service gives the same.
  static grpc::StatusCode AskAny(TestServer& server, const std::string& authorization) {
    grpc::ClientContext contexts[3];
    for (grpc::ClientContext& context : contexts) Show(context, authorization);
    v1::TokenizeResponse tokens;
    v1::DetokenizeResponse text;
    v1::GetModelResponse model;
    const grpc::StatusCode code = AskCompletion(server, authorization, &CompleteWith);
    EXPECT_EQ(AskCompletion(server, authorization, &StreamWith), code);
    EXPECT_EQ(server.stub->Tokenize(&contexts[0], {}, &tokens).error_code(), code);
    EXPECT_EQ(server.stub->Detokenize(&contexts[1], {}, &text).error_code(), code);
    EXPECT_EQ(server.stub->GetModel(&contexts[2], {}, &model).error_code(), code);
    return code;
  }
  // Every call of the admin service gives the same.
  static grpc::StatusCode AskAdmin(TestServer& server, const std::string& authorization) {
    grpc::ClientContext contexts[3];
    for (grpc::ClientContext& context : contexts) Show(context, authorization);
    v1::GetStatsResponse stats;
    v1::GetPlacementResponse placement;
    const grpc::StatusCode code = server.admin->GetStats(&contexts[0], {}, &stats).error_code();
    EXPECT_EQ(server.admin->GetPlacement(&contexts[1], {}, &placement).error_code(), code);
    const auto watch = server.admin->WatchStats(&contexts[2], {});
    v1::WatchStatsResponse response;
    EXPECT_EQ(watch->Read(&response), code == grpc::OK);
    if (code == grpc::OK) contexts[2].TryCancel();
    const grpc::StatusCode watched = watch->Finish().error_code();
    EXPECT_EQ(code == grpc::OK ? grpc::CANCELLED : code, watched);
    return code;
  }
  static std::string Bearer(const std::string& key) { return "Bearer " + key; }

  const TemporaryFolder folder_;
};

TEST_F(GrpcKeysTest, EachScopeHasItsOwn) {
  const auto keys = Load(/*admin=*/true);
  TestServer server({.credentials = keys.get()});
  EXPECT_EQ(AskAny(server, ""), grpc::UNAUTHENTICATED);
  EXPECT_EQ(AskAny(server, Bearer("another-key-0123456789")), grpc::UNAUTHENTICATED);
  EXPECT_EQ(AskAny(server, kUserKey), grpc::UNAUTHENTICATED);  // no bearer token
  EXPECT_EQ(server.runner.forward_calls(), 0);
  EXPECT_EQ(AskAny(server, Bearer(kUserKey)), grpc::OK);
  EXPECT_EQ(AskAny(server, Bearer(kAdminKey)), grpc::OK);
  EXPECT_EQ(AskAdmin(server, ""), grpc::UNAUTHENTICATED);
  EXPECT_EQ(AskAdmin(server, Bearer(kUserKey)), grpc::PERMISSION_DENIED);
  EXPECT_EQ(AskAdmin(server, Bearer(kAdminKey)), grpc::OK);
  // Two of them: nobody knows which one is meant.
  grpc::ClientContext context;
  Show(context, Bearer(kUserKey));
  Show(context, Bearer(kUserKey));
  EXPECT_EQ(CompleteWith(server, TextRequest("abc", 2), context).status.error_code(), grpc::UNAUTHENTICATED);
}

TEST_F(GrpcKeysTest, WithoutKeysOfItsOwnAdminIsClosed) {
  const auto keys = Load(/*admin=*/false);
  TestServer server({.credentials = keys.get()});
  EXPECT_EQ(AskAdmin(server, Bearer(kUserKey)), grpc::PERMISSION_DENIED);
  EXPECT_EQ(AskAny(server, Bearer(kUserKey)), grpc::OK);
}

TEST_F(GrpcKeysTest, NewKeysCountAtOnce) {
  const auto keys = Load(/*admin=*/true);
  TestServer server({.credentials = keys.get()});
  KeyFile("users", "newer-key-0123456789");
  ASSERT_TRUE(keys->Reload().ok());
  EXPECT_EQ(AskAny(server, Bearer(kUserKey)), grpc::UNAUTHENTICATED);
  EXPECT_EQ(AskAny(server, Bearer("newer-key-0123456789")), grpc::OK);
}

TEST_F(GrpcKeysTest, HealthNeedsNone) {
  const auto keys = Load(/*admin=*/true);
  TestServer server({.credentials = keys.get()});
  HealthCall check(server.channel, "/grpc.health.v1.Health/Check", HealthRequest(""));
  google::protobuf::Int32Value health;
  ASSERT_TRUE(check.Read(health));
  EXPECT_EQ(health.value(), kServing);
}

TEST_F(GrpcKeysTest, LogsNameTheKeyAndDoNotShowIt) {
  const auto keys = Load(/*admin=*/true);
  TestServer server({.credentials = keys.get()});
  ASSERT_EQ(AskCompletion(server, Bearer(kUserKey), &CompleteWith), grpc::OK);
  ASSERT_TRUE(Eventually([&] { return !server.Log().empty(); }));
  EXPECT_THAT(server.Log()[0], HasSubstr("\"ann\""));
  EXPECT_THAT(server.Log()[0], ::testing::Not(HasSubstr(kUserKey)));
}

}  // namespace
}  // namespace thermocline::testing
