// A long decode of a tiny model over two devices, with random delays in the workers.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <random>
#include <thread>

#include "model/checkpoint.h"
#include "scheduler/graph_executor.h"
#include "scheduler/load_devices.h"
#include "scheduler/step_graph.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/typed_llama.h"

namespace thermocline {
namespace {

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr int64_t kTokens = 3'000;
#else
constexpr int64_t kTokens = 100'000;
#endif

// Passes every operator on, now and then late: by a yield, by microseconds, by so long that the other side
// sleeps.
class DelayingDevice final : public Device {
 public:
  DelayingDevice(std::unique_ptr<Device> device, uint32_t seed) : device_(std::move(device)), random_(seed) {}

  const std::string& name() const override { return device_->name(); }
  DeviceKind kind() const override { return device_->kind(); }
  int64_t used_bytes() const override { return device_->used_bytes(); }
  absl::Status LoadAttention(int64_t layer, const LayerWeights& weights) override {
    return device_->LoadAttention(layer, weights);
  }
  absl::Status LoadNeurons(int64_t layer, const BundleView& bundles, std::vector<uint32_t> neurons) override {
    return device_->LoadNeurons(layer, bundles, std::move(neurons));
  }
  absl::Status LoadMatrices(int64_t layer, const FeedForward& ffn) override {
    return device_->LoadMatrices(layer, ffn);
  }
  absl::Status LoadPredictor(int64_t layer, const LayerPredictor& predictor,
                             std::span<const std::vector<uint32_t>> tables, const WeightView& gate) override {
    return device_->LoadPredictor(layer, predictor, tables, gate);
  }
  absl::Status LoadHead(const NormWeights& norm, const WeightView& head) override {
    return device_->LoadHead(norm, head);
  }
  bool asynchronous() const override { return device_->asynchronous(); }
  void Await() override { device_->Await(); }
  void Begin(const DeviceStep& step) override { device_->Begin(step); }
  absl::Status status() const override { return device_->status(); }
  void SetResidual(MatrixView<const float> residual) override { device_->SetResidual(residual); }
  void GetResidual(MatrixView<float> residual) override { device_->GetResidual(residual); }
  void Attention(int64_t layer, const DeviceStep& step) override {
    Delay();
    device_->Attention(layer, step);
  }
  void SetInput(MatrixView<const float> input) override { device_->SetInput(input); }
  void GetInput(MatrixView<float> input) override { device_->GetInput(input); }
  void Predict(int64_t layer, const DeviceStep& step, std::span<MarkedNeurons> marked) override {
    Delay();
    device_->Predict(layer, step, marked);
  }
  void Neurons(int64_t layer, const DeviceStep& step, const MarkedNeurons& marked) override {
    Delay();
    device_->Neurons(layer, step, marked);
  }
  NeuronWork TakeWork() override { return device_->TakeWork(); }
  void GetPartial(MatrixView<float> partial) override {
    Delay();
    device_->GetPartial(partial);
  }
  void AddOwnPartial(const DeviceStep& step) override { device_->AddOwnPartial(step); }
  void AddPartial(MatrixView<const float> partial) override { device_->AddPartial(partial); }
  void EndBlock(int64_t layer, const DeviceStep& step) override { device_->EndBlock(layer, step); }
  void Head(std::span<const int64_t> rows, MatrixView<float> logits) override {
    Delay();
    device_->Head(rows, logits);
  }

 private:
  void Delay() {
    const uint32_t draw = random_() % 4096;
    if (draw == 0) std::this_thread::sleep_for(std::chrono::microseconds(1200));
    if (draw < 8) std::this_thread::sleep_for(std::chrono::microseconds(draw));
    if (draw < 64) std::this_thread::yield();
  }

