// Gives gRPC the certificates that are in force, handshake by handshake.
// SPDX-License-Identifier: Apache-2.0
#include "server/grpc_tls.h"

#include <grpc/grpc.h>

#include <fstream>
#include <iterator>
#include <utility>

#include "server/http_transport.h"

namespace thermocline {
namespace {

// gRPC's C++ surface has certificates that never change or that it polls files for. This one is asked before
// each handshake, so that a reload happens when it is asked for and its errors are known then.
class FetchingCredentials final : public grpc::ServerCredentials {
 public:
  explicit FetchingCredentials(grpc_server_credentials* credentials) : credentials_(credentials) {}
  ~FetchingCredentials() override { grpc_server_credentials_release(credentials_); }
  void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {
    TC_CHECK(false);  // keys are checked by the services
  }

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), credentials_);
  }

  grpc_server_credentials* const credentials_;
};

absl::StatusOr<std::string> ReadText(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (!file) return FailedPrecondition("{}: cannot be read", path);
  return text;
}

}  // namespace

absl::StatusOr<GrpcTls::Pems> GrpcTls::Read(const TlsFiles& files) {
  // Looks at the files as HTTP does and says the same of bad ones.
  TC_RETURN_IF_ERROR(CreateTlsContext(files).status());
  Pems pems;
  TC_ASSIGN_OR_RETURN(pems.certificate, ReadText(files.certificate));
  TC_ASSIGN_OR_RETURN(pems.private_key, ReadText(files.private_key));
  if (!files.client_ca.empty()) {
    TC_ASSIGN_OR_RETURN(pems.client_ca, ReadText(files.client_ca));
  }
  return pems;
}

absl::StatusOr<std::unique_ptr<GrpcTls>> GrpcTls::Load(TlsFiles files) {
  TC_ASSIGN_OR_RETURN(Pems pems, Read(files));
  return std::unique_ptr<GrpcTls>(new GrpcTls(std::move(files), std::move(pems)));
}

absl::Status GrpcTls::Reload() {
  TC_ASSIGN_OR_RETURN(Pems pems, Read(files_));
  const std::lock_guard lock(mutex_);
  pems_ = std::move(pems);
  fetched_ = false;
  return absl::OkStatus();
}

std::shared_ptr<grpc::ServerCredentials> GrpcTls::ServerCredentials() {
  const auto clients = files_.client_ca.empty() ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                                                : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY;
  // Takes the options over.
  grpc_server_credentials* const credentials = grpc_ssl_server_credentials_create_with_options(
      grpc_ssl_server_credentials_create_options_using_config_fetcher(clients, &Fetch, this));
  TC_CHECK(credentials != nullptr);
  return std::make_shared<FetchingCredentials>(credentials);
}

grpc_ssl_certificate_config_reload_status GrpcTls::Fetch(void* self,
                                                         grpc_ssl_server_certificate_config** config) {
  auto& tls = *static_cast<GrpcTls*>(self);
  const std::lock_guard lock(tls.mutex_);
  if (tls.fetched_) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
  const grpc_ssl_pem_key_cert_pair pair = {tls.pems_.private_key.c_str(), tls.pems_.certificate.c_str()};
  // gRPC wants an authority even where no client is asked for a certificate; then it is of no effect.
  const std::string& clients = tls.pems_.client_ca.empty() ? tls.pems_.certificate : tls.pems_.client_ca;
  *config = grpc_ssl_server_certificate_config_create(clients.c_str(), &pair, 1);
  tls.fetched_ = true;
  return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
}

}  // namespace thermocline
