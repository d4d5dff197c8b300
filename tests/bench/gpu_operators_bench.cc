// Products with weight matrices, attention over pages and predictors on the GPU.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <random>

#include "kernels_cpu/sparse_ffn.h"
#include "tests/bench/gpu_bench.h"
#include "tests/support/reference_data.h"

namespace thermocline::bench {
namespace {

using nlohmann::ordered_json;
using reference::FloatMatrix;

// Sums of F32 products of the same values in another order.
constexpr double kTolerance = 1e-4;
constexpr int64_t kTokens[] = {1, 4, 16};
constexpr ElementType kTypes[] = {ElementType::kF16, ElementType::kBF16, ElementType::kQ8_0,
                                  ElementType::kQ4_0};

int64_t CopiesFor(const GpuBench& bench, int64_t bytes) {
  return (bench.options().working_set_bytes + bytes - 1) / bytes;
}

// Copies of one block of bytes, one behind the other.
absl::StatusOr<GpuOwned<DeviceBlock>> HoldCopies(GpuBench& bench, const void* data, int64_t bytes,
                                                 int64_t copies) {
  TC_ASSIGN_OR_RETURN(GpuOwned<DeviceBlock> block, bench.Allocate(bytes * copies));
  for (int64_t i = 0; i < copies; ++i)
    TC_RETURN_IF_ERROR(bench.Upload(block.get().data + i * bytes, data, bytes));
  return block;
}

std::vector<float> RandomFloats(int64_t count, uint32_t seed) {
  const FloatMatrix row = FloatMatrix::Random(1, count, seed);
  return {row.view().row(0).begin(), row.view().row(0).end()};
}

// ---- Products

struct Product {
  const char* name;
  int64_t rows;
  int64_t cols;
};

absl::StatusOr<ordered_json> MeasureProduct(GpuBench& bench, const Product& product, const WeightView& host,
                                            const GpuOwned<DeviceBlock>& weights, int64_t copies,
                                            int64_t tokens, double copy_gb_per_second) {
  const std::vector<float> x = RandomFloats(tokens * product.cols, 3);
  std::vector<float> y(static_cast<size_t>(tokens * product.rows)), expected(y.size());
  TC_ASSIGN_OR_RETURN(const GpuOwned<DeviceBlock> input, bench.Hold(x));
  TC_ASSIGN_OR_RETURN(const GpuOwned<DeviceBlock> output, bench.Hold(std::vector<float>(y.size(), NAN)));
  WeightView w = host;
  const auto launch = [&](int64_t i) {
    w.data = weights.get().data + i * host.size_bytes();
    return bench.gpu().kernels().mat_mul(w, {AddressIn<float>(input), tokens, product.cols, product.cols},
                                         {AddressIn<float>(output), tokens, product.rows, product.rows},
                                         bench.stream());
  };
  TC_RETURN_IF_ERROR(launch(0));
  TC_RETURN_IF_ERROR(bench.Download(y.data(), output.get().data, std::ssize(y) * 4));
  MatMul(bench.cpu(), host, {x.data(), tokens, product.cols, product.cols},
         {expected.data(), tokens, product.rows, product.rows});
  const double error = LargestError(y, expected);
  if (!(error <= kTolerance)) {
    return Internal("mat_mul of {}, {}, {} tokens: off by {} of the largest value", product.name,
                    NameOf(host.type), tokens, error);
  }
  TC_ASSIGN_OR_RETURN(const Samples micros, bench.MicrosOf(copies, launch));
  ordered_json json = {{"matrix", product.name},
                       {"rows", product.rows},
                       {"cols", product.cols},
                       {"type", NameOf(host.type)},
                       {"tokens", tokens}};
  json.update(SpeedJson(micros, host.size_bytes(), copy_gb_per_second));
  json["largest_error"] = error;
  return json;
}

// ---- Attention

struct Heads {
  const char* name;
  int64_t n_heads;
  int64_t n_kv_heads;
  int64_t d_head;
};

// Pages of a GPU, whose keys are (16, d_head), as the CPU's kernels read them.
std::vector<float> KeysByColumn(const std::vector<float>& pages, const KvLayout& layout) {
  std::vector<float> turned = pages;
  const auto head_floats = static_cast<size_t>(kKvPageTokens * layout.d_head);
  const auto keys_floats = head_floats * static_cast<size_t>(layout.n_kv_heads);
  for (size_t keys = 0; keys < pages.size(); keys += 2 * keys_floats) {
    for (size_t i = 0; i < keys_floats; ++i) {
      const size_t place = i % head_floats / static_cast<size_t>(layout.d_head);
      const size_t column = i % static_cast<size_t>(layout.d_head);
      turned[keys + i / head_floats * head_floats + column * kKvPageTokens + place] = pages[keys + i];
    }
  }
  turned.resize(pages.size() + kKvSlackBytes / sizeof(float));
  return turned;
}

absl::StatusOr<ordered_json> MeasureAttention(GpuBench& bench, const Heads& heads, int64_t context,
                                              int64_t tokens, double copy_gb_per_second) {
  constexpr int64_t kPageTokens = 16;
  const int64_t pages_each = context / kPageTokens, n_pages = tokens * pages_each;
  const int64_t page_floats = 2 * heads.n_kv_heads * kPageTokens * heads.d_head;
  const int64_t width = heads.n_heads * heads.d_head, bytes = n_pages * page_floats * 4;
  // A page drawn for every 61; all that is in a page is in use.
  const std::vector<float> drawn = RandomFloats(std::min<int64_t>(n_pages, 61) * page_floats, 1);
  std::vector<float> cache(static_cast<size_t>(n_pages * page_floats));
  for (size_t begin = 0; begin < cache.size(); begin += drawn.size())
    std::copy_n(drawn.begin(), std::min(drawn.size(), cache.size() - begin),
                cache.begin() + static_cast<ptrdiff_t>(begin));
  const int64_t copies = CopiesFor(bench, bytes);
  TC_ASSIGN_OR_RETURN(const GpuOwned<DeviceBlock> caches, HoldCopies(bench, cache.data(), bytes, copies));

  std::vector<int32_t> page_table(static_cast<size_t>(n_pages)), slices(static_cast<size_t>(tokens));
  std::iota(page_table.begin(), page_table.end(), 0);
  std::mt19937 random(5);
  std::ranges::shuffle(page_table, random);
  std::iota(slices.begin(), slices.end(), 0);
  const std::vector<int32_t> positions(static_cast<size_t>(tokens), static_cast<int32_t>(context - 1));
  const std::vector<float> q = RandomFloats(tokens * width, 2);
  const int64_t scratch_floats = GpuAttentionScratch(tokens, heads.n_heads, heads.d_head, context);
  TC_ASSIGN_OR_RETURN(const GpuOwned<DeviceBlock> table, bench.Hold(page_table));
  TC_ASSIGN_OR_RETURN(const GpuOwned<DeviceBlock> slices_there, bench.Hold(slices));
  TC_ASSIGN_OR_RETURN(const GpuOwned<DeviceBlock> positions_there, bench.Hold(positions));
  TC_ASSIGN_OR_RETURN(const GpuOwned<DeviceBlock> queries, bench.Hold(q));
  TC_ASSIGN_OR_RETURN(const GpuOwned<DeviceBlock> output, bench.Hold(std::vector<float>(q.size(), NAN)));
  TC_ASSIGN_OR_RETURN(const GpuOwned<DeviceBlock> scratch, bench.Allocate(scratch_floats * 4));
  const float scale = 1 / std::sqrt(static_cast<float>(heads.d_head));
  GpuAttentionArgs args{.queries = {AddressIn<float>(queries), tokens, width, width},
                        .output = {AddressIn<float>(output), tokens, width, width},
                        .cache = {.n_pages = n_pages,
                                  .page_tokens = kPageTokens,
                                  .n_kv_heads = heads.n_kv_heads,
                                  .d_head = heads.d_head},
                        .step = {.n_tokens = tokens,
                                 .positions = AddressIn<int32_t>(positions_there),
                                 .slices = AddressIn<int32_t>(slices_there),
                                 .pages = {AddressIn<int32_t>(table), tokens, pages_each, pages_each}},
                        .n_heads = heads.n_heads,
                        .most_positions = context,
                        .scale = scale,
                        .scratch = {AddressIn<float>(scratch), static_cast<size_t>(scratch_floats)}};
  const auto launch = [&](int64_t i) {
    args.cache.data = AddressIn<float>(caches) + i * n_pages * page_floats;
    return bench.gpu().kernels().attention(args, bench.stream());
  };
  TC_RETURN_IF_ERROR(launch(0));
  std::vector<float> attended(q.size()), expected(q.size());
  TC_RETURN_IF_ERROR(bench.Download(attended.data(), output.get().data, std::ssize(attended) * 4));

  std::vector<AttentionToken> on_cpu;
  for (int64_t t = 0; t < tokens; ++t) {
    on_cpu.push_back({.pages = page_table.data() + t * pages_each, .n_positions = context});
  }
  const KvLayout layout{ElementType::kF32, heads.n_kv_heads, heads.d_head};
  const std::vector<float> cpu_cache = KeysByColumn(cache, layout);
  const int64_t cpu_scratch = AttentionScratchSize(heads.d_head), threads = bench.cpu().team->threads();
  std::vector<float> cpu_scratch_floats(static_cast<size_t>(threads * cpu_scratch));
  Attention(bench.cpu(),
            {.queries = {q.data(), tokens, width, width},
             .output = {expected.data(), tokens, width, width},
             .tokens = on_cpu,
             .cache = reinterpret_cast<const std::byte*>(cpu_cache.data()),
             .layout = layout,
             .n_heads = heads.n_heads,
             .scale = scale},
            {cpu_scratch_floats.data(), threads, cpu_scratch, cpu_scratch});
  const double error = LargestError(attended, expected);
  if (!(error <= kTolerance)) {
    return Internal("attention of {}, {} positions, {} sequences: off by {} of the largest value", heads.name,
                    context, tokens, error);
  }
  TC_ASSIGN_OR_RETURN(const Samples micros, bench.MicrosOf(copies, launch));
  ordered_json json = {{"heads", heads.name},    {"n_heads", heads.n_heads}, {"n_kv_heads", heads.n_kv_heads},
                       {"d_head", heads.d_head}, {"positions", context},     {"sequences", tokens}};
  json.update(SpeedJson(micros, bytes, copy_gb_per_second));
  json["largest_error"] = error;
  return json;
}

// ---- Predictors

struct PredictorShape {
  const char* name;
  int64_t d_model;
  int64_t d_ff;
  int64_t hidden;
};

// Device memory for a predictor's step.
struct PredictorStep {
  GpuOwned<DeviceBlock> x, thresholds, marked, scratch;

