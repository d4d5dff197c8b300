// The search for predictor sizes.
// SPDX-License-Identifier: Apache-2.0
#include "predictor/predictor_sizing.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>

namespace thermocline {
namespace {

// Multiples of 32, a third to a half apart: finer steps differ by less than a training's luck.
constexpr std::array<int64_t, 16> kHiddenSizes = {32,  64,   96,   128,  192,  256,  384,  512,
                                                  768, 1024, 1536, 2048, 3072, 4096, 6144, 8192};
// What a short training's cost may exceed that of the final one by. A sign predictor that is cheaper by less
// is no reason not to train.
constexpr double kShortTrainingExcess = 1.5;
constexpr int64_t kSign = 0;  // stands for a sign predictor among hidden sizes

double ActiveShare(const SizingLayer& layer) { return 1 - layer.sparsity; }

// Sizes whose predictor reads no more than the gates it may save; at least one.
int64_t LargestHidden(const SizingLayer& layer) {
  int64_t largest = kHiddenSizes[0];
  for (const int64_t hidden : kHiddenSizes) {
    if (PredictorBytes(hidden, layer.d_model, layer.d_ff) <= layer.d_ff * layer.bytes.gate) largest = hidden;
  }
  return largest;
}

// One layer's tried sizes and where it stands.
class LayerSearch {
 public:
  LayerSearch(size_t number, const SizingLayer& layer, TryHidden try_hidden)
      : number_(number), layer_(layer), try_hidden_(try_hidden) {
    if (layer.sign_cost) costs_[kSign] = *layer.sign_cost;
  }

  int64_t hidden() const { return hidden_; }
  int64_t bytes() const { return Bytes(hidden_); }
  double cost() const { return costs_.at(hidden_); }

  // To the size of least cost that climbing finds.
  absl::Status Climb() {
    if (layer_.mlp) {
      hidden_ = BaselineHidden(layer_);
      TC_RETURN_IF_ERROR(Cost(hidden_).status());
      // In a skewed layer a few neurons make most activations, and their odds alone say so.
      const int first = layer_.gini > 0.5 ? -1 : 1;
      TC_ASSIGN_OR_RETURN(const bool moved, ClimbTowards(first));
      if (!moved) {
        TC_RETURN_IF_ERROR(ClimbTowards(-first).status());
      }
    }
    if (layer_.sign_cost && (!layer_.mlp || *layer_.sign_cost * kShortTrainingExcess <= cost()))
      hidden_ = kSign;
    return absl::OkStatus();
  }

  // The cheapest smaller choice in cost per byte saved; infinite when there is none.
  struct Move {
    int64_t hidden = 0;
    double price = std::numeric_limits<double>::infinity();
  };
  absl::StatusOr<Move> CheapestShrink() {
    // The next smaller size is tried if it has not been.
    if (layer_.mlp) {
      for (auto size = kHiddenSizes.rbegin(); size != kHiddenSizes.rend(); ++size) {
        if (*size > LargestHidden(layer_) || Bytes(*size) >= bytes()) continue;
        TC_RETURN_IF_ERROR(Cost(*size).status());
        break;
      }
    }
    Move cheapest;
    for (const auto& [hidden, cost_of_it] : costs_) {
      if (Bytes(hidden) >= bytes()) continue;
      const double price = (cost_of_it - cost()) / static_cast<double>(bytes() - Bytes(hidden));
      if (price < cheapest.price) cheapest = {hidden, price};
    }
    return cheapest;
  }
  void Take(const Move& move) { hidden_ = move.hidden; }

 private:
  int64_t Bytes(int64_t hidden) const { return PredictorBytes(hidden, layer_.d_model, layer_.d_ff); }

  absl::StatusOr<double> Cost(int64_t hidden) {
    const auto known = costs_.find(hidden);
    if (known != costs_.end()) return known->second;
    TC_ASSIGN_OR_RETURN(const double cost, try_hidden_(number_, hidden));
    costs_[hidden] = cost;
    return cost;
  }

