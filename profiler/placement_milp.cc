// The placement program in CBC's terms.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/placement_milp.h"

#include <CbcHeuristic.hpp>
#include <CbcHeuristicDiveFractional.hpp>
#include <CbcModel.hpp>
#include <CglGomory.hpp>
#include <CglKnapsackCover.hpp>
#include <CglMixedIntegerRounding2.hpp>
#include <CoinError.hpp>
#include <CoinPackedMatrix.hpp>
#include <OsiClpSolverInterface.hpp>
#include <algorithm>
#include <cmath>
#include <exception>
#include <numeric>
#include <utility>

namespace thermocline {
namespace {

// The solver's tolerances are absolute; costs are scaled so that the dearest plan costs about this much.
constexpr double kScaledCost = 1000;
constexpr double kGapTolerance = 1e-9;  // below it a plan counts as optimal
// Ends hopeless proofs at the same place on every machine, which a clock would not. A node's work grows with
// the columns, so this is for their product; seconds for the largest models.
constexpr int64_t kMostColumnNodes = 4'000'000;
constexpr double kLeastShare = 1e-7;  // of a column that the relaxation uses
constexpr int kRootOnly = -99;        // how often to cut, in CBC's terms

// One column: a layer's choice.
struct Column {
  int layer = 0;
  LayerChoice choice;
  double cost = 0;
};

// Counts on one accelerator that are worth a column, ascending, without 0.
std::vector<int64_t> Counts(const PlacementModel& model, int layer, int device,
                            const std::vector<LayerChoices>& starts) {
  const int64_t n = model.n_neurons();
  const int64_t group = model.problem().group_neurons;
  std::vector<int64_t> counts = {n};
  const SplitRange range = model.split_range(layer, device);
  if (range.least <= range.most) {
    counts.push_back(range.least);
    counts.push_back(range.most);
    for (int64_t c = (range.least + group - 1) / group * group; c <= range.most; c += group) {
      counts.push_back(c);
    }
    const int64_t balance = model.BalancePoint(layer, device);
    counts.push_back(std::clamp(balance - 1, range.least, range.most));
    counts.push_back(std::clamp(balance, range.least, range.most));
  }
  for (const LayerChoices& start : starts) {
    if (start[layer].hot > 0 && start[layer].device == device) counts.push_back(start[layer].hot);
  }
  std::sort(counts.begin(), counts.end());
  counts.erase(std::unique(counts.begin(), counts.end()), counts.end());
  return counts;
}

// All columns, layer by layer; of a layer and accelerator only those that cost less than every smaller count.
std::vector<Column> MakeColumns(const PlacementModel& model, const std::vector<LayerChoices>& starts) {
  std::vector<Column> columns;
  for (int l = 0; l < model.n_layers(); ++l) {
    const double none = model.Cost(l, {});
    columns.push_back({l, {}, none});
    for (int device = 1; device < model.n_devices(); ++device) {
      double best = none;
      for (const int64_t count : Counts(model, l, device, starts)) {
        if (count > model.free_bytes(device) / model.neuron_bytes(l)) break;
        const LayerChoice choice{device, count};
        const double cost = model.Cost(l, choice);
        if (cost >= best) continue;
        best = cost;
        columns.push_back({l, choice, cost});
      }
    }
  }
  return columns;
}

// The columns that are no dearer and no larger than the choices: each exists, as only dominated ones lack.
std::vector<double> AsSolution(const std::vector<Column>& columns, const LayerChoices& choices) {
  std::vector<double> solution(columns.size());
  std::vector<size_t> taken(choices.size());
  for (size_t c = 0; c < columns.size(); ++c) {
    const Column& column = columns[c];
    const LayerChoice& wanted = choices[column.layer];
    const bool smaller = column.choice.device == wanted.device && column.choice.hot <= wanted.hot;
    if (column.choice.hot == 0 || smaller) taken[column.layer] = c;
  }
  for (const size_t c : taken) solution[c] = 1;
  return solution;
}

class Program {
 public:
  Program(const PlacementModel& model, const std::vector<LayerChoices>& starts)
      : model_(model), columns_(MakeColumns(model, starts)) {
    double dearest = 0;
    for (const Column& column : columns_) dearest = std::max(dearest, std::abs(column.cost));
    if (dearest > 0) scale_ = kScaledCost / dearest / model.n_layers();
    Load();
  }