  static absl::StatusOr<PredictorStep> Create(GpuBench& bench, const std::vector<float>& x,
                                              const std::vector<float>& thresholds, int64_t d_ff,
                                              int64_t scratch_floats) {
    PredictorStep step;
    TC_ASSIGN_OR_RETURN(step.x, bench.Hold(x));
    TC_ASSIGN_OR_RETURN(step.thresholds, bench.Hold(thresholds));
    TC_ASSIGN_OR_RETURN(step.marked, bench.Allocate(d_ff * 2));
    TC_ASSIGN_OR_RETURN(step.scratch, bench.Allocate(scratch_floats * 4));
    return step;
  }
};

ordered_json PredictorJson(const char* kind, const PredictorShape& shape, int64_t tokens,
                           const Samples& micros, int64_t bytes, double copy_gb_per_second) {
  ordered_json json = {
      {"kind", kind}, {"shape", shape.name}, {"d_model", shape.d_model}, {"d_ff", shape.d_ff}};
  if (shape.hidden > 0) json["hidden"] = shape.hidden;
  json["tokens"] = tokens;
  json.update(SpeedJson(micros, bytes, copy_gb_per_second));
  return json;
}

// Marks must be those of scores (tokens, d_ff), but where a score is within `slack` of the threshold.
absl::Status CheckMarks(std::string_view what, const std::vector<GpuTokenMask>& marked,
                        const std::vector<float>& scores, const std::vector<float>& thresholds,
                        double slack) {
  const size_t d_ff = marked.size();
  for (size_t t = 0; t < thresholds.size(); ++t) {
    for (size_t i = 0; i < d_ff; ++i) {
      const double above = static_cast<double>(scores[t * d_ff + i]) - static_cast<double>(thresholds[t]);
      if (std::abs(above) <= slack && slack > 0) continue;
      if (((marked[i] >> t & 1) != 0) != (above >= 0)) {
        return Internal("{}: neuron {} of token {} is marked wrongly, its score is {} above the threshold",
                        what, i, t, above);
      }
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<ordered_json> MeasureMlp(GpuBench& bench, const PredictorShape& shape, int64_t tokens,
                                        double copy_gb_per_second) {
  const TiledWeights w1(ElementType::kQ8_0, shape.hidden, shape.d_model, 1);
  const TiledWeights w2(ElementType::kQ8_0, shape.d_ff, shape.hidden, 2);
  const int64_t w1_bytes = w1.view().size_bytes(), w2_bytes = w2.view().size_bytes();
  const int64_t copies = CopiesFor(bench, w1_bytes + w2_bytes);
  TC_ASSIGN_OR_RETURN(const GpuOwned<DeviceBlock> w1_there,
                      HoldCopies(bench, w1.view().data, w1_bytes, copies));
  TC_ASSIGN_OR_RETURN(const GpuOwned<DeviceBlock> w2_there,
                      HoldCopies(bench, w2.view().data, w2_bytes, copies));
  const std::vector<float> b1 = RandomFloats(shape.hidden, 3), b2 = RandomFloats(shape.d_ff, 4);
  TC_ASSIGN_OR_RETURN(const GpuOwned<DeviceBlock> b1_there, bench.Hold(b1));
  TC_ASSIGN_OR_RETURN(const GpuOwned<DeviceBlock> b2_there, bench.Hold(b2));
  const std::vector<float> x = RandomFloats(tokens * shape.d_model, 5);
  std::vector<float> hidden(static_cast<size_t>(tokens * shape.hidden));
  MatMul(bench.cpu(), w1.view(), {x.data(), tokens, shape.d_model, shape.d_model},
         {hidden.data(), tokens, shape.hidden, shape.hidden});
  for (size_t i = 0; i < hidden.size(); ++i)
    hidden[i] = std::max(0.0f, hidden[i] + b1[i % static_cast<size_t>(shape.hidden)]);
  std::vector<float> scores(static_cast<size_t>(tokens * shape.d_ff));
  MatMul(bench.cpu(), w2.view(), {hidden.data(), tokens, shape.hidden, shape.hidden},
         {scores.data(), tokens, shape.d_ff, shape.d_ff});
  float largest = 0;
  for (size_t i = 0; i < scores.size(); ++i) {
    scores[i] += b2[i % static_cast<size_t>(shape.d_ff)];
    largest = std::max(largest, std::abs(scores[i]));
  }
  const std::vector<float> thresholds(static_cast<size_t>(tokens), 0.1f * largest);
  TC_ASSIGN_OR_RETURN(const PredictorStep step,
                      PredictorStep::Create(bench, x, thresholds, shape.d_ff, tokens * shape.hidden));
  GpuMlpPredictorArgs args{
      .w1 = w1.view(),
      .b1 = AddressIn<float>(b1_there),
      .w2 = w2.view(),
      .b2 = AddressIn<float>(b2_there),
      .x = {AddressIn<float>(step.x), tokens, shape.d_model, shape.d_model},
      .thresholds = AddressIn<float>(step.thresholds),
      .marked = AddressIn<GpuTokenMask>(step.marked),
      .scratch = {AddressIn<float>(step.scratch), static_cast<size_t>(tokens * shape.hidden)}};
  const auto launch = [&](int64_t i) {
    args.w1.data = w1_there.get().data + i * w1_bytes;
    args.w2.data = w2_there.get().data + i * w2_bytes;
    return bench.gpu().kernels().mlp_predictor(args, bench.stream());
  };
  TC_RETURN_IF_ERROR(launch(0));
  std::vector<GpuTokenMask> marked(static_cast<size_t>(shape.d_ff));
  TC_RETURN_IF_ERROR(bench.Download(marked.data(), step.marked.get().data, shape.d_ff * 2));
  TC_RETURN_IF_ERROR(CheckMarks("mlp_predictor", marked, scores, thresholds, kTolerance * largest));
  TC_ASSIGN_OR_RETURN(const Samples micros, bench.MicrosOf(copies, launch));
  return PredictorJson("mlp", shape, tokens, micros, w1_bytes + w2_bytes, copy_gb_per_second);
}

absl::StatusOr<ordered_json> MeasureSigns(GpuBench& bench, const PredictorShape& shape, int64_t tokens,
                                          double copy_gb_per_second) {
  const int64_t words = BitWords(shape.d_model), bytes = shape.d_ff * words * 8;
  std::mt19937_64 random(1);
  std::vector<uint64_t> signs(static_cast<size_t>(shape.d_ff * words));
  for (uint64_t& word : signs) word = random();
  const int64_t tail = shape.d_model % 64;
  for (int64_t i = 0; tail > 0 && i < shape.d_ff; ++i)
    signs[static_cast<size_t>((i + 1) * words - 1)] &= (uint64_t{1} << tail) - 1;
  const int64_t copies = CopiesFor(bench, bytes);
  TC_ASSIGN_OR_RETURN(const GpuOwned<DeviceBlock> there, HoldCopies(bench, signs.data(), bytes, copies));
  const std::vector<float> x = RandomFloats(tokens * shape.d_model, 5);
  const std::vector<float> thresholds(static_cast<size_t>(tokens), 0.0f);
  std::vector<float> scores(static_cast<size_t>(tokens * shape.d_ff));
  for (int64_t t = 0; t < tokens; ++t) {
    std::vector<uint64_t> input(static_cast<size_t>(words));
    PackSigns(
        bench.cpu(),
        std::span(x).subspan(static_cast<size_t>(t * shape.d_model), static_cast<size_t>(shape.d_model)),
        input);
    for (int64_t i = 0; i < shape.d_ff; ++i) {
      int64_t differ = 0;
      for (int64_t w = 0; w < words; ++w)
        differ += std::popcount(signs[static_cast<size_t>(i * words + w)] ^ input[static_cast<size_t>(w)]);
      scores[static_cast<size_t>(t * shape.d_ff + i)] = static_cast<float>(shape.d_model - 2 * differ);
    }
  }
  const int64_t scratch_floats = tokens * 2 * words;
  TC_ASSIGN_OR_RETURN(const PredictorStep step,
                      PredictorStep::Create(bench, x, thresholds, shape.d_ff, scratch_floats));
  GpuSignPredictorArgs args{.x = {AddressIn<float>(step.x), tokens, shape.d_model, shape.d_model},
                            .thresholds = AddressIn<float>(step.thresholds),
                            .marked = AddressIn<GpuTokenMask>(step.marked),
                            .scratch = {AddressIn<float>(step.scratch), static_cast<size_t>(scratch_floats)}};
  const auto launch = [&](int64_t i) {
    args.signs = {AddressIn<uint64_t>(there) + i * shape.d_ff * words, shape.d_ff, words, words};
    return bench.gpu().kernels().sign_predictor(args, bench.stream());
  };
  TC_RETURN_IF_ERROR(launch(0));
  std::vector<GpuTokenMask> marked(static_cast<size_t>(shape.d_ff));
  TC_RETURN_IF_ERROR(bench.Download(marked.data(), step.marked.get().data, shape.d_ff * 2));
  TC_RETURN_IF_ERROR(CheckMarks("sign_predictor", marked, scores, thresholds, /*slack=*/0));
  TC_ASSIGN_OR_RETURN(const Samples micros, bench.MicrosOf(copies, launch));
  return PredictorJson("sign", shape, tokens, micros, bytes, copy_gb_per_second);
}

}  // namespace

absl::StatusOr<ordered_json> BenchMatMul(GpuBench& bench, double copy_gb_per_second) {
  constexpr Product kProducts[] = {{"llama-70b attention output", 8192, 8192},
                                   {"llama-70b head", 32000, 8192},
                                   {"llama-7b attention output", 4096, 4096}};
  constexpr Product kTiny[] = {{"tiny", 32, 64}};
  std::span<const Product> products = kProducts;
  if (bench.options().quick) products = products.first(1);
  if (bench.options().tiny) products = kTiny;
  ordered_json cases = ordered_json::array();
  for (const Product& product : products) {
    for (const ElementType type : kTypes) {
      if (bench.out_of_time()) return cases;
      const TiledWeights host(type, product.rows, product.cols, 1);
      const int64_t bytes = host.view().size_bytes(), copies = CopiesFor(bench, bytes);
      TC_ASSIGN_OR_RETURN(const GpuOwned<DeviceBlock> weights,
                          HoldCopies(bench, host.view().data, bytes, copies));
      for (const int64_t tokens : kTokens) {
        TC_ASSIGN_OR_RETURN(ordered_json row, MeasureProduct(bench, product, host.view(), weights, copies,
                                                             tokens, copy_gb_per_second));
        cases.push_back(std::move(row));
      }
    }
  }
  return cases;
}

absl::StatusOr<ordered_json> BenchAttention(GpuBench& bench, double copy_gb_per_second) {
  constexpr Heads kHeads[] = {
      {"llama-70b", 64, 8, 128}, {"falcon-40b", 128, 8, 64}, {"llama-7b", 32, 32, 128}};
  constexpr Heads kTiny[] = {{"tiny", 4, 2, 16}};
  std::span<const Heads> all = kHeads;
  if (bench.options().quick) all = all.first(1);
  if (bench.options().tiny) all = kTiny;
  std::vector<int64_t> contexts = {1024, 4096};
  if (bench.options().tiny) contexts = {64};
  ordered_json cases = ordered_json::array();
  for (const Heads& heads : all) {
    for (const int64_t context : contexts) {
      for (const int64_t tokens : kTokens) {
        if (bench.out_of_time()) return cases;
        TC_ASSIGN_OR_RETURN(ordered_json row,
                            MeasureAttention(bench, heads, context, tokens, copy_gb_per_second));
        cases.push_back(std::move(row));
      }
    }
  }
  return cases;
}

absl::StatusOr<ordered_json> BenchPredictors(GpuBench& bench, double copy_gb_per_second) {
  constexpr PredictorShape kShapes[] = {{"llama-70b", 8192, 28672, 256}, {"llama-70b", 8192, 28672, 1024}};
  constexpr PredictorShape kTiny[] = {{"tiny", 64, 32, 32}};
  std::span<const PredictorShape> shapes = kShapes;
  if (bench.options().tiny) shapes = kTiny;
  ordered_json cases = ordered_json::array();
  for (const int64_t tokens : kTokens) {
    for (const PredictorShape& shape : shapes) {
      if (bench.out_of_time()) return cases;
      TC_ASSIGN_OR_RETURN(ordered_json row, MeasureMlp(bench, shape, tokens, copy_gb_per_second));
      cases.push_back(std::move(row));
    }
    if (bench.out_of_time()) return cases;
    PredictorShape signs = shapes.front();
    signs.hidden = 0;
    TC_ASSIGN_OR_RETURN(ordered_json row, MeasureSigns(bench, signs, tokens, copy_gb_per_second));
    cases.push_back(std::move(row));
  }
  return cases;
}

}  // namespace thermocline::bench
