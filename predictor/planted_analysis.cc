// Frequencies of normal gates, and predictors that are a projection on the planted subspace.
// SPDX-License-Identifier: Apache-2.0
#include "predictor/planted_analysis.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "model/planted_frequencies.h"
#include "model/quantize.h"

namespace thermocline {
namespace {

constexpr int64_t kMomentTokens = 2048;
constexpr int64_t kScoredTokens = 256;  // half sets the thresholds, half gives the figures
constexpr double kBalancedRecall = 0.95;
constexpr double kFastRecall = 0.90;
// The logistic function of this many times z is within 0.01 of the normal distribution function of z.
constexpr double kLogitsPerDeviation = 1.702;

// The block's inputs over tokens, if the norm divided all of them by the same number: what lies above the
// threshold is then normal, and nearly nothing that lies above it would not do so after the true norm.
struct Moments {
  double shared = 0;   // mean along u
  double planted = 0;  // variance along each direction of the subspace
  double outside = 0;  // variance along any other
};

// A gate row over tokens.
struct Gate {
  double mean = 0;
  double planted = 0;  // variance that lies in the subspace
  double outside = 0;  // and the rest
};

// Embeddings of tokens spread over the pieces of the vocabulary.
absl::StatusOr<Matrix<float>> Embeddings(const Checkpoint& checkpoint, const CpuContext& context,
                                         int64_t count) {
  const ModelConfig& config = checkpoint.config;
  TC_ASSIGN_OR_RETURN(const WeightView embedding, checkpoint.tensors.Matrix(checkpoint.names.token_embedding,
                                                                            config.n_vocab, config.d_model));
  const int64_t pieces = config.n_vocab - kFirstSyntheticPiece;
  TC_ASSIGN_OR_RETURN(Matrix<float> embeddings,
                      Matrix<float>::Create(std::min(count, pieces), config.d_model));
  for (int64_t t = 0; t < embeddings.rows(); ++t) {
    const int64_t token = kFirstSyntheticPiece + t * pieces / embeddings.rows();
    context.kernels->dequantize(embedding.type, embedding.row_data(token), config.d_model,
                                embeddings.row(t).data());
  }
  return embeddings;
}

// The feed-forward blocks' inputs for these tokens.
absl::StatusOr<Matrix<float>> Inputs(const Checkpoint& checkpoint, const CpuContext& context, int64_t count) {
  TC_ASSIGN_OR_RETURN(Matrix<float> inputs, Embeddings(checkpoint, context, count));
  const std::vector<float> ones(static_cast<size_t>(inputs.cols()), 1.0f);
  const auto epsilon = static_cast<float>(checkpoint.config.norm_epsilon);
  RmsNorm(context, inputs.view(), ones, epsilon, inputs.view());
  return inputs;
}

WeightView AsWeights(const Matrix<float>& matrix) {
  return {reinterpret_cast<const std::byte*>(matrix.data()), ElementType::kF32, matrix.rows(), matrix.cols(),
          matrix.cols() * static_cast<int64_t>(sizeof(float))};
}

absl::StatusOr<Moments> MeasureMoments(const Checkpoint& checkpoint, const CpuContext& context,
                                       const Matrix<float>& basis) {
  TC_ASSIGN_OR_RETURN(const Matrix<float> inputs, Embeddings(checkpoint, context, kMomentTokens));
  TC_ASSIGN_OR_RETURN(Matrix<float> along, Matrix<float>::Create(inputs.rows(), basis.rows()));
  MatMul(context, AsWeights(basis), inputs.view(), along.view());
  const auto width = static_cast<double>(basis.cols());
  double shared = 0, shared_power = 0, planted_power = 0, power = 0, norms = 0;
  for (int64_t t = 0; t < along.rows(); ++t) {
    const auto row = along.row(t);
    shared += static_cast<double>(row[0]);
    shared_power += std::pow(static_cast<double>(row[0]), 2);
    for (const float value : row.subspan(1)) planted_power += std::pow(static_cast<double>(value), 2);
    double token_power = 0;
    for (const float value : inputs.row(t)) token_power += std::pow(static_cast<double>(value), 2);
    power += token_power;
    norms += std::sqrt(token_power / width);
  }
  const auto tokens = static_cast<double>(along.rows()), rank = static_cast<double>(basis.rows() - 1);
  const double norm = norms / tokens, square = tokens * norm * norm;
  return Moments{.shared = shared / tokens / norm,
                 .planted = planted_power / square / rank,
                 .outside = (power - shared_power - planted_power) / square / (width - rank - 1)};
}

// The sums of squares of the rows.
std::vector<double> RowPowers(const CpuContext& context, const WeightView& weights) {
  std::vector<double> powers(static_cast<size_t>(weights.rows));
  context.team->ParallelFor(weights.rows, 16, [&](int64_t begin, int64_t end) {
    std::vector<float> row(static_cast<size_t>(weights.cols));
    for (int64_t r = begin; r < end; ++r) {
      context.kernels->dequantize(weights.type, weights.row_data(r), weights.cols, row.data());
      double power = 0;
      for (const float value : row) power += std::pow(static_cast<double>(value), 2);
      powers[static_cast<size_t>(r)] = power;
    }
  });
  return powers;
}

// Counts of one neuron over `tokens`: how often a normal gate reaches the threshold, and its sum where it
// does.
void Count(const Gate& gate, int64_t tokens, size_t neuron, NeuronCounts& counts) {
  const double deviation = std::sqrt(gate.planted + gate.outside);
  const double z = (gate.mean - static_cast<double>(kPlantedThreshold)) / deviation;
  const auto active = std::llround(NormalCdf(z) * static_cast<double>(tokens));
  counts.active[neuron] = static_cast<uint64_t>(active);
  if (active == 0) return;
  const double density = std::exp(-z * z / 2) / std::sqrt(2 * std::numbers::pi);
  const double mean_of_active = gate.mean + deviation * density / NormalCdf(z);
  counts.magnitude_sum[neuron] = static_cast<double>(active) * mean_of_active;
}

absl::StatusOr<QuantizedMatrix> Quantise(const CpuContext& context, int64_t rows, int64_t cols,
                                         absl::FunctionRef<void(int64_t row, std::span<float> out)> make) {
  QuantizedMatrix matrix{.rows = rows, .cols = cols};
  TC_ASSIGN_OR_RETURN(const int64_t row_bytes, RowBytes(ElementType::kQ8_0, cols));
  matrix.blocks.resize(static_cast<size_t>(rows * row_bytes));
  context.team->ParallelFor(rows, 16, [&](int64_t begin, int64_t end) {
    std::vector<float> row(static_cast<size_t>(cols));
    for (int64_t r = begin; r < end; ++r) {
      make(r, row);
      QuantizeQ8_0(row, matrix.blocks.data() + r * row_bytes);
    }
  });
  return matrix;
}

// Scores of tokens, (n_tokens, d_ff), as the predictor's definition has them.
absl::StatusOr<Matrix<float>> Score(const CpuContext& context, const LayerPredictor& predictor,
                                    MatrixView<const float> inputs) {
  TC_ASSIGN_OR_RETURN(Matrix<float> hidden, Matrix<float>::Create(inputs.rows, predictor.w1.rows));
  TC_ASSIGN_OR_RETURN(Matrix<float> scores, Matrix<float>::Create(inputs.rows, predictor.w2.rows));
  MatMul(context, predictor.w1.view(), inputs, hidden.view());
  for (int64_t t = 0; t < hidden.rows(); ++t) {
    const auto row = hidden.row(t);
    for (size_t h = 0; h < row.size(); ++h) row[h] = std::max(0.0f, row[h] + predictor.b1[h]);
  }
  MatMul(context, predictor.w2.view(), hidden.view(), scores.view());
  for (int64_t t = 0; t < scores.rows(); ++t) {
    const auto row = scores.row(t);
    for (size_t i = 0; i < row.size(); ++i) row[i] += predictor.b2[i];
  }
  return scores;
}

// The highest threshold that marks the asked share of the active neurons; 0 where none is active.
double ThresholdFor(double recall, std::vector<float>& active_scores) {
  if (active_scores.empty()) return 0;
  const auto missed = static_cast<size_t>((1 - recall) * static_cast<double>(active_scores.size()));
  const auto place = active_scores.begin() + static_cast<int64_t>(missed);
  std::nth_element(active_scores.begin(), place, active_scores.end());
  return static_cast<double>(*place);
}

PredictorFigures FiguresAt(double threshold, MatrixView<const float> scores, MatrixView<const float> gates) {
  double active = 0, marked = 0, both = 0;
  for (int64_t t = 0; t < scores.rows; ++t) {
    for (size_t i = 0; i < scores.row(t).size(); ++i) {
      const bool is_active = gates.row(t)[i] >= kPlantedThreshold;
      const bool is_marked = static_cast<double>(scores.row(t)[i]) >= threshold;
      active += is_active;
      marked += is_marked;
      both += is_active && is_marked;
    }
  }
  return {.recall = active > 0 ? both / active : 1,
          .precision = marked > 0 ? both / marked : 1,
          .marked = marked / static_cast<double>(scores.rows * scores.cols)};
}

// One layer after the other, on the products of its gate with basis and sampled inputs.
class Analyst {
 public:
  Analyst(const SyntheticModel& model, const Checkpoint& checkpoint, const CpuContext& context)
      : model_(model), checkpoint_(checkpoint), context_(context) {}

