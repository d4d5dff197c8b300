// HttpTransport over TCP and over TLS: the only place that knows the difference.
// SPDX-License-Identifier: Apache-2.0
#include "server/http_transport.h"

#include <openssl/ssl.h>

#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <utility>

namespace thermocline {
namespace {

namespace asio = boost::asio;
namespace ssl = boost::asio::ssl;
using asio::ip::tcp;
using Error = HttpTransport::Error;

std::string PeerOf(const tcp::socket& socket) {
  Error error;
  const tcp::endpoint peer = socket.remote_endpoint(error);
  if (error) return "";
  const bool v6 = peer.address().is_v6();
  return fmt::format("{}{}{}:{}", v6 ? "[" : "", peer.address().to_string(), v6 ? "]" : "", peer.port());
}

void CloseSocket(tcp::socket& socket) {
  Error ignored;  // what cannot be closed is closed already
  socket.close(ignored);
}

class PlainTransport final : public HttpTransport {
 public:
  explicit PlainTransport(tcp::socket socket) : peer_(PeerOf(socket)), socket_(std::move(socket)) {}

  void Handshake(OnDone done) override {
    asio::post(socket_.get_executor(), [done = std::move(done)]() mutable { done(Error()); });
  }
  void ReadSome(char* bytes, size_t size, OnBytes done) override {
    socket_.async_read_some(asio::buffer(bytes, size), std::move(done));
  }
  void WriteSome(std::string_view bytes, OnBytes done) override {
    socket_.async_write_some(asio::buffer(bytes.data(), bytes.size()), std::move(done));
  }
  void ShutdownWrite(OnDone done) override {
    Error error;
    socket_.shutdown(tcp::socket::shutdown_send, error);
    asio::post(socket_.get_executor(), [done = std::move(done), error]() mutable { done(error); });
  }
  void Close() override { CloseSocket(socket_); }
  asio::any_io_executor executor() override { return socket_.get_executor(); }
  std::string peer() const override { return peer_; }

 private:
  const std::string peer_;
  tcp::socket socket_;
};

class TlsTransport final : public HttpTransport {
 public:
  TlsTransport(tcp::socket socket, TlsContext context)
      : peer_(PeerOf(socket)), context_(std::move(context)), stream_(std::move(socket), *context_) {}

  void Handshake(OnDone done) override { stream_.async_handshake(ssl::stream_base::server, std::move(done)); }
  void ReadSome(char* bytes, size_t size, OnBytes done) override {
    stream_.async_read_some(asio::buffer(bytes, size), std::move(done));
  }
  void WriteSome(std::string_view bytes, OnBytes done) override {
    stream_.async_write_some(asio::buffer(bytes.data(), bytes.size()), std::move(done));
  }
  // Sends close_notify; that it also waits for the client's is bounded by the connection's own limit.
  void ShutdownWrite(OnDone done) override { stream_.async_shutdown(std::move(done)); }
  void Close() override { CloseSocket(stream_.next_layer()); }
  asio::any_io_executor executor() override { return stream_.get_executor(); }
  std::string peer() const override { return peer_; }

 private:
  const std::string peer_;
  const TlsContext context_;
  ssl::stream<tcp::socket> stream_;
};

absl::Status Unusable(const char* what, const std::string& file, const Error& error) {
  return FailedPrecondition("{}: cannot be used as {}: {}", file, what, error.message());
}

}  // namespace

absl::StatusOr<TlsContext> CreateTlsContext(const TlsFiles& files) {
  auto context = std::make_shared<ssl::context>(ssl::context::tls_server);
  SSL_CTX_set_min_proto_version(context->native_handle(), TLS1_2_VERSION);
  // Clients must not make the server pay for new handshakes within a connection.
  SSL_CTX_set_options(context->native_handle(), SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
  Error error;
  context->use_certificate_chain_file(files.certificate, error);
  if (error) {
    return Unusable("the server's certificate", files.certificate, error);
  }
  context->use_private_key_file(files.private_key, ssl::context::pem, error);
  if (error) {
    return FailedPrecondition("{}: cannot be used as the private key of {}: {}", files.private_key,
                              files.certificate, error.message());
  }
  if (!files.client_ca.empty()) {
    context->load_verify_file(files.client_ca, error);
    if (error) {
      return Unusable("the clients' authority", files.client_ca, error);
    }
    context->set_verify_mode(ssl::verify_peer | ssl::verify_fail_if_no_peer_cert, error);
    if (error) return Unusable("the clients' authority", files.client_ca, error);
  }
  // Resumed sessions would skip the look at a client's certificate after the authority was replaced.
  SSL_CTX_set_session_cache_mode(context->native_handle(), SSL_SESS_CACHE_OFF);
  SSL_CTX_set_options(context->native_handle(), SSL_OP_NO_TICKET);
  return context;
}

std::unique_ptr<HttpTransport> MakeHttpTransport(tcp::socket socket, TlsContext tls) {
  if (tls == nullptr) return std::make_unique<PlainTransport>(std::move(socket));
  return std::make_unique<TlsTransport>(std::move(socket), std::move(tls));
}

}  // namespace thermocline
