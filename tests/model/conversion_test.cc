// Convert: files that are read back, interruptions, refusals.
// SPDX-License-Identifier: Apache-2.0
#include "model/conversion.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <limits>

#include "core/mapped_file.h"
#include "model/conversion_plan.h"
#include "model/conversion_verify.h"
#include "model/gguf_file.h"
#include "model/gguf_writer.h"
#include "tests/support/gguf_writer.h"
#include "tests/support/refusal.h"
#include "tests/support/safetensors_writer.h"
#include "tests/support/temporary_folder.h"

namespace thermocline {
namespace {

// A folder with a tiny model and room for what is made of it.
class ConversionTest : public ::testing::Test {
 protected:
  ConversionTest() { WriteSource(TinyLlamaSafetensors()); }

  void WriteSource(const SafetensorsWriter& weights) const {
    std::filesystem::create_directory(source());
    folder_.Write("source/config.json", TinyLlamaConfigJson());
    folder_.Write("source/model.safetensors", weights.Bytes());
  }
  std::string source() const { return folder_.Path("source"); }
  std::string Path(std::string_view name) const { return folder_.Path(name); }
  ConversionOptions Options(std::string_view out, ElementType type = ElementType::kQ8_0) const {
    return {.source = source(), .out = Path(out), .type = type, .tokenizer = false, .checkpoint_bytes = 0};
  }
  absl::StatusOr<ConversionReport> Run(const ConversionOptions& options, int most_slabs = INT_MAX) const {
    const CpuContext context{.team = team_.get(), .kernels = &BestKernels()};
    int slabs = 0;
    return Convert(options, context, [&](const ConversionProgress& progress) {
      EXPECT_GE(progress.share, 0);
      EXPECT_LE(progress.share, 1);
      return ++slabs > most_slabs ? Cancelled("stopped") : absl::OkStatus();
    });
  }
  std::string Bytes(std::string_view name) const { return *ReadTextFile(Path(name), 1 << 20); }

  TemporaryFolder folder_;
  std::unique_ptr<ThreadTeam> team_ = *ThreadTeam::Create(2);
};

TEST_F(ConversionTest, SaysWhatItWrote) {
  const auto report = Run(Options("a.gguf"));
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->architecture, "llama");
  EXPECT_EQ(report->file_bytes, static_cast<int64_t>(std::filesystem::file_size(Path("a.gguf"))));
  EXPECT_EQ(report->tensors, 3 + 2 * 9);
  EXPECT_EQ(report->resumed_tensors, 0);
  // Embedding, head and seven matrices a layer; the norms.
  const int64_t weights = 2 * 512 + 2 * (2 * 1024 + 2 * 512 + 3 * 2048);
  const ConversionReport::OfType& matrices = report->types.at("Q8_0");
  EXPECT_EQ(matrices.tensors, 16);
  EXPECT_EQ(matrices.weights, weights);
  EXPECT_EQ(matrices.bytes, weights / 32 * 34);
  EXPECT_GT(matrices.relative_error(), 0);
  EXPECT_LT(matrices.relative_error(), 0.5 / 127);
  EXPECT_EQ(report->types.at("F32").tensors, 5);
  EXPECT_EQ(report->types.at("F32").relative_error(), 0);
  EXPECT_GT(report->bits_per_weight(), 8.5);
  EXPECT_LT(report->bits_per_weight(), 9);
  const GgufFile gguf = *GgufFile::Open(Path("a.gguf"));
  EXPECT_EQ(*gguf.metadata.String("general.architecture"), "llama");
  EXPECT_EQ(*gguf.metadata.String("general.name"), "source");
  EXPECT_EQ(*gguf.metadata.Uint("general.file_type"), 7u);
  EXPECT_EQ(*gguf.metadata.Uint("general.quantization_version"), 2u);
  EXPECT_EQ(*gguf.metadata.String("tokenizer.ggml.model"), "no_vocab");
  ExpectRefusal(Checkpoint::Open(Path("a.gguf")).status(), {"a.gguf", "no tokenizer"});
  EXPECT_FALSE(gguf.metadata.Has("thermocline.activation"));
}

TEST_F(ConversionTest, GoesOnWhereItWasInterrupted) {
  ASSERT_TRUE(Run(Options("whole.gguf")).ok());
  const std::string whole = Bytes("whole.gguf");
  for (const int slabs : {0, 1, 7, 20, 21}) {  // 21 tensors, then verification
    const absl::Status status = Run(Options("part.gguf"), slabs).status();
    ASSERT_EQ(status.code(), absl::StatusCode::kCancelled) << status;
    EXPECT_FALSE(std::filesystem::exists(Path("part.gguf")));
    // As if it had been killed while it wrote the next tensor.
    std::ofstream(Path("part.gguf.partial"), std::ios::binary | std::ios::app) << "half of a tensor";
    const auto report = Run(Options("part.gguf"));
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_EQ(report->resumed_tensors, std::min(slabs, 20));
    EXPECT_EQ(Bytes("part.gguf"), whole) << slabs;
    EXPECT_FALSE(std::filesystem::exists(Path("part.gguf.partial")));
    EXPECT_FALSE(std::filesystem::exists(Path("part.gguf.partial.json")));
    std::filesystem::remove(Path("part.gguf"));
  }
}

TEST_F(ConversionTest, ShardsMakeTheSameFile) {
  ASSERT_TRUE(Run(Options("whole.gguf")).ok());
  SafetensorsWriter shards[2];
  std::string map;
  for (const SafetensorsWriter::Tensor& tensor : TinyLlamaSafetensors().tensors) {
    const bool second = tensor.name.find("layers.1") != std::string::npos;
    shards[second ? 1 : 0].tensors.push_back(tensor);
    map += fmt::format(R"({}"{}":"{}.safetensors")", map.empty() ? "" : ",", tensor.name, second ? "b" : "a");
  }
  std::filesystem::remove(source() + "/model.safetensors");
  folder_.Write("source/a.safetensors", shards[0].Bytes());
  folder_.Write("source/b.safetensors", shards[1].Bytes());
  folder_.Write("source/model.safetensors.index.json", R"({"weight_map":{)" + map + "}}");
  ASSERT_FALSE(Run(Options("shards.gguf"), 9).ok());
  const auto report = Run(Options("shards.gguf"));
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->resumed_tensors, 9);
  EXPECT_EQ(Bytes("shards.gguf"), Bytes("whole.gguf"));
}

