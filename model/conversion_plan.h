// What a conversion to GGUF writes: which tensors, of which types, from which rows.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/element_type.h"
#include "core/status.h"
#include "model/checkpoint.h"

namespace thermocline {

// Where a matrix's row in the new file comes from.
enum class RowOrder {
  kSame,
  kInterleaved,  // of rotated heads: pairs (i, i + n) are brought side by side
  kUngrouped,    // a fused matrix of queries, keys and values: KV head by KV head becomes kind by kind
};

struct PlannedTensor {
  std::string source;
  std::string target;
  std::vector<int64_t> shape;  // of the target, outermost first
  ElementType type = ElementType::kF32;
  RowOrder order = RowOrder::kSame;
  int64_t heads = 0;     // kInterleaved: of the matrix
  bool add_one = false;  // the source stores the norm's weights less 1

  int64_t rows() const { return shape.size() == 1 ? 1 : shape.front(); }
  int64_t cols() const { return shape.back(); }
};

struct ConversionPlan {
  ModelConfig config;  // as the new file is to be read
  std::vector<PlannedTensor> tensors;
};

// The types that --type takes, for messages.
inline constexpr std::string_view kConversionTypes = "f32, f16, bf16, q8_0, q4_0, q4_k, q6_k";
// Accepts any case. InvalidArgument naming the known ones.
absl::StatusOr<ElementType> ParseConversionType(std::string_view name);
// GGUF's general.file_type of a file whose matrices were asked to be of the type.
uint32_t GgufFileType(ElementType asked);

// The type of a matrix of rows of `cols` where `asked` was asked for. The embedding and the head of Q4_0 and
// Q4_K files are Q6_K. Rows that are no multiple of 256 get Q5_0 instead of Q4_K and Q8_0 instead of Q6_K;
// rows that are no multiple of 32 either get F16.
ElementType MatrixType(ElementType asked, bool embedding_or_head, int64_t cols);

// The configuration of the same model as GGUF says it: rows of rotated heads as the architecture has them
// there, llama3's RoPE scaling as divisors, ternary weights expanded, one name for what computes alike.
ModelConfig ConfigInGguf(const ModelConfig& config);

ConversionPlan PlanConversion(const Checkpoint& source, ElementType asked);

// The source's row that becomes row `row` of the target; for a vector, its element.
int64_t SourceRow(const PlannedTensor& tensor, const ModelConfig& config, int64_t row);

// FailedPrecondition naming `file` and the first field in which it says otherwise than expected; numbers may
// differ by what F32 rounds.
absl::Status CheckSameModel(const ModelConfig& expected, const ModelConfig& found, const std::string& file);

}  // namespace thermocline
