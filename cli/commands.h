// The subcommands of the program.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

#include "core/status.h"

namespace thermocline {

// Each adds its subcommand to the program; parsing sets `action` to what then runs.
struct Command {
  std::function<absl::Status()> action;
};

void AddRunCommand(CLI::App& program, Command& command);
void AddServeCommand(CLI::App& program, Command& command);
void AddCompleteCommand(CLI::App& program, Command& command);
void AddConvertCommand(CLI::App& program, Command& command);
void AddInspectCommand(CLI::App& program, Command& command);
void AddDoctorCommand(CLI::App& program, Command& command);
void AddEvalCommand(CLI::App& program, Command& command);
void AddBenchCommand(CLI::App& program, Command& command);
void AddProfileCommand(CLI::App& program, Command& command);
void AddPlanCommand(CLI::App& program, Command& command);
void AddSynthCommand(CLI::App& program, Command& command);

}  // namespace thermocline
