// A model split over the CPU and a CUDA device, emulated and real: answers, memory, figures, faults.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/gpu_device.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <future>
#include <memory>
#include <numeric>
#include <optional>

#include "model/checkpoint.h"
#include "scheduler/scheduler.h"
#include "scheduler/transformer.h"
#include "tests/kernels_cuda/gpu_fixture.h"
#include "tests/support/emulated_gpu.h"
#include "tests/support/puppet_tokenizer.h"
#include "tests/support/recorder.h"
#include "tests/support/split_plans.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/typed_llama.h"

namespace thermocline {
namespace {

using testing::RandomPlan;
using testing::RandomTokens;
using testing::SignPredictors;

constexpr size_t kVocabulary = 64;

// Both sides multiply the same weights and add in F32, in other orders: a few roundings of the largest logit,
// through two layers. Types that the GPU keeps as Q8_0 are rounded once more.
constexpr float kSplitTolerance = 5e-4f;
constexpr float kRequantisedTolerance = 3e-2f;

float LargestMagnitude(std::span<const float> values) {
  float largest = 0;
  for (const float value : values) largest = std::max(largest, std::abs(value));
  return largest;
}

void ExpectClose(std::span<const float> actual, std::span<const float> expected, float tolerance,
                 const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size());
  float largest = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_TRUE(std::isfinite(actual[i])) << what;
    largest = std::max(largest, std::abs(actual[i] - expected[i]));
  }
  EXPECT_LE(largest, tolerance * LargestMagnitude(expected)) << what;
}

// On an emulated device and, where the machine has one, on a CUDA device.
class GpuDeviceTest : public ::testing::TestWithParam<GpuKind> {
 protected:
  void SetUp() override { team_ = *ThreadTeam::Create(1); }

  void Open(ElementType type, uint32_t seed = 3) {
    ModelConfig config = TypedLlamaConfig();
    config.n_layers = 2;
    if (type != ElementType::kQ4_K) {  // whose blocks are 256 wide
      config.d_model = 64;
      config.d_ff = 128;
      config.n_heads = 2;
      config.n_kv_heads = 1;
      config.d_head = config.rope_dimensions = 32;
    }
    WriteTypedLlama(path_, config, type, seed);
    checkpoint_.emplace(*Checkpoint::Open(path_, {.load_tokenizer = false}));
  }

  absl::StatusOr<std::unique_ptr<Transformer>> TryLoad(TransformerOptions options) {
    options.kv_type = ElementType::kF32;  // what GPUs hold
    const CpuContext cpu{.team = team_.get(), .kernels = &BestKernels()};
    weights_.push_back(
        std::make_unique<ModelWeights>(*ModelWeights::Load(*checkpoint_, cpu, {.ffn_layout = layout_})));
    options.open_gpu = [this](int ordinal) {
      if (GetParam() == GpuKind::kCuda) return OpenGpu(ordinal);
      return OpenEmulatedGpu({.total_memory_bytes = total_memory_bytes_, .faults = faults_});
    };
    return Transformer::Create(checkpoint_->config, *weights_.back(), cpu, options);
  }
  std::unique_ptr<Transformer> Load(const TransformerOptions& options) {
    auto transformer = TryLoad(options);
    EXPECT_TRUE(transformer.ok()) << transformer.status();
    return *std::move(transformer);
  }

  Plan GpuPlan(double hot, uint32_t seed) const {
    return RandomPlan(checkpoint_->config, hot, seed, DeviceKind::kCuda);
  }
  // Everything on the GPU.
  Plan WholePlan() const {
    Plan plan = GpuPlan(1, 1);
    plan.devices[1].head_bytes = 1;
    for (PlanLayer& layer : plan.layers)
      layer.attention_device = layer.kv_cache_device = layer.predictor_device = 1;
    return plan;
  }

