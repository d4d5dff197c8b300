// Quantisation, scores over samples, and thresholds.
// SPDX-License-Identifier: Apache-2.0
#include "predictor/calibration.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "model/quantize.h"
#include "predictor/predictor_trainer.h"

namespace thermocline {
namespace {

constexpr int64_t kBlockTokens = 256;

QuantizedMatrix QuantizeRows(MatrixView<const float> matrix) {
  const ElementTypeInfo& type = InfoOf(ElementType::kQ8_0);
  const int64_t row_bytes = matrix.cols / type.block_elements * type.block_bytes;
  QuantizedMatrix quantized{.rows = matrix.rows, .cols = matrix.cols};
  quantized.blocks.resize(static_cast<size_t>(matrix.rows * row_bytes));
  for (int64_t r = 0; r < matrix.rows; ++r)
    QuantizeQ8_0(matrix.row(r), quantized.blocks.data() + r * row_bytes);
  return quantized;
}

absl::StatusOr<Matrix<uint64_t>> SignsOfRows(const CpuContext& context, const WeightView& gate) {
  TC_ASSIGN_OR_RETURN(Matrix<uint64_t> signs, Matrix<uint64_t>::Create(gate.rows, BitWords(gate.cols)));
  std::vector<float> row(static_cast<size_t>(gate.cols));
  for (int64_t r = 0; r < gate.rows; ++r) {
    context.kernels->dequantize(gate.type, gate.row_data(r), gate.cols, row.data());
    PackSigns(context, row, signs.row(r));
  }
  return signs;
}

// Scores blocks of inputs with either kind of predictor.
class Scorer {
 public:
  static absl::StatusOr<Scorer> Create(const CpuContext& context, const LayerPredictor& predictor,
                                       const WeightView& gate) {
    Scorer scorer;
    scorer.predictor_ = &predictor;
    if (predictor.kind == PredictorKind::kSign) {
      TC_ASSIGN_OR_RETURN(scorer.gate_signs_, SignsOfRows(context, gate));
      TC_ASSIGN_OR_RETURN(scorer.input_signs_,
                          Matrix<uint64_t>::Create(kMostSparseTokens, scorer.gate_signs_.cols()));
    } else {
      TC_ASSIGN_OR_RETURN(scorer.hidden_, Matrix<float>::Create(kBlockTokens, predictor.hidden));
    }
    return scorer;
  }

  void Score(const CpuContext& context, MatrixView<const float> x, MatrixView<float> scores) {
    if (predictor_->kind == PredictorKind::kMlp) {
      MlpScores(context, predictor_->w1.view(), predictor_->b1, predictor_->w2.view(), predictor_->b2, x,
                hidden_.view().Rows(0, x.rows), scores);
      return;
    }
    for (int64_t first = 0; first < x.rows; first += kMostSparseTokens) {
      const int64_t count = std::min(kMostSparseTokens, x.rows - first);
      const MatrixView<uint64_t> inputs = input_signs_.view().Rows(0, count);
      for (int64_t t = 0; t < count; ++t) PackSigns(context, x.row(first + t), inputs.row(t));
      SignAgreement(context, gate_signs_.view(), inputs, x.cols, scores.Rows(first, count));
    }
  }

 private:
  const LayerPredictor* predictor_ = nullptr;
  Matrix<float> hidden_;          // (kBlockTokens, hidden)
  Matrix<uint64_t> gate_signs_;   // (d_ff, BitWords(d_model))
  Matrix<uint64_t> input_signs_;  // (kMostSparseTokens, BitWords(d_model))
};

}  // namespace

HeldOutHalves Halve(const LayerSamples& held_out) {
  const int64_t half = held_out.tokens() / 2;
  const int64_t rest = held_out.tokens() - half;
  return {.calibration = {held_out.x.Rows(0, half), held_out.active.Rows(0, half)},
          .judgement = {held_out.x.Rows(half, rest), held_out.active.Rows(half, rest)}};
}

LayerPredictor Quantize(const Mlp& mlp) {
  LayerPredictor predictor{.kind = PredictorKind::kMlp, .hidden = mlp.shape().hidden};
  predictor.w1 = QuantizeRows(mlp.w1());
  predictor.b1.assign(mlp.b1().begin(), mlp.b1().end());
  predictor.w2 = QuantizeRows(mlp.w2());
  predictor.b2.assign(mlp.b2().begin(), mlp.b2().end());
  return predictor;
}

absl::StatusOr<ScoreHistogram> ScoreSamples(const CpuContext& context, const LayerPredictor& predictor,
                                            const WeightView& gate, const LayerSamples& samples,
                                            int64_t most_tokens, const std::function<bool()>& go_on) {
  TC_ASSIGN_OR_RETURN(Scorer scorer, Scorer::Create(context, predictor, gate));
  TC_ASSIGN_OR_RETURN(Matrix<float> x, Matrix<float>::Create(kBlockTokens, samples.x.cols));
  TC_ASSIGN_OR_RETURN(Matrix<float> scores, Matrix<float>::Create(kBlockTokens, gate.rows));
  TC_ASSIGN_OR_RETURN(Matrix<uint64_t> active, Matrix<uint64_t>::Create(kBlockTokens, samples.active.cols));
  ScoreHistogram histogram;
  const int64_t tokens = std::min(most_tokens, samples.tokens());
  for (int64_t first = 0; first < tokens; first += kBlockTokens) {
    if (!go_on()) return Cancelled("training of predictors was cancelled");
    const int64_t count = std::min(kBlockTokens, tokens - first);
    for (int64_t t = 0; t < count; ++t) {
      const int64_t token = (first + t) * samples.tokens() / tokens;
      ExpandBFloat16(samples.x.row(token), 1.0f, x.row(t));
      std::ranges::copy(samples.active.row(token), active.row(t).begin());
    }
    const MatrixView<float> block = scores.view().Rows(0, count);
    scorer.Score(context, x.view().Rows(0, count), block);
    histogram.Add(block, active.view().Rows(0, count));
  }
  return histogram;
}

void Calibrate(const ScoreHistogram& calibration, const ScoreHistogram& judgement, double target_recall,
               double fast_recall, int64_t d_model, LayerPredictor& predictor) {
  const auto threshold_for = [&](double recall) {
    const float threshold =
        std::min(calibration.ThresholdFor(WithReserve(recall)), judgement.ThresholdFor(recall));
    // Edges of bins may lie outside of what a count of signs can be.
    const auto most = static_cast<float>(d_model);
    return predictor.kind == PredictorKind::kSign ? std::clamp(threshold, -most, most) : threshold;
  };
  const float balanced = threshold_for(target_recall);
  const float fast = threshold_for(fast_recall);
  predictor.balanced_threshold = static_cast<double>(balanced);
  predictor.balanced = judgement.FiguresAt(balanced);
  predictor.fast_threshold = static_cast<double>(fast);
  predictor.fast = judgement.FiguresAt(fast);
}

}  // namespace thermocline
