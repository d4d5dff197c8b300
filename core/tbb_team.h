// TbbTeam: the parts of a loop on an arena of oneTBB.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <absl/functional/function_ref.h>

#include <memory>

namespace thermocline {

class TbbTeam {
 public:
  explicit TbbTeam(int threads);
  ~TbbTeam();
  TbbTeam(const TbbTeam&) = delete;
  TbbTeam& operator=(const TbbTeam&) = delete;

  // Calls body(part) for every part of [0, parts), parts <= threads, and returns when all are done. Any
  // thread.
  void Run(int parts, absl::FunctionRef<void(int part)> body);

 private:
  struct Arena;
  std::unique_ptr<Arena> arena_;
};

}  // namespace thermocline
