// Scores, loss and gradient of a layer's predictor; products run through the kernels.
// SPDX-License-Identifier: Apache-2.0
#include "predictor/mlp.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

namespace thermocline {
namespace {

constexpr int64_t kTile = 32;                  // of a transposition: rows and columns that stay in cache
constexpr int64_t kPieceElements = 64 * 1024;  // of elementwise work, some tens of microseconds

int64_t RowGrain(int64_t cols) { return std::max<int64_t>(1, kPieceElements / std::max<int64_t>(1, cols)); }

WeightView Weights(MatrixView<const float> matrix) {
  return {reinterpret_cast<const std::byte*>(matrix.data), ElementType::kF32, matrix.rows, matrix.cols,
          matrix.stride * static_cast<int64_t>(sizeof(float))};
}

// target(c, r) = source(r, c).
void Transpose(const CpuContext& context, MatrixView<const float> source, MatrixView<float> target) {
  const int64_t grain = std::max<int64_t>(1, RowGrain(source.rows) / kTile) * kTile;
  context.team->ParallelFor(source.cols, grain, [&](int64_t begin, int64_t end) {
    for (int64_t r = 0; r < source.rows; r += kTile) {
      const int64_t rows = std::min(kTile, source.rows - r);
      for (int64_t c = begin; c < end; ++c) {
        float* out = target.row_data(c) + r;
        const float* in = source.row_data(r) + c;
        for (int64_t i = 0; i < rows; ++i) out[i] = in[i * source.stride];
      }
    }
  });
}

// e^-|z|, relative error below 1e-6: 2^n times a polynomial. Without branches, so that it becomes SIMD.
inline float ExpOfMinusMagnitude(float z) {
  constexpr float kLog2E = 1.44269504f;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves no fraction bits
  float x = -std::fabs(z);
  x = x < -87.0f ? -87.0f : x;  // below, the result would be subnormal
  const float n = (x * kLog2E + kRound) - kRound;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts
  float p = 1.0f / 720.0f;
  p = p * r + 1.0f / 120.0f;
  p = p * r + 1.0f / 24.0f;
  p = p * r + 1.0f / 6.0f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  return p * std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
}

// The bits of every byte as floats.
using ByteLabels = std::array<std::array<float, 8>, 256>;
const ByteLabels& Labels() {
  static const ByteLabels labels = [] {
    ByteLabels table;
    for (unsigned byte = 0; byte < 256; ++byte)
      for (unsigned bit = 0; bit < 8; ++bit) table[byte][bit] = static_cast<float>(byte >> bit & 1u);
    return table;
  }();
  return labels;
}

constexpr int64_t kWord = 64;

// labels[i] = bit i of word.
inline void Unpack(const ByteLabels& table, uint64_t word, float* labels) {
  for (int byte = 0; byte < 8; ++byte)
    std::memcpy(labels + 8 * byte, table[word >> (8 * byte) & 0xFFu].data(), 8 * sizeof(float));
}

// z becomes the loss's derivative to it: weight * (sigmoid(z) - label) * scale.
inline void Differentiate(float* z, const float* labels, int64_t count, float extra, float scale) {
  for (int64_t i = 0; i < count; ++i) {
    const float e = ExpOfMinusMagnitude(z[i]);
    const float larger = 1.0f / (1.0f + e);
    const float sigmoid = z[i] >= 0.0f ? larger : e * larger;
    z[i] = (sigmoid - labels[i]) * (1.0f + extra * labels[i]) * scale;
  }
}

// The loss of up to kWord neurons. The factors 1 + e^-|z| are at most 2, so that their product stays finite
// and one logarithm does for all.
double WordLoss(const float* z, const float* labels, int64_t count, double positive_weight) {
  float linear[2] = {0, 0};
  float product[2] = {1, 1};
  for (int64_t i = 0; i < count; ++i) {
    const float e = ExpOfMinusMagnitude(z[i]);
    const int label = labels[i] != 0.0f;
    linear[label] += std::max(label != 0 ? -z[i] : z[i], 0.0f);
    product[label] *= 1.0f + e;
  }
  return static_cast<double>(linear[0]) + std::log(static_cast<double>(product[0])) +
         positive_weight * (static_cast<double>(linear[1]) + std::log(static_cast<double>(product[1])));
}

// sums[c] = sum of the column.
void SumRows(const CpuContext& context, MatrixView<const float> columns, std::span<float> sums) {
  context.team->ParallelFor(columns.rows, RowGrain(columns.cols), [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      double sum = 0;
      for (const float value : columns.row(c)) sum += static_cast<double>(value);
      sums[static_cast<size_t>(c)] = static_cast<float>(sum);
    }
  });
}

void HiddenUnits(const CpuContext& context, const WeightView& w1, std::span<const float> b1,
                 MatrixView<const float> x, MatrixView<float> hidden) {
  MatMul(context, w1, x, hidden);
  context.team->ParallelFor(hidden.rows, RowGrain(hidden.cols), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      float* row = hidden.row_data(t);
      for (int64_t i = 0; i < hidden.cols; ++i) {
        const float value = row[i] + b1[static_cast<size_t>(i)];
        row[i] = value > 0.0f ? value : 0.0f;
      }
    }
  });
}

}  // namespace

absl::StatusOr<Mlp> Mlp::Create(const MlpShape& shape) {
  Mlp mlp;
  TC_ASSIGN_OR_RETURN(mlp.storage_, Matrix<float>::Create(1, shape.parameters()));
  mlp.shape_ = shape;
  return mlp;
}

