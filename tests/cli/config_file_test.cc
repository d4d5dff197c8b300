// --config of serve: every flag can be set, flags win, and what is wrong is named.
// SPDX-License-Identifier: Apache-2.0
#include "cli/config_file.h"

#include <gmock/gmock.h>

#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "tests/support/temporary_folder.h"

namespace thermocline {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

class ConfigFileTest : public testing::Test {
 protected:
  ConfigFileTest() {
    program_.require_subcommand(1);
    AddServeCommand(program_, command_);
    serve_ = program_.get_subcommand("serve");
  }

  // With the file of that text.
  void Parse(const std::string& text, const std::vector<std::string>& arguments = {}) {
    std::ofstream(path_) << text;
    std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());
    reversed.insert(reversed.end(), {path_, "--config", "serve"});
    program_.parse(reversed);
  }
  std::string ErrorOf(const std::string& text) {
    try {
      Parse(text);
    } catch (const CLI::ParseError& error) {
      return error.what();
    }
    return "none";
  }
  std::vector<std::string> ValuesOf(const std::string& name) { return serve_->get_option(name)->results(); }

  const TemporaryFolder folder_;
  const std::string path_ = folder_.Path("serve.toml");
  CLI::App program_;
  Command command_;
  CLI::App* serve_ = nullptr;
};

// Values that are commented out have no blank behind the "#".
std::string WithAllValues(const std::string& path) {
  std::ifstream file(path);
  std::string text, line;
  while (std::getline(file, line)) {
    if (line.size() > 1 && line[0] == '#' && line[1] != ' ') line.erase(0, 1);
    text += line + '\n';
  }
  return text;
}

TEST_F(ConfigFileTest, TheExampleSetsEveryFlag) {
  Parse(WithAllValues(THERMOCLINE_SOURCE_DIR "/docs/serve.example.toml"));
  for (const CLI::Option* option : serve_->get_options()) {
    if (!option->get_configurable()) continue;
    EXPECT_GT(option->count(), 0u) << "docs/serve.example.toml lacks " << option->get_name();
  }
  EXPECT_TRUE(command_.action);
}

TEST_F(ConfigFileTest, ReadsEveryTypeOfValue) {
  Parse(
      "model = 'm # 1.gguf'\nthreads = 3\nshutdown-timeout = \"2m\"\nkeep-host-copy = true\n"
      "cors-origin = [\n  \"https://a.example\",\n  \"https://b.example\",  # the other\n]\n");
  EXPECT_THAT(ValuesOf("MODEL"), ElementsAre("m # 1.gguf"));
  EXPECT_THAT(ValuesOf("--threads"), ElementsAre("3"));
  EXPECT_EQ(serve_->get_option("--shutdown-timeout")->as<int64_t>(), 120'000);
  EXPECT_TRUE(serve_->get_option("--keep-host-copy")->as<bool>());
  EXPECT_THAT(ValuesOf("--cors-origin"), ElementsAre("https://a.example", "https://b.example"));
}

TEST_F(ConfigFileTest, TheCommandLineWins) {
  Parse("model = \"file.gguf\"\nthreads = 3\nhttp = \"127.0.0.1:1\"\n", {"flag.gguf", "--threads", "5"});
  EXPECT_THAT(ValuesOf("MODEL"), ElementsAre("flag.gguf"));
  EXPECT_THAT(ValuesOf("--threads"), ElementsAre("5"));
  EXPECT_THAT(ValuesOf("--http"), ElementsAre("127.0.0.1:1"));
}

TEST_F(ConfigFileTest, ErrorsNameFileLineAndKey) {
  EXPECT_THAT(ErrorOf("model = \"m\"\n\nlissten = \"x\"\n"),
              AllOf(HasSubstr(path_), HasSubstr("line 3"), HasSubstr("serve has no flag \"lissten\"")));
  EXPECT_THAT(ErrorOf("model = \"m\"\n[http]\nthreads = 2\n"), AllOf(HasSubstr("line 2"), HasSubstr("http")));
  EXPECT_THAT(ErrorOf("model = \"m\nthreads = 2\n"), HasSubstr("line 1"));
  EXPECT_THAT(ErrorOf("model = \"m\"\nthreads = true\n"),
              AllOf(HasSubstr("line 2"), HasSubstr("threads is a boolean")));
  EXPECT_THAT(ErrorOf("model = \"m\"\nthreads = \"many\"\n"),
              AllOf(HasSubstr("line 2"), HasSubstr("--threads")));
  EXPECT_THAT(ErrorOf("model = \"m\"\nthreads = [1, 2]\n"), HasSubstr("threads is a list"));
  EXPECT_THAT(ErrorOf("model = \"m\"\nkeep-host-copy = 1\n"), HasSubstr("true or false is needed"));
  EXPECT_THAT(ErrorOf("model = \"m\"\nconfig = \"other.toml\"\n"), HasSubstr("no flag \"config\""));
  EXPECT_THAT(ErrorOf("threads = 2\n"), HasSubstr("MODEL"));
}

TEST_F(ConfigFileTest, AFileThatIsNotThereIsNamed) {
  std::vector<std::string> reversed = {"/nowhere/serve.toml", "--config", "m", "serve"};
  try {
    program_.parse(reversed);
    FAIL() << "was parsed";
  } catch (const CLI::ParseError& error) {
    EXPECT_THAT(error.what(), HasSubstr("/nowhere/serve.toml"));
    EXPECT_THAT(error.what(), testing::Not(HasSubstr("line")));
  }
}

}  // namespace
}  // namespace thermocline