TEST_F(ConversionTest, APartOfOtherWorkIsRefusedOrForced) {
  ASSERT_FALSE(Run(Options("a.gguf"), 5).ok());
  ExpectRefusal(Run(Options("a.gguf", ElementType::kF16)).status(), {"a.gguf.partial", "other options"});
  SafetensorsWriter changed = TinyLlamaSafetensors();
  changed.tensors[3].data[100] ^= 1;
  WriteSource(changed);
  ExpectRefusal(Run(Options("a.gguf")).status(), {"a.gguf.partial", "another source"});
  ConversionOptions forced = Options("a.gguf");
  forced.force = true;
  const auto report = Run(forced);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->resumed_tensors, 0);
  // A state that says more than there is.
  ASSERT_FALSE(Run(Options("b.gguf"), 5).ok());
  const std::string part = Bytes("b.gguf.partial");
  folder_.Write("b.gguf.partial", part.substr(0, 3000));
  ExpectRefusal(Run(Options("b.gguf")).status(), {"b.gguf.partial", "3000 bytes"});
  folder_.Write("b.gguf.partial", part.substr(0, 100));
  ExpectRefusal(Run(Options("b.gguf")).status(), {"b.gguf.partial", "does not start as"});
  folder_.Write("b.gguf.partial.json", "{}");
  ExpectRefusal(Run(Options("b.gguf")).status(), {"b.gguf.partial.json", "is missing"});
}

TEST_F(ConversionTest, OneAtATimeWritesAFile) {
  GgufHeader header;
  const auto writer = GgufFileWriter::Resume(Path("a.gguf"), header, 0);
  ASSERT_TRUE(writer.ok()) << writer.status();
  ExpectRefusal(Run(Options("a.gguf")).status(), {"a.gguf.partial", "another process"});
}

