// --config FILE: a command's flags from a TOML file.
// SPDX-License-Identifier: Apache-2.0
#include "cli/config_file.h"

#include <absl/strings/ascii.h>
#include <fmt/format.h>

#include <toml++/toml.h>

#include <string>
#include <string_view>
#include <vector>

namespace thermocline {
namespace {

constexpr char kName[] = "--config";

[[noreturn]] void Fail(std::string_view file, const toml::source_region& place, std::string_view problem) {
  const std::string line = place.begin ? fmt::format(", line {}", place.begin.line) : "";  // none: not opened
  throw CLI::ConfigError(fmt::format("{}: {}{}: {}", kName, file, line, problem));
}

std::string_view TypeName(toml::node_type type) {
  switch (type) {
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "a list";
    case toml::node_type::string:
      return "a string";
    case toml::node_type::integer:
    case toml::node_type::floating_point:
      return "a number";
    case toml::node_type::boolean:
      return "a boolean";
    default:
      return "a date or time";
  }
}

// One file for one command.
class ConfigFile {
 public:
  ConfigFile(CLI::App& command, const std::string& path) : command_(command), path_(path) {}

  void Apply() {
    const toml::table table = Read();
    for (const auto& [key, value] : table) {
      CLI::Option* const option = Find(key.str());
      if (option == nullptr) {
        Fail(path_, key.source(), fmt::format("{} has no flag \"{}\"", command_.get_name(), key.str()));
      }
      const std::vector<std::string> texts = TextsOf(key.str(), value, *option);
      if (!option->empty()) continue;  // the command line has it
      try {
        for (const std::string& text : texts) option->add_result(text);
        option->run_callback();
      } catch (const CLI::ParseError& error) {
        Fail(path_, value.source(), error.what());
      }
    }
  }

 private:
  toml::table Read() const {
    try {
      return toml::parse_file(path_);
    } catch (const toml::parse_error& error) {
      Fail(path_, error.source(), error.description());
    }
  }

  CLI::Option* Find(std::string_view key) const {
    for (CLI::Option* const option : command_.get_options()) {
      if (!option->get_configurable()) continue;
      if (absl::AsciiStrToLower(option->get_single_name()) == key) return option;
    }
    return nullptr;
  }

  std::vector<std::string> TextsOf(std::string_view key, const toml::node& value,
                                   const CLI::Option& option) const {
    const toml::array* const list = value.as_array();
    if (list == nullptr || option.get_expected_max() <= 1) return {TextOf(key, value, option)};
    std::vector<std::string> texts;
    for (const toml::node& entry : *list) texts.push_back(TextOf(key, entry, option));
    return texts;
  }

  std::string TextOf(std::string_view key, const toml::node& value, const CLI::Option& option) const {
    const bool is_switch = option.get_expected_min() == 0;
    if (is_switch && value.is_boolean()) return value.as_boolean()->get() ? "true" : "false";
    if (!is_switch && value.is_string()) return value.as_string()->get();
    if (!is_switch && value.is_integer()) return std::to_string(value.as_integer()->get());
    if (!is_switch && value.is_floating_point()) return fmt::to_string(value.as_floating_point()->get());
    Fail(path_, value.source(),
         fmt::format("{} is {}, {} is needed", key, TypeName(value.type()),
                     is_switch ? "true or false" : "a string or a number"));
  }

  CLI::App& command_;
  const std::string& path_;
};

}  // namespace

void AddConfigFlag(CLI::App& command) {
  // Callbacks run in the order of the options once the whole command line is read, so that the first one can
  // fill in what those after it have not got from there.
  command
      .add_option_function<std::string>(
          kName, [&command](const std::string& path) { ConfigFile(command, path).Apply(); },
          "TOML file with flags, such as listen = \"127.0.0.1:50051\"; the command line wins over it")
      ->configurable(false);
}

}  // namespace thermocline
