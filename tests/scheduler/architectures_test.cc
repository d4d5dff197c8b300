// Every architecture against the logits of the Hugging Face implementation (make_architectures.py).
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "model/checkpoint.h"
#include "model/conversion.h"
#include "scheduler/gpu_device.h"
#include "scheduler/transformer.h"
#include "tests/support/split_plans.h"
#include "tests/support/temporary_folder.h"

namespace thermocline {
namespace {

const std::string kFolder = THERMOCLINE_SOURCE_DIR "/tests/support/golden/architectures/";

struct Case {
  std::vector<TokenId> tokens;
  std::vector<std::vector<float>> logits;  // of the last two positions
};

const nlohmann::json& Goldens() {
  static const nlohmann::json* const goldens =
      new nlohmann::json(nlohmann::json::parse(std::ifstream(kFolder + "golden.json")).at("models"));
  return *goldens;
}

std::vector<std::string> Names() {
  std::vector<std::string> names;
  for (const auto& [name, cases] : Goldens().items()) names.push_back(name);
  return names;
}

std::vector<Case> CasesOf(const std::string& name) {
  std::vector<Case> cases;
  for (const auto& c : Goldens().at(name)) {
    cases.push_back(
        {c.at("tokens").get<std::vector<TokenId>>(), c.at("logits").get<std::vector<std::vector<float>>>()});
  }
  return cases;
}

// A model with what its runner borrows from.
struct Loaded {
  std::unique_ptr<Checkpoint> checkpoint;
  std::unique_ptr<ThreadTeam> team;
  ModelWeights weights;
  std::unique_ptr<Transformer> transformer;

