// HttpServer: the listener, the threads, and the connections that are open.
// SPDX-License-Identifier: Apache-2.0
#include "server/http_server.h"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <condition_variable>
#include <future>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "server/http_connection.h"
#include "server/listen_address.h"

namespace thermocline {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using Error = boost::system::error_code;

// When the machine has no descriptor left for a connection, until the next attempt.
constexpr std::chrono::milliseconds kAcceptPause{100};

constexpr std::string_view kTooManyConnections =
    "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

absl::StatusOr<tcp::endpoint> Resolve(const ListenAddress& address, asio::io_context& context) {
  std::string host = address.host;
  if (host.front() == '[') host = host.substr(1, host.size() - 2);
  Error error;
  const auto found = tcp::resolver(context).resolve(
      host, std::to_string(address.port), tcp::resolver::passive | tcp::resolver::numeric_service, error);
  if (error || found.empty()) {
    return FailedPrecondition("cannot listen on {}: the host is not known", address.host);
  }
  return found.begin()->endpoint();
}

}  // namespace

struct HttpServer::Impl final : HttpConnectionOwner {
  Impl(HttpHandler& the_handler, const HttpServerOptions& the_options)
      : handler(the_handler),
        options(the_options),
        context(the_options.threads),
        acceptor(asio::make_strand(context)),
        pause(acceptor.get_executor()) {}

  absl::Status Listen();
  void Accept();
  void Admit(tcp::socket socket);
  void OnLinger(HttpConnection& connection) override;
  void OnClosed(HttpConnection& connection) override;
  std::vector<std::shared_ptr<HttpConnection>> Open() const;

  HttpHandler& handler;
  const HttpServerOptions options;
  asio::io_context context;
  tcp::acceptor acceptor;  // used on its strand alone once it listens, as is the timer
  asio::steady_timer pause;
  std::string host;
  int port = 0;

  mutable std::mutex mutex;
  std::condition_variable answered;
  // All guarded by mutex.
  struct Entry {
    std::weak_ptr<HttpConnection> connection;
    bool lingers = false;
  };
  std::unordered_map<const HttpConnection*, Entry> connections;
  int64_t lingering = 0;
  TlsContext tls;
  bool draining = false;
  bool closed = false;
  uint64_t accepted = 0;
  uint64_t refused = 0;

  // Observers of completions post to the threads when no connection is left, too.
  asio::executor_work_guard<asio::io_context::executor_type> work = asio::make_work_guard(context);
  std::vector<std::thread> threads;
};

absl::Status HttpServer::Impl::Listen() {
  TC_ASSIGN_OR_RETURN(const ListenAddress address, ParseListenAddress("http", options.listen));
  host = address.host;
  TC_ASSIGN_OR_RETURN(const tcp::endpoint endpoint, Resolve(address, context));
  Error error;
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(tcp::acceptor::max_listen_connections, error);
  if (error) {
    return FailedPrecondition("cannot listen on {}: {}", options.listen, error.message());
  }
  port = acceptor.local_endpoint().port();
  return absl::OkStatus();
}

void HttpServer::Impl::Accept() {
  acceptor.async_accept(asio::make_strand(context), [this](Error error, tcp::socket socket) {
    {
      const std::lock_guard lock(mutex);
      if (closed) return;
    }
    if (!error) {
      Admit(std::move(socket));
      return Accept();
    }
    pause.expires_after(kAcceptPause);
    pause.async_wait([this](Error) {
      const std::lock_guard lock(mutex);
      if (!closed) Accept();
    });
  });
}

void HttpServer::Impl::Admit(tcp::socket socket) {
  Error error;  // what cannot be set is left
  socket.set_option(tcp::no_delay(true), error);
  std::shared_ptr<HttpConnection> connection;
  {
    const std::lock_guard lock(mutex);
    if (closed) return;
    ++accepted;
    if (static_cast<int64_t>(connections.size()) >= options.max_connections) {
      ++refused;
      socket.non_blocking(true, error);
      // As much as fits the socket's buffer, which is empty; under TLS the connection is just closed.
      if (!tls) socket.send(asio::buffer(kTooManyConnections), 0, error);
      return;
    }
    connection = std::make_shared<HttpConnection>(MakeHttpTransport(std::move(socket), tls), options, handler,
                                                  static_cast<HttpConnectionOwner&>(*this));
    connections[connection.get()] = {.connection = connection};
    if (draining) connection->Drain();
  }
  connection->Start();
}

