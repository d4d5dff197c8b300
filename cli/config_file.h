// --config FILE: a command's flags from a TOML file.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>

namespace thermocline {

// Adds --config to a command that has no options but --help yet. The file has one key for each flag, with the
// flag's name and without dashes ("max-queued = 64"); a positional argument's key is its name in lower case
// ("model"). Strings, numbers and, for flags without a value, booleans; lists for flags that may be repeated.
// What the command line says too wins over the file. Whatever is wrong with the file is a CLI::ConfigError
// that names file, line and key.
void AddConfigFlag(CLI::App& command);

}  // namespace thermocline