  int64_t n_vocab() const { return transformer->n_vocab(); }
};

std::unique_ptr<Loaded> Load(const std::string& path, const TransformerOptions& options = {},
                             FfnLayout layout = FfnLayout::kAuto) {
  auto loaded = std::make_unique<Loaded>();
  auto checkpoint = Checkpoint::Open(path, {.load_tokenizer = false});
  if (!checkpoint.ok()) {
    ADD_FAILURE() << checkpoint.status();
    return nullptr;
  }
  loaded->checkpoint = std::make_unique<Checkpoint>(*std::move(checkpoint));
  loaded->team = *ThreadTeam::Create(2);
  const CpuContext cpu{.team = loaded->team.get(), .kernels = &BestKernels()};
  loaded->weights = *ModelWeights::Load(*loaded->checkpoint, cpu, {.ffn_layout = layout});
  TransformerOptions as_exact_as_goldens = options;
  as_exact_as_goldens.kv_type = ElementType::kF32;
  as_exact_as_goldens.pack_weights = !TakesInt16(loaded->checkpoint->tensors.TypesByBytes().front());
  auto transformer =
      Transformer::Create(loaded->checkpoint->config, loaded->weights, cpu, as_exact_as_goldens);
  if (!transformer.ok()) {
    ADD_FAILURE() << transformer.status();
    return nullptr;
  }
  loaded->transformer = *std::move(transformer);
  return loaded;
}

std::vector<std::vector<float>> AllLogits(Loaded& model, std::span<const TokenId> tokens, StepKind kind) {
  Matrix<float> logits = *Matrix<float>::Create(static_cast<int64_t>(tokens.size()), model.n_vocab());
  EXPECT_TRUE(model.transformer->ForwardAll({.tokens = tokens, .kind = kind}, logits.view()).ok());
  std::vector<std::vector<float>> rows;
  for (int64_t t = 0; t < logits.rows(); ++t) rows.emplace_back(logits.row(t).begin(), logits.row(t).end());
  return rows;
}

// F32 against F32 in another order of sums; the limit is 1e-3 of the largest logit.
constexpr float kTolerance = 1e-4f;

void ExpectNear(const std::vector<float>& ours, const std::vector<float>& theirs, const std::string& what) {
  ASSERT_EQ(ours.size(), theirs.size());
  float largest = 0, worst = 0;
  for (const float logit : theirs) largest = std::max(largest, std::abs(logit));
  for (size_t i = 0; i < ours.size(); ++i) worst = std::max(worst, std::abs(ours[i] - theirs[i]));
  EXPECT_LE(worst, kTolerance * largest) << what;
}

void ExpectGolden(Loaded& model, const std::vector<Case>& cases, StepKind kind, const std::string& what) {
  for (const Case& c : cases) {
    const std::vector<std::vector<float>> ours = AllLogits(model, c.tokens, kind);
    for (size_t i = 0; i < c.logits.size(); ++i) {
      const size_t position = c.tokens.size() - c.logits.size() + i;
      ExpectNear(ours[position], c.logits[i],
                 fmt::format("{}, position {} of {}", what, position, c.tokens.size()));
    }
  }
}

class Architectures : public ::testing::TestWithParam<std::string> {};

TEST_P(Architectures, EqualHuggingFace) {
  const auto model = Load(kFolder + GetParam());
  ASSERT_NE(model, nullptr);
  ExpectGolden(*model, CasesOf(GetParam()), StepKind::kPrefill, "prefill");
}

TEST_P(Architectures, EqualHuggingFaceInBundlesAndInExactMode) {
  const std::string path = kFolder + GetParam();
  const auto model = Load(path);
  ASSERT_NE(model, nullptr);
  if (model->checkpoint->config.sub_norms) return;  // whole hidden layers only
  const auto bundled = Load(path, {}, FfnLayout::kBundles);
  ExpectGolden(*bundled, CasesOf(GetParam()), StepKind::kPrefill, "bundles");
  if (!model->checkpoint->config.has_silent_neurons()) return;
  const auto exact = Load(path, {.mode = NeuronMode::kExact});
  for (const Case& c : CasesOf(GetParam()))
    EXPECT_EQ(AllLogits(*exact, c.tokens, StepKind::kDecode),
              AllLogits(*exact, c.tokens, StepKind::kPrefill));
}

TEST_P(Architectures, TheSameBitsInChunksAndInBatches) {
  const auto model = Load(kFolder + GetParam(), {.kv_tokens = 128});
  ASSERT_NE(model, nullptr);
  const std::vector<TokenId> tokens = CasesOf(GetParam()).back().tokens;
  const std::vector<std::vector<float>> whole = AllLogits(*model, tokens, StepKind::kPrefill);

  // Two sequences at once, one of them some tokens behind, in pages of their own and chunks of 5.
  const std::vector<KvPage> pages[] = {{6, 1}, {4, 7}};
  constexpr size_t kChunk = 5, kBehind = 3;
  Matrix<float> logits = *Matrix<float>::Create(2, model->n_vocab());
  for (size_t begin = 0; begin + kChunk <= tokens.size(); begin += kChunk) {
    std::vector<TokenId> step(tokens.begin() + static_cast<int64_t>(begin),
                              tokens.begin() + static_cast<int64_t>(begin + kChunk));
    const size_t other = begin < kBehind ? 0 : begin - kBehind;
    const size_t other_count = begin < kBehind ? kChunk - kBehind : kChunk;
    step.insert(step.end(), tokens.begin() + static_cast<int64_t>(other),
                tokens.begin() + static_cast<int64_t>(other + other_count));
    const SequenceSlice slices[] = {
        {.n_tokens = kChunk, .first_position = static_cast<int64_t>(begin), .pages = pages[0]},
        {.n_tokens = static_cast<int64_t>(other_count),
         .first_position = static_cast<int64_t>(other),
         .pages = pages[1]}};
    ASSERT_TRUE(
        model->transformer
            ->ForwardBatch({.tokens = step, .slices = slices, .kind = StepKind::kPrefill}, logits.view())
            .ok());
    EXPECT_TRUE(std::ranges::equal(logits.row(0), whole[begin + kChunk - 1])) << begin;
    EXPECT_TRUE(std::ranges::equal(logits.row(1), whole[other + other_count - 1])) << other;
  }
}

// Neurons on both devices, attention and head on either.
TEST_P(Architectures, EqualHuggingFaceOverTwoDevices) {
  const std::string path = kFolder + GetParam();
  const auto model = Load(path);
  ASSERT_NE(model, nullptr);
  if (model->checkpoint->config.sub_norms) return;
  for (const uint32_t seed : {1u, 2u, 3u}) {
    const Plan plan = testing::RandomPlan(model->checkpoint->config, 0.4, seed);
    const auto split = Load(path, {.plan = &plan}, FfnLayout::kBundles);
    ASSERT_NE(split, nullptr);
    ExpectGolden(*split, CasesOf(GetParam()), StepKind::kPrefill, fmt::format("plan {}", seed));
  }
}

// As their weights lie without a plan: bundles where neurons can be silent, else the file's matrices.
TEST_P(Architectures, WholeLayersOnEitherDeviceGiveTheSameBits) {
  const std::string path = kFolder + GetParam();
  const auto alone = Load(path);
  ASSERT_NE(alone, nullptr);
  const std::vector<TokenId> tokens = CasesOf(GetParam()).back().tokens;
  const auto expected = AllLogits(*alone, tokens, StepKind::kPrefill);
  for (const uint32_t on_accelerator : {0b01u, 0b10u, 0b111u}) {
    const Plan plan = testing::LayersPlan(alone->checkpoint->config, on_accelerator);
    const auto split = Load(path, {.plan = &plan});
    ASSERT_NE(split, nullptr);
    EXPECT_EQ(AllLogits(*split, tokens, StepKind::kPrefill), expected) << on_accelerator;
    EXPECT_EQ(AllLogits(*split, tokens, StepKind::kDecode), AllLogits(*alone, tokens, StepKind::kDecode));
  }
}

// What a device would take to the byte, and one byte less.
TEST(WholeLayers, OfMatricesFitTheBudgetOrAreRefused) {
  const auto alone = Load(kFolder + "bitnet");  // with a norm inside the block
  ASSERT_NE(alone, nullptr);
  const ModelConfig& config = alone->checkpoint->config;
  const CpuContext cpu{.team = alone->team.get(), .kernels = &BestKernels()};
  const auto load = [&](const Plan& plan) {
    return Transformer::Create(config, alone->weights, cpu, {.plan = &plan});
  };
  Plan plan = testing::LayersPlan(config, 0b10);
  const auto fits = load(plan);
  ASSERT_TRUE(fits.ok()) << fits.status();
  const int64_t used = (*fits)->devices()[1]->used_bytes();
  EXPECT_GT(used, alone->weights.layers[1].ffn.size_bytes());
  plan.devices[1].budget_bytes = used;
  EXPECT_TRUE(load(plan).ok());
  plan.devices[1].budget_bytes = used - 1;
  EXPECT_EQ(load(plan).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(WholeLayers, MatricesAreNotSplit) {
  const auto alone = Load(kFolder + "llama");
  ASSERT_NE(alone, nullptr);
  const CpuContext cpu{.team = alone->team.get(), .kernels = &BestKernels()};
  const Plan plan = testing::RandomPlan(alone->checkpoint->config, 0.5, 1);
  const absl::Status status =
      Transformer::Create(alone->checkpoint->config, alone->weights, cpu, {.plan = &plan}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(std::string(status.message()).find("splits layer 0"), std::string::npos) << status;
}

TEST_P(Architectures, EqualHuggingFaceFromGguf) {
  const std::string path = kFolder + GetParam() + ".gguf";
  if (!std::filesystem::exists(path)) return;  // llama.cpp has no names for it
  const auto model = Load(path);
  ASSERT_NE(model, nullptr);
  ExpectGolden(*model, CasesOf(GetParam()), StepKind::kPrefill, "GGUF");
}

absl::Status ConvertTo(const std::string& source, const std::string& out, ElementType type) {
  const auto team = *ThreadTeam::Create(2);
  const CpuContext cpu{.team = team.get(), .kernels = &BestKernels()};
  const ConversionOptions options{.source = source, .out = out, .type = type, .tokenizer = false};
  return Convert(options, cpu, [](const ConversionProgress&) { return absl::OkStatus(); }).status();
}

// Logits are near the golden ones as far as the type's rounding of the weights allows: the root mean square
// of the difference as a share of the logits'. d_model is 32 and d_ff 24 here: matrices of Q4_K are Q5_0,
// those of Q6_K Q8_0, and the down projections F16. Weights of BF16 are kept exactly by the first two.
constexpr std::pair<ElementType, double> kConverted[] = {
    {ElementType::kF32, 1e-5},  {ElementType::kBF16, 1e-5}, {ElementType::kF16, 1e-4},
    {ElementType::kQ8_0, 0.1},  {ElementType::kQ6_K, 0.1},  {ElementType::kQ4_K, 0.5},
    {ElementType::kQ4_0, 0.75},
};

TEST_P(Architectures, ConvertedEqualHuggingFaceWithinTheTypesError) {
  const TemporaryFolder folder;
  for (const auto& [type, limit] : kConverted) {
    const std::string out = folder.Path(fmt::format("{}.gguf", NameOf(type)));
    const absl::Status converted = ConvertTo(kFolder + GetParam(), out, type);
    ASSERT_TRUE(converted.ok()) << converted;
    const auto model = Load(out);
    ASSERT_NE(model, nullptr);
    double difference = 0, size = 0;
    for (const Case& c : CasesOf(GetParam())) {
      const std::vector<std::vector<float>> ours = AllLogits(*model, c.tokens, StepKind::kPrefill);
      for (size_t i = 0; i < c.logits.size(); ++i) {
        const std::vector<float>& row = ours[c.tokens.size() - c.logits.size() + i];
        for (size_t v = 0; v < row.size(); ++v) {
          difference += std::pow(static_cast<double>(row[v] - c.logits[i][v]), 2);
          size += std::pow(static_cast<double>(c.logits[i][v]), 2);
        }
      }
    }
    EXPECT_LE(std::sqrt(difference / size), limit) << NameOf(type);
  }
}

// The same model in llama.cpp's form, written by another hand: the tensors are the same, bit for bit.
TEST_P(Architectures, ConvertedEqualTheGguf) {
  const std::string theirs = kFolder + GetParam() + ".gguf";
  if (!std::filesystem::exists(theirs)) return;
  const TemporaryFolder folder;
  ASSERT_TRUE(ConvertTo(kFolder + GetParam(), folder.Path("ours.gguf"), ElementType::kBF16).ok());
  const auto expected = Checkpoint::Open(theirs, {.load_tokenizer = false});
  const auto found = Checkpoint::Open(folder.Path("ours.gguf"), {.load_tokenizer = false});
  ASSERT_TRUE(expected.ok() && found.ok()) << expected.status() << found.status();
  EXPECT_EQ(found->tensors.tensors().size(), expected->tensors.tensors().size());
  for (const TensorInfo& tensor : expected->tensors.tensors()) {
    const TensorInfo* ours = found->tensors.Find(tensor.name);
    ASSERT_NE(ours, nullptr) << tensor.name;
    EXPECT_EQ(ours->type, tensor.type) << tensor.name;
    EXPECT_EQ(ours->shape, tensor.shape) << tensor.name;
    EXPECT_TRUE(std::ranges::equal(ours->bytes, tensor.bytes)) << tensor.name;
  }
}

// What the GPU's kernels lack they are not asked for.
TEST_P(Architectures, TheGpuTakesLlamasAndRefusesTheOthersByFeature) {
  const auto checkpoint = Checkpoint::Open(kFolder + GetParam(), {.load_tokenizer = false});
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const absl::Status status = GpuDevice::CheckSupported(checkpoint->config);
  if (GetParam() == "llama" || GetParam() == "sparsellama") {
    EXPECT_TRUE(status.ok()) << status;
    return;
  }
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_NE(std::string(status.message()).find(checkpoint->config.architecture + " needs "),
            std::string::npos)
      << status;
}

INSTANTIATE_TEST_SUITE_P(All, Architectures, ::testing::ValuesIn(Names()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace thermocline
