// Planted frequencies: the normal distribution and the search for the spread.
// SPDX-License-Identifier: Apache-2.0
#include "model/planted_frequencies.h"

#include <cmath>
#include <numbers>
#include <utility>

#include "model/synthetic_random.h"

namespace thermocline {
namespace {

constexpr int kGrid = 2000;          // points of the distribution over neurons
constexpr double kMostSpread = 30;   // beyond it nearly every neuron always or never fires
constexpr double kShareOfAll = 0.8;  // of the activations

// Standard normal deviates of the grid's points, descending.
const std::vector<double>& Grid() {
  static const std::vector<double> grid = [] {
    std::vector<double> deviates(kGrid);
    for (int i = 0; i < kGrid; ++i) deviates[static_cast<size_t>(i)] = -NormalQuantile((i + 0.5) / kGrid);
    return deviates;
  }();
  return grid;
}

double Offset(double density, double spread) {
  return NormalQuantile(density) * std::sqrt(1 + spread * spread);
}

}  // namespace

double NormalCdf(double z) { return 0.5 * std::erfc(-z / std::numbers::sqrt2); }

double NormalQuantile(double p) {
  TC_CHECK(p > 0 && p < 1);
  double low = -40, high = 40;
  for (int i = 0; i < 60; ++i) {
    const double middle = (low + high) / 2;
    (NormalCdf(middle) < p ? low : high) = middle;
  }
  return (low + high) / 2;
}

double ShareFor80(double density, double spread) {
  const double offset = Offset(density, spread);
  std::vector<double> frequencies(kGrid);  // descending
  double all = 0;
  for (int i = 0; i < kGrid; ++i) {
    frequencies[static_cast<size_t>(i)] = NormalCdf(offset + spread * Grid()[static_cast<size_t>(i)]);
    all += frequencies[static_cast<size_t>(i)];
  }
  double missing = kShareOfAll * all;
  for (int i = 0; i < kGrid; ++i) {
    const double frequency = frequencies[static_cast<size_t>(i)];
    if (missing <= frequency) return (i + missing / frequency) / kGrid;
    missing -= frequency;
  }
  return 1;
}

absl::StatusOr<double> SpreadForShare(double density, double share) {
  if (share == kShareOfAll) return 0;
  const double least = ShareFor80(density, kMostSpread);
  if (!(share > least && share < kShareOfAll)) {  // true for NaN
    return InvalidArgument("is {}, the limit is {:.3f} to {} where {:.3g} of the neurons fire", share, least,
                           kShareOfAll, density);
  }
  double low = 0, high = kMostSpread;
  for (int i = 0; i < 40; ++i) {
    const double middle = (low + high) / 2;
    (ShareFor80(density, middle) > share ? low : high) = middle;
  }
  return (low + high) / 2;
}

std::vector<float> PlantedQuantiles(double density, double spread, int64_t n_neurons, uint64_t seed,
                                    uint64_t stream) {
  const double offset = Offset(density, spread);
  std::vector<float> quantiles(static_cast<size_t>(n_neurons));
  for (size_t i = 0; i < quantiles.size(); ++i) {
    const double p = (static_cast<double>(i) + 0.5) / static_cast<double>(n_neurons);
    quantiles[i] = static_cast<float>(offset + spread * NormalQuantile(p));
  }
  RandomRow random(seed, stream, 0);
  for (size_t i = quantiles.size(); i > 1; --i) std::swap(quantiles[i - 1], quantiles[random.Below(i)]);
  return quantiles;
}

}  // namespace thermocline