  std::unique_ptr<Device> device_;
  std::mt19937 random_;  // used by the device's executor alone
};

ModelConfig TinyConfig() {
  ModelConfig config = TypedLlamaConfig();
  config.n_layers = 2;
  config.d_model = 32;
  config.d_ff = 64;
  config.n_heads = 2;
  config.n_kv_heads = 1;
  config.d_head = 16;
  config.rope_dimensions = 16;
  return config;
}

// The second neuron of three is hot; attention and predictors go from side to side.
Plan TinyPlan(const ModelConfig& config) {
  Plan plan{.devices = {{.name = "cpu"},
                        {.name = "host", .kind = DeviceKind::kHost, .budget_bytes = int64_t{1} << 30}}};
  for (int l = 0; l < config.n_layers; ++l) {
    PlanLayer layer{.attention_device = l % 2, .kv_cache_device = l % 2, .predictor_device = (l + 1) % 2};
    layer.units = {{.device = 0}, {.device = 1}};
    for (uint32_t i = 0; i < config.d_ff; ++i) layer.units[i % 3 == 1].neurons.push_back(i);
    plan.layers.push_back(std::move(layer));
  }
  return plan;
}

struct Machine {
  Machine(const Checkpoint& checkpoint, bool delays) : config(checkpoint.config) {
    team = *ThreadTeam::Create(1);
    cpu = {.team = team.get(), .kernels = &BestKernels()};
    weights = *ModelWeights::Load(checkpoint, cpu);
    plan = TinyPlan(config);
    placement = *PlacementOf(plan, config);
    predictors.model = {.n_layers = config.n_layers, .d_model = config.d_model, .d_ff = config.d_ff};
    predictors.layers.assign(static_cast<size_t>(config.n_layers), {.kind = PredictorKind::kSign});
    devices = *LoadDevices(config, weights, cpu, placement,
                           {.context_tokens = config.context_length,
                            .kv_pages = PagesFor(config.context_length),
                            .block_tokens = 4,
                            .plan = &plan,
                            .predictors = &predictors});
    if (delays) {
      for (size_t d = 0; d < devices.devices.size(); ++d) {
        devices.devices[d] =
            std::make_unique<DelayingDevice>(std::move(devices.devices[d]), static_cast<uint32_t>(d + 1));
      }
    }
    state = *StepState::Create(config, placement, 4);
    executor = *GraphExecutor::Create(2);
    const auto embed = [this] {
      const WeightView& embedding = weights.token_embedding;
      cpu.kernels->dequantize(embedding.type, embedding.row_data(state->tokens[0]), config.d_model,
                              state->residual.row(0).data());
    };
    graph = BuildStepGraph(placement, devices.devices, *state, embed, /*predict=*/true);
    logits = *Matrix<float>::Create(1, config.n_vocab);
    pages.resize(static_cast<size_t>(PagesFor(config.context_length)));
    std::iota(pages.begin(), pages.end(), 0);
  }

  // The likeliest token behind `token`.
  TokenId Step(TokenId token, int64_t position) {
    static constexpr Quality kQuality = Quality::kBalanced;
    state->tokens = {&token, 1};
    static constexpr int64_t kRow = 0;
    state->logit_rows = {&kRow, 1};
    state->logits = logits.view();
    const SequenceSlice slice{.n_tokens = 1, .first_position = position, .pages = pages};
    state->step = {
        .n_tokens = 1, .slices = {&slice, 1}, .mode = NeuronMode::kPredicted, .qualities = {&kQuality, 1}};
    for (const auto& device : devices.devices) device->Begin(state->step);
    executor->Run(graph);
    return static_cast<TokenId>(std::ranges::max_element(logits.row(0)) - logits.row(0).begin());
  }

  const ModelConfig& config;
  std::unique_ptr<ThreadTeam> team;
  CpuContext cpu;
  ModelWeights weights;
  Plan plan;
  ModelPlacement placement;
  PredictorSet predictors;
  LoadedDevices devices;
  std::unique_ptr<StepState> state;
  std::unique_ptr<GraphExecutor> executor;
  OperatorGraph graph;
  Matrix<float> logits;
  std::vector<KvPage> pages;
};

TEST(HybridSoak, DelaysInTheWorkersChangeNoToken) {
  const TemporaryFolder folder;
  const std::string path = folder.Path("model.gguf");
  WriteTypedLlama(path, TinyConfig(), ElementType::kF32, 1);
  const Checkpoint checkpoint = *Checkpoint::Open(path, {.load_tokenizer = false});
  Machine punctual(checkpoint, /*delays=*/false), late(checkpoint, /*delays=*/true);
  std::mt19937 random(2);
  TokenId token = 0;
  for (int64_t t = 0; t < kTokens; ++t) {
    // A random token every few, so that the text does not run in circles.
    const int64_t position = t % checkpoint.config.context_length;
    if (t % 7 == 0) token = static_cast<TokenId>(random() % 64);
    const TokenId expected = punctual.Step(token, position);
    ASSERT_EQ(late.Step(token, position), expected) << t;
    ASSERT_TRUE(std::ranges::equal(late.logits.row(0), punctual.logits.row(0))) << t;
    token = expected;
  }
  EXPECT_EQ(late.executor->stats().steps, static_cast<uint64_t>(kTokens));
}

}  // namespace
}  // namespace thermocline
