// NeuronPredictor: scores of all neurons, and from them the lists of what a step needs.
// SPDX-License-Identifier: Apache-2.0
#include "predictor/neuron_predictor.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace thermocline {
namespace {

absl::StatusOr<Matrix<std::byte>> Copy(const QuantizedMatrix& matrix) {
  const WeightView view = matrix.view();
  TC_ASSIGN_OR_RETURN(Matrix<std::byte> copy, Matrix<std::byte>::Create(view.rows, view.row_stride_bytes));
  std::ranges::copy(matrix.blocks, copy.data());
  return copy;
}

WeightView Q8_0View(const Matrix<std::byte>& rows, int64_t cols) {
  return {rows.data(), ElementType::kQ8_0, rows.rows(), cols, rows.cols()};
}

}  // namespace

std::vector<uint32_t> NeuronOrder(std::span<const std::vector<uint32_t>> tables, int64_t d_ff) {
  std::vector<uint32_t> order;
  std::vector<bool> seen(static_cast<size_t>(d_ff), false);
  for (const std::vector<uint32_t>& table : tables) {
    for (const uint32_t neuron : table) {
      TC_CHECK(neuron < seen.size() && !seen[neuron]);
      seen[neuron] = true;
      order.push_back(neuron);
    }
  }
  TC_CHECK(order.size() == seen.size());
  return order;
}

NeuronSelection MarkedNeurons::selection() const {
  const auto marked = static_cast<size_t>(count);
  return {std::span(rows).first(marked), std::span(tokens).first(marked)};
}

absl::StatusOr<NeuronPredictor::Scratch> NeuronPredictor::Scratch::Create(int64_t d_model, int64_t d_ff,
                                                                          int64_t most_hidden) {
  Scratch scratch;
  TC_ASSIGN_OR_RETURN(scratch.hidden, Matrix<float>::Create(kMostSparseTokens, most_hidden));
  TC_ASSIGN_OR_RETURN(scratch.scores, Matrix<float>::Create(kMostSparseTokens, d_ff));
  TC_ASSIGN_OR_RETURN(scratch.signs, Matrix<uint64_t>::Create(kMostSparseTokens, BitWords(d_model)));
  TC_ASSIGN_OR_RETURN(scratch.bits, Matrix<uint64_t>::Create(kMostSparseTokens, BitWords(d_ff)));
  return scratch;
}

absl::StatusOr<NeuronPredictor> NeuronPredictor::Create(const CpuContext& context,
                                                        const LayerPredictor& predictor,
                                                        std::span<const std::vector<uint32_t>> tables,
                                                        const WeightView& gate) {
  NeuronPredictor created;
  created.kind_ = predictor.kind;
  created.d_model_ = gate.cols;
  created.d_ff_ = gate.rows;
  created.hidden_ = predictor.hidden;
  created.balanced_threshold_ = static_cast<float>(predictor.balanced_threshold);
  created.fast_threshold_ = static_cast<float>(predictor.fast_threshold);
  for (const std::vector<uint32_t>& table : tables) created.table_sizes_.push_back(std::ssize(table));
  const std::vector<uint32_t> order = NeuronOrder(tables, gate.rows);
  if (predictor.kind == PredictorKind::kMlp) {
    TC_RETURN_IF_ERROR(created.TakeWeights(predictor, order));
  } else {
    TC_RETURN_IF_ERROR(created.PackGate(context, gate, order));
  }
  return created;
}

absl::Status NeuronPredictor::TakeWeights(const LayerPredictor& predictor, std::span<const uint32_t> order) {
  const QuantizedMatrix &w1 = predictor.w1, &w2 = predictor.w2;
  TC_CHECK(w1.rows == hidden_ && w1.cols == d_model_ && w2.rows == d_ff_ && w2.cols == hidden_);
  TC_CHECK(std::ssize(predictor.b1) == hidden_ && std::ssize(predictor.b2) == d_ff_);
  TC_ASSIGN_OR_RETURN(w1_, Copy(w1));
  b1_ = predictor.b1;
  const WeightView rows = w2.view();
  TC_ASSIGN_OR_RETURN(w2_, Matrix<std::byte>::Create(rows.rows, rows.row_stride_bytes));
  b2_.reserve(order.size());
  for (size_t i = 0; i < order.size(); ++i) {
    std::memcpy(w2_.row(static_cast<int64_t>(i)).data(), rows.row_data(order[i]),
                static_cast<size_t>(rows.row_stride_bytes));
    b2_.push_back(predictor.b2[order[i]]);
  }
  return absl::OkStatus();
}

