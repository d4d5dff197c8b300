// The neuron-aware feed-forward block on the GPU: values, masks, companions, what is not read, refusals.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <random>
#include <vector>

#include "tests/kernels_cpu/isa_test_support.h"
#include "tests/kernels_cpu/sparse_ffn_testing.h"
#include "tests/kernels_cuda/gpu_fixture.h"
#include "tests/support/reference.h"
#include "tests/support/refusal.h"

namespace thermocline {
namespace {

using reference::FloatMatrix;
using reference::RandomBundles;
using reference::Sum;
using testing_sparse::ActivationOf;

GpuActivationFunction OnGpu(ActivationFunction activation) {
  switch (activation.kind) {
    case Activation::kRelu:
      return {GpuActivation::kRelu, 0};
    case Activation::kSilu:
      return {GpuActivation::kSilu, 0};
    case Activation::kFatRelu:
      return {GpuActivation::kFatRelu, activation.threshold};
    default:  // the GPU has no others
      break;
  }
  TC_CHECK(false);
}

using Marks = std::optional<std::vector<GpuTokenMask>>;  // none: every token needs every neuron

struct Step {
  std::vector<float> y;  // (n_tokens, d_model)
  std::vector<GpuTokenMask> fired;
  std::vector<uint64_t> counts;

  bool operator==(const Step& other) const {  // bit for bit
    return std::memcmp(y.data(), other.y.data(), y.size() * sizeof(float)) == 0 && fired == other.fired &&
           counts == other.counts;
  }
};

class GpuSparseFfnTest : public GpuTest {
 protected:
  struct Options {
    bool read_silent = false;
    int64_t y_gap = 0;
    int64_t offset = 0;  // of the bundles, bytes
  };

  GpuSparseFfnArgs ArgsOf(const BundleView& bundles, ActivationFunction activation, int64_t offset = 0) {
    const WeightView rows = {bundles.data, bundles.down_type, bundles.n_neurons, bundles.d_model,
                             bundles.stride_bytes};
    const int64_t down_bytes = *RowBytes(bundles.down_type, bundles.d_model);
    const int64_t size = (rows.rows - 1) * rows.row_stride_bytes + bundles.down_offset_bytes + down_bytes;
    std::byte* const data = AllocateBytes(size, offset);
    UploadBytes(data, bundles.data, size);
    return {.data = data,
            .n_neurons = bundles.n_neurons,
            .d_model = bundles.d_model,
            .stride_bytes = bundles.stride_bytes,
            .up_offset_bytes = bundles.up_offset_bytes,
            .down_offset_bytes = bundles.down_offset_bytes,
            .gate_type = bundles.gate_type,
            .up_type = bundles.up_type,
            .down_type = bundles.down_type,
            .gated = bundles.gated,
            .activation = OnGpu(activation)};
  }