  // Whether any step that way cost less.
  absl::StatusOr<bool> ClimbTowards(int direction) {
    bool moved = false;
    while (true) {
      const auto here = std::ranges::find(kHiddenSizes, hidden_);
      if (direction < 0 && here == kHiddenSizes.begin()) return moved;
      if (direction > 0 && hidden_ >= LargestHidden(layer_)) return moved;
      const int64_t next = *(here + direction);
      TC_ASSIGN_OR_RETURN(const double cost_there, Cost(next));
      if (cost_there >= cost()) return moved;
      hidden_ = next;
      moved = true;
    }
  }

  const size_t number_;
  const SizingLayer layer_;
  const TryHidden try_hidden_;
  std::map<int64_t, double> costs_;  // by hidden size
  int64_t hidden_ = kSign;
};

// Shrinks the layers until they fit.
absl::Status Fit(std::span<LayerSearch> layers, int64_t most_bytes) {
  while (true) {
    int64_t total = 0;
    for (const LayerSearch& layer : layers) total += layer.bytes();
    if (total <= most_bytes) return absl::OkStatus();
    LayerSearch* cheapest = nullptr;
    LayerSearch::Move move;
    for (LayerSearch& layer : layers) {
      TC_ASSIGN_OR_RETURN(const LayerSearch::Move of_layer, layer.CheapestShrink());
      if (of_layer.price >= move.price) continue;
      move = of_layer;
      cheapest = &layer;
    }
    if (cheapest == nullptr) {
      return FailedPrecondition("the smallest predictors take {} bytes, the limit is {}", total, most_bytes);
    }
    cheapest->Take(move);
  }
}

}  // namespace

double PredictedCost(const PredictorFigures& figures, int64_t predictor_bytes, int64_t d_ff,
                     const NeuronBytes& bytes) {
  const double marked = figures.marked * static_cast<double>(d_ff);
  return static_cast<double>(predictor_bytes) + marked * static_cast<double>(bytes.gate) +
         marked * figures.precision * static_cast<double>(bytes.up_down);
}

int64_t PredictorBytes(int64_t hidden, int64_t d_model, int64_t d_ff) {
  const LayerPredictor predictor{.kind = hidden == kSign ? PredictorKind::kSign : PredictorKind::kMlp,
                                 .hidden = hidden};
  return predictor.SizeBytes(d_model, d_ff);
}

int64_t BaselineHidden(const SizingLayer& layer) {
  // Half of what the active neurons read: sparse layers have little to predict, and a predictor dearer than
  // the neurons it finds cannot pay. Skewed layers need less of it.
  const double active_bytes = ActiveShare(layer) * static_cast<double>(layer.d_ff) *
                              static_cast<double>(layer.bytes.gate + layer.bytes.up_down);
  const double wanted = 0.5 * active_bytes * (1.25 - layer.gini);
  int64_t baseline = kHiddenSizes[0];
  for (const int64_t hidden : kHiddenSizes) {
    const auto bytes = static_cast<double>(PredictorBytes(hidden, layer.d_model, layer.d_ff));
    if (bytes <= wanted && hidden <= LargestHidden(layer)) baseline = hidden;
  }
  return baseline;
}

absl::StatusOr<std::vector<SizedLayer>> SizePredictors(std::span<const SizingLayer> layers,
                                                       int64_t most_bytes, TryHidden try_hidden) {
  std::vector<LayerSearch> searches;
  for (const SizingLayer& layer : layers) {
    searches.emplace_back(searches.size(), layer, try_hidden);
    TC_RETURN_IF_ERROR(searches.back().Climb());
  }
  TC_RETURN_IF_ERROR(Fit(searches, most_bytes));
  std::vector<SizedLayer> sized;
  for (const LayerSearch& search : searches) {
    sized.push_back({.kind = search.hidden() == kSign ? PredictorKind::kSign : PredictorKind::kMlp,
                     .hidden = search.hidden(),
                     .bytes = search.bytes()});
  }
  return sized;
}

}  // namespace thermocline