  // Logits of every token, the text in steps of `step_tokens`.
  static std::vector<float> Run(Transformer& transformer, std::span<const TokenId> tokens, size_t step_tokens,
                                StepKind kind, Quality quality = Quality::kExact) {
    std::vector<float> all;
    for (size_t begin = 0; begin < tokens.size(); begin += step_tokens) {
      const auto step = tokens.subspan(begin, std::min(step_tokens, tokens.size() - begin));
      Matrix<float> logits = *Matrix<float>::Create(std::ssize(step), transformer.n_vocab());
      const absl::Status status = transformer.ForwardAll(
          {.tokens = step, .first_position = static_cast<int64_t>(begin), .kind = kind, .quality = quality},
          logits.view());
      EXPECT_TRUE(status.ok()) << status;
      all.insert(all.end(), logits.data(), logits.data() + logits.rows() * logits.cols());
    }
    return all;
  }

  static const Device& GpuOf(const Transformer& transformer) { return *transformer.devices()[1]; }

  const TemporaryFolder folder_;
  const std::string path_ = folder_.Path("model.gguf");
  std::optional<Checkpoint> checkpoint_;
  FfnLayout layout_ = FfnLayout::kAuto;
  std::unique_ptr<ThreadTeam> team_;
  std::vector<std::unique_ptr<ModelWeights>> weights_;
  std::shared_ptr<EmulatedFaults> faults_ = std::make_shared<EmulatedFaults>();
  int64_t total_memory_bytes_ = int64_t{1} << 30;
};

INSTANTIATE_TEST_SUITE_P(All, GpuDeviceTest, EveryGpu(), GpuName);

// What only a device that counts calls and fails on demand can show.
class EmulatedGpuDeviceTest : public GpuDeviceTest {};
INSTANTIATE_TEST_SUITE_P(All, EmulatedGpuDeviceTest, ::testing::Values(GpuKind::kEmulated), GpuName);

TEST_P(GpuDeviceTest, EverySplitSaysWhatTheCpuSays) {
  const std::vector<TokenId> tokens = RandomTokens(17, 1);
  for (const ElementType type : {ElementType::kF32, ElementType::kF16, ElementType::kBF16, ElementType::kQ8_0,
                                 ElementType::kQ4_0, ElementType::kQ4_K}) {
    Open(type);
    const float tolerance = type == ElementType::kQ4_K ? kRequantisedTolerance : kSplitTolerance;
    // Not packed: prompts then round nothing, as on the GPU.
    const std::vector<float> dense =
        Run(*Load({.pack_weights = false}), tokens, tokens.size(), StepKind::kPrefill);
    const Plan none = GpuPlan(0, 1), some = GpuPlan(0.4, 2), all = WholePlan();
    for (const Plan* plan : {&none, &some, &all}) {
      const auto transformer = Load({.pack_weights = false, .mode = NeuronMode::kExact, .plan = plan});
      ExpectClose(Run(*transformer, tokens, 16, StepKind::kDecode), dense, tolerance,  // 16 tokens, then one
                  fmt::format("{}, {} hot neurons a layer", NameOf(type),
                              plan->layers[0].units.back().neurons.size()));
      // Long steps go through cuBLAS.
      ExpectClose(Run(*transformer, tokens, tokens.size(), StepKind::kPrefill), dense, tolerance, "prefill");
      EXPECT_EQ(faults_->misuse(), "");
    }
  }
}