  absl::Status Prepare() {
    const Matrix<float>& basis = model_.basis();
    TC_ASSIGN_OR_RETURN(moments_, MeasureMoments(checkpoint_, context_, basis));
    TC_ASSIGN_OR_RETURN(const Matrix<float> sampled, Inputs(checkpoint_, context_, kScoredTokens));
    TC_ASSIGN_OR_RETURN(vectors_, Matrix<float>::Create(basis.rows() + sampled.rows(), basis.cols()));
    std::copy_n(basis.data(), basis.rows() * basis.cols(), vectors_.data());
    std::copy_n(sampled.data(), sampled.rows() * sampled.cols(), vectors_.row(basis.rows()).data());
    TC_ASSIGN_OR_RETURN(products_, Matrix<float>::Create(vectors_.rows(), model_.config().d_ff));
    return absl::OkStatus();
  }

  absl::Status Analyse(int64_t layer, LayerActivations& activations, LayerPredictor& predictor) {
    const ModelConfig& config = model_.config();
    TC_ASSIGN_OR_RETURN(const WeightView gate, checkpoint_.tensors.Matrix(checkpoint_.names.layer(layer).gate,
                                                                          config.d_ff, config.d_model));
    MatMul(context_, gate, vectors_.view(), products_.view());
    const std::vector<double> powers = RowPowers(context_, gate);
    std::vector<Gate> gates(powers.size());
    for (size_t i = 0; i < gates.size(); ++i) {
      double within = 0;
      for (int64_t r = 1; r <= model_.rank(); ++r)
        within += std::pow(static_cast<double>(products_.row(r)[i]), 2);
      gates[i] = {.mean = moments_.shared * static_cast<double>(products_.row(0)[i]),
                  .planted = moments_.planted * within,
                  .outside = moments_.outside * std::max(0.0, powers[i] - within)};
      Count(gates[i], kPlantedTokens, i, activations.profiled);
      Count(gates[i], kPlantedTokens / 10, i, activations.held_out);
    }
    TC_RETURN_IF_ERROR(Build(gates, predictor));
    return Calibrate(predictor);
  }

