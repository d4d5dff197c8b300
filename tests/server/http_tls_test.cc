// HTTP under TLS: certificates of the server and of clients, wrong ones, and new ones while it runs.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include "server/http_transport.h"
#include "tests/server/http_fixture.h"
#include "tests/server/test_certificates.h"
#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"

namespace thermocline::testing {
namespace {

using ::testing::HasSubstr;

class HttpTlsTest : public ::testing::Test {
 protected:
  HttpSetup Setup(bool mutual) {
    HttpSetup setup;
    TlsFiles& tls = setup.options.http.tls;
    tls.certificate = folder_.Write("server.pem", server_.CertificatePem());
    tls.private_key = folder_.Write("server.key", server_.KeyPem());
    if (mutual) tls.client_ca = folder_.Write("clients.pem", authority_.CertificatePem());
    return setup;
  }
  static std::string Request() {
    return PostText(kCompletions, R"({"prompt": "abc", "max_tokens": 3, "temperature": 0, "stream": true})",
                    "Connection: close\r\n");
  }

  const TemporaryFolder folder_;
  const TestIdentity authority_{"authority"};
  const TestIdentity stranger_{"stranger"};
  const TestIdentity server_{"server", &authority_};
  const TestIdentity client_{"client", &authority_};
  const TestIdentity strange_client_{"client", &stranger_};
};

TEST_F(HttpTlsTest, CompletesForThoseWhoTrustIt) {
  TestHttpServer server(Setup(/*mutual=*/false));
  const int port = server.server->port();
  EXPECT_THAT(AskOverTls(port, authority_, nullptr, Request()), HasSubstr("[DONE]"));
  EXPECT_EQ(AskOverTls(port, stranger_, nullptr, Request()), "");
  // Plain HTTP gets no answer, and nobody else suffers.
  HttpClient plain(port);
  plain.Send(Request());
  EXPECT_NE(plain.Receive().status, 200);
  EXPECT_THAT(AskOverTls(port, authority_, nullptr, Request()), HasSubstr("[DONE]"));
}

TEST_F(HttpTlsTest, AsksClientsForTheirCertificate) {
  TestHttpServer server(Setup(/*mutual=*/true));
  const int port = server.server->port();
  EXPECT_THAT(AskOverTls(port, authority_, &client_, Request()), HasSubstr("[DONE]"));
  EXPECT_EQ(AskOverTls(port, authority_, nullptr, Request()), "");
  EXPECT_EQ(AskOverTls(port, authority_, &strange_client_, Request()), "");
}

TEST_F(HttpTlsTest, TakesNewCertificatesWhileItRuns) {
  TestHttpServer server(Setup(/*mutual=*/false));
  const int port = server.server->port();
  const TestIdentity renewed("server", &stranger_);
  folder_.Write("server.pem", renewed.CertificatePem());
  // A key that does not fit leaves everything as it was.
  ExpectRefusal(server.server->ReloadTls(), {"server.key", "server.pem"});
  EXPECT_THAT(AskOverTls(port, authority_, nullptr, Request()), HasSubstr("[DONE]"));
  folder_.Write("server.key", renewed.KeyPem());
  EXPECT_TRUE(server.server->ReloadTls().ok());
  EXPECT_THAT(AskOverTls(port, stranger_, nullptr, Request()), HasSubstr("[DONE]"));
  EXPECT_EQ(AskOverTls(port, authority_, nullptr, Request()), "");
}

TEST_F(HttpTlsTest, EndsWithHandshakesUnderWay) {
  HttpSetup setup = Setup(/*mutual=*/false);
  setup.options.http.handshake_timeout = std::chrono::milliseconds(300);
  TestHttpServer server(setup);
  HttpClient silent(server.server->port());
  EXPECT_TRUE(silent.IsClosed());
  HttpClient another(server.server->port());
  server.server.reset();
  EXPECT_TRUE(another.IsClosed());
}

TEST_F(HttpTlsTest, NamesFilesThatDoNotDo) {
  const auto error_of = [](const TlsFiles& tls) { return CreateTlsContext(tls).status(); };
  TlsFiles tls = Setup(/*mutual=*/true).options.http.tls;
  EXPECT_TRUE(error_of(tls).ok());
  const std::string good = tls.certificate;
  tls.certificate = folder_.path() + "/none";
  ExpectRefusal(error_of(tls), {"/none", "certificate"});
  tls.certificate = folder_.Write("garbage", "hello");
  ExpectRefusal(error_of(tls), {"garbage"});
  tls.certificate = good;
  tls.client_ca = folder_.path() + "/nobody";
  ExpectRefusal(error_of(tls), {"/nobody", "authority"});
}

}  // namespace
}  // namespace thermocline::testing
