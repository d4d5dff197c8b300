// HttpParser: Boost.Beast's parser of requests behind plain types.
// SPDX-License-Identifier: Apache-2.0
#include "server/http_parser.h"

#include <absl/strings/ascii.h>
#include <absl/strings/match.h>

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <utility>

namespace thermocline {
namespace {

namespace beast_http = boost::beast::http;
using Error = beast_http::error;

std::string ToString(boost::beast::string_view text) { return {text.data(), text.size()}; }

HttpError ToError(const boost::system::error_code& error, const HttpLimits& limits) {
  if (error == Error::body_limit) {
    return MakeHttpError(413,
                         fmt::format("the body is longer than the limit of {} bytes", limits.max_body_bytes));
  }
  if (error == Error::header_limit || error == Error::buffer_overflow) {
    return MakeHttpError(
        431, fmt::format("the headers are longer than the limit of {} bytes", limits.max_header_bytes));
  }
  if (error == Error::bad_version) return MakeHttpError(505, "the HTTP version is neither 1.0 nor 1.1");
  return MakeHttpError(400, fmt::format("this is no HTTP request: {}", error.message()));
}

}  // namespace

struct HttpParser::Impl {
  explicit Impl(const HttpLimits& limits) {
    parser.eager(true);
    parser.header_limit(static_cast<uint32_t>(limits.max_header_bytes));
    parser.body_limit(static_cast<uint64_t>(limits.max_body_bytes));
  }
  beast_http::request_parser<beast_http::string_body> parser;
  bool head_checked = false;
};

HttpParser::HttpParser(HttpLimits limits) : limits_(limits), impl_(std::make_unique<Impl>(limits)) {}

HttpParser::~HttpParser() = default;

size_t HttpParser::Put(std::string_view bytes) {
  size_t taken = 0;
  while (!error_ && taken < bytes.size() && !has_whole()) {
    boost::system::error_code error;
    const size_t count =
        impl_->parser.put(boost::asio::const_buffer(bytes.data() + taken, bytes.size() - taken), error);
    taken += count;
    if (error == Error::need_more) {
      // A line without an end, of headers or of a chunk.
      if (bytes.size() - taken > static_cast<size_t>(limits_.max_header_bytes)) {
        error_ = ToError(Error::header_limit, limits_);
      }
      break;
    }
    if (error) {
      error_ = ToError(error, limits_);
      break;
    }
    CheckHead();
    if (count == 0) break;
  }
  if (!error_) CheckHead();
  return taken;
}

void HttpParser::CheckHead() {
  if (!has_head() || impl_->head_checked) return;
  impl_->head_checked = true;
  const auto& head = impl_->parser.get();
  if (head.version() != 10 && head.version() != 11) {
    error_ = MakeHttpError(505, "the HTTP version is neither 1.0 nor 1.1");
  } else if (head.version() == 11 && head.count(beast_http::field::host) != 1) {
    error_ = MakeHttpError(400, "HTTP/1.1 needs exactly one Host header");
  } else if (head.count(beast_http::field::transfer_encoding) > 0 &&
             head.count(beast_http::field::content_length) > 0) {
    // Two readers could disagree on where such a request ends.
    error_ = MakeHttpError(400, "Content-Length and Transfer-Encoding exclude each other");
  } else if (head.count(beast_http::field::transfer_encoding) > 0 && !impl_->parser.chunked()) {
    error_ = MakeHttpError(501, "the only Transfer-Encoding understood is chunked");
  } else if (const auto expect = head[beast_http::field::expect];
             !expect.empty() && !boost::beast::iequals(expect, "100-continue")) {
    error_ = MakeHttpError(417, "the only expectation understood is 100-continue");
  }
}

bool HttpParser::started() const { return impl_->parser.got_some(); }
bool HttpParser::has_head() const { return impl_->parser.is_header_done(); }
bool HttpParser::has_whole() const { return impl_->parser.is_done(); }
bool HttpParser::keep_alive() const { return impl_->parser.keep_alive(); }
bool HttpParser::speaks_1_1() const { return impl_->parser.get().version() == 11; }
bool HttpParser::expects_continue() const {
  return speaks_1_1() && impl_->parser.get().count(beast_http::field::expect) > 0;
}

HttpRequest HttpParser::Release() {
  auto message = impl_->parser.release();
  HttpRequest request{.method = ToString(message.method_string()), .body = std::move(message.body())};
  const auto target = message.target();
  request.path = ToString(target.substr(0, target.find('?')));
  for (const auto& field : message) {
    request.headers.emplace_back(
        absl::AsciiStrToLower(absl::string_view(field.name_string().data(), field.name_string().size())),
        ToString(field.value()));
  }
  error_.reset();
  impl_ = std::make_unique<Impl>(limits_);
  return request;
}

}  // namespace thermocline