TEST_F(ConversionTest, RefusesPathsByName) {
  ASSERT_TRUE(Run(Options("a.gguf")).ok());
  ExpectRefusal(Run(Options("a.gguf")).status(), {"a.gguf", "there already", "--force"});
  ConversionOptions options = Options("a.gguf");
  options.force = true;
  EXPECT_TRUE(Run(options).ok());
  options.source = options.out;
  ExpectRefusal(Run(options).status(), {"a.gguf", "the source itself"});
  options = Options("source");
  ExpectRefusal(Run(options).status(), {"source"});
  ExpectRefusal(Run(Options("absent/a.gguf")).status(), {"absent"});
  options = Options("b.gguf");
  options.source = Path("absent");
  ExpectRefusal(Run(options).status(), {"absent", "no such file"});
  options = Options("b.gguf");
  options.tokenizer = true;
  ExpectRefusal(Run(options).status(),
                {"source", "neither tokenizer.json nor tokenizer.model", "--without-tokenizer"});
}

TEST_F(ConversionTest, RefusesValuesThatATypeCannotHold) {
  const auto with = [&](float value) {
    SafetensorsWriter weights = TinyLlamaSafetensors();
    auto& tensor = *std::ranges::find(weights.tensors, "model.layers.1.mlp.up_proj.weight",
                                      &SafetensorsWriter::Tensor::name);
    tensor.data.replace((7 * 32 + 3) * sizeof value, sizeof value, LittleEndian(value));
    WriteSource(weights);
  };
  with(70000.0f);
  EXPECT_TRUE(Run(Options("wide.gguf", ElementType::kBF16)).ok());
  for (const ElementType type : {ElementType::kF16, ElementType::kQ8_0, ElementType::kQ4_0}) {
    ExpectRefusal(Run(Options("a.gguf", type)).status(),
                  {"'model.layers.1.mlp.up_proj.weight', row 7", "65504", std::string(NameOf(type))});
    std::filesystem::remove(Path("a.gguf.partial.json"));
  }
  with(std::numeric_limits<float>::quiet_NaN());
  ExpectRefusal(Run(Options("b.gguf", ElementType::kF32)).status(), {"row 7", "no number"});
}

// The pairs of another GGUF file are copied, and so are tensors that have the type already.
TEST_F(ConversionTest, RequantisesGguf) {
  GgufWriter source = TinyLlamaGguf();
  for (GgufWriter::Tensor& tensor : source.tensors) {
    for (size_t i = 0; i < tensor.data.size(); i += sizeof(float))
      tensor.data.replace(i, sizeof(float), LittleEndian(static_cast<float>(i % 97) - 40.0f));
  }
  folder_.Write("a.gguf", source.SetString("general.name", "as it was")
                              .SetUint("general.alignment", 32)
                              .Set("general.odd", GgufWriter::kUint8, std::string(1, '\7'))
                              .SetStrings("general.tags", {"one", ""})
                              .Bytes());
  ConversionOptions options = Options("b.gguf", ElementType::kQ4_0);
  options.source = Path("a.gguf");
  options.activation = Activation::kRelu;
  const auto report = Run(options);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_THAT(report->notes, testing::Contains(testing::HasSubstr("llama.cpp would compute silu")));
  const GgufFile gguf = *GgufFile::Open(Path("b.gguf"));
  EXPECT_EQ(*gguf.metadata.String("general.name"), "as it was");
  EXPECT_EQ(*gguf.metadata.Uint("general.odd"), 7u);
  EXPECT_THAT(**gguf.metadata.Strings("general.tags"), testing::ElementsAre("one", ""));
  EXPECT_FALSE(gguf.metadata.Has("general.alignment"));
  EXPECT_EQ(*gguf.metadata.Uint("general.file_type"), 2u);
  EXPECT_EQ(*gguf.metadata.String("thermocline.activation"), "relu");

  options = Options("c.gguf", ElementType::kQ4_0);
  options.source = Path("b.gguf");
  const auto again = Run(options);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->types.at("Q4_0").relative_error(), 0);
  const GgufFile copy = *GgufFile::Open(Path("c.gguf"));
  for (const TensorInfo& tensor : gguf.tensors.tensors())
    EXPECT_TRUE(std::ranges::equal(tensor.bytes, copy.tensors.Find(tensor.name)->bytes)) << tensor.name;
}

