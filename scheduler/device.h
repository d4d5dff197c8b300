// Device: holds a part of the model and runs the operators of a step on it.
// SPDX-License-Identifier: Apache-2.0
//
// A device has its own copy of the step's activations: the residual stream where it computes a layer's
// attention, the feed-forward block's input, its partial sum of the block's output. What another device needs
// travels through host memory by Get and Set. Loading comes before the first step. Operators are called by
// the device's executor, one at a time. They answer nothing: after an error the device's later operators do
// nothing, and status() says what happened.
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
#include "scheduler/model_runner.h"
#include "scheduler/neuron_activity.h"

namespace thermocline {

// How feed-forward blocks are computed.
enum class NeuronMode {
  kDense,      // every neuron
  kExact,      // every gate, then only what fired: the dense result
  kPredicted,  // only what the predictors marked, gates first
  kThreshold,  // every neuron, but inputs of products below the layer's thresholds are left out, attention's
               // too
};
std::string_view NameOf(NeuronMode mode);  // "dense", "exact", "predicted", "threshold"

struct DeviceStep {
  int64_t n_tokens = 0;
  std::span<const SequenceSlice> slices;  // the tokens' sequences, none without pages
  NeuronMode mode = NeuronMode::kDense;
  bool prompt = false;                 // tokens of prompts, kDense
  bool audit = false;                  // with kExact: count too what the predictors would have marked
  std::span<const Quality> qualities;  // (n_tokens), for the predictors
  NeuronActivity* activity =
      nullptr;  // hears of neurons that fire, but of dense steps; nullptr: nobody watches
};

// What a device did for its neurons.
struct NeuronWork {
  int64_t marked = 0;                    // gates computed
  int64_t active = 0;                    // not zero for some token; 0 in dense steps, which do not look
  int64_t marked_active = 0;             // audits: active and marked by the predictor
  int64_t bytes = 0;                     // of weights read
  int64_t attention_bytes_left_out = 0;  // of weights that threshold steps did not read
  int64_t link_bytes = 0;                // copied between an accelerator's memory and the host's
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
  // A whole layer's, of weights that lie as in the file.
  virtual absl::Status LoadMatrices(int64_t layer, const FeedForward& ffn) = 0;
  // tables: the layer's neurons as the devices hold them; gate: (d_ff, d_model).
  virtual absl::Status LoadPredictor(int64_t layer, const LayerPredictor& predictor,
                                     std::span<const std::vector<uint32_t>> tables,
                                     const WeightView& gate) = 0;
  virtual absl::Status LoadHead(const NormWeights& norm, const WeightView& head) = 0;

  // ---- Operators. Views are (step.n_tokens, d_model) where not said otherwise; what they show must stay
  // until Await, and what operators write to host memory is there once it returns.

  // Whether operators return before they are done. Others are done at once, and their Await does nothing.
  virtual bool asynchronous() const = 0;
  virtual void Await() = 0;
  // Comes first in every step.
  virtual void Begin(const DeviceStep& step) = 0;
  // Of the work since Begin, asked behind TakeWork. ResourceExhausted: this step failed, a later one
  // may do. Any other error: the device is lost, for good.
  virtual absl::Status status() const = 0;
  virtual void SetResidual(MatrixView<const float> residual) = 0;
  virtual void GetResidual(MatrixView<float> residual) = 0;
  // residual += attention(norm(residual)); input = norm(residual), in parallel blocks the one from before.
  virtual void Attention(int64_t layer, const DeviceStep& step) = 0;
  virtual void SetInput(MatrixView<const float> input) = 0;
  virtual void GetInput(MatrixView<float> input) = 0;
  // Marks neurons of every table of the layer; marked: (tables).
  virtual void Predict(int64_t layer, const DeviceStep& step, std::span<MarkedNeurons> marked) = 0;
  // partial = the block's output from this device's neurons. marked: this table's; read in predicted steps
  // and audits, but where the device is asynchronous and predicted itself.
  virtual void Neurons(int64_t layer, const DeviceStep& step, const MarkedNeurons& marked) = 0;
  // What Neurons did since Begin; asked once, behind the step's last Await.
  virtual NeuronWork TakeWork() = 0;
  virtual void GetPartial(MatrixView<float> partial) = 0;
  // The block's output += partial: the device's own, or one from elsewhere. It goes straight to the residual
  // stream where nothing else becomes of it.
  virtual void AddOwnPartial(const DeviceStep& step) = 0;
  virtual void AddPartial(MatrixView<const float> partial) = 0;
  // Comes behind the layer's last partial sum: residual += scale * norm(the block's output), where the model
  // has such a norm or scale.
  virtual void EndBlock(int64_t layer, const DeviceStep& step) = 0;
  // Final norm and head of some of the residual's rows. logits: (rows, n_vocab).
  virtual void Head(std::span<const int64_t> rows, MatrixView<float> logits) = 0;
};

}  // namespace thermocline
