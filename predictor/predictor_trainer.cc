// Adam over mini-batches of a layer's samples.
// SPDX-License-Identifier: Apache-2.0
#include "predictor/predictor_trainer.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numbers>
#include <numeric>
#include <utility>
#include <vector>

#include "core/half.h"
#include "core/random.h"

namespace thermocline {
namespace {

constexpr int64_t kBatchTokens = 256;
constexpr int64_t kJudgedTokens = 2048;  // held-out tokens that decide when to stop
constexpr int64_t kJudgements = 12;      // of a whole training
constexpr int kPatience = 3;             // judgements in a row without a better loss
constexpr double kLearningRate = 2e-3;
constexpr double kWarmUp = 0.05;    // share of the steps
constexpr double kLastRate = 0.02;  // of the learning rate, at the last step
constexpr float kMeanDecay = 0.9f;
constexpr float kSquareDecay = 0.99f;
constexpr float kEpsilon = 1e-8f;

// Box and Muller.
double Normal(SplitMix64& random) {
  const double radius = std::sqrt(-2 * std::log(1 - random.Uniform()));
  return radius * std::cos(2 * std::numbers::pi * random.Uniform());
}

// Root of the mean square over some of the inputs.
float ScaleOf(MatrixView<const uint16_t> x) {
  const int64_t step = std::max<int64_t>(1, x.rows / kJudgedTokens);
  double sum = 0;
  int64_t count = 0;
  for (int64_t t = 0; t < x.rows; t += step) {
    for (const uint16_t value : x.row(t)) {
      const auto v = static_cast<double>(BFloat16ToFloat(value));
      sum += v * v;
    }
    count += x.cols;
  }
  const double root = std::sqrt(sum / static_cast<double>(std::max<int64_t>(1, count)));
  return root > 0 ? static_cast<float>(root) : 1.0f;
}

// b2 starts at each neuron's own odds, so that a predictor of skewed neurons knows the common ones before its
// first step.
void Initialise(const FitOptions& options, const LayerSamples& training, Mlp& mlp) {
  SplitMix64 random(options.seed);
  const MlpShape& shape = mlp.shape();
  const double w1_deviation = std::sqrt(2.0 / static_cast<double>(shape.d_model));
  const double w2_deviation = 0.5 / std::sqrt(static_cast<double>(shape.hidden));
  for (int64_t i = 0; i < shape.hidden; ++i)
    for (float& weight : mlp.w1().row(i)) weight = static_cast<float>(w1_deviation * Normal(random));
  for (int64_t i = 0; i < shape.d_ff; ++i)
    for (float& weight : mlp.w2().row(i)) weight = static_cast<float>(w2_deviation * Normal(random));
  const std::vector<uint64_t> counts = CountActiveNeurons(training.active, shape.d_ff);
  for (size_t i = 0; i < counts.size(); ++i) {
    // Half a token either way keeps the odds of neurons that were always or never active finite.
    const double odds = (static_cast<double>(counts[i]) + 0.5) /
                        (static_cast<double>(static_cast<uint64_t>(training.tokens()) - counts[i]) + 0.5);
    mlp.b2()[i] = static_cast<float>(std::log(options.positive_weight * odds));
  }
}

class Adam {
 public:
  static absl::StatusOr<Adam> Create(int64_t parameters) {
    Adam adam;
    TC_ASSIGN_OR_RETURN(adam.mean_, Matrix<float>::Create(1, parameters));
    TC_ASSIGN_OR_RETURN(adam.square_, Matrix<float>::Create(1, parameters));
    return adam;
  }

  void Step(const CpuContext& context, double rate, std::span<const float> gradient,
            std::span<float> parameters) {
    mean_correction_ *= static_cast<double>(kMeanDecay);
    square_correction_ *= static_cast<double>(kSquareDecay);
    const auto step = static_cast<float>(rate / (1 - mean_correction_));
    const auto square_scale = static_cast<float>(1 / (1 - square_correction_));
    constexpr int64_t kGrain = 16 * 1024;
    context.team->ParallelFor(static_cast<int64_t>(parameters.size()), kGrain,
                              [&](int64_t begin, int64_t end) {
                                float* mean = mean_.data();
                                float* square = square_.data();
                                const float* g = gradient.data();
                                float* p = parameters.data();
                                for (int64_t i = begin; i < end; ++i) {
                                  mean[i] = kMeanDecay * mean[i] + (1 - kMeanDecay) * g[i];
                                  square[i] = kSquareDecay * square[i] + (1 - kSquareDecay) * g[i] * g[i];
                                  p[i] -= step * mean[i] / (std::sqrt(square[i] * square_scale) + kEpsilon);
                                }
                              });
  }

