// The graph of a step. A layer reads as in the paper: attention; predict; hot and cold at once; merge.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/step_graph.h"

#include <algorithm>
#include <utility>

namespace thermocline {
namespace {

class GraphBuilder {
 public:
  GraphBuilder(const ModelPlacement& placement, std::span<const std::unique_ptr<Device>> devices,
               StepState& state, bool predict)
      : placement_(placement), devices_(devices), state_(state), predict_(predict) {}

  OperatorGraph Build(std::function<void()> embed) {
    previous_ = graph_.Add({.name = "embed", .work = std::move(embed)});
    for (size_t l = 0; l < placement_.layers.size(); ++l) AddLayer(static_cast<int>(l));
    AddHead();
    return std::move(graph_);
  }

 private:
  Device& device(int d) const { return *devices_[static_cast<size_t>(d)]; }
  static MatrixView<float> Rows(Matrix<float>& matrix, const StepState& state) {
    return matrix.view().Rows(0, state.step.n_tokens);
  }
  // Which device holds the residual stream before the layer; the head's for the one behind the last.
  int Home(size_t layer) const {
    return layer < placement_.layers.size() ? placement_.layers[layer].attention_device
                                            : placement_.head_device;
  }

  void AddLayer(int l) {
    const LayerPlacement& layer = placement_.layers[static_cast<size_t>(l)];
    const OperatorId attention = AddAttention(l, layer);
    const OperatorId input = predict_ ? AddPredict(l, layer, attention) : attention;
    std::vector<OperatorId> parts;
    for (int d = 0; d < placement_.n_devices; ++d)
      if (layer.has_neurons(d)) parts.push_back(AddNeurons(l, layer, d, input));
    AddMerge(l, layer, std::move(parts));
  }

  OperatorId AddAttention(int l, const LayerPlacement& layer) {
    const int home = layer.attention_device;
    const bool residual_comes = l == 0 || Home(static_cast<size_t>(l) - 1) != home;
    bool input_goes = predict_ && layer.predictor_device != home;
    for (int d = 0; d < placement_.n_devices; ++d) input_goes |= d != home && layer.has_neurons(d);
    return previous_ = graph_.Add({.name = "attention",
                                   .layer = l,
                                   .device = home,
                                   .work =
                                       [&state = state_, &on = device(home), l, residual_comes, input_goes] {
                                         if (residual_comes) on.SetResidual(Rows(state.residual, state));
                                         on.Attention(l, state.step);
                                         if (input_goes) on.GetInput(Rows(state.input, state));
                                       },
                                   .prerequisites = {previous_}});
  }

  OperatorId AddPredict(int l, const LayerPlacement& layer, OperatorId attention) {
    const int home = layer.predictor_device;
    const bool input_comes = home != layer.attention_device;
    return graph_.Add({.name = "predict",
                       .layer = l,
                       .device = home,
                       .work =
                           [&state = state_, &on = device(home), l, input_comes] {
                             if (input_comes) on.SetInput(Rows(state.input, state));
                             on.Predict(l, state.step, state.marked);
                           },
                       .prerequisites = {attention}});
  }

  OperatorId AddNeurons(int l, const LayerPlacement& layer, int d, OperatorId input) {
    const bool input_comes = d != layer.attention_device && !(predict_ && d == layer.predictor_device);
    const bool partial_goes = d != layer.attention_device;
    const auto index = static_cast<size_t>(d);
    return graph_.Add({.name = "neurons",
                       .layer = l,
                       .device = d,
                       .work =
                           [&state = state_, &on = device(d), l, index, input_comes, partial_goes] {
                             if (input_comes) on.SetInput(Rows(state.input, state));
                             state.work[index] += on.Neurons(l, state.step, state.marked[index]);
                             if (partial_goes) on.GetPartial(Rows(state.partials[index], state));
                           },
                       .needed = [&state = state_, index] { return IsNeeded(state, index); },
                       .prerequisites = {input}});
  }

  void AddMerge(int l, const LayerPlacement& layer, std::vector<OperatorId> parts) {
    const int home = layer.attention_device;
    const bool residual_goes = Home(static_cast<size_t>(l) + 1) != home;
    previous_ = graph_.Add({.name = "merge",
                            .layer = l,
                            .device = home,
                            .work =
                                [&state = state_, &layer, &on = device(home), home, residual_goes] {
                                  for (int d = 0; d < static_cast<int>(layer.neurons.size()); ++d) {
                                    const auto index = static_cast<size_t>(d);
                                    if (!layer.has_neurons(d) || !IsNeeded(state, index)) continue;
                                    if (d == home) {
                                      on.AddOwnPartial(state.step);
                                    } else {
                                      on.AddPartial(Rows(state.partials[index], state));
                                    }
                                  }
                                  if (residual_goes) on.GetResidual(Rows(state.residual, state));
                                },
                            .prerequisites = std::move(parts)});
  }

  void AddHead() {
    const int home = placement_.head_device;
    const bool residual_comes = Home(placement_.layers.size() - 1) != home;
    graph_.Add({.name = "head",
                .device = home,
                .work =
                    [&state = state_, &on = device(home), residual_comes] {
                      if (residual_comes) on.SetResidual(Rows(state.residual, state));
                      if (state.logits.rows > 0)
                        on.Head(state.step.n_tokens - state.logits.rows, state.logits);
                    },
                .prerequisites = {previous_}});
  }

  // Predicted steps leave a device alone for which no neuron was marked.
  static bool IsNeeded(const StepState& state, size_t device) {
    return state.step.mode != NeuronMode::kPredicted || state.marked[device].count > 0;
  }

  const ModelPlacement& placement_;
  const std::span<const std::unique_ptr<Device>> devices_;
  StepState& state_;
  const bool predict_;
  OperatorGraph graph_;
  OperatorId previous_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<StepState>> StepState::Create(const ModelConfig& config,
                                                             const ModelPlacement& placement,
                                                             int64_t block_tokens) {
  auto state = std::make_unique<StepState>();
  TC_ASSIGN_OR_RETURN(state->residual, Matrix<float>::Create(block_tokens, config.d_model));
  TC_ASSIGN_OR_RETURN(state->input, Matrix<float>::Create(block_tokens, config.d_model));
  for (int d = 0; d < placement.n_devices; ++d) {
    const int64_t partial_tokens = placement.n_devices > 1 ? block_tokens : 0;  // alone the CPU adds its own
    TC_ASSIGN_OR_RETURN(Matrix<float> partial, Matrix<float>::Create(partial_tokens, config.d_model));
    state->partials.push_back(std::move(partial));
    size_t most = 0;
    for (const LayerPlacement& layer : placement.layers)
      most = std::max(most, layer.neurons[static_cast<size_t>(d)].size());
    MarkedNeurons& marked = state->marked.emplace_back();
    marked.rows.resize(most);
    marked.tokens.resize(most);
  }
  state->work.resize(static_cast<size_t>(placement.n_devices));
  return state;
}

OperatorGraph BuildStepGraph(const ModelPlacement& placement,
                             std::span<const std::unique_ptr<Device>> devices, StepState& state,
                             std::function<void()> embed, bool predict) {
  return GraphBuilder(placement, devices, state, predict).Build(std::move(embed));
}

}  // namespace thermocline
