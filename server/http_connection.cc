// One connection: reading within limits and time, one answer at a time, writing with back-pressure.
// SPDX-License-Identifier: Apache-2.0
#include "server/http_connection.h"

#include <absl/time/clock.h>
#include <absl/time/time.h>

#include <boost/asio/post.hpp>
#include <utility>

namespace thermocline {
namespace {

using Error = HttpTransport::Error;

// Of further requests that may wait while one is answered; then the connection is not read.
constexpr size_t kMostPipelinedBytes = 64 << 10;
// After an answer that ends the connection, what the client still sends is read for a while and dropped: a
// socket that is closed with unread bytes takes the answer with it.
constexpr std::chrono::milliseconds kLingerTimeout{2'000};
constexpr size_t kMostLingeredBytes = 64 << 20;

constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";

}  // namespace

// What handlers hold of the connection. Knows it until the answer's end.
class HttpConnection::Exchange final : public HttpExchange {
 public:
  explicit Exchange(std::shared_ptr<HttpConnection> connection)
      : executor_(connection->transport_->executor()), connection_(std::move(connection)) {}

  void Post(Task task) override {
    boost::asio::post(executor_, [task = std::move(task)]() mutable { task(); });
  }
  void Respond(HttpResponse response) override {
    const auto connection = connection_;  // which ends its part in this while it runs, as below
    if (connection && !streaming_) connection->Respond(response);
  }
  void StartStream(HttpResponse response, std::string_view filler) override {
    const auto connection = connection_;
    if (!connection || streaming_) return;
    streaming_ = true;
    connection->StartStream(response, filler);
  }
  void Write(std::string_view bytes) override {
    const auto connection = connection_;
    if (connection && streaming_) connection->WriteChunk(bytes);
  }
  void Finish() override {
    const auto connection = connection_;
    if (connection && streaming_) connection->FinishStream();
  }
  void WhenGone(Task task) override {
    if (connection_) {
      gone_ = std::move(task);
    } else if (lost_) {
      Post(std::move(task));
    }
  }

  // The answer is whole.
  void End() {
    connection_ = nullptr;
    gone_ = nullptr;
  }
  // The client has gone before that.
  void Lose() {
    connection_ = nullptr;
    lost_ = true;
    if (gone_) Post(std::exchange(gone_, nullptr));
  }

