// ActivationSamples: inputs of the feed-forward blocks and which neurons they made active.
// SPDX-License-Identifier: Apache-2.0
//
// Two parts: tokens to train with, and held-out tokens to judge by. Each part holds up to a given number of
// tokens; of more it keeps a uniform sample (a reservoir with a fixed seed), the same tokens in every layer.
//
// Inputs are kept as BF16: its range is that of F32, so that no model's input overflows and no sign is lost,
// and its rounding changes a neuron's dot product by about a thousandth of its usual size, far less than a
// predictor can tell apart. Whether a neuron was active is kept as it was, one bit each.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/matrix.h"
#include "core/status.h"
#include "kernels_cpu/activation.h"
#include "kernels_cpu/sparse_ffn.h"

namespace thermocline {

enum class SamplePart { kTraining, kHeldOut };

// Tokens of one layer and part, borrowed.
struct LayerSamples {
  MatrixView<const uint16_t> x;       // (n_tokens, d_model), BF16
  MatrixView<const uint64_t> active;  // (n_tokens, BitWords(d_ff)); bits past d_ff are 0
  int64_t tokens() const { return x.rows; }
};

struct SampleOptions {
  int64_t n_layers = 0;
  int64_t d_model = 0;
  int64_t d_ff = 0;
  int64_t training_tokens = 0;  // most tokens kept of each part; at least 1
  int64_t held_out_tokens = 0;
  int64_t memory_limit_bytes = int64_t{1} << 30;  // samples that may take more live in a file
  std::string spool_folder;  // where that file goes; it has no name, so that it vanishes with the samples
};

class ActivationSamples {
 public:
  // InvalidArgument for sizes out of range; ResourceExhausted when the memory is not to be had;
  // FailedPrecondition naming the folder when the file cannot be made.
  static absl::StatusOr<ActivationSamples> Create(const SampleOptions& options);

  ActivationSamples(ActivationSamples&&) noexcept;
  ActivationSamples& operator=(ActivationSamples&&) noexcept;
  ~ActivationSamples();

  // Adds the next tokens of `part` to one layer. Every layer must get the same tokens; how they are cut into
  // calls does not matter. x: (n_tokens, d_model); active: (n_tokens, BitWords(d_ff)). InvalidArgument naming
  // layer and token for an input that is not finite; ResourceExhausted naming the folder when the disk is
  // full. After an error the samples are of no use.
  absl::Status Append(SamplePart part, int64_t layer, MatrixView<const float> x,
                      MatrixView<const uint64_t> active);
  // The same from gate: (n_tokens, d_ff), before the activation: |activation(gate)| > threshold, which is not
  // negative, is active. InvalidArgument for a gate that is NaN as well.
  absl::Status Append(SamplePart part, int64_t layer, MatrixView<const float> x, MatrixView<const float> gate,
                      const ActivationFunction& activation, float threshold);

  // What is kept of the tokens appended so far. Valid until the samples are destroyed.
  LayerSamples Layer(SamplePart part, int64_t layer) const;
  int64_t tokens(SamplePart part) const;  // kept, in the layer that has least
  int64_t n_layers() const;
  int64_t d_model() const;
  int64_t d_ff() const;
  bool spooled() const;  // in a file

 private:
  struct State;
  explicit ActivationSamples(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace thermocline
