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
  // Whether other devices wait for what the home of a layer's attention tells them.
  bool OthersWait(const LayerPlacement& layer) const {
    const int home = layer.attention_device;
    bool others = predict_ && layer.predictor_device != home;
    for (int d = 0; d < placement_.n_devices; ++d) others |= d != home && layer.has_neurons(d);
    return others;
  }
  // Whether a device launches its neurons before it is known on the host which are marked.
  bool LaunchesUnasked(const LayerPlacement& layer, int d) const {
    return device(d).asynchronous() && d == layer.attention_device &&
           (!predict_ || d == layer.predictor_device);
  }

  void AddLayer(int l) {
    const LayerPlacement& layer = placement_.layers[static_cast<size_t>(l)];
    const int home = layer.attention_device;
    OperatorId input = AddAttention(l, layer);
    if (predict_) input = AddPredict(l, layer, input);
    std::vector<OperatorId> parts;
    if (layer.has_neurons(home) && LaunchesUnasked(layer, home)) {
      parts.push_back(AddNeurons(l, layer, home, input));
      if (OthersWait(layer)) input = AddPublish(l, home, parts.back());
    }
    for (int d = 0; d < placement_.n_devices; ++d) {
      if (layer.has_neurons(d) && !(d == home && LaunchesUnasked(layer, d)))
        parts.push_back(AddNeurons(l, layer, d, input));
    }
    AddMerge(l, layer, std::move(parts));
  }

  OperatorId AddAttention(int l, const LayerPlacement& layer) {
    const int home = layer.attention_device;
    const bool residual_comes = l == 0 || Home(static_cast<size_t>(l) - 1) != home;
    const bool input_goes = OthersWait(layer);
    const bool publishes_later = layer.has_neurons(home) && LaunchesUnasked(layer, home);
    const bool waits = input_goes && !publishes_later && !(predict_ && layer.predictor_device == home);
    return previous_ =
               graph_.Add({.name = "attention",
                           .layer = l,
                           .device = home,
                           .work =
                               [&state = state_, &on = device(home), l, residual_comes, input_goes, waits] {
                                 if (residual_comes) on.SetResidual(Rows(state.residual, state));
                                 on.Attention(l, state.step);
                                 if (input_goes) on.GetInput(Rows(state.input, state));
                                 if (waits) on.Await();
                               },
                           .prerequisites = {previous_}});
  }

  OperatorId AddPredict(int l, const LayerPlacement& layer, OperatorId attention) {
    const int home = layer.predictor_device;
    const bool input_comes = home != layer.attention_device;
    const bool waits = !(layer.has_neurons(home) && LaunchesUnasked(layer, home));
    return graph_.Add({.name = "predict",
                       .layer = l,
                       .device = home,
                       .work =
                           [&state = state_, &on = device(home), l, input_comes, waits] {
                             if (input_comes) on.SetInput(Rows(state.input, state));
                             on.Predict(l, state.step, state.marked);
                             if (waits) on.Await();
                           },
                       .prerequisites = {attention}});
  }

  OperatorId AddPublish(int l, int home, OperatorId neurons) {
    return graph_.Add({.name = "publish",
                       .layer = l,
                       .device = home,
                       .work = [&on = device(home)] { on.Await(); },
                       .prerequisites = {neurons}});
  }

  OperatorId AddNeurons(int l, const LayerPlacement& layer, int d, OperatorId input) {
    const bool input_comes = d != layer.attention_device && !(predict_ && d == layer.predictor_device);
    const bool partial_goes = d != layer.attention_device;
    const auto index = static_cast<size_t>(d);
    Operator neurons{.name = "neurons",
                     .layer = l,
                     .device = d,
                     .work =
                         [&state = state_, &on = device(d), l, index, input_comes, partial_goes] {
                           if (input_comes) on.SetInput(Rows(state.input, state));
                           on.Neurons(l, state.step, state.marked[index]);
                           if (partial_goes) {
                             on.GetPartial(Rows(state.partials[index], state));
                             on.Await();
                           }
                         },
                     .prerequisites = {input}};
    if (!LaunchesUnasked(layer, d))
      neurons.needed = [&state = state_, index] { return IsNeeded(state, index); };
    return graph_.Add(std::move(neurons));
  }

  void AddMerge(int l, const LayerPlacement& layer, std::vector<OperatorId> parts) {
    const int home = layer.attention_device;
    const bool residual_goes = Home(static_cast<size_t>(l) + 1) != home;
    const bool always_own = LaunchesUnasked(layer, home);
    previous_ =
        graph_.Add({.name = "merge",
                    .layer = l,
                    .device = home,
                    .work =
                        [&state = state_, &layer, &on = device(home), l, home, residual_goes, always_own] {
                          for (int d = 0; d < static_cast<int>(layer.neurons.size()); ++d) {
                            const auto index = static_cast<size_t>(d);
                            if (!layer.has_neurons(d)) continue;
                            if (d == home) {
                              if (always_own || IsNeeded(state, index)) on.AddOwnPartial(state.step);
                            } else if (IsNeeded(state, index)) {
                              on.AddPartial(Rows(state.partials[index], state));
                            }
                          }
                          on.EndBlock(l, state.step);
                          if (residual_goes) {
                            on.GetResidual(Rows(state.residual, state));
                            on.Await();
                          }
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
                      if (!state.logit_rows.empty()) on.Head(state.logit_rows, state.logits);
                      on.Await();
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
  return state;
}

OperatorGraph BuildStepGraph(const ModelPlacement& placement,
                             std::span<const std::unique_ptr<Device>> devices, StepState& state,
                             std::function<void()> embed, bool predict) {
  return GraphBuilder(placement, devices, state, predict).Build(std::move(embed));
}

}  // namespace thermocline
