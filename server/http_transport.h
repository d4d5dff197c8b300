// HttpTransport: a connection's bytes, plain or under TLS.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <absl/functional/any_invocable.h>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "core/status.h"
#include "server/http_options.h"

namespace boost::asio::ssl {
class context;
}

namespace thermocline {

// Used on the strand of its socket alone, where the callbacks run, too, and never from within a call. At most
// one read and one write at a time; what is read into or written from must live until the callback.
class HttpTransport {
 public:
  using Error = boost::system::error_code;
  using OnDone = absl::AnyInvocable<void(Error)>;
  using OnBytes = absl::AnyInvocable<void(Error, size_t)>;

  virtual ~HttpTransport() = default;
  virtual void Handshake(OnDone done) = 0;
  virtual void ReadSome(char* bytes, size_t size, OnBytes done) = 0;
  virtual void WriteSome(std::string_view bytes, OnBytes done) = 0;
  // Says that nothing more will be written. Reading goes on.
  virtual void ShutdownWrite(OnDone done) = 0;
  // Ends everything; pending callbacks get an error.
  virtual void Close() = 0;
  virtual boost::asio::any_io_executor executor() = 0;
  virtual std::string peer() const = 0;
};

using TlsContext = std::shared_ptr<boost::asio::ssl::context>;

// FailedPrecondition that names the file which cannot be read or used.
absl::StatusOr<TlsContext> CreateTlsContext(const TlsFiles& files);

// Without a context the bytes go as they are.
std::unique_ptr<HttpTransport> MakeHttpTransport(boost::asio::ip::tcp::socket socket, TlsContext tls);

}  // namespace thermocline
