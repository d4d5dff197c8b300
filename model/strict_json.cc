// Builds a JSON document from events, so that depth and duplicate names can be refused as they come.
// SPDX-License-Identifier: Apache-2.0
#include "model/strict_json.h"

#include <vector>

#include "model/printable.h"

namespace thermocline {
namespace {

using Json = nlohmann::json;

constexpr size_t kMostNesting = 64;

// Each handler returns false to stop; `error` then says why.
class StrictBuilder : public nlohmann::json_sax<Json> {
 public:
  explicit StrictBuilder(const std::string& file) : file_(file) {}

  bool null() override { return Put(nullptr) != nullptr; }
  bool boolean(bool value) override { return Put(value) != nullptr; }
  bool number_integer(number_integer_t value) override { return Put(value) != nullptr; }
  bool number_unsigned(number_unsigned_t value) override { return Put(value) != nullptr; }
  bool number_float(number_float_t value, const string_t&) override { return Put(value) != nullptr; }
  bool string(string_t& value) override { return Put(std::move(value)) != nullptr; }
  bool binary(binary_t&) override { return Fail(InvalidArgument("{}: binary values are not JSON", file_)); }
  bool start_object(std::size_t) override { return Open(Json::object()); }
  bool start_array(std::size_t) override { return Open(Json::array()); }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }

  bool key(string_t& name) override {
    if (open_.back()->contains(name)) {
      return Fail(InvalidArgument("{}: the name '{}' is given twice in an object, the limit is once", file_,
                                  Printable(name)));
    }
    slot_ = &(*open_.back())[name];
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    return Fail(InvalidArgument("{}: not valid JSON at byte {}", file_, position));
  }

  const absl::Status& error() const { return error_; }
  Json& root() { return root_; }

 private:
  bool Fail(absl::Status error) {
    error_ = std::move(error);
    return false;
  }

  // The place of the value in the document; null after an error.
  Json* Put(Json value) {
    if (open_.empty()) {
      if (!value.is_object()) {
        Fail(InvalidArgument("{}: the outermost JSON value must be an object, found {}", file_,
                             value.type_name()));
        return nullptr;
      }
      root_ = std::move(value);
      return &root_;
    }
    if (open_.back()->is_array()) {
      open_.back()->push_back(std::move(value));
      return &open_.back()->back();
    }
    *slot_ = std::move(value);
    return slot_;
  }

  bool Open(Json container) {
    if (open_.size() == kMostNesting) {
      return Fail(InvalidArgument("{}: JSON nested deeper than the limit of {}", file_, kMostNesting));
    }
    Json* place = Put(std::move(container));
    if (place == nullptr) return false;
    open_.push_back(place);
    return true;
  }

  bool Close() {
    open_.pop_back();
    return true;
  }

  const std::string& file_;
  absl::Status error_;
  Json root_;
  Json* slot_ = nullptr;     // where the value of the last name goes
  std::vector<Json*> open_;  // containers that are not closed; only the last one grows, so all stay in place
};

}  // namespace

absl::StatusOr<Json> ParseStrictJson(std::string_view text, const std::string& file) {
  StrictBuilder builder(file);
  if (!Json::sax_parse(text.begin(), text.end(), &builder)) return builder.error();
  return std::move(builder.root());
}

}  // namespace thermocline
