// A small HTTP client over plain sockets, which can do what proper clients never would.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cctype>
#include <map>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace thermocline::testing {

struct HttpAnswer {
  int status = 0;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;                            // chunks put together
  bool whole = false;                          // ended as its head announced

  nlohmann::json Json() const { return nlohmann::json::parse(body); }
  std::string Header(const std::string& name) const {
    const auto found = headers.find(name);
    return found == headers.end() ? "" : found->second;
  }
  nlohmann::json Error() const { return Json().at("error"); }
};

// The data of a body's server-sent events.
inline std::vector<std::string> EventsOf(const std::string& body) {
  std::vector<std::string> events;
  size_t begin = 0;
  for (size_t end = body.find("\n\n"); end != std::string::npos; end = body.find("\n\n", begin)) {
    const std::string event = body.substr(begin, end - begin);
    EXPECT_TRUE(event.starts_with("data: ")) << event;
    events.push_back(event.substr(6));
    begin = end + 2;
  }
  EXPECT_EQ(begin, body.size()) << "the body ends within an event";
  return events;
}

// One connection. The limits on waiting only end a test that has failed.
class HttpClient {
 public:
  explicit HttpClient(int port, int receive_buffer_bytes = 0) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    if (receive_buffer_bytes > 0) {
      ::setsockopt(socket_, SOL_SOCKET, SO_RCVBUF, &receive_buffer_bytes, sizeof(receive_buffer_bytes));
    }
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
      throw std::runtime_error("cannot connect");
    }
  }
  ~HttpClient() { Close(); }
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  void Close() {
    if (socket_ >= 0) ::close(std::exchange(socket_, -1));
  }
  // Ends the connection without a proper goodbye.
  void Reset() {
    const linger now{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(socket_, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    Close();
  }
  void ShutdownWrite() { ::shutdown(socket_, SHUT_WR); }

  // False when the server has closed.
  bool Send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t count = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (count <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(count));
    }
    return true;
  }

  HttpAnswer Receive(bool head_only = false) {
    HttpAnswer answer = ReceiveHead();
    if (answer.status == 0 || head_only || answer.status == 204) return answer;
    if (answer.Header("transfer-encoding") == "chunked") {
      ReceiveChunks(answer);
    } else if (const std::string length = answer.Header("content-length"); !length.empty()) {
      while (received_.size() < std::stoul(length) && ReceiveMore()) {
      }
      answer.whole = received_.size() >= std::stoul(length);
      answer.body = Take(std::min(received_.size(), static_cast<size_t>(std::stoul(length))));
    } else {
      while (ReceiveMore()) {
      }
      answer.whole = true;
      answer.body = Take(received_.size());
    }
    return answer;
  }

  // Status 0 when the server closed before a whole head.
  HttpAnswer ReceiveHead() {
    HttpAnswer answer;
    size_t end = 0;
    while ((end = received_.find("\r\n\r\n")) == std::string::npos) {
      if (!ReceiveMore()) return answer;
    }
    const std::string head = Take(end + 4);
    answer.status = std::stoi(head.substr(9, 3));
    size_t line = head.find("\r\n") + 2;
    while (line < end) {
      const size_t colon = head.find(": ", line);
      const size_t next = head.find("\r\n", line);
      std::string name = head.substr(line, colon - line);
      for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      answer.headers[name] = head.substr(colon + 2, next - colon - 2);
      line = next + 2;
    }
    return answer;
  }

  // One chunk of a stream; empty at its end and when the server closed.
  std::string ReceiveChunk(bool* whole = nullptr) {
    size_t line = 0;
    while ((line = received_.find("\r\n")) == std::string::npos) {
      if (!ReceiveMore()) return "";
    }
    const size_t size = std::stoul(received_.substr(0, line), nullptr, 16);
    while (received_.size() < line + 2 + size + 2) {
      if (!ReceiveMore()) return "";
    }
    const std::string chunk = received_.substr(line + 2, size);
    received_.erase(0, line + 2 + size + 2);
    if (size == 0 && whole != nullptr) *whole = true;
    return chunk;
  }

  // Whether the server closes, with nothing more to read.
  bool IsClosed() { return received_.empty() && !ReceiveMore(); }

 private:
  bool ReceiveMore() {
    constexpr int kTimeoutMs = 60'000;
    pollfd ready{.fd = socket_, .events = POLLIN};
    if (::poll(&ready, 1, kTimeoutMs) <= 0) throw std::runtime_error("nothing came");
    char bytes[16384];
    const ssize_t count = ::recv(socket_, bytes, sizeof(bytes), 0);
    if (count <= 0) return false;
    received_.append(bytes, static_cast<size_t>(count));
    return true;
  }
  void ReceiveChunks(HttpAnswer& answer) {
    while (true) {
      const std::string chunk = ReceiveChunk(&answer.whole);
      if (chunk.empty()) return;
      answer.body += chunk;
    }
  }
  std::string Take(size_t size) {
    std::string taken = received_.substr(0, size);
    received_.erase(0, size);
    return taken;
  }

  int socket_;
  std::string received_;
};

inline std::string RequestText(std::string_view method, std::string_view path, std::string_view headers,
                               std::string_view body) {
  std::string text = std::string(method) + " " + std::string(path) + " HTTP/1.1\r\nHost: test\r\n";
  text += headers;
  if (!body.empty()) text += "Content-Length: " + std::to_string(body.size()) + "\r\n";
  return text + "\r\n" + std::string(body);
}
inline std::string GetText(std::string_view path, std::string_view headers = "") {
  return RequestText("GET", path, headers, "");
}
inline std::string PostText(std::string_view path, std::string_view body, std::string_view headers = "") {
  return RequestText("POST", path, "Content-Type: application/json\r\n" + std::string(headers), body);
}

}  // namespace thermocline::testing
