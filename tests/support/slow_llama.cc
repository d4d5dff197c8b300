// The slow forward pass.
// SPDX-License-Identifier: Apache-2.0
#include "tests/support/slow_llama.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "model/architecture.h"
#include "tests/support/puppet_tokenizer.h"
#include "tests/support/safetensors_writer.h"

namespace thermocline {
namespace {

std::string Bytes(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

}  // namespace

SlowLlama::SlowLlama(const ModelConfig& config, uint32_t seed) : config_(config) {
  std::mt19937 random(seed);
  for (const ExpectedTensor& tensor : ExpectedTensors(config, HuggingFaceTensorNames(config))) {
    const bool is_norm = tensor.shape.size() == 1;
    int64_t elements = 1;
    for (const int64_t dimension : tensor.shape) elements *= dimension;
    std::normal_distribution<float> distribution(
        is_norm ? 1.0f : 0.0f, is_norm ? 0.2f : 1.0f / std::sqrt(static_cast<float>(tensor.shape.back())));
    std::vector<float>& values = tensors_[tensor.name];
    for (int64_t i = 0; i < elements; ++i) values.push_back(distribution(random));
  }
}

void SlowLlama::WriteTo(const std::string& folder) const {
  const nlohmann::json json = {{"architectures", {"LlamaForCausalLM"}},
                               {"model_type", "llama"},
                               {"hidden_act", std::string(NameOf(config_.activation))},
                               {"hidden_size", config_.d_model},
                               {"intermediate_size", config_.d_ff},
                               {"num_hidden_layers", config_.n_layers},
                               {"num_attention_heads", config_.n_heads},
                               {"num_key_value_heads", config_.n_kv_heads},
                               {"vocab_size", config_.n_vocab},
                               {"max_position_embeddings", config_.context_length},
                               {"rms_norm_eps", config_.norm_epsilon},
                               {"rope_theta", config_.rope_theta},
                               {"tie_word_embeddings", false}};
  SafetensorsWriter writer;
  for (const ExpectedTensor& tensor : ExpectedTensors(config_, HuggingFaceTensorNames(config_)))
    writer.Add(tensor.name, tensor.shape, "F32", Bytes(tensors_.at(tensor.name)));
  std::ofstream(folder + "/config.json") << json.dump();
  std::ofstream(folder + "/model.safetensors", std::ios::binary) << writer.Bytes();
}

double SlowLlama::Activate(double gate) const {
  return config_.activation == Activation::kRelu ? std::max(gate, 0.0) : gate / (1 + std::exp(-gate));
}

SlowLlama::Rows SlowLlama::Product(const std::string& weight, const Rows& x) const {
  const std::vector<float>& w = tensors_.at(weight);
  const size_t cols = x[0].size(), rows = w.size() / cols;
  Rows y(x.size(), std::vector<double>(rows));
  for (size_t t = 0; t < x.size(); ++t)
    for (size_t r = 0; r < rows; ++r)
      for (size_t c = 0; c < cols; ++c) y[t][r] += static_cast<double>(w[r * cols + c]) * x[t][c];
  return y;
}

SlowLlama::Rows SlowLlama::Norm(const std::string& weight, const Rows& x) const {
  Rows y = x;
  for (std::vector<double>& row : y) {
    double squares = 0;
    for (const double value : row) squares += value * value;
    const double scale = 1 / std::sqrt(squares / static_cast<double>(row.size()) + config_.norm_epsilon);
    for (size_t i = 0; i < row.size(); ++i) row[i] *= scale * static_cast<double>(tensors_.at(weight)[i]);
  }
  return y;
}

// Element i of a head turns with element i + d_head / 2, by position / theta^(2i / d_head).
void SlowLlama::Rotate(Rows& x) const {
  const auto d_head = static_cast<size_t>(config_.d_head), half = d_head / 2;
  for (size_t t = 0; t < x.size(); ++t) {
    for (size_t head = 0; head < x[t].size(); head += d_head) {
      for (size_t i = 0; i < half; ++i) {
        const double angle =
            static_cast<double>(t) /
            std::pow(config_.rope_theta, 2 * static_cast<double>(i) / static_cast<double>(d_head));
        const double a = x[t][head + i], b = x[t][head + half + i];
        x[t][head + i] = a * std::cos(angle) - b * std::sin(angle);
        x[t][head + half + i] = b * std::cos(angle) + a * std::sin(angle);
      }
    }
  }
}

SlowLlama::Rows SlowLlama::Attend(const Rows& q, const Rows& k, const Rows& v) const {
  const auto d_head = static_cast<size_t>(config_.d_head);
  const auto heads_per_kv_head = static_cast<size_t>(config_.n_heads / config_.n_kv_heads);
  Rows out(q.size(), std::vector<double>(q[0].size()));
  for (size_t t = 0; t < q.size(); ++t) {
    for (size_t h = 0; h < static_cast<size_t>(config_.n_heads); ++h) {
      const size_t own = h * d_head, shared = h / heads_per_kv_head * d_head;
      std::vector<double> weights;
      double sum = 0;
      for (size_t p = 0; p <= t; ++p) {
        double score = 0;
        for (size_t i = 0; i < d_head; ++i) score += q[t][own + i] * k[p][shared + i];
        weights.push_back(std::exp(score / std::sqrt(static_cast<double>(d_head))));
        sum += weights.back();
      }
      for (size_t p = 0; p <= t; ++p)
        for (size_t i = 0; i < d_head; ++i) out[t][own + i] += weights[p] / sum * v[p][shared + i];
    }
  }
  return out;
}

SlowLlama::Gates SlowLlama::ForwardGates(std::span<const TokenId> tokens) const {
  const auto add = [](const Rows& update, Rows& x) {
    for (size_t t = 0; t < x.size(); ++t)
      for (size_t i = 0; i < x[t].size(); ++i) x[t][i] += update[t][i];
  };
  Rows x;
  for (const TokenId token : tokens) {
    const auto first =
        tensors_.at("model.embed_tokens.weight").begin() + static_cast<ptrdiff_t>(token * config_.d_model);
    x.emplace_back(first, first + static_cast<ptrdiff_t>(config_.d_model));
  }
  Gates gates;
  for (int64_t l = 0; l < config_.n_layers; ++l) {
    const std::string layer = "model.layers." + std::to_string(l) + ".";
    Rows normed = Norm(layer + "input_layernorm.weight", x);
    Rows q = Product(layer + "self_attn.q_proj.weight", normed);
    Rows k = Product(layer + "self_attn.k_proj.weight", normed);
    Rotate(q);
    Rotate(k);
    const Rows attended = Attend(q, k, Product(layer + "self_attn.v_proj.weight", normed));
    add(Product(layer + "self_attn.o_proj.weight", attended), x);
    normed = Norm(layer + "post_attention_layernorm.weight", x);
    gates.push_back(Product(layer + "mlp.gate_proj.weight", normed));
    Rows hidden = Product(layer + "mlp.up_proj.weight", normed);
    for (size_t t = 0; t < hidden.size(); ++t)
      for (size_t i = 0; i < hidden[t].size(); ++i) hidden[t][i] *= Activate(gates.back()[t][i]);
    add(Product(layer + "mlp.down_proj.weight", hidden), x);
  }
  return gates;
}

ModelConfig TwelveLayerConfig(Activation activation) {
  ModelConfig config;
  config.architecture = "llama";
  config.activation = activation;
  config.n_layers = 12;
  config.d_model = 32;
  config.d_ff = 40;
  config.n_heads = 4;
  config.n_kv_heads = 2;
  config.d_head = 8;
  config.n_vocab = testing::PuppetTokenizer::kVocabularySize;
  config.context_length = 48;
  config.rope_dimensions = 8;
  return config;
}

}  // namespace thermocline
