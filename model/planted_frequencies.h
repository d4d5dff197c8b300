// Planted frequencies: how often each neuron of a synthetic model is to fire.
// SPDX-License-Identifier: Apache-2.0
//
// Neuron i of a layer fires with probability Phi(t_i), Phi the normal distribution function, and the t_i are
// themselves normal: t = offset + spread * z. The layer's mean is then Phi(offset / sqrt(1 + spread^2)), and
// the spread says how unequal the neurons are.
#pragma once

#include <cstdint>
#include <vector>

#include "core/status.h"

namespace thermocline {

double NormalCdf(double z);
// Its inverse, for p in (0, 1).
double NormalQuantile(double p);

// The least share of a layer's neurons that makes 80 % of its activations.
double ShareFor80(double density, double spread);
// The spread with that share. InvalidArgument naming the limits when no spread has it: all neurons equal give
// 0.8, and with mean density m at least 0.8 * m of them are needed.
absl::StatusOr<double> SpreadForShare(double density, double share);

// t_i of every neuron: the quantiles of the distribution, so that the mean is met, in random order.
std::vector<float> PlantedQuantiles(double density, double spread, int64_t n_neurons, uint64_t seed,
                                    uint64_t stream);

}  // namespace thermocline