// Blocks whose weights lie as in the file, as those of SiLU models do.
TEST_P(GpuDeviceTest, WholeLayersOfMatricesSayWhatTheCpuSays) {
  const std::vector<TokenId> tokens = RandomTokens(17, 6);
  layout_ = FfnLayout::kMatrices;
  for (const ElementType type : {ElementType::kF32, ElementType::kQ4_K}) {
    Open(type);
    const float tolerance = type == ElementType::kQ4_K ? kRequantisedTolerance : kSplitTolerance;
    const std::vector<float> dense = Run(*Load({}), tokens, tokens.size(), StepKind::kPrefill);
    for (const uint32_t on_gpu : {0b10u, 0b11u}) {
      Plan plan = testing::LayersPlan(checkpoint_->config, on_gpu, DeviceKind::kCuda);
      const auto transformer = Load({.plan = &plan});
      ExpectClose(Run(*transformer, tokens, 16, StepKind::kDecode), dense, tolerance,  // 16 tokens, then one
                  fmt::format("{}, layers {:b}", NameOf(type), on_gpu));
      ExpectClose(Run(*transformer, tokens, tokens.size(), StepKind::kPrefill), dense, tolerance, "prefill");
      EXPECT_EQ(transformer->last_step().marked_neurons,
                checkpoint_->config.n_layers * checkpoint_->config.d_ff);
      EXPECT_EQ(faults_->misuse(), "");
      plan.devices[1].budget_bytes = GpuOf(*transformer).used_bytes();
      EXPECT_TRUE(TryLoad({.plan = &plan}).ok());
      --plan.devices[1].budget_bytes;
      EXPECT_EQ(TryLoad({.plan = &plan}).status().code(), absl::StatusCode::kResourceExhausted);
    }
  }
}

TEST_P(GpuDeviceTest, CountsWhatCrossesTheLink) {
  Open(ElementType::kF16);
  const std::vector<TokenId> tokens = RandomTokens(8, 3);
  const Plan plan = WholePlan();
  const auto transformer = Load({.mode = NeuronMode::kExact, .plan = &plan});
  const ExecutionStats& stats = transformer->execution_stats();
  Run(*transformer, tokens, 4, StepKind::kDecode);
  const uint64_t once = stats.link_bytes;
  // Embeddings there and logits back, besides what describes a step and counts its neurons.
  const ModelConfig& config = checkpoint_->config;
  EXPECT_GT(once, tokens.size() * static_cast<size_t>(config.d_model + config.n_vocab) * sizeof(float));
  Run(*transformer, tokens, 4, StepKind::kDecode);
  EXPECT_EQ(stats.link_bytes, 2 * once);
}

TEST_P(GpuDeviceTest, PredictorsMayLiveOnEitherSide) {
  Open(ElementType::kF16);
  const std::vector<TokenId> tokens = RandomTokens(8, 4);
  const PredictorSet predictors = SignPredictors(checkpoint_->config, 3);
  const auto on_cpu = Load({.mode = NeuronMode::kPredicted, .predictors = &predictors});
  for (const Quality quality : {Quality::kExact, Quality::kBalanced}) {
    const std::vector<float> expected = Run(*on_cpu, tokens, 4, StepKind::kDecode, quality);
    const StepFigures figures = on_cpu->last_step();
    for (uint32_t seed = 1; seed <= 4; ++seed) {
      const Plan plan = GpuPlan(0.5, seed);
      const auto split = Load({.mode = NeuronMode::kPredicted, .predictors = &predictors, .plan = &plan});
      ExpectClose(Run(*split, tokens, 4, StepKind::kDecode, quality), expected, kSplitTolerance,
                  fmt::format("plan {}", seed));
      EXPECT_EQ(split->last_step().neurons, figures.neurons);
      EXPECT_EQ(split->last_step().marked_neurons, figures.marked_neurons);
      // A gate within a rounding of zero may fall on either side of it.
      EXPECT_NEAR(static_cast<double>(split->last_step().active_neurons),
                  static_cast<double>(figures.active_neurons), 2);
      EXPECT_GT(split->last_step().active_on_accelerators, 0);
    }
  }
}