void HttpServer::Impl::OnLinger(HttpConnection& connection) {
  const std::lock_guard lock(mutex);
  connections[&connection].lingers = true;
  ++lingering;
  answered.notify_all();
}

void HttpServer::Impl::OnClosed(HttpConnection& connection) {
  const std::lock_guard lock(mutex);
  const auto found = connections.find(&connection);
  if (found->second.lingers) --lingering;
  connections.erase(found);
  answered.notify_all();
}

std::vector<std::shared_ptr<HttpConnection>> HttpServer::Impl::Open() const {
  const std::lock_guard lock(mutex);
  std::vector<std::shared_ptr<HttpConnection>> open;
  for (const auto& [key, entry] : connections) {
    if (auto connection = entry.connection.lock()) open.push_back(std::move(connection));
  }
  return open;
}

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(HttpHandler& handler,
                                                              const HttpServerOptions& options) {
  TC_RETURN_IF_ERROR(options.Validate());
  auto impl = std::make_unique<Impl>(handler, options);
  if (options.tls.enabled()) {
    TC_ASSIGN_OR_RETURN(impl->tls, CreateTlsContext(options.tls));
  }
  TC_RETURN_IF_ERROR(impl->Listen());
  impl->Accept();
  for (int i = 0; i < options.threads; ++i) {
    impl->threads.emplace_back([context = &impl->context] { context->run(); });
  }
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

HttpServer::~HttpServer() {
  CloseConnections();
  {
    // A connection and the answer that is under way hold one another until it is closed.
    std::unique_lock lock(impl_->mutex);
    impl_->answered.wait(lock, [this] { return impl_->connections.empty(); });
  }
  impl_->context.stop();
  for (std::thread& thread : impl_->threads) thread.join();
}

int HttpServer::port() const { return impl_->port; }

std::string HttpServer::address() const { return fmt::format("{}:{}", impl_->host, impl_->port); }

HttpServerStats HttpServer::stats() const {
  const std::lock_guard lock(impl_->mutex);
  return {.connections = static_cast<int64_t>(impl_->connections.size()),
          .accepted_connections = impl_->accepted,
          .refused_connections = impl_->refused};
}

absl::Status HttpServer::ReloadTls() {
  if (!impl_->options.tls.enabled()) return absl::OkStatus();
  TC_ASSIGN_OR_RETURN(TlsContext fresh, CreateTlsContext(impl_->options.tls));
  const std::lock_guard lock(impl_->mutex);
  impl_->tls = std::move(fresh);
  return absl::OkStatus();
}

void HttpServer::Drain() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->draining = true;
  }
  for (const auto& connection : impl_->Open()) connection->Drain();
}

bool HttpServer::WaitAnswered(std::chrono::steady_clock::time_point until) {
  std::unique_lock lock(impl_->mutex);
  return impl_->answered.wait_until(
      lock, until, [this] { return static_cast<int64_t>(impl_->connections.size()) == impl_->lingering; });
}

void HttpServer::CloseConnections() {
  bool first = false;
  {
    const std::lock_guard lock(impl_->mutex);
    first = !std::exchange(impl_->closed, true);
  }
  if (first) {
    const auto done = std::make_shared<std::promise<void>>();
    asio::post(impl_->acceptor.get_executor(), [impl = impl_.get(), done] {
      Error ignored;  // what cannot be closed is closed already
      impl->acceptor.close(ignored);
      impl->pause.cancel();
      done->set_value();
    });
    done->get_future().wait();  // nobody can connect any more
  }
  for (const auto& connection : impl_->Open()) connection->Abort();
}

}  // namespace thermocline
