// StepGraph: one step of a model over its devices, as a graph of operators.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "core/matrix.h"
#include "scheduler/device.h"
#include "scheduler/graph.h"
#include "scheduler/model_placement.h"

namespace thermocline {

// What the operators of a step read and write besides their devices' memory. Filled in by the runner before a
// step; the graphs refer to it, so it stays where it is.
struct StepState {
  DeviceStep step;
  std::span<const TokenId> tokens;
  std::span<const int64_t> logit_rows;  // tokens whose logits are wanted, ascending
  MatrixView<float> logits;             // (logit_rows, n_vocab)

  // Host memory through which devices pass what others need, for up to block_tokens.
  Matrix<float> residual;               // (n_tokens, d_model)
  Matrix<float> input;                  // (n_tokens, d_model), of the layer's feed-forward block
  std::vector<Matrix<float>> partials;  // (devices), (n_tokens, d_model) each
  std::vector<MarkedNeurons> marked;    // (devices), of the current layer

  // ResourceExhausted when memory is short.
  static absl::StatusOr<std::unique_ptr<StepState>> Create(const ModelConfig& config,
                                                           const ModelPlacement& placement,
                                                           int64_t block_tokens);
};

// Per layer: attention, perhaps predict, the neurons of every device that has some, all at the same time, and
// merge, which adds the partial sums in the order of the devices. A device without neurons in a layer has no
// operator there, and one whose neurons no token needs is not asked (Operator::needed).
//
// An asynchronous device that computes a layer's attention is given its own neurons too before anybody waits
// for what the others need of it ("publish"), so that it never stands idle for the host's sake.
//
// embed: the first operator, which writes state.residual. predict: the graph has the layers' predictors.
// All arguments must outlive the graph.
OperatorGraph BuildStepGraph(const ModelPlacement& placement,
                             std::span<const std::unique_ptr<Device>> devices, StepState& state,
                             std::function<void()> embed, bool predict);

}  // namespace thermocline
