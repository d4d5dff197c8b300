// Planning: what a profile's predictors and weights become in the placement problem.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/planning.h"

#include <gtest/gtest.h>

#include "report_fixture.h"
#include "tests/support/refusal.h"

namespace thermocline {
namespace {

ReportSample Sample() {
  ReportSample sample = SkewedSample(3, 256);
  sample.profile.footprint = {
      .neuron_bytes = 24576,
      .attention_bytes = 1 << 20,
      .kv_bytes_per_token = 1024,
      .head_bytes = 1 << 20,
      .context_tokens = 512,
      .scratch_bytes = 4096,
      .gpu = {
          .neuron_bytes = 24576, .attention_bytes = 1 << 20, .head_bytes = 1 << 20, .scratch_bytes = 8192}};
  return sample;
}

TEST(BuildPlacementProblem, PredictorsAreTenants) {
  const ReportSample sample = Sample();
  PlanningOptions options{.budget_bytes = int64_t{1} << 30};
  options.predictor_bytes = {1000, 0, 3000};
  const auto problem = BuildPlacementProblem(sample.profile, "hash", sample.hardware, options);
  ASSERT_TRUE(problem.ok()) << problem.status();
  for (size_t l = 0; l < 3; ++l) EXPECT_EQ(problem->layers[l].predictor_bytes, options.predictor_bytes[l]);
  const auto plan = SolvePlacement(*problem);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->devices[0].predictor_bytes + plan->devices[1].predictor_bytes, 4000);

  options.predictor_bytes.clear();
  const auto without = BuildPlacementProblem(sample.profile, "hash", sample.hardware, options);
  ASSERT_TRUE(without.ok());
  for (const PlacementLayer& layer : without->layers) EXPECT_EQ(layer.predictor_bytes, 0);
}

// 1024 bytes a token in F32, 512 tokens.
TEST(BuildPlacementProblem, KeysAndValuesWeighWhatTheDeviceHoldsThemAs) {
  const ReportSample sample = Sample();
  const auto bytes = [&](DeviceKind device, ElementType type) {
    const auto problem =
        BuildPlacementProblem(sample.profile, "hash", sample.hardware,
                              {.device = device, .budget_bytes = int64_t{1} << 30, .kv_type = type});
    return problem.ok() ? problem->layers[1].kv_cache_bytes : -1;
  };
  EXPECT_EQ(bytes(DeviceKind::kCpu, ElementType::kF32), 512 * 1024);
  EXPECT_EQ(bytes(DeviceKind::kCpu, ElementType::kF16), 512 * 512);
  EXPECT_EQ(bytes(DeviceKind::kCpu, ElementType::kQ8_0), 512 * 256 / 32 * 34);
  EXPECT_EQ(bytes(DeviceKind::kCuda, ElementType::kF16), 512 * 1024);
}

TEST(BuildPlacementProblem, SaysWhyEveryNeuronIsRead) {
  ReportSample sample = Sample();
  const auto why = [&sample] {
    return BuildPlacementProblem(sample.profile, "hash", sample.hardware, {.budget_bytes = int64_t{1} << 30})
        ->reads_all_because;
  };
  EXPECT_EQ(why(), "");
  sample.profile.architecture = "bitnet-b1.58";
  sample.profile.footprint.reads_every_neuron = true;
  EXPECT_EQ(why(), "architecture bitnet-b1.58 norms its whole hidden layer");
  sample.profile.activation = "gelu_tanh";
  EXPECT_EQ(why(), "activation gelu_tanh is zero on no range of inputs");
}

TEST(BuildPlacementProblem, PredictorsOfOtherLayersAreRefused) {
  const ReportSample sample = Sample();
  PlanningOptions options;
  options.predictor_bytes = {1000, 2000};
  ExpectRefusal(BuildPlacementProblem(sample.profile, "hash", sample.hardware, options).status(),
                {"predictors of 2 layers", "3"});
}

// Files mix types: every layer must fit what is planned for one.
TEST(FootprintOf, TakesTheLargestLayer) {
  const ModelConfig config{.activation = Activation::kSilu,
                           .n_layers = 2,
                           .d_model = 64,
                           .d_ff = 96,
                           .n_heads = 2,
                           .n_kv_heads = 1,
                           .d_head = 32,
                           .n_vocab = 64,
                           .context_length = 32,
                           .rope_dimensions = 32};
  ModelWeights weights;
  weights.head = {.type = ElementType::kF16, .rows = 64, .cols = 64};
  for (const ElementType type : {ElementType::kQ4_0, ElementType::kQ8_0}) {
    LayerWeights& layer = weights.layers.emplace_back();
    layer.ffn.gate = layer.ffn.up = {.type = ElementType::kQ4_0, .rows = 96, .cols = 64};
    layer.ffn.down = {.type = type, .rows = 64, .cols = 96};
  }
  weights.layers[0].query = {.type = ElementType::kF32, .rows = 64, .cols = 64};
  const ModelFootprint footprint = FootprintOf(config, weights);
  EXPECT_EQ(footprint.neuron_bytes, 36 + 36 + 68);  // 64 x 96 elements of down are 68 bytes a neuron
  EXPECT_EQ(footprint.attention_bytes, 64 * 64 * 4);
  EXPECT_TRUE(footprint.reads_every_neuron);
  // A GPU aligns each matrix: 96 * 36 and 64 * 102 bytes to multiples of 256.
  EXPECT_EQ(footprint.gpu.neuron_bytes, (2 * 3584 + 6656 + 95) / 96);
}

// Q4_0 rows of 18 bytes a block of 32, Q8_0 of 34, F16 of 2 bytes an element.
TEST(NeuronBytesOf, CountsRows) {
  FeedForward ffn{.layout = FfnLayout::kBundles};
  ffn.bundles = {.n_neurons = 8,
                 .d_model = 64,
                 .gate_type = ElementType::kQ4_0,
                 .up_type = ElementType::kF16,
                 .down_type = ElementType::kQ8_0};
  EXPECT_EQ(NeuronBytesOf(ffn).gate, 36);
  EXPECT_EQ(NeuronBytesOf(ffn).up_down, 128 + 68);
  ffn.bundles.gated = false;
  EXPECT_EQ(NeuronBytesOf(ffn).up_down, 68);
  FeedForward matrices;
  matrices.gate = {.type = ElementType::kQ4_0, .rows = 96, .cols = 64};
  matrices.up = {.type = ElementType::kF16, .rows = 96, .cols = 64};
  matrices.down = {.type = ElementType::kQ8_0, .rows = 64, .cols = 96};
  EXPECT_EQ(NeuronBytesOf(matrices).gate, 36);
  EXPECT_EQ(NeuronBytesOf(matrices).up_down, 128 + 68);
}

}  // namespace
}  // namespace thermocline
