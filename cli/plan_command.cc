// thermocline plan: solve again for another budget, objective or machine, from a saved profile.
// SPDX-License-Identifier: Apache-2.0
#include <absl/strings/str_split.h>

#include <memory>

#include "cli/commands.h"
#include "cli/load_model.h"
#include "cli/planning_flags.h"
#include "cli/size_format.h"
#include "scheduler/request.h"

namespace thermocline {
namespace {

struct Flags {
  std::string directory;
  PlanningFlags planning;
  std::string sweep;  // "1GiB:24GiB:1GiB"
  bool write = false;
  bool json = false;
};

// First, last and step of FIRST:LAST:STEP.
absl::StatusOr<std::vector<int64_t>> SweepBudgetsOf(const std::string& text) {
  constexpr size_t kMostPoints = 256;
  const std::vector<std::string> parts = absl::StrSplit(text, ':');
  if (parts.size() != 3) return FieldError("--sweep", fmt::format("'{}' is not FIRST:LAST:STEP", text));
  std::vector<int64_t> sizes;
  for (const std::string& part : parts) {
    const auto size = ParseSize(part);
    if (!size.ok()) return FieldError("--sweep", MessageOf(size.status()));
    sizes.push_back(*size);
  }
  std::vector<int64_t> budgets;
  for (int64_t budget = sizes[0]; budget <= sizes[1]; budget += sizes[2]) {
    if (budgets.size() == kMostPoints)
      return FieldError("--sweep", fmt::format("has more than {} points", kMostPoints));
    budgets.push_back(budget);
  }
  if (budgets.empty()) return FieldError("--sweep", fmt::format("'{}' holds no budget", text));
  return budgets;
}

void PrintSweep(const std::vector<SweepPoint>& points) {
  constexpr int kWidth = 50;
  double most = 0;
  for (const SweepPoint& point : points) most = std::max(most, point.tokens_per_second);
  fmt::print("{:>12} {:>12} {:>10} {:>12}\n", "GPU memory", "hot neurons", "coverage", "tokens/s");
  for (const SweepPoint& point : points) {
    fmt::print("{:>12} {:>12} {:>9.1f}% {:>12.1f} {:#<{}}\n", FormatBytes(point.budget_bytes),
               point.hot_neurons, 100 * point.held_out_coverage, point.tokens_per_second, "",
               most > 0 ? static_cast<int>(point.tokens_per_second / most * kWidth) : 0);
  }
}

nlohmann::ordered_json SweepJson(const std::vector<SweepPoint>& points) {
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const SweepPoint& point : points) {
    json.push_back({{"budget_bytes", point.budget_bytes},
                    {"hot_neurons", point.hot_neurons},
                    {"held_out_coverage", point.held_out_coverage},
                    {"predicted_tokens_per_second", point.tokens_per_second}});
  }
  return json;
}

absl::Status PlanAgain(const Flags& flags) {
  TC_RETURN_IF_ERROR(ReadPlanningFlags(flags.planning).status());
  std::vector<int64_t> budgets;
  if (!flags.sweep.empty()) {
    TC_ASSIGN_OR_RETURN(budgets, SweepBudgetsOf(flags.sweep));
  }
  const ProfileDirectory directory(flags.directory);
  TC_ASSIGN_OR_RETURN(const ActivationProfile profile, ReadProfile(directory.profile()));
  const std::string hardware_path =
      flags.planning.hardware.empty() ? directory.hardware() : flags.planning.hardware;
  TC_ASSIGN_OR_RETURN(const HardwareProfile hardware, ReadHardware(hardware_path));

  PlanningFlags planning = flags.planning;
  if (!budgets.empty() && planning.gpu_memory.empty())
    planning.gpu_memory = fmt::format("{}", budgets.back());
  TC_ASSIGN_OR_RETURN(const std::optional<PredictorSet> predictors, PredictorsOf(directory, profile));
  TC_ASSIGN_OR_RETURN(const SolvedPlan solved, SolveFor(profile, directory.profile(), hardware, planning,
                                                        predictors ? &*predictors : nullptr));
  if (!budgets.empty()) {
    TC_ASSIGN_OR_RETURN(const std::vector<SweepPoint> points, SweepBudgets(solved.problem, budgets));
    if (flags.json) {
      fmt::print("{}\n", nlohmann::ordered_json{{"sweep", SweepJson(points)}}.dump());
    } else {
      PrintSweep(points);
    }
    return absl::OkStatus();
  }
  if (flags.write) TC_RETURN_IF_ERROR(WritePlan(solved.plan, directory.plan()));
  if (flags.json) {
    fmt::print("{}\n", PlanJson(solved.plan).dump());
  } else {
    PrintPlan(solved.plan);
  }
  return absl::OkStatus();
}

}  // namespace

void AddPlanCommand(CLI::App& program, Command& command) {
  CLI::App* plan =
      program.add_subcommand("plan", "Solve the placement again from a profile directory (what-if)");
  auto flags = std::make_shared<Flags>();
  plan->add_option("DIR", flags->directory, "profile directory")->required();
  AddPlanningFlags(*plan, flags->planning);
  AddKvTypeFlag(*plan, flags->planning.kv_type);
  plan->add_option("--sweep", flags->sweep,
                   "FIRST:LAST:STEP, such as 1GiB:24GiB:1GiB: speed against GPU memory");
  plan->add_flag("--write", flags->write, "keep the plan in the directory");
  plan->add_flag("--json", flags->json, "print one JSON object");
  plan->callback([flags, &command] { command.action = [flags] { return PlanAgain(*flags); }; });
}

}  // namespace thermocline