  absl::StatusOr<MilpResult> Solve(const std::vector<LayerChoices>& starts) {
    solver_.initialSolve();
    if (!solver_.isProvenOptimal()) return Internal("the solver failed on the relaxation");
    const double root_bound = solver_.getObjValue();
    CbcModel cbc(solver_);
    cbc.setLogLevel(0);
    cbc.solver()->messageHandler()->setLogLevel(0);
    cbc.setRandomSeed(1);
    cbc.setAllowableFractionGap(kGapTolerance);
    cbc.setAllowableGap(0);
    cbc.setMaximumNodes(static_cast<int>(kMostColumnNodes / std::ssize(columns_)) + 1);
    cbc.setUseElapsedTime(true);
    cbc.setMaximumSeconds(model_.problem().time_limit_seconds);
    CglGomory gomory;
    CglKnapsackCover cover;
    CglMixedIntegerRounding2 rounding_cuts;
    cbc.addCutGenerator(&gomory, kRootOnly, "gomory");
    cbc.addCutGenerator(&cover, kRootOnly, "cover");
    cbc.addCutGenerator(&rounding_cuts, kRootOnly, "rounding");
    CbcRounding rounding(cbc);
    CbcHeuristicDiveFractional dive(cbc);
    cbc.addHeuristic(&rounding);
    cbc.addHeuristic(&dive);
    std::vector<double> best = AsSolution(columns_, Round(solver_.getColSolution()));
    for (const LayerChoices& start : starts) {
      std::vector<double> solution = AsSolution(columns_, start);
      if (ScaledCost(solution) < ScaledCost(best)) best = std::move(solution);
    }
    cbc.setBestSolution(best.data(), static_cast<int>(best.size()), ScaledCost(best));
    cbc.branchAndBound();
    if (cbc.bestSolution() != nullptr) {
      const std::vector<double> found(cbc.bestSolution(), cbc.bestSolution() + columns_.size());
      // The solver's tolerances may admit what the memory does not.
      if (Fits(Choices(found)) && ScaledCost(found) < ScaledCost(best)) best = found;
    }
    const double bound = cbc.isProvenOptimal() ? ScaledCost(best) : cbc.getBestPossibleObjValue();
    return MilpResult{Choices(best), std::max(root_bound, bound) / scale_};
  }

 private:
  void Load() {
    const int n_layers = model_.n_layers();
    const int n_rows = n_layers + model_.n_devices() - 1;
    // Memory in units of the neurons' common divisor: whole numbers, so that tolerances hide no byte.
    int64_t divisor = 0;
    for (int l = 0; l < n_layers; ++l) divisor = std::gcd(divisor, model_.neuron_bytes(l));
    std::vector<double> row_lower(n_rows, 1), row_upper(n_rows, 1);
    for (int device = 1; device < model_.n_devices(); ++device) {
      row_lower[n_layers + device - 1] = 0;
      row_upper[n_layers + device - 1] = static_cast<double>(model_.free_bytes(device) / divisor);
    }
    std::vector<CoinBigIndex> starts = {0};
    std::vector<int> rows;
    std::vector<double> elements, costs;
    for (const Column& column : columns_) {
      rows.push_back(column.layer);
      elements.push_back(1);
      if (column.choice.hot > 0) {
        rows.push_back(n_layers + column.choice.device - 1);
        elements.push_back(static_cast<double>(column.choice.hot) *
                           static_cast<double>(model_.neuron_bytes(column.layer) / divisor));
      }
      starts.push_back(static_cast<CoinBigIndex>(rows.size()));
      costs.push_back(column.cost * scale_);
    }
    const int n_columns = static_cast<int>(columns_.size());
    const std::vector<double> lower(n_columns, 0), upper(n_columns, 1);
    solver_.messageHandler()->setLogLevel(0);
    solver_.setHintParam(OsiDoReducePrint, true, OsiHintTry);
    solver_.loadProblem(n_columns, n_rows, starts.data(), rows.data(), elements.data(), lower.data(),
                        upper.data(), costs.data(), row_lower.data(), row_upper.data());
    for (int c = 0; c < n_columns; ++c) solver_.setInteger(c);
  }

  double ScaledCost(const std::vector<double>& solution) const {
    double cost = 0;
    for (size_t c = 0; c < columns_.size(); ++c) {
      if (solution[c] > 0.5) cost += columns_[c].cost * scale_;
    }
    return cost;
  }

  // A relaxation's layers that have one choice keep it; the few others take, in order, the cheapest column
  // that still fits.
  LayerChoices Round(const double* solution) const {
    LayerChoices choices(model_.n_layers());
    for (size_t c = 0; c < columns_.size(); ++c) {
      if (solution[c] > 1 - kLeastShare) choices[columns_[c].layer] = columns_[c].choice;
    }
    if (!Fits(choices)) return LayerChoices(model_.n_layers());
    std::vector<bool> mixed(model_.n_layers());
    for (size_t c = 0; c < columns_.size(); ++c) {
      if (solution[c] > kLeastShare && solution[c] < 1 - kLeastShare) mixed[columns_[c].layer] = true;
    }
    for (const Column& column : columns_) {
      LayerChoice& choice = choices[column.layer];
      if (!mixed[column.layer] || column.cost >= model_.Cost(column.layer, choice)) continue;
      const LayerChoice before = std::exchange(choice, column.choice);
      if (!Fits(choices)) choice = before;
    }
    return choices;
  }

  bool Fits(const LayerChoices& choices) const {
    const std::vector<int64_t> left = model_.Left(choices);
    return std::all_of(left.begin(), left.end(), [](int64_t bytes) { return bytes >= 0; });
  }

  LayerChoices Choices(const std::vector<double>& solution) const {
    LayerChoices choices(model_.n_layers());
    for (size_t c = 0; c < columns_.size(); ++c) {
      if (solution[c] > 0.5) choices[columns_[c].layer] = columns_[c].choice;
    }
    return choices;
  }

  const PlacementModel& model_;
  std::vector<Column> columns_;
  double scale_ = 1;
  OsiClpSolverInterface solver_;
};

}  // namespace

absl::StatusOr<MilpResult> SolveMilp(const PlacementModel& model, const std::vector<LayerChoices>& starts) {
  try {
    return Program(model, starts).Solve(starts);
  } catch (const CoinError& error) {
    return Internal("the solver failed in {}: {}", error.methodName(), error.message());
  } catch (const std::exception& error) {
    return Internal("the solver failed: {}", error.what());
  }
}

}  // namespace thermocline