TEST_P(GpuDeviceTest, AuditsCountWhatWasMarkedOnBothSides) {
  Open(ElementType::kF16);
  const std::vector<TokenId> tokens = RandomTokens(3, 5);
  const PredictorSet predictors = SignPredictors(checkpoint_->config, 3);
  const auto on_cpu = Load({.mode = NeuronMode::kPredicted, .predictors = &predictors});
  for (uint32_t seed = 1; seed <= 3; ++seed) {
    const Plan plan = GpuPlan(0.5, seed);
    const auto split = Load({.mode = NeuronMode::kPredicted, .predictors = &predictors, .plan = &plan});
    std::vector<float> expected(kVocabulary), logits(kVocabulary);
    for (size_t t = 0; t < tokens.size(); ++t) {
      const StepInput step{.tokens = {&tokens[t], 1},
                           .first_position = static_cast<int64_t>(t),
                           .quality = Quality::kBalanced};
      const auto theirs = on_cpu->ForwardAudited(step, expected);
      const auto ours = split->ForwardAudited(step, logits);
      ASSERT_TRUE(theirs.ok() && ours.ok()) << theirs.status() << ours.status();
      EXPECT_NEAR(static_cast<double>(ours->active_neurons), static_cast<double>(theirs->active_neurons), 2);
      EXPECT_NEAR(static_cast<double>(ours->marked_active_neurons),
                  static_cast<double>(theirs->marked_active_neurons), 2);
      ExpectClose(logits, expected, kSplitTolerance, "audited");
    }
  }
}

TEST_P(GpuDeviceTest, TheSameBitsAgainAndWhateverTheCompanions) {
  Open(ElementType::kQ8_0);
  const std::vector<TokenId> tokens = RandomTokens(9, 6);
  const Plan plan = GpuPlan(0.5, 7);
  const auto first = Load({.mode = NeuronMode::kExact, .plan = &plan});
  const auto second = Load({.mode = NeuronMode::kExact, .plan = &plan});
  const std::vector<float> alone = Run(*first, tokens, 1, StepKind::kDecode);
  EXPECT_EQ(Run(*second, tokens, 1, StepKind::kDecode), alone);
  EXPECT_EQ(Run(*first, tokens, 1, StepKind::kDecode), alone);  // now from captured graphs
  EXPECT_EQ(Run(*first, tokens, 3, StepKind::kDecode), alone);
}

// The emulated accelerator tells the same of the same placement.
TEST_P(GpuDeviceTest, TellsWatchersWhichOfItsNeuronsFire) {
  Open(ElementType::kF32);
  const std::vector<TokenId> tokens = RandomTokens(6, 31);
  const PredictorSet predictors = SignPredictors(checkpoint_->config, 4);
  for (const NeuronMode mode : {NeuronMode::kExact, NeuronMode::kPredicted}) {
    for (const size_t step_tokens : {1, 3}) {
      std::vector<ActivitySnapshot> snapshots(2);
      for (const DeviceKind kind : {DeviceKind::kHost, DeviceKind::kCuda}) {
        const Plan plan = RandomPlan(checkpoint_->config, 0.5, 32, kind);
        const TransformerOptions options{.mode = mode, .predictors = &predictors, .plan = &plan};
        const Quality quality = mode == NeuronMode::kExact ? Quality::kExact : Quality::kFast;
        const auto unwatched = Load(options), watched = Load(options);
        watched->activity().AddWatcher();
        EXPECT_EQ(Run(*watched, tokens, step_tokens, StepKind::kDecode, quality),
                  Run(*unwatched, tokens, step_tokens, StepKind::kDecode, quality));
        ActivitySnapshot& snapshot = snapshots[kind == DeviceKind::kCuda ? 1 : 0];
        EXPECT_TRUE(watched->activity().Update(snapshot));
        int64_t fired = 0;
        for (const uint16_t count : snapshot.counts) fired += count;
        EXPECT_EQ(fired, watched->last_step().active_neurons);
        EXPECT_GT(watched->last_step().active_on_accelerators, 0);
      }
      EXPECT_EQ(snapshots[0].counts, snapshots[1].counts);
    }
  }
}