 private:
  const boost::asio::any_io_executor executor_;
  std::shared_ptr<HttpConnection> connection_;
  Task gone_;
  bool streaming_ = false;
  bool lost_ = false;
};

HttpConnection::HttpConnection(std::unique_ptr<HttpTransport> transport, const HttpServerOptions& options,
                               HttpHandler& handler, HttpConnectionOwner& owner)
    : transport_(std::move(transport)),
      options_(options),
      handler_(handler),
      owner_(owner),
      parser_(options.limits),
      timer_(transport_->executor()) {}

void HttpConnection::Start() {
  boost::asio::post(transport_->executor(), [self = shared_from_this()] {
    if (self->phase_ == Phase::kClosed) return;
    self->SetDeadline(self->options_.handshake_timeout);
    self->transport_->Handshake([self](Error error) {
      if (self->phase_ == Phase::kClosed) return;
      if (error) return self->Close();
      self->phase_ = Phase::kRequest;
      self->SetDeadline(self->options_.header_timeout);
      self->Read();
    });
  });
}

void HttpConnection::Drain() {
  boost::asio::post(transport_->executor(), [self = shared_from_this()] {
    self->draining_ = true;
    self->keep_alive_ = false;
    if (self->phase_ == Phase::kRequest && !self->parser_.started()) self->Close();
  });
}

void HttpConnection::Abort() {
  boost::asio::post(transport_->executor(), [self = shared_from_this()] { self->Close(); });
}

// ---- Reading ----

void HttpConnection::Read() {
  if (reading_ || phase_ == Phase::kClosed) return;
  reading_ = true;
  transport_->ReadSome(
      read_buffer_.data(), read_buffer_.size(),
      [self = shared_from_this()](Error error, size_t count) { self->OnRead(error, count); });
}

void HttpConnection::OnRead(Error error, size_t count) {
  reading_ = false;
  if (phase_ == Phase::kClosed) return;
  if (error) {
    // The last bytes of an answer still go to a client that has closed its side after asking for the close.
    if (phase_ != Phase::kLastBytes) Close();
    return;
  }
  if (phase_ == Phase::kLinger) {
    lingered_bytes_ += count;
    return lingered_bytes_ > kMostLingeredBytes ? Close() : Read();
  }
  received_.append(read_buffer_.data(), count);
  if (phase_ == Phase::kRequest) return Advance();
  if (phase_ == Phase::kAnswer && received_.size() < kMostPipelinedBytes) Read();
}

void HttpConnection::Advance() {
  const bool had_started = parser_.started();
  const bool had_head = parser_.has_head();
  received_.erase(0, parser_.Put(received_));
  if (parser_.error()) return Refuse(*parser_.error());
  if (parser_.has_whole()) return Dispatch();
  if (!had_started && parser_.started()) SetDeadline(options_.header_timeout);
  if (!had_head && parser_.has_head()) SetDeadline(options_.body_timeout);
  if (parser_.has_head() && parser_.expects_continue() && !continue_sent_) {
    continue_sent_ = true;
    Queue(kContinue);
  }
  Read();
}

HttpRequest HttpConnection::TakeRequest() {
  ClearDeadline();
  speaks_1_1_ = !parser_.has_head() || parser_.speaks_1_1();
  keep_alive_ = parser_.has_whole() && parser_.keep_alive() && !draining_;
  HttpRequest request = parser_.Release();
  request.peer = transport_->peer();
  head_only_ = request.method == "HEAD";
  continue_sent_ = false;
  phase_ = Phase::kAnswer;
  exchange_ = std::make_shared<Exchange>(shared_from_this());
  return request;
}

void HttpConnection::Dispatch() {
  HttpRequest request = TakeRequest();
  Read();
  handler_.Handle(std::move(request), exchange_);
}

void HttpConnection::Refuse(HttpError error) {
  HttpRequest request = TakeRequest();
  keep_alive_ = false;  // where the next request begins is unknown
  handler_.Refuse(std::move(request), std::move(error), exchange_);
}

// ---- Answering ----

std::string HttpConnection::Head(const HttpResponse& response, std::string_view framing) const {
  std::string head = fmt::format("HTTP/1.1 {} {}\r\n", response.status, ReasonPhrase(response.status));
  for (const auto& [name, value] : response.headers) head += fmt::format("{}: {}\r\n", name, value);
  if (!response.content_type.empty()) head += fmt::format("Content-Type: {}\r\n", response.content_type);
  head += framing;
  head += absl::FormatTime("Date: %a, %d %b %Y %H:%M:%S GMT\r\n", absl::Now(), absl::UTCTimeZone());
  if (!keep_alive_) {
    head += "Connection: close\r\n";
  } else if (!speaks_1_1_) {
    head += "Connection: keep-alive\r\n";
  }
  return head += "\r\n";
}

void HttpConnection::Respond(const HttpResponse& response) {
  const bool may_have_body = response.status != 204;
  Queue(Head(response, may_have_body ? fmt::format("Content-Length: {}\r\n", response.body.size()) : ""));
  if (may_have_body && !head_only_) Queue(response.body);
  EndAnswer();
}

void HttpConnection::StartStream(const HttpResponse& response, std::string_view filler) {
  filler_ = filler;
  chunked_ = speaks_1_1_;
  if (!chunked_) keep_alive_ = false;  // the end of the connection is the end of the body
  Queue(Head(response, chunked_ ? "Transfer-Encoding: chunked\r\n" : ""));
  WriteChunk(response.body);
}

void HttpConnection::WriteChunk(std::string_view bytes) {
  if (bytes.empty()) return;  // would be the last chunk
  const size_t unread = queued_.size() + in_flight_.size() - written_ + bytes.size();
  if (unread > static_cast<size_t>(options_.max_unread_bytes)) return Close();
  if (!chunked_) return Queue(bytes);
  std::string chunk = fmt::format("{:x}\r\n", bytes.size());
  chunk += bytes;
  chunk += "\r\n";
  Queue(chunk);
}

void HttpConnection::FinishStream() {
  if (chunked_) Queue("0\r\n\r\n");
  EndAnswer();
}

void HttpConnection::EndAnswer() {
  exchange_->End();
  exchange_ = nullptr;
  filler_.clear();
  phase_ = Phase::kLastBytes;
}

// ---- Writing ----

void HttpConnection::Queue(std::string_view bytes) {
  queued_ += bytes;
  if (!writing_) WriteQueued();
}

void HttpConnection::WriteQueued() {
  if (written_ == in_flight_.size()) {
    in_flight_ = std::exchange(queued_, {});
    written_ = 0;
  }
  writing_ = true;
  // A request that is still being read has a deadline of its own.
  if (phase_ != Phase::kRequest) SetDeadline(options_.write_timeout);
  transport_->WriteSome(
      std::string_view(in_flight_).substr(written_),
      [self = shared_from_this()](Error error, size_t count) { self->OnWritten(error, count); });
}

void HttpConnection::OnWritten(Error error, size_t count) {
  writing_ = false;
  if (phase_ == Phase::kClosed) return;
  if (error) return Close();
  written_ += count;
  if (written_ < in_flight_.size() || !queued_.empty()) return WriteQueued();
  in_flight_.clear();
  written_ = 0;
  OnAllWritten();
}

void HttpConnection::OnAllWritten() {
  if (phase_ == Phase::kAnswer) {
    // How long a completion takes is the scheduler's to bound.
    filler_.empty() ? ClearDeadline() : SetDeadline(options_.stream_keepalive);
  }
  if (phase_ != Phase::kLastBytes) return;
  if (!keep_alive_) return Linger();
  phase_ = Phase::kRequest;
  SetDeadline(options_.idle_timeout);
  Advance();  // a further request may be here already
}

// ---- Ending ----

void HttpConnection::SetDeadline(std::chrono::milliseconds timeout) {
  timer_.expires_after(timeout);
  timer_.async_wait([self = shared_from_this(), number = ++deadline_number_](Error) {
    if (number == self->deadline_number_) self->OnDeadline();
  });
}

void HttpConnection::ClearDeadline() {
  ++deadline_number_;
  timer_.cancel();
}

void HttpConnection::OnDeadline() {
  if (phase_ == Phase::kAnswer && !writing_) return WriteChunk(filler_);  // the stream is silent
  if (phase_ == Phase::kRequest && parser_.started()) {
    return Refuse(MakeHttpError(
        408,
        parser_.has_head()
            ? fmt::format("the body was not complete within {} ms", options_.body_timeout.count())
            : fmt::format("the headers were not complete within {} ms", options_.header_timeout.count())));
  }
  Close();
}

void HttpConnection::Linger() {
  phase_ = Phase::kLinger;
  owner_.OnLinger(*this);
  SetDeadline(kLingerTimeout);
  transport_->ShutdownWrite([self = shared_from_this()](Error) {});  // until then the stream must live
  Read();
}

void HttpConnection::Close() {
  if (phase_ == Phase::kClosed) return;
  phase_ = Phase::kClosed;
  ClearDeadline();
  transport_->Close();
  if (exchange_) std::exchange(exchange_, nullptr)->Lose();
  owner_.OnClosed(*this);
}

}  // namespace thermocline