 private:
  // The score of a neuron is how far, in logits, its gate's expectation is above the threshold.
  absl::Status Build(const std::vector<Gate>& gates, LayerPredictor& predictor) const {
    const ModelConfig& config = model_.config();
    const int64_t rank = model_.rank();
    std::vector<double> slopes;  // logits for each unit of the gate
    for (const Gate& gate : gates) slopes.push_back(kLogitsPerDeviation / std::sqrt(gate.outside));
    predictor.kind = PredictorKind::kMlp;
    predictor.hidden = 2 * rank;
    predictor.b1.assign(static_cast<size_t>(2 * rank), 0.0f);
    const auto basis_row = [&](int64_t h, std::span<float> out) {
      const float sign = h < rank ? 1.0f : -1.0f;
      const auto direction = model_.basis().row(1 + h % rank);
      for (size_t c = 0; c < out.size(); ++c) out[c] = sign * direction[c];
    };
    const auto score_row = [&](int64_t i, std::span<float> out) {
      const auto neuron = static_cast<size_t>(i);
      for (int64_t r = 0; r < rank; ++r) {
        const float part = products_.row(1 + r)[neuron] * static_cast<float>(slopes[neuron]);
        out[static_cast<size_t>(r)] = part;
        out[static_cast<size_t>(rank + r)] = -part;
      }
    };
    TC_ASSIGN_OR_RETURN(predictor.w1, Quantise(context_, 2 * rank, config.d_model, basis_row));
    TC_ASSIGN_OR_RETURN(predictor.w2, Quantise(context_, config.d_ff, 2 * rank, score_row));
    for (size_t i = 0; i < gates.size(); ++i) {
      predictor.b2.push_back(
          static_cast<float>(slopes[i] * (gates[i].mean - static_cast<double>(kPlantedThreshold))));
    }
    return absl::OkStatus();
  }