TEST_P(EmulatedGpuDeviceTest, StretchesAreCapturedOnceAndLaunchedAsOne) {
  Open(ElementType::kF16);
  const Plan plan = WholePlan();
  const auto transformer = Load({.mode = NeuronMode::kExact, .plan = &plan});
  const std::vector<TokenId> tokens = RandomTokens(6, 8);
  Run(*transformer, std::span(tokens).first(2), 1, StepKind::kDecode);  // as they are, then captured
  const int64_t kernels = faults_->calls("cudaLaunchKernel"), launches = faults_->calls("cudaGraphLaunch");
  for (int64_t t = 2; t < 6; ++t) {
    std::vector<float> logits(kVocabulary);
    ASSERT_TRUE(
        transformer->Forward({.tokens = {&tokens[static_cast<size_t>(t)], 1}, .first_position = t}, logits)
            .ok());
  }
  EXPECT_EQ(faults_->calls("cudaLaunchKernel"), kernels);
  EXPECT_EQ(faults_->calls("cudaGraphLaunch"), launches + 4);  // the whole step is one
}

TEST_P(GpuDeviceTest, SequencesShareTheGpusPages) {
  Open(ElementType::kF16);
  const Plan plan = WholePlan();
  const auto transformer =
      Load({.context_tokens = 64, .kv_tokens = 192, .mode = NeuronMode::kExact, .plan = &plan});
  const std::vector<TokenId> a = RandomTokens(18, 1), b = RandomTokens(18, 2);
  const std::vector<KvPage> pages_a = {7, 2}, pages_b = {0, 11};
  Matrix<float> logits = *Matrix<float>::Create(2, 64);
  for (int64_t t = 0; t < 18; ++t) {
    const std::array<TokenId, 2> tokens = {a[static_cast<size_t>(t)], b[static_cast<size_t>(t)]};
    const std::array<SequenceSlice, 2> slices = {
        SequenceSlice{.n_tokens = 1, .first_position = t, .pages = pages_a},
        SequenceSlice{.n_tokens = 1, .first_position = t, .pages = pages_b}};
    ASSERT_TRUE(transformer->ForwardBatch({.tokens = tokens, .slices = slices}, logits.view()).ok());
  }
  const std::vector<float> alone_a = Run(*transformer, a, 1, StepKind::kDecode);
  const std::vector<float> alone_b = Run(*transformer, b, 1, StepKind::kDecode);
  EXPECT_TRUE(std::ranges::equal(logits.row(0), std::span(alone_a).last(kVocabulary)));
  EXPECT_TRUE(std::ranges::equal(logits.row(1), std::span(alone_b).last(kVocabulary)));
}

// ---- Memory

