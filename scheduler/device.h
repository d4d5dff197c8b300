// Device: holds a part of the model and runs the operators of a step on it.
// SPDX-License-Identifier: Apache-2.0
//
// A device has its own copy of the step's activations: the residual stream where it computes a layer's
// attention, the feed-forward block's input, its partial sum of the block's output. What another device needs
// travels through host memory by Get and Set. Loading comes before the first step. Operators are called by
// the device's executor, one at a time; they allocate nothing and cannot fail.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/matrix.h"
#include "core/status.h"
#include "model/plan.h"
#include "model/weights.h"
#include "predictor/neuron_predictor.h"

namespace thermocline {

// How feed-forward blocks are computed.
enum class NeuronMode {
  kDense,      // every neuron
  kExact,      // every gate, then only what fired: the dense result
  kPredicted,  // only what the predictors marked, gates first
};
std::string_view NameOf(NeuronMode mode);  // "dense", "exact", "predicted"

struct DeviceStep {
  int64_t n_tokens = 0;
  int64_t first_position = 0;
  NeuronMode mode = NeuronMode::kDense;
  bool audit = false;                  // with kExact: count too what the predictors would have marked
  std::span<const Quality> qualities;  // (n_tokens), for the predictors
};

// What a device did for its neurons of one layer.
struct NeuronWork {
  int64_t marked = 0;         // gates computed
  int64_t active = 0;         // not zero for some token; 0 in dense steps, which do not look
  int64_t marked_active = 0;  // audits: active and marked by the predictor
  int64_t bytes = 0;          // of weights read
  NeuronWork& operator+=(const NeuronWork& other);
};

class Device {
 public:
  virtual ~Device() = default;

  virtual const std::string& name() const = 0;
  virtual DeviceKind kind() const = 0;
  // Of everything that was loaded, and of caches and scratch. ResourceExhausted is what loading answers where
  // this would pass the budget.
  virtual int64_t used_bytes() const = 0;

  // ---- Loading. What is passed need not outlive the call but on the CPU itself, which borrows.
  virtual absl::Status LoadAttention(int64_t layer, const LayerWeights& weights) = 0;
  // Neurons of the layer (ascending) out of its bundles.
  virtual absl::Status LoadNeurons(int64_t layer, const BundleView& bundles,
                                   std::vector<uint32_t> neurons) = 0;
  // tables: the layer's neurons as the devices hold them; gate: (d_ff, d_model).
  virtual absl::Status LoadPredictor(int64_t layer, const LayerPredictor& predictor,
                                     std::span<const std::vector<uint32_t>> tables,
                                     const WeightView& gate) = 0;
  virtual absl::Status LoadHead(std::span<const float> norm, const WeightView& head) = 0;

  // ---- Operators. Views are (step.n_tokens, d_model) where not said otherwise.
  virtual void SetResidual(MatrixView<const float> residual) = 0;
  virtual void GetResidual(MatrixView<float> residual) = 0;
  // residual += attention(norm(residual)); input = norm(residual).
  virtual void Attention(int64_t layer, const DeviceStep& step) = 0;
  virtual void SetInput(MatrixView<const float> input) = 0;
  virtual void GetInput(MatrixView<float> input) = 0;
  // Marks neurons of every table of the layer; marked: (tables).
  virtual void Predict(int64_t layer, const DeviceStep& step, std::span<MarkedNeurons> marked) = 0;
  // partial = the block's output from this device's neurons. marked: this table's; read in predicted steps
  // and audits.
  virtual NeuronWork Neurons(int64_t layer, const DeviceStep& step, const MarkedNeurons& marked) = 0;
  virtual void GetPartial(MatrixView<float> partial) = 0;
  // residual += partial: the device's own, or one from elsewhere.
  virtual void AddOwnPartial(const DeviceStep& step) = 0;
  virtual void AddPartial(MatrixView<const float> partial) = 0;
  // Final norm and head of the residual rows [first_row, first_row + logits.rows). logits: (rows, n_vocab).
  virtual void Head(int64_t first_row, MatrixView<float> logits) = 0;
};

}  // namespace thermocline
