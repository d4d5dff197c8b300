// ActivationProfile: how often each neuron was active, and its file profile.pb.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/status.h"
#include "model/config.h"

namespace thermocline {

struct NeuronCounts {
  std::vector<uint64_t> active;       // (d_ff), tokens for which the neuron was active
  std::vector<double> magnitude_sum;  // (d_ff), sum of the activation's magnitude over those tokens
};

struct LayerActivations {
  NeuronCounts profiled;
  NeuronCounts held_out;
};

// A place in a corpus, and how its windows were cut and split: what going on needs to count as one run would
// have.
struct CorpusPosition {
  std::string file;  // name without folders; empty: nowhere to go on from (new and merged profiles)
  int64_t size_bytes = 0;
  int64_t consumed_bytes = 0;   // start of the piece or line to go on with; all before is counted
  int64_t consumed_tokens = 0;  // of that piece or line, counted already
  int64_t windows = 0;          // before this place; the next window's number
  int64_t window_tokens = 0;
  int64_t held_out_every = 0;
  bool operator==(const CorpusPosition&) const = default;
};

// The same parts as a CUDA device keeps them, whose kernels do not know every type of a file.
struct GpuFootprint {
  int64_t neuron_bytes = 0;
  int64_t attention_bytes = 0;
  int64_t head_bytes = 0;
  int64_t scratch_bytes = 0;  // 0: the profile does not say
  bool operator==(const GpuFootprint&) const = default;
};

// Bytes of a model's parts, kept with its profile so that a plan can be solved again without the model.
struct ModelFootprint {
  int64_t neuron_bytes = 0;        // of one neuron's gate, up and down rows
  int64_t attention_bytes = 0;     // of one layer's attention weights and norms
  int64_t kv_bytes_per_token = 0;  // of one layer's keys and values in F32
  int64_t head_bytes = 0;          // of head and final norm
  int64_t context_tokens = 0;      // the model's context
  int64_t scratch_bytes = 0;  // of the emulated accelerator's activations, whatever it holds of the model
  GpuFootprint gpu;
  bool reads_every_neuron = false;  // whether every token does: no mode leaves any out
  bool operator==(const ModelFootprint&) const = default;
};

struct ActivationProfile {
  std::string model_sha256;
  std::string architecture;
  std::string activation;
  double threshold = 0;  // active: |activation| > threshold
  int64_t d_model = 0;
  int64_t d_ff = 0;
  int64_t profiled_tokens = 0;
  int64_t held_out_tokens = 0;
  std::vector<LayerActivations> layers;  // index is the layer's number
  CorpusPosition corpus;
  ModelFootprint footprint;

  // Empty counts of the given shape.
  void Resize(int64_t n_layers, int64_t d_ff_per_layer);
};

// No counts yet, in the model's shape.
ActivationProfile EmptyProfile(const ModelConfig& config, std::string model_sha256, double threshold);

// Whom a profile or plan must belong to; a mismatch is refused naming both sides.
struct ModelIdentity {
  std::string sha256;
  int64_t n_layers = 0;
  int64_t d_model = 0;
  int64_t d_ff = 0;
};

// Written beside and renamed, so that a failure leaves the old file whole. The same bytes for the same
// profile.
absl::Status WriteProfile(const ActivationProfile& profile, const std::string& path);
// InvalidArgument naming path and field for a truncated file, counts above the tokens, missing or doubled
// layers, sizes that differ.
absl::StatusOr<ActivationProfile> ReadProfile(const std::string& path);
// FailedPrecondition naming path and both hashes, or both shapes.
absl::Status CheckBelongs(const ActivationProfile& profile, const ModelIdentity& model,
                          const std::string& path);
// Sums of two profiles of the same model, shape, activation and threshold; FailedPrecondition naming the
// first difference, OutOfRange for sums that do not fit. The result has no place in a corpus to go on from.
absl::StatusOr<ActivationProfile> MergeProfiles(const ActivationProfile& a, const ActivationProfile& b);

}  // namespace thermocline