TEST_P(GpuDeviceTest, TakesToTheByteWhatItSays) {
  Open(ElementType::kQ4_0);
  Plan plan = GpuPlan(0.5, 9);
  plan.devices[1].budget_bytes = 1;
  const auto refused = TryLoad({.mode = NeuronMode::kExact, .plan = &plan});
  ASSERT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(faults_->calls("cudaMalloc"), 0) << "memory was taken before the plan was refused";
  // "... needs N bytes with ...": exactly that is enough, and is what the device then has.
  const std::string message(refused.status().message());
  const int64_t needed = std::stoll(message.substr(message.find("needs ") + 6));
  plan.devices[1].budget_bytes = needed;
  const auto fits = Load({.mode = NeuronMode::kExact, .plan = &plan});
  EXPECT_EQ(GpuOf(*fits).used_bytes(), needed);
  plan.devices[1].budget_bytes = needed - 1;
  EXPECT_EQ(TryLoad({.mode = NeuronMode::kExact, .plan = &plan}).status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST_P(GpuDeviceTest, APlanLeavesRoomForWhatIsNotTheModels) {
  Open(ElementType::kQ8_0);
  const ModelConfig& config = checkpoint_->config;
  const Plan plan = WholePlan();
  const auto whole = Load({.mode = NeuronMode::kExact, .plan = &plan});
  const ModelWeights& weights = *weights_.back();
  int64_t parts = weights.head_bytes();
  for (const LayerWeights& layer : weights.layers) {
    parts += layer.attention_bytes() +
             KvPages::SizeBytes(config, ElementType::kF32, PagesFor(config.context_length)) +
             config.d_ff * layer.ffn.bundles.stride_bytes;
  }
  const int64_t scratch = AcceleratorScratchBytes(DeviceKind::kCuda, config, config.context_length);
  EXPECT_LE(GpuOf(*whole).used_bytes(), parts + scratch);
  EXPECT_GE(GpuOf(*whole).used_bytes(), parts + scratch - (config.n_layers * 12 + 2) * GpuArena::kAlignment);
}

// Attention over 512 positions takes more tokens a launch than over 4096, and with 40 heads more scratch.
TEST(GpuDeviceMemory, ALongContextHasTheScratchOfShortOnes) {
  ModelConfig config = TypedLlamaConfig();
  config.n_heads = 40;
  config.d_head = 128;
  EXPECT_GE(GpuDevice::ScratchBytes(config, 4096, 64), GpuDevice::ScratchBytes(config, 512, 64));
}

TEST_P(EmulatedGpuDeviceTest, AGpuThatHasLessMemoryThanPlannedIsRefused) {
  Open(ElementType::kF16);
  total_memory_bytes_ = int64_t{24} << 20;
  const Plan plan = WholePlan();
  const auto refused = TryLoad({.mode = NeuronMode::kExact, .plan = &plan});
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted) << refused.status();
  EXPECT_NE(refused.status().message().find("cuda:0"), std::string::npos) << refused.status();
}

TEST_P(EmulatedGpuDeviceTest, WhatOpeningTheGpuAnswersIsTheAnswer) {
  Open(ElementType::kF16);
  const CpuContext cpu{.team = team_.get(), .kernels = &BestKernels()};
  ModelWeights weights = *ModelWeights::Load(*checkpoint_, cpu);
  const Plan plan = GpuPlan(0.5, 1);
  const auto refused = Transformer::Create(
      checkpoint_->config, weights, cpu,
      {.plan = &plan, .open_gpu = [](int ordinal) -> absl::StatusOr<std::unique_ptr<Gpu>> {
         return Unavailable("no driver for device {}", ordinal);
       }});
  EXPECT_EQ(refused.status(), Unavailable("no driver for device 0"));
}

// ---- Faults

TEST_P(EmulatedGpuDeviceTest, ShortMemoryFailsTheStepAndNotTheDevice) {
  Open(ElementType::kF16);
  const Plan plan = GpuPlan(0.5, 3);
  const auto transformer = Load({.mode = NeuronMode::kExact, .plan = &plan});
  const std::vector<TokenId> tokens = RandomTokens(4, 1);
  const std::vector<float> before = Run(*transformer, tokens, 1, StepKind::kDecode);
  for (const int64_t nth : {1, 2}) {
    faults_->FailCall("cudaGraphLaunch", nth, EmulatedError::kMemoryAllocation);
    std::vector<float> logits(kVocabulary);
    const absl::Status failed = transformer->Forward({.tokens = {tokens.data(), 1}}, logits);
    EXPECT_EQ(failed.code(), absl::StatusCode::kResourceExhausted) << failed;
    EXPECT_TRUE(transformer->health().ok());
    EXPECT_EQ(Run(*transformer, tokens, 1, StepKind::kDecode), before) << nth;
  }
}

TEST_P(EmulatedGpuDeviceTest, ALostDeviceFailsEveryStepFromThenOn) {
  Open(ElementType::kF16);
  const Plan plan = GpuPlan(0.5, 3);
  for (const EmulatedError error : {EmulatedError::kIllegalAddress, EmulatedError::kLaunchFailure,
                                    EmulatedError::kEccUncorrectable, EmulatedError::kUnknown}) {
    faults_ = std::make_shared<EmulatedFaults>();
    const auto transformer = Load({.mode = NeuronMode::kExact, .plan = &plan});
    const std::vector<TokenId> tokens = RandomTokens(3, 1);
    Run(*transformer, tokens, 1, StepKind::kDecode);
    EXPECT_TRUE(transformer->health().ok());
    faults_->LoseDevice(error);
    std::vector<float> logits(kVocabulary);
    for (int i = 0; i < 2; ++i) {
      const absl::Status failed = transformer->Forward({.tokens = {tokens.data(), 1}}, logits);
      EXPECT_FALSE(failed.ok());
      EXPECT_FALSE(absl::IsResourceExhausted(failed)) << failed;
      EXPECT_EQ(transformer->health(), failed);
    }
  }
}

// Calls `then` once the request has got so many tokens.
class AfterTokens final : public CompletionObserver {
 public:
  AfterTokens(size_t tokens, std::function<void()> then) : tokens_(tokens), then_(std::move(then)) {}
  void OnDelta(CompletionDelta delta) override {
    received_ += delta.token_ids.size();
    if (then_ && received_ >= tokens_) std::exchange(then_, nullptr)();
    recorder_.OnDelta(std::move(delta));
  }
  void OnFinish(absl::StatusOr<CompletionSummary> result) override { recorder_.OnFinish(std::move(result)); }
  absl::StatusOr<CompletionSummary> Wait() { return recorder_.Wait(); }
  const std::vector<TokenId>& token_ids() const { return recorder_.token_ids; }

 private:
  const size_t tokens_;
  std::function<void()> then_;
  size_t received_ = 0;
  testing::Recorder recorder_;
};

TEST_P(EmulatedGpuDeviceTest, ARequestThatTheDeviceFailsGetsAStatusAndLaterOnesTheirs) {
  Open(ElementType::kF16);
  const Plan plan = GpuPlan(0.5, 3);
  const auto transformer = Load({.mode = NeuronMode::kExact, .plan = &plan});
  const testing::PuppetTokenizer tokenizer;
  std::promise<absl::Status> lost;
  Scheduler scheduler(*transformer, tokenizer,
                      {.on_runner_lost = [&lost](const absl::Status& status) { lost.set_value(status); }});
  const auto submit = [&](std::function<void()> after_three_tokens) {
    CompletionRequest request{.prompt = {1, 2, 3}};
    request.stopping = {.max_tokens = 8, .ignore_eos = true};
    const auto observer = std::make_shared<AfterTokens>(3, std::move(after_three_tokens));
    EXPECT_TRUE(scheduler.Submit(std::move(request), observer).ok());
    return observer;
  };
  const auto before = submit({});
  ASSERT_TRUE(before->Wait().ok());

  // Short memory ends the request that runs, and it alone.
  const auto starved =
      submit([this] { faults_->FailCall("cudaGraphLaunch", 1, EmulatedError::kMemoryAllocation); });
  EXPECT_EQ(starved->Wait().status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(scheduler.health().ok());
  const auto after = submit({});
  ASSERT_TRUE(after->Wait().ok());
  EXPECT_EQ(after->token_ids(), before->token_ids());

  // A kernel that faults takes the device with it.
  const auto struck = submit([this] { faults_->LoseDevice(EmulatedError::kIllegalAddress); });
  EXPECT_EQ(struck->Wait().status().code(), absl::StatusCode::kUnavailable);
  EXPECT_FALSE(lost.get_future().get().ok());
  EXPECT_FALSE(scheduler.health().ok());
  EXPECT_EQ(scheduler.Submit({.prompt = {1}}, std::make_shared<AfterTokens>(1, nullptr)).status().code(),
            absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace thermocline