TEST_F(ConversionTest, VerificationFindsADifference) {
  ASSERT_TRUE(Run(Options("a.gguf")).ok());
  const Checkpoint opened = *Checkpoint::Open(source(), {.load_tokenizer = false});
  const ConversionPlan plan = PlanConversion(opened, ElementType::kQ8_0);
  const CpuContext context{.team = team_.get(), .kernels = &BestKernels()};
  const auto verify = [&] {
    ConversionReport report;
    return VerifyConversion(
        Path("a.gguf"), opened, plan, context, [](double) { return absl::OkStatus(); }, report);
  };
  EXPECT_TRUE(verify().ok());
  std::string bytes = Bytes("a.gguf");
  bytes[bytes.size() - 64] ^= 0x40;
  folder_.Write("a.gguf", bytes);
  ExpectRefusal(verify(), {"a.gguf", "tensor 'output.weight', row 14", "Q8_0"});
}

}  // namespace

TEST(MatrixType, FallsBackByRowsLength) {
  using enum ElementType;
  for (const auto& [asked, wide, by32, odd] :
       {std::tuple(kF32, kF32, kF32, kF32), std::tuple(kBF16, kBF16, kBF16, kBF16),
        std::tuple(kQ8_0, kQ8_0, kQ8_0, kF16), std::tuple(kQ4_0, kQ4_0, kQ4_0, kF16),
        std::tuple(kQ4_K, kQ4_K, kQ5_0, kF16), std::tuple(kQ6_K, kQ6_K, kQ8_0, kF16)}) {
    EXPECT_EQ(MatrixType(asked, false, 512), wide);
    EXPECT_EQ(MatrixType(asked, false, 96), by32);
    EXPECT_EQ(MatrixType(asked, false, 100), odd);
  }
  EXPECT_EQ(MatrixType(kQ4_K, true, 512), kQ6_K);
  EXPECT_EQ(MatrixType(kQ4_0, true, 512), kQ6_K);
  EXPECT_EQ(MatrixType(kQ4_K, true, 96), kQ8_0);
  EXPECT_EQ(MatrixType(kQ8_0, true, 512), kQ8_0);
  EXPECT_EQ(*ParseConversionType("q4_k"), kQ4_K);
  ExpectRefusal(ParseConversionType("q5_k").status(), {"'q5_k'", "f32, f16, bf16, q8_0, q4_0, q4_k, q6_k"});
}

// Two dimensions of a head of six stay.
TEST(SourceRow, BringsRotatedPairsTogether) {
  ModelConfig config;
  config.d_head = 6;
  config.rope_dimensions = 4;
  const PlannedTensor tensor{.shape = {12, 1}, .order = RowOrder::kInterleaved, .heads = 2};
  std::vector<int64_t> rows;
  for (int64_t r = 0; r < 12; ++r) rows.push_back(SourceRow(tensor, config, r));
  EXPECT_THAT(rows, testing::ElementsAre(0, 2, 1, 3, 4, 5, 6, 8, 7, 9, 10, 11));
}

TEST(CheckSameModel, NamesWhatDiffers) {
  const ModelConfig config = TinyLlamaConfig();
  EXPECT_TRUE(CheckSameModel(config, config, "m.gguf").ok());
  const auto refuse = [&](const std::function<void(ModelConfig&)>& change, const std::string& field) {
    ModelConfig changed = config;
    change(changed);
    ExpectRefusal(CheckSameModel(config, changed, "m.gguf"), {"m.gguf", field});
  };
  refuse([](ModelConfig& c) { c.d_ff = 1; }, "d_ff");
  refuse([](ModelConfig& c) { c.tied_head = true; }, "tied_head");
  refuse([](ModelConfig& c) { c.rope_theta *= 1.001; }, "rope_theta");
  refuse([](ModelConfig& c) { c.attention_scale = 1; }, "attention_scale");
  refuse([](ModelConfig& c) { c.window.tokens = 8; }, "sliding window of layer 0");
  refuse([](ModelConfig& c) { c.rope_scaling.frequency_divisors = {2}; }, "divisors");
  ModelConfig rounded = config;
  rounded.norm_epsilon = static_cast<double>(static_cast<float>(config.norm_epsilon));
  EXPECT_TRUE(CheckSameModel(config, rounded, "m.gguf").ok());
}

}  // namespace thermocline
