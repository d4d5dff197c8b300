// HttpConnection: the life of one connection, request after request, on its own strand.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include "server/http_message.h"
#include "server/http_options.h"
#include "server/http_parser.h"
#include "server/http_transport.h"

namespace thermocline {

class HttpConnection;

// Hears of connections, each on its own strand.
class HttpConnectionOwner {
 public:
  virtual ~HttpConnectionOwner() = default;
  // The last answer is out; the client may still be sending. Before OnClosed, or never.
  virtual void OnLinger(HttpConnection& connection) = 0;
  virtual void OnClosed(HttpConnection& connection) = 0;
};

// A read is pending nearly always, so that a client that goes away is noticed while its completion runs;
// bytes of further requests wait. A client that closes its side after the request counts as gone.
class HttpConnection : public std::enable_shared_from_this<HttpConnection> {
 public:
  // What is borrowed must outlive the connection.
  HttpConnection(std::unique_ptr<HttpTransport> transport, const HttpServerOptions& options,
                 HttpHandler& handler, HttpConnectionOwner& owner);

  // All safe from any thread.
  void Start();
  // Ends after the answer that is under way, or at once when there is none.
  void Drain();
  void Abort();

 private:
  class Exchange;
  enum class Phase { kHandshake, kRequest, kAnswer, kLastBytes, kLinger, kClosed };

  void Read();
  void OnRead(HttpTransport::Error error, size_t count);
  void Advance();  // makes the most of the bytes that are there
  void Dispatch();
  void Refuse(HttpError error);
  HttpRequest TakeRequest();

  void Respond(const HttpResponse& response);
  void StartStream(const HttpResponse& response, std::string_view filler);
  void WriteChunk(std::string_view bytes);
  void FinishStream();
  void EndAnswer();  // everything of it is queued
  std::string Head(const HttpResponse& response, std::string_view framing) const;

  void Queue(std::string_view bytes);
  void WriteQueued();
  void OnWritten(HttpTransport::Error error, size_t count);
  void OnAllWritten();

  void SetDeadline(std::chrono::milliseconds timeout);
  void ClearDeadline();
  void OnDeadline();
  void Linger();
  void Close();

  const std::unique_ptr<HttpTransport> transport_;
  const HttpServerOptions& options_;
  HttpHandler& handler_;
  HttpConnectionOwner& owner_;

  // All of the strand.
  Phase phase_ = Phase::kHandshake;
  HttpParser parser_;
  std::array<char, 16 << 10> read_buffer_;
  std::string received_;  // and not parsed
  bool reading_ = false;
  size_t lingered_bytes_ = 0;

  std::shared_ptr<Exchange> exchange_;  // under way
  bool keep_alive_ = false;             // after the answer that is under way
  bool chunked_ = false;                // the stream that is under way
  std::string filler_;                  // of it, for when it is silent; empty: none, or no stream
  bool head_only_ = false;              // the answer has no body: HEAD
  bool speaks_1_1_ = true;
  bool continue_sent_ = false;
  bool draining_ = false;

  std::string queued_;     // to be written next
  std::string in_flight_;  // being written
  size_t written_ = 0;     // of in_flight_
  bool writing_ = false;

  boost::asio::steady_timer timer_;
  uint64_t deadline_number_ = 0;  // tells the deadline in force from those that were replaced
};

}  // namespace thermocline