absl::StatusOr<MlpScratch> MlpScratch::Create(const MlpShape& shape, int64_t most_tokens) {
  MlpScratch scratch;
  TC_ASSIGN_OR_RETURN(scratch.hidden, Matrix<float>::Create(most_tokens, shape.hidden));
  TC_ASSIGN_OR_RETURN(scratch.hidden_columns, Matrix<float>::Create(shape.hidden, most_tokens));
  TC_ASSIGN_OR_RETURN(scratch.scores, Matrix<float>::Create(most_tokens, shape.d_ff));
  TC_ASSIGN_OR_RETURN(scratch.scores_columns, Matrix<float>::Create(shape.d_ff, most_tokens));
  TC_ASSIGN_OR_RETURN(scratch.x_columns, Matrix<float>::Create(shape.d_model, most_tokens));
  TC_ASSIGN_OR_RETURN(scratch.gradient, Matrix<float>::Create(most_tokens, shape.hidden));
  TC_ASSIGN_OR_RETURN(scratch.gradient_columns, Matrix<float>::Create(shape.hidden, most_tokens));
  TC_ASSIGN_OR_RETURN(scratch.w2_columns, Matrix<float>::Create(shape.hidden, shape.d_ff));
  return scratch;
}

void MlpScores(const CpuContext& context, const WeightView& w1, std::span<const float> b1,
               const WeightView& w2, std::span<const float> b2, MatrixView<const float> x,
               MatrixView<float> hidden, MatrixView<float> scores) {
  HiddenUnits(context, w1, b1, x, hidden);
  MatMul(context, w2, hidden, scores);
  context.team->ParallelFor(scores.rows, RowGrain(scores.cols), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) context.kernels->add(b2, scores.row(t));
  });
}

double MlpLoss(const CpuContext& context, MatrixView<const float> scores, MatrixView<const uint64_t> active,
               double positive_weight) {
  // Every token's loss on its own, then in order, so that the sum does not depend on the threads.
  std::vector<double> losses(static_cast<size_t>(scores.rows));
  context.team->ParallelFor(scores.rows, RowGrain(scores.cols), [&](int64_t begin, int64_t end) {
    float labels[kWord];
    for (int64_t t = begin; t < end; ++t) {
      double loss = 0;
      for (int64_t i = 0; i < scores.cols; i += kWord) {
        Unpack(Labels(), active.row_data(t)[i / kWord], labels);
        loss += WordLoss(scores.row_data(t) + i, labels, std::min(kWord, scores.cols - i), positive_weight);
      }
      losses[static_cast<size_t>(t)] = loss;
    }
  });
  double sum = 0;
  for (const double loss : losses) sum += loss;
  return sum / static_cast<double>(scores.rows);
}

void MlpGradient(const CpuContext& context, const Mlp& mlp, MatrixView<const float> x,
                 MatrixView<const uint64_t> active, double positive_weight, MlpScratch& scratch,
                 Mlp& gradient) {
  const MlpShape& shape = mlp.shape();
  const int64_t n = x.rows;
  TC_CHECK(n <= scratch.hidden.rows());
  const MatrixView<float> hidden = scratch.hidden.view().Rows(0, n);
  const MatrixView<float> scores = scratch.scores.view().Rows(0, n);
  const MatrixView<float> hidden_gradient = scratch.gradient.view().Rows(0, n);
  MlpScores(context, Weights(mlp.w1()), mlp.b1(), Weights(mlp.w2()), mlp.b2(), x, hidden, scores);

  // scores become the derivatives to them.
  const float scale = 1.0f / static_cast<float>(n);
  const auto extra = static_cast<float>(positive_weight - 1);
  context.team->ParallelFor(n, RowGrain(shape.d_ff), [&](int64_t begin, int64_t end) {
    float labels[kWord];
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t i = 0; i < shape.d_ff; i += kWord) {
        Unpack(Labels(), active.row_data(t)[i / kWord], labels);
        Differentiate(scores.row_data(t) + i, labels, std::min(kWord, shape.d_ff - i), extra, scale);
      }
    }
  });

  // Products sum over columns, so what is summed over tokens is transposed first.
  const MatrixView<float> scores_columns = scratch.scores_columns.view().Columns(0, n);
  const MatrixView<float> hidden_columns = scratch.hidden_columns.view().Columns(0, n);
  Transpose(context, scores, scores_columns);
  Transpose(context, hidden, hidden_columns);
  SumRows(context, scores_columns, gradient.b2());
  MatMul(context, Weights(hidden_columns), scores_columns, gradient.w2());

  Transpose(context, mlp.w2(), scratch.w2_columns.view());
  MatMul(context, Weights(scratch.w2_columns.view()), scores, hidden_gradient);
  context.team->ParallelFor(n, RowGrain(shape.hidden), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      float* row = hidden_gradient.row_data(t);
      const float* unit = hidden.row_data(t);
      for (int64_t i = 0; i < shape.hidden; ++i) row[i] = unit[i] > 0.0f ? row[i] : 0.0f;
    }
  });
  const MatrixView<float> gradient_columns = scratch.gradient_columns.view().Columns(0, n);
  const MatrixView<float> x_columns = scratch.x_columns.view().Columns(0, n);
  Transpose(context, hidden_gradient, gradient_columns);
  Transpose(context, x, x_columns);
  SumRows(context, gradient_columns, gradient.b1());
  MatMul(context, Weights(x_columns), gradient_columns, gradient.w1());
}

}  // namespace thermocline
