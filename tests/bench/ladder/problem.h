// A problem of a family and its rungs, ready to be verified and timed.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "core/status.h"
#include "tests/bench/ladder/rungs.h"

namespace thermocline::ladder {

struct ProblemRung {
  std::string name;
  std::string isa;    // empty for scalar rungs and peers
  bool peer = false;  // somebody else's code
  std::function<void()> run;
  std::function<absl::Status()> verify;  // runs it and compares with the scalar rung; null for a copy
  bool timed = true;                     // false: too slow at this size
};

// Owns its data through the functions of its rungs.
struct Problem {
  std::string family;              // "relu"
  std::string name;                // "1024 x 1024 floats": of one of the family's problems
  double operations = 0;           // of one call, by the family's plainest formula
  double bytes = 0;                // of one call: inputs read once, outputs written once
  bool memory_bound = false;       // the copy is its floor rather than the peak
  std::vector<ProblemRung> rungs;  // the first is the scalar one
};

// What is to be climbed: the scalar rungs, those of the sets, and peers.
struct Climb {
  std::span<const SimdRungs> sets;
  bool check = false;  // small and ragged sizes
};

using ProblemMaker = std::function<absl::StatusOr<Problem>()>;

// Made one after the other, since the large ones fill much memory.
std::vector<ProblemMaker> ReluProblems(const Climb& climb);
std::vector<ProblemMaker> MatMulProblems(const Climb& climb);
std::vector<ProblemMaker> Matrix4Problems(const Climb& climb);
std::vector<ProblemMaker> BoxFilterProblems(const Climb& climb);

// OpenBLAS's product beside ours, by its kernels for the same instruction set; nothing where the library is
// not installed. Loaded by the first call.
std::vector<MatMulRung> OpenBlasRungs(std::string_view isa);
// Version, options and kernels, or empty.
std::string DescribeOpenBlas(std::string_view isa);

// ---- For makers

// Uniform in [-1, 1).
void FillRandom(std::span<float> values, uint64_t seed);

// Internal, naming the first element that is further from `expected` than `tolerance(index)`. Equal
// infinities are equal, and so are NaNs.
absl::Status CompareFloats(std::span<const float> actual, std::span<const float> expected,
                           const std::function<double(int64_t index)>& tolerance);

// `copy` peers: what moving the problem's bytes takes, half of them read and half written.
absl::Status AddCopies(const Climb& climb, Problem& problem);

}  // namespace thermocline::ladder