  absl::Status Calibrate(LayerPredictor& predictor) const {
    const int64_t first = model_.rank() + 1, count = vectors_.rows() - first, half = count / 2;
    const auto gates = products_.view().Rows(first, count);
    TC_ASSIGN_OR_RETURN(const Matrix<float> scores,
                        Score(context_, predictor, vectors_.view().Rows(first, count)));
    // The first half sets the thresholds, the other tests them.
    std::vector<float> active;
    for (int64_t t = 0; t < half; ++t) {
      for (size_t i = 0; i < gates.row(t).size(); ++i)
        if (gates.row(t)[i] >= kPlantedThreshold) active.push_back(scores.row(t)[i]);
    }
    predictor.balanced_threshold = ThresholdFor(kBalancedRecall, active);
    predictor.fast_threshold = ThresholdFor(kFastRecall, active);
    const auto other_scores = scores.view().Rows(half, count - half);
    predictor.balanced =
        FiguresAt(predictor.balanced_threshold, other_scores, gates.Rows(half, count - half));
    predictor.fast = FiguresAt(predictor.fast_threshold, other_scores, gates.Rows(half, count - half));
    return absl::OkStatus();
  }

  const SyntheticModel& model_;
  const Checkpoint& checkpoint_;
  const CpuContext context_;
  Moments moments_;
  Matrix<float> vectors_;   // basis, then sampled inputs; (rank + 1 + tokens, d_model)
  Matrix<float> products_;  // of a layer's gate with these: (rank + 1 + tokens, d_ff)
};

}  // namespace

absl::StatusOr<PlantedAnalysis> AnalysePlanted(const SyntheticModel& model, const Checkpoint& checkpoint,
                                               const std::string& sha256, const CpuContext& context) {
  const ModelConfig& config = model.config();
  PlantedAnalysis analysis{.profile = EmptyProfile(config, sha256, 0), .predictors = {}};
  analysis.profile.profiled_tokens = kPlantedTokens;
  analysis.profile.held_out_tokens = kPlantedTokens / 10;
  analysis.predictors = {.model = {.sha256 = sha256,
                                   .n_layers = config.n_layers,
                                   .d_model = config.d_model,
                                   .d_ff = config.d_ff},
                         .target_recall = kBalancedRecall,
                         .fast_recall = kFastRecall,
                         .layers = std::vector<LayerPredictor>(static_cast<size_t>(config.n_layers))};
  Analyst analyst(model, checkpoint, context);
  TC_RETURN_IF_ERROR(analyst.Prepare());
  for (int64_t l = 0; l < config.n_layers; ++l) {
    const auto layer = static_cast<size_t>(l);
    TC_RETURN_IF_ERROR(analyst.Analyse(l, analysis.profile.layers[layer], analysis.predictors.layers[layer]));
  }
  return analysis;
}

}  // namespace thermocline