absl::Status NeuronPredictor::PackGate(const CpuContext& context, const WeightView& gate,
                                       std::span<const uint32_t> order) {
  TC_ASSIGN_OR_RETURN(signs_, Matrix<uint64_t>::Create(d_ff_, BitWords(d_model_)));
  constexpr int64_t kRows = 64;
  context.team->ParallelFor(d_ff_, kRows, [&](int64_t begin, int64_t end) {
    std::vector<float> row(static_cast<size_t>(d_model_));
    for (int64_t i = begin; i < end; ++i) {
      context.kernels->dequantize(gate.type, gate.row_data(order[static_cast<size_t>(i)]), d_model_,
                                  row.data());
      PackSigns(context, row, signs_.row(i));
    }
  });
  return absl::OkStatus();
}

void NeuronPredictor::Score(const CpuContext& context, MatrixView<const float> x, Scratch& scratch) const {
  const MatrixView<float> scores = scratch.scores.view().Rows(0, x.rows);
  if (kind_ == PredictorKind::kSign) {
    const MatrixView<uint64_t> inputs = scratch.signs.view().Rows(0, x.rows);
    for (int64_t t = 0; t < x.rows; ++t) PackSigns(context, x.row(t), inputs.row(t));
    SignAgreement(context, signs_.view(), inputs, d_model_, scores);
    return;
  }
  const MatrixView<float> hidden = scratch.hidden.view().Rows(0, x.rows).Columns(0, hidden_);
  MatMul(context, Q8_0View(w1_, d_model_), x, hidden);
  for (int64_t t = 0; t < x.rows; ++t) {
    context.kernels->add(b1_, hidden.row(t));
    for (float& value : hidden.row(t)) value = std::max(value, 0.0f);
  }
  MatMul(context, Q8_0View(w2_, hidden_), hidden, scores);
  for (int64_t t = 0; t < x.rows; ++t) context.kernels->add(b2_, scores.row(t));
}

void NeuronPredictor::Predict(const CpuContext& context, MatrixView<const float> x,
                              std::span<const Quality> qualities, Scratch& scratch,
                              std::span<MarkedNeurons> marked) const {
  TC_CHECK(x.rows <= kMostSparseTokens && x.cols == d_model_ && scratch.scores.cols() == d_ff_);
  TC_CHECK(qualities.size() == static_cast<size_t>(x.rows) && marked.size() == table_sizes_.size());
  std::array<float, kMostSparseTokens> thresholds;
  for (size_t t = 0; t < qualities.size(); ++t) {
    TC_CHECK(qualities[t] != Quality::kExact);
    thresholds[t] = qualities[t] == Quality::kFast ? fast_threshold_ : balanced_threshold_;
  }
  Score(context, x, scratch);
  int64_t first = 0;
  for (size_t table = 0; table < marked.size(); ++table) {
    const int64_t size = table_sizes_[table];
    MarkedNeurons& out = marked[table];
    out.count =
        SelectActive(context, scratch.scores.view().Rows(0, x.rows).Columns(first, size),
                     std::span(thresholds).first(qualities.size()),
                     scratch.bits.view().Rows(0, x.rows).Columns(0, BitWords(size)), out.rows, out.tokens);
    first += size;
  }
}

int64_t NeuronPredictor::size_bytes() const {
  return w1_.size_bytes() + w2_.size_bytes() + signs_.size_bytes() +
         (std::ssize(b1_) + std::ssize(b2_)) * static_cast<int64_t>(sizeof(float));
}

}  // namespace thermocline