 private:
  Matrix<float> mean_, square_;
  double mean_correction_ = 1, square_correction_ = 1;
};

// Warms up, then falls along half a cosine.
double LearningRate(double share_done) {
  if (share_done < kWarmUp) return kLearningRate * (share_done / kWarmUp);
  const double fallen = (share_done - kWarmUp) / (1 - kWarmUp);
  return kLearningRate *
         (kLastRate + (1 - kLastRate) * 0.5 * (1 + std::cos(std::numbers::pi * std::min(1.0, fallen))));
}

WeightView Weights(MatrixView<const float> matrix) {
  return {reinterpret_cast<const std::byte*>(matrix.data), ElementType::kF32, matrix.rows, matrix.cols,
          matrix.stride * static_cast<int64_t>(sizeof(float))};
}

// Tokens of a layer as the trainer takes them: F32 and of unit size.
struct TokenBatch {
  Matrix<float> x;          // (most tokens, d_model)
  Matrix<uint64_t> active;  // (most tokens, BitWords(d_ff))

  static absl::StatusOr<TokenBatch> Create(int64_t most_tokens, const LayerSamples& samples) {
    TokenBatch batch;
    TC_ASSIGN_OR_RETURN(batch.x, Matrix<float>::Create(most_tokens, samples.x.cols));
    TC_ASSIGN_OR_RETURN(batch.active, Matrix<uint64_t>::Create(most_tokens, samples.active.cols));
    return batch;
  }
  void Gather(const CpuContext& context, const LayerSamples& samples, std::span<const int64_t> tokens,
              float scale) {
    context.team->ParallelFor(static_cast<int64_t>(tokens.size()), 64, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t token = tokens[static_cast<size_t>(i)];
        ExpandBFloat16(samples.x.row(token), scale, x.row(i));
        std::ranges::copy(samples.active.row(token), active.row(i).begin());
      }
    });
  }
};

// One training from its first step to its best parameters.
class Training {
 public:
  Training(const CpuContext& context, const LayerSamples& training, const LayerSamples& held_out,
           const FitOptions& options)
      : context_(context),
        training_(training),
        held_out_(held_out),
        options_(options),
        scale_(1.0f / ScaleOf(training.x)),
        order_(static_cast<size_t>(training.tokens())),
        random_(options.seed ^ 0x5DEECE66Du) {
    std::iota(order_.begin(), order_.end(), int64_t{0});
    next_ = order_.size();
  }

  absl::Status Allocate(const MlpShape& shape) {
    TC_ASSIGN_OR_RETURN(mlp_, Mlp::Create(shape));
    TC_ASSIGN_OR_RETURN(best_, Mlp::Create(shape));
    TC_ASSIGN_OR_RETURN(gradient_, Mlp::Create(shape));
    TC_ASSIGN_OR_RETURN(adam_, Adam::Create(shape.parameters()));
    TC_ASSIGN_OR_RETURN(scratch_, MlpScratch::Create(shape, kBatchTokens));
    TC_ASSIGN_OR_RETURN(batch_, TokenBatch::Create(kBatchTokens, training_));
    return absl::OkStatus();
  }

  absl::StatusOr<Mlp> Run(const std::function<bool(double share_done)>& go_on) {
    Initialise(options_, training_, mlp_);
    Judge();
    const int64_t batch = std::min(kBatchTokens, training_.tokens());
    const int64_t steps = std::max<int64_t>(1, options_.token_passes / batch);
    const int64_t steps_a_judgement = std::max<int64_t>(1, steps / kJudgements);
    for (int64_t step = 0; step < steps && worse_in_a_row_ < kPatience; ++step) {
      const double share_done = static_cast<double>(step) / static_cast<double>(steps);
      if (!go_on(share_done)) return Cancelled("training of predictors was cancelled");
      batch_.Gather(context_, training_, NextBatch(batch), scale_);
      MlpGradient(context_, mlp_, batch_.x.view().Rows(0, batch), batch_.active.view().Rows(0, batch),
                  options_.positive_weight, scratch_, gradient_);
      adam_.Step(context_, LearningRate(static_cast<double>(step + 1) / static_cast<double>(steps)),
                 gradient_.parameters(), mlp_.parameters());
      if ((step + 1) % steps_a_judgement == 0 || step + 1 == steps) Judge();
    }
    for (float& weight : best_.parameters().first(static_cast<size_t>(best_.w1().rows * best_.w1().cols)))
      weight *= scale_;  // the predictor gets inputs as they are
    return std::move(best_);
  }

