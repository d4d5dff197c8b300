// Writes google.rpc.Status, BadRequest and RetryInfo, whose definitions Debian does not package.
// SPDX-License-Identifier: Apache-2.0
#include "server/error_details.h"

#include <google/protobuf/any.pb.h>
#include <google/protobuf/duration.pb.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/wire_format_lite.h>

#include <optional>

#include "scheduler/request.h"

namespace thermocline {
namespace {

using google::protobuf::internal::WireFormatLite;

// Fields of those messages.
constexpr int kStatusCode = 1, kStatusMessage = 2, kStatusDetails = 3;
constexpr int kBadRequestViolations = 1, kViolationField = 1, kViolationDescription = 2;
constexpr int kRetryInfoDelay = 1;

// A message of one field of bytes or text, or of another message: pieces of the same message add up.
std::string Field(int number, const std::string& value) {
  std::string message;
  {
    google::protobuf::io::StringOutputStream bytes(&message);
    google::protobuf::io::CodedOutputStream stream(&bytes);
    WireFormatLite::WriteBytes(number, value, &stream);
  }
  return message;
}

std::string Field(int number, int value) {
  std::string message;
  {
    google::protobuf::io::StringOutputStream bytes(&message);
    google::protobuf::io::CodedOutputStream stream(&bytes);
    WireFormatLite::WriteInt32(number, value, &stream);
  }
  return message;
}

std::string Detail(const std::string& type, const std::string& message) {
  google::protobuf::Any any;
  any.set_type_url("type.googleapis.com/google.rpc." + type);
  any.set_value(message);
  return Field(kStatusDetails, any.SerializeAsString());
}

}  // namespace

std::string ErrorDetails(const absl::Status& status) {
  std::string details;
  if (const std::string field = FieldOf(status); !field.empty()) {
    const std::string violation =
        Field(kViolationField, field) + Field(kViolationDescription, std::string(MessageOf(status)));
    details += Detail("BadRequest", Field(kBadRequestViolations, violation));
  }
  if (const std::optional<std::chrono::milliseconds> delay = RetryDelayOf(status)) {
    google::protobuf::Duration duration;
    duration.set_seconds(delay->count() / 1000);
    duration.set_nanos(static_cast<int32_t>(delay->count() % 1000) * 1'000'000);
    details += Detail("RetryInfo", Field(kRetryInfoDelay, duration.SerializeAsString()));
  }
  if (details.empty()) return "";
  return Field(kStatusCode, static_cast<int>(status.code())) +
         Field(kStatusMessage, std::string(MessageOf(status))) + details;
}

}  // namespace thermocline
