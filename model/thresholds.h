// ThresholdSet: magnitudes below which inputs of products are left out, and their file thresholds.json.
// thresholds.json.
// SPDX-License-Identifier: Apache-2.0
//
// What is left out counts as zero, so that the columns of weights that it would multiply need not be read.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"
#include "model/activation_profile.h"

namespace thermocline {

enum class ThresholdMethod {
  kTeal,     // inputs of every product, each as much as it costs little (TEAL, 2024)
  kUniform,  // the same share of every input
  kCats,     // the activated gate alone (CATS, 2024)
};
std::string_view NameOf(ThresholdMethod method);  // "teal", "uniform", "cats"
absl::StatusOr<ThresholdMethod> ParseThresholdMethod(std::string_view name);

// What a threshold is for. Products of the same input share it, and with it the columns that they read.
enum class ThresholdSite {
  kAttention,        // input of queries, keys and values: (d_model)
  kAttentionOutput,  // what attention's last product multiplies: (n_heads * d_head)
  kFeedForward,      // input of gate and up: (d_model)
  kDown,             // the hidden layer: (d_ff)
  kGate,  // activation(gate), no product's input: where it is left out, so are up's row and down's column
};
inline constexpr size_t kThresholdSites = 5;
std::string_view NameOf(
    ThresholdSite site);  // "attention", "attention_output", "feed_forward", "down", "gate"

struct SiteThreshold {
  float magnitude = 0;  // what is below is left out; 0: nothing is
  double share = 0;     // of the values seen while profiling that are below
  bool operator==(const SiteThreshold&) const = default;
};

struct LayerThresholds {
  std::array<SiteThreshold, kThresholdSites> sites;
  double skipped = 0;  // share of the layer's weights that is then not read, as far as the values seen tell
  double error = 0;    // of the layer's output, relative, where the method measures it

  SiteThreshold& at(ThresholdSite site) { return sites[static_cast<size_t>(site)]; }
  const SiteThreshold& at(ThresholdSite site) const { return sites[static_cast<size_t>(site)]; }
  float magnitude(ThresholdSite site) const { return at(site).magnitude; }
  bool operator==(const LayerThresholds&) const = default;
};

struct ThresholdSet {
  ModelIdentity model;
  ThresholdMethod method = ThresholdMethod::kTeal;
  double target = 0;                    // share of the weights to leave out; of kCats of the neurons
  int64_t tokens = 0;                   // seen while profiling
  std::vector<LayerThresholds> layers;  // index is the layer's number

  double skipped() const;  // mean over the layers, which are alike
};

// The same bytes for the same thresholds. Written beside and renamed.
absl::Status WriteThresholds(const ThresholdSet& thresholds, const std::string& path);

// FailedPrecondition naming path and both hashes, or both shapes, for another model's. InvalidArgument naming
// path, layer and field for what is missing, of another kind or out of range.
absl::StatusOr<ThresholdSet> ReadThresholds(const std::string& path, const ModelIdentity& model);

}  // namespace thermocline
