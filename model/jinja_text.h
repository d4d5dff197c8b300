// JinjaText: a string that remembers of every byte whether a template or a message wrote it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace thermocline {

enum class JinjaOrigin : char { kTemplate, kMessage };

// Origins go along with their bytes through whatever a template does to a string, so that no cutting and
// joining can make a message's bytes look like the template's.
class JinjaText {
 public:
  JinjaText() = default;
  JinjaText(std::string_view bytes, JinjaOrigin origin)
      : bytes_(bytes), origins_(bytes.size(), static_cast<char>(origin)) {}

  const std::string& bytes() const { return bytes_; }
  size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }
  JinjaOrigin origin(size_t position) const { return static_cast<JinjaOrigin>(origins_[position]); }

  void Append(const JinjaText& other) {
    bytes_ += other.bytes_;
    origins_ += other.origins_;
  }
  void Append(std::string_view bytes, JinjaOrigin origin) {
    bytes_ += bytes;
    origins_.append(bytes.size(), static_cast<char>(origin));
  }
  void Reserve(size_t size) {
    bytes_.reserve(size);
    origins_.reserve(size);
  }
  JinjaText Substring(size_t begin, size_t length) const {
    JinjaText part;
    part.bytes_ = bytes_.substr(begin, length);
    part.origins_ = origins_.substr(begin, length);
    return part;
  }
  // Where the stretch of one origin that holds `position` ends.
  size_t RunEnd(size_t position) const {
    const size_t end = origins_.find_first_not_of(origins_[position], position);
    return end == std::string::npos ? size() : end;
  }

 private:
  std::string bytes_;
  std::string origins_;  // a JinjaOrigin for each byte
};

// Python's view of strings. Malformed UTF-8 counts one code point a byte.

// Bytes of the code point that starts at `position`, which must be inside.
size_t JinjaCodePointBytes(std::string_view text, size_t position);
// Where each code point starts, and the end.
std::vector<size_t> JinjaCodePoints(std::string_view text);

// Bytes of the space at the beginning of `text`, or at its end: what str.isspace() calls space.
size_t JinjaSpaceBefore(std::string_view text);
size_t JinjaSpaceAfter(std::string_view text);

enum class JinjaCase { kUpper, kLower, kCapitalized, kTitle };
JinjaText JinjaChangeCase(const JinjaText& text, JinjaCase change);

}  // namespace thermocline
