// The kernel ladder: every rung of every family, verified against the scalar one and timed against the
// machine's peaks.
// SPDX-License-Identifier: Apache-2.0
//
// ladder_bench [--check] [--isa NAME] [--family NAME ...] [--repetitions N] [--json FILE]. One thread. Exits
// with 1 where a rung is wrong.
#include <hwy/highway.h>

#include <CLI/CLI.hpp>

#include "core/cpu_info.h"
#include "tests/bench/ladder/measure.h"
#include "tests/bench/ladder/report.h"
#include "tests/bench/result_json.h"

namespace thermocline::ladder {
namespace {

using nlohmann::ordered_json;

struct Family {
  std::string_view name;
  std::vector<ProblemMaker> (*problems)(const Climb& climb);
};
constexpr Family kFamilies[] = {{"relu", ReluProblems},
                                {"matmul", MatMulProblems},
                                {"matrix4", Matrix4Problems},
                                {"box_filter", BoxFilterProblems}};

struct Flags {
  bool check = false;
  std::string isa;
  std::vector<std::string> families;
  TimingOptions timing;
  std::string json_path;
};

// InvalidArgument, naming what there is.
absl::StatusOr<std::span<const SimdRungs>> ChooseSets(const Flags& flags) {
  const std::vector<SimdRungs>& sets = AvailableSimdRungs();
  if (flags.isa.empty())
    return std::span(sets).first(flags.check ? sets.size() : std::min<size_t>(1, sets.size()));
  for (const SimdRungs& set : sets)
    if (set.isa == flags.isa) return std::span(&set, 1);
  std::vector<std::string_view> names;
  for (const SimdRungs& set : sets) names.push_back(set.isa);
  return InvalidArgument("instruction set '{}' is not available here; available are {}", flags.isa,
                         fmt::join(names, ", "));
}

absl::StatusOr<std::vector<ProblemMaker>> ChooseProblems(const Flags& flags, const Climb& climb) {
  std::vector<ProblemMaker> makers;
  for (const std::string& name : flags.families)
    if (std::ranges::find(kFamilies, name, &Family::name) == std::end(kFamilies))
      return InvalidArgument("family '{}' is unknown, known are relu, matmul, matrix4, box_filter", name);
  for (const Family& family : kFamilies) {
    if (!flags.families.empty() && std::ranges::find(flags.families, family.name) == flags.families.end())
      continue;
    std::ranges::move(family.problems(climb), std::back_inserter(makers));
  }
  return makers;
}

absl::Status Check(const Climb& climb, const std::vector<ProblemMaker>& makers) {
  size_t rungs = 0;
  for (const ProblemMaker& make : makers) {
    TC_ASSIGN_OR_RETURN(const Problem problem, make());
    TC_RETURN_IF_ERROR(VerifyProblem(problem));
    rungs += problem.rungs.size();
  }
  std::vector<std::string_view> sets = {"scalar"};
  for (const SimdRungs& set : climb.sets) sets.push_back(set.isa);
  fmt::print("{} problems, {} rungs ({}): all give what the scalar rungs give\n", makers.size(), rungs,
             fmt::join(sets, ", "));
  return absl::OkStatus();
}

ordered_json HardwareJson(const Climb& climb, const MachinePeaks& peaks) {
  const CpuInfo cpu = ReadCpuInfo();
  return {{"cpu", cpu.model_name},
          {"isa", climb.sets.front().isa},
          {"threads", 1},
          {"last_level_cache_bytes", cpu.last_level_cache_bytes},
          {"peak_gflops", bench::ToJson(peaks.gflops)},
          {"read_gb_per_second", bench::ToJson(peaks.read_gb_per_second)},
          {"copy_gb_per_second", bench::ToJson(peaks.copy_gb_per_second)}};
}

absl::Status Time(const Flags& flags, const Climb& climb, const std::vector<ProblemMaker>& makers) {
  if (climb.sets.empty())
    return FailedPrecondition("this machine has no instruction set that the ladder knows");
  TC_ASSIGN_OR_RETURN(const MachinePeaks peaks, MeasurePeaks(climb.sets.front()));
  const std::string openblas = DescribeOpenBlas(climb.sets.front().isa);
  ordered_json json = {{"benchmark", "ladder"},
                       {"build", bench::BuildJson()},
                       {"hardware", HardwareJson(climb, peaks)},
                       {"openblas", openblas.empty() ? ordered_json(nullptr) : ordered_json(openblas)}};
  fmt::print(
      "{} | {} | peak {:.1f} GFLOP/s, reads {:.1f} GB/s, copies {:.1f} GB/s (read plus written), one "
      "thread\n",
      json["hardware"]["cpu"].get<std::string>(), climb.sets.front().isa, peaks.gflops.median(),
      peaks.read_gb_per_second.median(), peaks.copy_gb_per_second.median());
  fmt::print("{}\n",
             openblas.empty() ? "OpenBLAS is not installed: the matrix product has no peer" : openblas);
  ordered_json& problems = json["problems"] = ordered_json::array();
  for (const ProblemMaker& make : makers) {
    TC_ASSIGN_OR_RETURN(const Problem problem, make());
    TC_RETURN_IF_ERROR(VerifyProblem(problem));
    problems.push_back(TimeProblem(problem, peaks, flags.timing));
    PrintProblem(problems.back());
  }
  json["goals"] = Goals(problems);
  PrintGoals(json["goals"]);
  return flags.json_path.empty() ? absl::OkStatus() : bench::WriteJson(flags.json_path, json);
}

absl::Status Run(const Flags& flags) {
  TC_ASSIGN_OR_RETURN(const std::span<const SimdRungs> sets, ChooseSets(flags));
  const Climb climb = {.sets = sets, .check = flags.check};
  TC_ASSIGN_OR_RETURN(const std::vector<ProblemMaker> makers, ChooseProblems(flags, climb));
  return flags.check ? Check(climb, makers) : Time(flags, climb, makers);
}

}  // namespace
}  // namespace thermocline::ladder

int main(int argc, char** argv) {
  CLI::App program("Climbs the kernel ladder: verifies and times each step of hand optimisation");
  thermocline::ladder::Flags flags;
  program.add_flag("--check", flags.check, "only verify, on small and ragged sizes, every instruction set");
  program.add_option("--isa", flags.isa,
                     "instruction set of the SIMD rungs; default: the best, or all with --check");
  program.add_option("--family", flags.families, "relu, matmul, matrix4 or box_filter; default: all");
  program.add_option("--repetitions", flags.timing.repetitions, "samples of each rung")
      ->check(CLI::Range(1, 1000));
  program.add_option("--json", flags.json_path, "file for the result with raw samples");
  CLI11_PARSE(program, argc, argv);
  const absl::Status status = thermocline::ladder::Run(flags);
  if (status.ok()) return 0;
  fmt::print(stderr, "ladder_bench: {}\n", thermocline::MessageOf(status));
  return 1;
}
