// Rows of the source, expanded, reordered and with norms' offsets.
// SPDX-License-Identifier: Apache-2.0
#include "model/conversion_rows.h"

#include <algorithm>
#include <utility>

#include "model/ternary.h"

namespace thermocline {
namespace {

// Ternary weights are those of the layers' matrices (ExpectedTensors).
bool IsTernary(const Checkpoint& source, const PlannedTensor& tensor) {
  return source.config.ternary != TernaryWeights::kNone && tensor.shape.size() == 2 &&
         tensor.source != source.names.token_embedding && tensor.source != source.names.head;
}

absl::StatusOr<ExpandedTernary> Expand(const Checkpoint& source, const PlannedTensor& tensor,
                                       const KernelTable& kernels) {
  const int64_t rows = tensor.rows(), cols = tensor.cols();
  if (source.config.ternary == TernaryWeights::kPacked) {
    TC_ASSIGN_OR_RETURN(const auto bytes,
                        source.tensors.Packed(tensor.source, "U8", {rows / kTernaryRowsOfAByte, cols}));
    TC_ASSIGN_OR_RETURN(const std::vector<float> scale, source.tensors.Vector(ScaleOf(tensor.source), 1));
    return ExpandPackedTernary(bytes, rows, cols, scale.front());
  }
  TC_ASSIGN_OR_RETURN(const WeightView matrix, source.tensors.Matrix(tensor.source, rows, cols));
  return RoundToTernary(kernels, matrix);
}

}  // namespace

absl::StatusOr<SourceRows> SourceRows::Open(const Checkpoint& source, const ModelConfig& target,
                                            const PlannedTensor& tensor, const KernelTable& kernels) {
  SourceRows rows(tensor, kernels);
  const bool is_vector = tensor.shape.size() == 1;
  if (tensor.order != RowOrder::kSame) {
    const int64_t count = is_vector ? tensor.cols() : tensor.rows();
    for (int64_t r = 0; r < count; ++r) rows.places_.push_back(SourceRow(tensor, target, r));
  }
  if (is_vector) {
    TC_ASSIGN_OR_RETURN(const std::vector<float> found, source.tensors.Vector(tensor.source, tensor.cols()));
    rows.vector_ = found;
    for (size_t i = 0; i < rows.places_.size(); ++i)
      rows.vector_[i] = found[static_cast<size_t>(rows.places_[i])];
    if (tensor.add_one)
      for (float& weight : rows.vector_) weight += 1.0f;
    return rows;
  }
  if (IsTernary(source, tensor)) {
    TC_ASSIGN_OR_RETURN(ExpandedTernary expanded, Expand(source, tensor, kernels));
    rows.matrix_ = expanded.view;
    rows.storage_ = std::move(expanded.storage);
    return rows;
  }
  TC_ASSIGN_OR_RETURN(rows.matrix_, source.tensors.Matrix(tensor.source, tensor.rows(), tensor.cols()));
  return rows;
}

void SourceRows::Read(int64_t row, std::span<float> out) const {
  if (!vector_.empty()) {
    std::ranges::copy(vector_, out.begin());
    return;
  }
  const int64_t place = places_.empty() ? row : places_[static_cast<size_t>(row)];
  kernels_->dequantize(matrix_.type, matrix_.row_data(place), matrix_.cols, out.data());
}

const std::byte* SourceRows::Bytes(int64_t row) const {
  if (!vector_.empty() || matrix_.type != tensor_->type || !InfoOf(matrix_.type).quantized()) return nullptr;
  return matrix_.row_data(places_.empty() ? row : places_[static_cast<size_t>(row)]);
}

}  // namespace thermocline
