// The program: command line in, one subcommand, exit code out.
// SPDX-License-Identifier: Apache-2.0
#include <cstdio>

#include "cli/commands.h"
#include "cli/exit_code.h"

int main(int argc, char** argv) {
  CLI::App program{"Thermocline: serves large language models whose feed-forward neurons fire sparsely",
                   "thermocline"};
  program.require_subcommand(1);
  program.set_version_flag("--version", "thermocline " THERMOCLINE_VERSION);
  thermocline::Command command;
  thermocline::AddRunCommand(program, command);
#ifdef THERMOCLINE_WITH_SERVER
  thermocline::AddServeCommand(program, command);
  thermocline::AddCompleteCommand(program, command);
#endif
  thermocline::AddProfileCommand(program, command);
  thermocline::AddPlanCommand(program, command);
  thermocline::AddConvertCommand(program, command);
  thermocline::AddInspectCommand(program, command);
  thermocline::AddDoctorCommand(program, command);
  thermocline::AddEvalCommand(program, command);
  thermocline::AddBenchCommand(program, command);
  thermocline::AddSynthCommand(program, command);

  try {
    program.parse(argc, argv);
  } catch (const CLI::Success& asked) {  // --help, --version
    return program.exit(asked);
  } catch (const CLI::ParseError& error) {
    fmt::print(stderr, "thermocline: {} (thermocline --help lists what there is)\n", error.what());
    return thermocline::kExitUsage;
  }
  const absl::Status status = command.action();
  if (!status.ok()) fmt::print(stderr, "thermocline: {}\n", thermocline::MessageOf(status));
  return thermocline::ExitCodeOf(status);
}