  Step Run(const BundleView& bundles, ActivationFunction activation, MatrixView<const float> x,
           const Marks& marks, const Options& options) {
    GpuSparseFfnArgs args = ArgsOf(bundles, activation, options.offset);
    const auto y = Poisoned<float>(x.rows, bundles.d_model, options.y_gap);
    const auto fired = PoisonedArray<GpuTokenMask>(bundles.n_neurons);
    const auto counts = Upload(std::vector<uint64_t>{1000, 2000});
    args.x = Upload(x).view();
    args.y = y.view();
    if (marks.has_value()) args.marked = Upload(*marks).data;
    args.fired = fired.data;
    args.counts = counts.data;
    args.read_silent = options.read_silent;
    args.scratch =
        PoisonedArray<float>(GpuSparseFfnScratch(x.rows, bundles.n_neurons, bundles.d_model)).span();
    const absl::Status status = gpu().kernels().sparse_ffn(args, stream());
    EXPECT_TRUE(status.ok()) << status;
    Step step{Download(y.view()), Download(fired), Download(counts)};
    step.counts[0] -= 1000;
    step.counts[1] -= 2000;
    return step;
  }
  Step Run(const BundleView& bundles, ActivationFunction activation, MatrixView<const float> x,
           const Marks& marks) {
    return Run(bundles, activation, x, marks, Options());
  }
};
INSTANTIATE_TEST_SUITE_P(All, GpuSparseFfnTest, EveryGpu(), GpuName);

// About a third of the neurons, each for some tokens; none in the middle; bits past the step's tokens too.
std::vector<GpuTokenMask> RandomMarks(int64_t n_neurons, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<GpuTokenMask> marks(static_cast<size_t>(n_neurons));
  for (int64_t i = 0; i < n_neurons; ++i) {
    const uint32_t some = random() & random(), drawn = random() % 3;
    const bool silent = i > n_neurons / 4 && i < n_neurons / 2;
    marks[static_cast<size_t>(i)] = static_cast<GpuTokenMask>(silent || drawn == 0 ? 0
                                                              : drawn == 1         ? some
                                                                                   : 0xFFFF);
  }
  return marks;
}

bool Needs(const Marks& marks, int64_t neuron, int64_t token) {
  return !marks.has_value() || (((*marks)[static_cast<size_t>(neuron)] >> token) & 1) != 0;
}

Marks OfToken(const Marks& marks, int64_t token) {
  if (!marks.has_value()) return marks;
  std::vector<GpuTokenMask> alone;
  for (const GpuTokenMask mask : *marks) alone.push_back(static_cast<GpuTokenMask>(mask >> token & 1));
  return alone;
}

// Token t's result by plain loops in double. A gate too close to the threshold to tell goes as it went.
void ExpectReference(const BundleView& bundles, ActivationFunction activation, MatrixView<const float> x,
                     const Marks& marks, const Step& step, int64_t t) {
  const auto d_model = static_cast<size_t>(bundles.d_model);
  std::vector<double> y(d_model), magnitude(d_model), error(d_model);
  for (int64_t i = 0; i < bundles.n_neurons; ++i) {
    const bool fired = ((step.fired[static_cast<size_t>(i)] >> t) & 1) != 0;
    if (!Needs(marks, i, t)) {
      ASSERT_FALSE(fired) << "neuron " << i << " for token " << t;
      continue;
    }
    const Sum gate = reference::Dot(bundles.gate(), i, x.row(t));
    const double gate_error = SumTolerance(bundles.d_model, gate.magnitude);
    const double expected = reference::Activate(activation, gate.value);
    const bool vanishes = expected != 0.0 && std::abs(expected) < 1e-36;  // SiLU that may round to zero
    if (std::abs(gate.value - activation.threshold) > gate_error && !vanishes) {
      ASSERT_EQ(fired, expected != 0.0) << "neuron " << i << " for token " << t;
    }
    if (!fired) continue;
    const double active =
        activation.kind == Activation::kSilu ? reference::Activate(activation, gate.value) : gate.value;
    const Sum up = bundles.gated ? reference::Dot(bundles.up(), i, x.row(t)) : Sum{1.0, 0.0};
    const double hidden = active * up.value;
    // The slope of SiLU is at most 1.1; its exponential errs by a few ulp.
    const double hidden_error = 1.1 * gate_error * std::abs(up.value) +
                                std::abs(active) * SumTolerance(bundles.d_model, up.magnitude) +
                                6 * 0x1p-23 * std::abs(hidden);
    for (size_t c = 0; c < d_model; ++c) {
      const double w =
          reference::Element(bundles.down_type, bundles.down().row_data(i), static_cast<int64_t>(c));
      y[c] += hidden * w;
      magnitude[c] += std::abs(hidden * w);
      error[c] += hidden_error * std::abs(w);
    }
  }
  for (size_t c = 0; c < d_model; ++c) {
    ASSERT_NEAR(step.y[static_cast<size_t>(t) * d_model + c], y[c],
                error[c] + SumTolerance(bundles.n_neurons, magnitude[c]))
        << "column " << c << " of token " << t;
  }
}

// Rows read: of gates those that some token needs, of downs those that fired (their values are not zero in
// these tests, where no up product is).
void ExpectCounts(const Marks& marks, int64_t n_tokens, const Step& step) {
  uint64_t gates = 0, downs = 0;
  for (size_t i = 0; i < step.fired.size(); ++i) {
    gates += !marks.has_value() || ((*marks)[i] & ((1u << n_tokens) - 1)) != 0;
    downs += step.fired[i] != 0;
  }
  EXPECT_EQ(step.counts, (std::vector<uint64_t>{gates, downs}));
}

struct Case {
  RandomBundles::Types types;
  bool gated;
  int64_t n_neurons;
  int64_t d_model;
  int64_t tokens;
  int64_t gap_bytes;
  int64_t x_gap;
  bool all;  // every token needs every neuron
};

constexpr auto kF32 = ElementType::kF32;
constexpr auto kF16 = ElementType::kF16;
constexpr auto kBF16 = ElementType::kBF16;
constexpr auto kQ8_0 = ElementType::kQ8_0;
constexpr auto kQ4_0 = ElementType::kQ4_0;

const std::vector<Case>& Cases() {
  static const auto& cases = *new std::vector<Case>{
      // Rows at multiples of 16 bytes, for one token, few and many.
      {{kF32, kF32, kF32}, true, 40, 264, 1, 0, 0, false},
      {{kF16, kF16, kF16}, false, 333, 520, 1, 0, 0, false},
      {{kBF16, kBF16, kBF16}, true, 61, 8, 4, 0, 0, true},
      {{kQ8_0, kQ8_0, kQ8_0}, true, 45, 768, 1, 0, 0, false},
      {{kQ4_0, kQ4_0, kQ8_0}, true, 100, 256, 1, 0, 0, true},
      {{kQ4_0, kQ4_0, kQ8_0}, true, 100, 2304, 3, 32, 4, false},
      {{kQ4_0, kQ4_0, kQ8_0}, true, 39, 512, 16, 0, 0, false},
      {{kF16, kF16, kF16}, true, 130, 256, 16, 16, 8, false},
      // Parts of different types.
      {{kF16, kQ4_0, kBF16}, true, 17, 256, 2, 0, 0, false},
      {{kQ8_0, kF32, kQ4_0}, true, 18, 256, 7, 0, 0, true},
      {{kF32, kQ8_0, kQ4_0}, true, 33, 512, 1, 0, 0, false},
      {{kBF16, kF16, kF32}, false, 21, 128, 5, 0, 0, false},
      // Anything else.
      {{kF32, kF32, kF32}, true, 9, 45, 1, 4, 3, false},
      {{kF16, kF16, kF16}, true, 31, 37, 16, 2, 1, false},
      {{kBF16, kBF16, kBF16}, false, 5, 1, 2, 0, 0, true},
      {{kQ8_0, kQ8_0, kQ8_0}, true, 12, 544, 3, 2, 0, false},
      {{kQ4_0, kQ4_0, kQ8_0}, true, 26, 96, 1, 0, 0, false},
      {{kQ4_0, kQ4_0, kQ4_0}, true, 1, 32, 2, 0, 0, true},
  };
  return cases;
}

TEST_P(GpuSparseFfnTest, StepsEqualTheReferenceWhateverTheCompanions) {
  uint32_t seed = 0;
  for (const Case& c : Cases()) {
    ++seed;
    const ActivationFunction activation = ActivationOf(seed, c.d_model);
    SCOPED_TRACE(fmt::format("case {}: {} {} {}, {} neurons, d_model {}, {} tokens, {}", seed,
                             NameOf(c.types.gate), NameOf(c.types.up), NameOf(c.types.down), c.n_neurons,
                             c.d_model, c.tokens, NameOf(activation.kind)));
    const RandomBundles bundles(c.types, c.gated, c.n_neurons, c.d_model, seed, c.gap_bytes);
    const FloatMatrix x = FloatMatrix::Random(c.tokens, c.d_model, seed + 100, c.x_gap);
    const Marks marks = c.all ? Marks() : RandomMarks(c.n_neurons, seed);
    const Step step = Run(bundles.view(), activation, x.view(), marks, {.y_gap = c.x_gap});
    ExpectCounts(marks, c.tokens, step);
    for (int64_t t = 0; t < c.tokens; ++t)
      ASSERT_NO_FATAL_FAILURE(ExpectReference(bundles.view(), activation, x.view(), marks, step, t));
    ASSERT_TRUE(Run(bundles.view(), activation, x.view(), marks) == step) << "again";
    for (const int64_t t : {int64_t{0}, c.tokens - 1}) {
      const Step alone = Run(bundles.view(), activation, x.view().Rows(t, 1), OfToken(marks, t));
      ASSERT_EQ(std::memcmp(alone.y.data(), step.y.data() + t * c.d_model,
                            static_cast<size_t>(c.d_model) * sizeof(float)),
                0)
          << "token " << t;
      for (size_t i = 0; i < step.fired.size(); ++i)
        ASSERT_EQ(alone.fired[i], step.fired[i] >> t & 1) << "token " << t << ", neuron " << i;
    }
  }
}

TEST_P(GpuSparseFfnTest, AlignmentChangesNoBit) {
  for (const RandomBundles::Types& types :
       {RandomBundles::Types{kQ4_0, kQ4_0, kQ8_0}, RandomBundles::Types{kF16, kF16, kF16}}) {
    const RandomBundles bundles(types, true, 40, 512, 3, 0);
    for (const int64_t tokens : {1, 3}) {
      const FloatMatrix x = FloatMatrix::Random(tokens, 512, 4);
      const Marks marks = RandomMarks(40, 5);
      EXPECT_TRUE(Run(bundles.view(), Activation::kRelu, x.view(), marks, {.offset = 2}) ==
                  Run(bundles.view(), Activation::kRelu, x.view(), marks));
    }
  }
}

TEST_P(GpuSparseFfnTest, OnlyWhatIsNeededIsRead) {
  for (const RandomBundles::Types& types :
       {RandomBundles::Types{kF16, kF16, kF16}, RandomBundles::Types{kQ4_0, kQ4_0, kQ8_0},
        RandomBundles::Types{kF32, kBF16, kF32}}) {
    for (const bool gated : {true, false}) {
      for (const int64_t tokens : {1, 3, 16}) {
        const int64_t n = 90, d_model = 256;
        RandomBundles bundles(types, gated, n, d_model, 1, 0);
        const FloatMatrix x = FloatMatrix::Random(tokens, d_model, 2);
        const Marks marks = RandomMarks(n, 5);
        const Step whole = Run(bundles.view(), Activation::kRelu, x.view(), marks);
        // What is used from now on and ought not to be makes NaN.
        int64_t silent = 0;
        for (int64_t i = 0; i < n; ++i) {
          const bool marked = ((*marks)[static_cast<size_t>(i)] & ((1u << tokens) - 1)) != 0;
          const bool fired = whole.fired[static_cast<size_t>(i)] != 0;
          if (!marked) bundles.PoisonGate(i);
          if (!fired) bundles.PoisonUpAndDown(i);
          silent += marked && !fired;
        }
        if (tokens == 1) {
          ASSERT_GT(silent, 0);
        }
        EXPECT_TRUE(Run(bundles.view(), Activation::kRelu, x.view(), marks) == whole);
      }
    }
  }
}

TEST_P(GpuSparseFfnTest, ACompanionsRowsDoNotTouchAToken) {
  const int64_t n = 20, d_model = 64;
  RandomBundles bundles({kF32, kF32, kF32}, true, n, d_model, 1, 0);
  const FloatMatrix x = FloatMatrix::Random(2, d_model, 2);
  Marks marks = std::vector<GpuTokenMask>(static_cast<size_t>(n), 1);
  const Step clean = Run(bundles.view(), Activation::kRelu, x.view(), marks);
  // The second token alone needs neurons of NaN, which it multiplies and adds.
  for (const int64_t i : {3, 4, 17}) {
    (*marks)[static_cast<size_t>(i)] = 2;
    bundles.PoisonGate(i);
    bundles.PoisonUpAndDown(i);
  }
  Marks first = marks;
  for (GpuTokenMask& mask : *first) mask &= 1;
  const Step both = Run(bundles.view(), Activation::kRelu, x.view(), marks);
  const Step alone = Run(bundles.view(), Activation::kRelu, x.view(), first);
  EXPECT_EQ(std::memcmp(both.y.data(), alone.y.data(), static_cast<size_t>(d_model) * sizeof(float)), 0);
  for (int64_t c = 0; c < d_model; ++c) {
    EXPECT_TRUE(std::isnan(both.y[static_cast<size_t>(d_model + c)]));
    EXPECT_FALSE(std::isnan(both.y[static_cast<size_t>(c)]));
    EXPECT_EQ(clean.y[static_cast<size_t>(d_model + c)], 0.0f);
  }
  EXPECT_EQ(both.fired[3], 2) << "NaN is not zero";
}

TEST_P(GpuSparseFfnTest, NoneOneAndAll) {
  const int64_t n = 70, d_model = 256;
  const RandomBundles bundles({kF16, kF16, kF16}, true, n, d_model, 1, 0);
  for (const int64_t tokens : {1, 5}) {
    const FloatMatrix x = FloatMatrix::Random(tokens, d_model, 2);
    std::vector<GpuTokenMask> marks(static_cast<size_t>(n));
    const Step none = Run(bundles.view(), Activation::kSilu, x.view(), marks);
    for (const float value : none.y) EXPECT_EQ(std::bit_cast<uint32_t>(value), 0u);
    EXPECT_EQ(none.fired, marks);
    EXPECT_EQ(none.counts, (std::vector<uint64_t>{0, 0}));

    marks[69] = 1;
    const Step one = Run(bundles.view(), Activation::kSilu, x.view(), marks);
    EXPECT_EQ(one.fired, marks);
    EXPECT_EQ(one.counts, (std::vector<uint64_t>{1, 1}));
    ASSERT_NO_FATAL_FAILURE(
        ExpectReference(bundles.view(), Activation::kSilu, x.view(), marks, one, tokens - 1));

    std::fill(marks.begin(), marks.end(), GpuTokenMask{0xFFFF});
    EXPECT_TRUE(Run(bundles.view(), Activation::kSilu, x.view(), marks) ==
                Run(bundles.view(), Activation::kSilu, x.view(), {}));
  }
}

TEST_P(GpuSparseFfnTest, ManyNeuronsOfOneCluster) {
  const int64_t n = 5000, d_model = 32;  // more than the blocks' lists hold, more than a stripe lists at once
  const RandomBundles bundles({kF16, kF16, kF16}, false, n, d_model, 1, 0);
  const FloatMatrix x = FloatMatrix::Random(1, d_model, 2);
  std::vector<GpuTokenMask> marks(static_cast<size_t>(n));
  for (size_t i = 3001; i < 3140; ++i) marks[i] = 1;
  for (const Marks& needed : {Marks(), Marks(marks)}) {
    const Step step = Run(bundles.view(), Activation::kRelu, x.view(), needed);
    ExpectCounts(needed, 1, step);
    ASSERT_NO_FATAL_FAILURE(ExpectReference(bundles.view(), Activation::kRelu, x.view(), needed, step, 0));
  }
}

TEST_P(GpuSparseFfnTest, DenseReadsSilentNeuronsAndAddsZeros) {
  const int64_t n = 50, d_model = 256;
  for (const bool gated : {true, false}) {
    RandomBundles bundles({kQ8_0, kQ8_0, kQ8_0}, gated, n, d_model, 1, 0);
    const FloatMatrix x = FloatMatrix::Random(2, d_model, 2);
    const Step sparse = Run(bundles.view(), Activation::kRelu, x.view(), {});
    const Step dense = Run(bundles.view(), Activation::kRelu, x.view(), {}, {.read_silent = true});
    EXPECT_EQ(dense.fired, sparse.fired);
    EXPECT_EQ(dense.y, sparse.y);  // as numbers: zeros added change no value
    EXPECT_EQ(dense.counts, (std::vector<uint64_t>{50, 50}));
    for (size_t i = 0; i < sparse.fired.size(); ++i)
      if (sparse.fired[i] == 0) bundles.PoisonUpAndDown(static_cast<int64_t>(i));
    const Step read = Run(bundles.view(), Activation::kRelu, x.view(), {}, {.read_silent = true});
    EXPECT_TRUE(std::isnan(read.y[0])) << "a silent neuron's down row was not read";
  }
}

TEST_P(GpuSparseFfnTest, FiredAndCountsMayBeLeftOut) {
  const RandomBundles bundles({kF16, kF16, kF16}, true, 20, 64, 1, 0);
  const FloatMatrix x = FloatMatrix::Random(1, 64, 2);
  GpuSparseFfnArgs args = ArgsOf(bundles.view(), Activation::kRelu);
  const auto y = Poisoned<float>(1, 64);
  args.x = Upload(x.view()).view();
  args.y = y.view();
  args.scratch = PoisonedArray<float>(GpuSparseFfnScratch(1, 20, 64)).span();
  ASSERT_TRUE(gpu().kernels().sparse_ffn(args, stream()).ok());
  EXPECT_EQ(Download(y.view()), Run(bundles.view(), Activation::kRelu, x.view(), {}).y);
}

TEST_P(GpuSparseFfnTest, RefusesWhatItCannotRun) {
  const RandomBundles bundles({kF16, kF16, kF16}, true, 10, 64, 1, 0);
  GpuSparseFfnArgs good = ArgsOf(bundles.view(), Activation::kRelu);
  good.x = Poisoned<float>(2, 64).view();
  good.y = Poisoned<float>(2, 64).view();
  good.scratch = PoisonedArray<float>(GpuSparseFfnScratch(2, 10, 64)).span();
  const auto refusal = [&](const auto& change) {
    GpuSparseFfnArgs args = good;
    change(args);
    return gpu().kernels().sparse_ffn(args, stream());
  };
  ASSERT_TRUE(refusal([](GpuSparseFfnArgs&) {}).ok());
  const auto many = Poisoned<float>(17, 64);
  ExpectRefusal(refusal([&](GpuSparseFfnArgs& a) { a.x = many.view(), a.y = many.view(); }), {"17", "16"});
  ExpectRefusal(refusal([](GpuSparseFfnArgs& a) { a.x.cols = 63; }), {"x", "63", "64"});
  ExpectRefusal(refusal([](GpuSparseFfnArgs& a) { a.y.rows = 1; }), {"y"});
  ExpectRefusal(refusal([](GpuSparseFfnArgs& a) { a.scratch = a.scratch.subspan(4); }), {"scratch"});
  ExpectRefusal(refusal([](GpuSparseFfnArgs& a) { a.data += 1; }), {"gate"});
  ExpectRefusal(refusal([](GpuSparseFfnArgs& a) { a.down_offset_bytes += 1; }), {"down"});
  ExpectRefusal(refusal([](GpuSparseFfnArgs& a) { a.down_offset_bytes += 64; }), {"down", "bundle"});
  ExpectRefusal(refusal([](GpuSparseFfnArgs& a) { a.n_neurons = 0; }), {"gate"});
  const auto marks = Upload(std::vector<GpuTokenMask>(20));
  ExpectRefusal(refusal([&](GpuSparseFfnArgs& a) { a.marked = marks.data + 1; }), {"marked"});
  const absl::Status type = refusal([](GpuSparseFfnArgs& a) { a.up_type = ElementType::kQ4_1; });
  EXPECT_EQ(type.code(), absl::StatusCode::kUnimplemented);
  ExpectRefusal(type, {"up", "Q4_1"});
}

}  // namespace
}  // namespace thermocline
