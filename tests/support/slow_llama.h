// SlowLlama: a small llama in plain loops of doubles, written apart from the program.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/tokenizer.h"

namespace thermocline {

class SlowLlama {
 public:
  SlowLlama(const ModelConfig& config, uint32_t seed);

  // config.json and model.safetensors (F32), without a tokenizer.
  void WriteTo(const std::string& folder) const;
  const ModelConfig& config() const { return config_; }
  std::vector<float>& tensor(const std::string& name) { return tensors_.at(name); }

  // gates[layer][token][neuron] before the activation; the tokens are one context.
  using Gates = std::vector<std::vector<std::vector<double>>>;
  Gates ForwardGates(std::span<const TokenId> tokens) const;
  double Activate(double gate) const;

 private:
  using Rows = std::vector<std::vector<double>>;
  Rows Product(const std::string& weight, const Rows& x) const;
  Rows Norm(const std::string& weight, const Rows& x) const;
  Rows Attend(const Rows& q, const Rows& k, const Rows& v) const;
  void Rotate(Rows& x) const;

  ModelConfig config_;
  std::map<std::string, std::vector<float>> tensors_;
};

// 12 layers, d_model 32, d_ff 40, 4 heads of 8, 2 key/value heads, context 48, and the puppet tokenizer's
// vocabulary.
ModelConfig TwelveLayerConfig(Activation activation);

}  // namespace thermocline