 private:
  // Every token once before any comes again, in an order drawn anew each time.
  std::span<const int64_t> NextBatch(int64_t count) {
    if (next_ + static_cast<size_t>(count) > order_.size()) {
      for (size_t i = order_.size(); i > 1; --i) std::swap(order_[i - 1], order_[random_.Next() % i]);
      next_ = 0;
    }
    const auto batch = std::span<const int64_t>(order_).subspan(next_, static_cast<size_t>(count));
    next_ += static_cast<size_t>(count);
    return batch;
  }

  // Keeps the parameters when the held-out loss is the best so far. A loss that is no number never is.
  void Judge() {
    const int64_t judged = std::min(kJudgedTokens, held_out_.tokens());
    double loss = 0;
    std::vector<int64_t> tokens;
    for (int64_t first = 0; first < judged; first += kBatchTokens) {
      const int64_t count = std::min(kBatchTokens, judged - first);
      tokens.clear();
      for (int64_t i = first; i < first + count; ++i) tokens.push_back(i * held_out_.tokens() / judged);
      batch_.Gather(context_, held_out_, tokens, scale_);
      const MatrixView<float> scores = scratch_.scores.view().Rows(0, count);
      MlpScores(context_, Weights(mlp_.w1()), mlp_.b1(), Weights(mlp_.w2()), mlp_.b2(),
                batch_.x.view().Rows(0, count), scratch_.hidden.view().Rows(0, count), scores);
      loss += MlpLoss(context_, scores, batch_.active.view().Rows(0, count), options_.positive_weight) *
              static_cast<double>(count);
    }
    if (loss < best_loss_) {
      best_loss_ = loss;
      std::ranges::copy(mlp_.parameters(), best_.parameters().begin());
      worse_in_a_row_ = 0;
    } else {
      ++worse_in_a_row_;
    }
  }

  const CpuContext context_;
  const LayerSamples training_;
  const LayerSamples held_out_;
  const FitOptions options_;
  const float scale_;
  std::vector<int64_t> order_;
  size_t next_ = 0;
  SplitMix64 random_;
  Mlp mlp_, best_, gradient_;
  Adam adam_;
  MlpScratch scratch_;
  TokenBatch batch_;
  double best_loss_ = std::numeric_limits<double>::infinity();
  int worse_in_a_row_ = 0;
};

}  // namespace

double FlopsOfTokenPass(const MlpShape& shape) {
  // Forward both matrices, backward the gradients of both and of the hidden units.
  return 2.0 * static_cast<double>(shape.hidden) * static_cast<double>(2 * shape.d_model + 3 * shape.d_ff);
}

absl::StatusOr<Mlp> FitMlp(const CpuContext& context, int64_t d_ff, const LayerSamples& training,
                           const LayerSamples& held_out, const FitOptions& options,
                           const std::function<bool(double share_done)>& go_on) {
  TC_CHECK(options.hidden > 0 && training.tokens() > 0 && held_out.tokens() > 0);
  Training run(context, training, held_out, options);
  TC_RETURN_IF_ERROR(run.Allocate({.d_model = training.x.cols, .hidden = options.hidden, .d_ff = d_ff}));
  return run.Run(go_on);
}

std::vector<uint64_t> CountActiveNeurons(MatrixView<const uint64_t> active, int64_t d_ff) {
  std::vector<uint64_t> counts(static_cast<size_t>(d_ff));
  for (int64_t t = 0; t < active.rows; ++t) {
    for (int64_t w = 0; w < active.cols; ++w) {
      for (uint64_t word = active.row_data(t)[w]; word != 0; word &= word - 1)
        counts[static_cast<size_t>(64 * w + std::countr_zero(word))] += 1;
    }
  }
  return counts;
}

void ExpandBFloat16(std::span<const uint16_t> row, float scale, std::span<float> target) {
  for (size_t i = 0; i < row.size(); ++i) target[i] = BFloat16ToFloat(row[i]) * scale;
}

}  // namespace thermocline
