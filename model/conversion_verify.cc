// Every row of a converted file beside the source's.
// SPDX-License-Identifier: Apache-2.0
#include "model/conversion_verify.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "model/conversion_rows.h"

namespace thermocline {
namespace {

struct RowError {
  double error_squares = 0;
  double weight_squares = 0;
  bool beyond_bound = false;
};

double Squares(std::span<const float> a) {
  double sum = 0;
  for (const float value : a) sum += static_cast<double>(value) * static_cast<double>(value);
  return sum;
}

RowError Compare(ElementType type, std::span<const float> source, std::span<float> written) {
  RowError result;
  for (size_t i = 0; i < source.size(); ++i) written[i] -= source[i];
  const auto block = static_cast<size_t>(InfoOf(type).block_elements);
  for (size_t begin = 0; begin < source.size(); begin += block) {
    const double squares = Squares(written.subspan(begin, block));
    const double bound = ErrorBound(type, source.subspan(begin, block));
    result.error_squares += squares;
    // Not a number is beyond any bound.
    result.beyond_bound |= !(std::sqrt(squares / static_cast<double>(block)) <= bound);
  }
  result.weight_squares = Squares(source);
  return result;
}

// Gives the memory of what was read back after every slab of rows.
absl::Status CompareTensor(const TensorInfo& found, const SourceRows& source, const PlannedTensor& planned,
                           const CpuContext& context, absl::FunctionRef<void()> release,
                           ConversionReport::OfType& sums) {
  constexpr int64_t kSlabFloats = int64_t{4} << 20;
  const int64_t rows = planned.rows(), cols = planned.cols();
  const int64_t row_bytes = *RowBytes(planned.type, cols);
  const int64_t slab_rows = std::clamp<int64_t>(kSlabFloats / cols, 1, rows);
  std::vector<RowError> errors(static_cast<size_t>(slab_rows));
  for (int64_t first = 0; first < rows; first += slab_rows) {
    const int64_t count = std::min(slab_rows, rows - first);
    context.team->ParallelFor(count, 4, [&](int64_t begin, int64_t end) {
      std::vector<float> expected(static_cast<size_t>(cols)), written(expected.size());
      for (int64_t r = begin; r < end; ++r) {
        source.Read(first + r, expected);
        const std::byte* bytes = found.bytes.data() + (first + r) * row_bytes;
        context.kernels->dequantize(planned.type, bytes, cols, written.data());
        errors[static_cast<size_t>(r)] = Compare(planned.type, expected, written);
      }
    });
    for (int64_t r = 0; r < count; ++r) {
      const RowError& error = errors[static_cast<size_t>(r)];
      if (error.beyond_bound) {
        return FailedPrecondition("{}: tensor '{}', row {}: what was written as {} is not what '{}' holds",
                                  found.file, planned.target, first + r, NameOf(planned.type),
                                  planned.source);
      }
      sums.error_squares += error.error_squares;
      sums.weight_squares += error.weight_squares;
    }
    release();
  }
  return absl::OkStatus();
}

}  // namespace

double ErrorBound(ElementType type, std::span<const float> values) {
  double largest = 0;
  for (const float value : values) largest = std::max(largest, std::abs(static_cast<double>(value)));
  // A step of the coarsest scale that rounding to nearest would take, and what storing scales costs: 2^-11 of
  // an F16, half the least one where they are smaller than it, and a 63rd or a 128th of the largest of a
  // super-block.
  constexpr double kLeastScales = 3e-5;
  switch (type) {
    case ElementType::kF32:
      return 0;
    case ElementType::kF16:
      return largest * 0x1p-11 + 0x1p-25;
    case ElementType::kBF16:
      return largest * 0x1p-8 + 0x1p-133;
    case ElementType::kQ8_0:
      return largest * (0.5 / 127 + 0x1p-11) + kLeastScales;
    case ElementType::kQ4_0:
      return largest * (1.0 / 8 + 0x1p-10) + kLeastScales;
    case ElementType::kQ5_0:
      return largest * (1.0 / 16 + 0x1p-10) + kLeastScales;
    case ElementType::kQ4_K:
      return largest * (2.0 / 15) + kLeastScales;
    case ElementType::kQ6_K:
      return largest * (1.0 / 32 + 1.0 / 128) + kLeastScales;
    default:
      TC_CHECK(false);
  }
}

absl::Status VerifyConversion(const std::string& path, const Checkpoint& source, const ConversionPlan& plan,
                              const CpuContext& context,
                              absl::FunctionRef<absl::Status(double share)> progress,
                              ConversionReport& report) {
  TC_ASSIGN_OR_RETURN(const Checkpoint written, Checkpoint::Open(path, {.load_tokenizer = false}));
  TC_RETURN_IF_ERROR(CheckSameModel(plan.config, written.config, path));
  const auto release = [&] {
    for (const TensorTable* table : {&source.tensors, &written.tensors})
      for (const auto& file : table->files()) file->Release();
  };
  double done = 0;
  for (const PlannedTensor& planned : plan.tensors) {
    const TensorInfo* found = written.tensors.Find(planned.target);
    if (found == nullptr || found->type != planned.type || found->shape != planned.shape)
      return FailedPrecondition("{}: tensor '{}' is not as it was planned", path, planned.target);
    TC_RETURN_IF_ERROR(progress(done / static_cast<double>(written.total_bytes())));
    TC_ASSIGN_OR_RETURN(const SourceRows rows,
                        SourceRows::Open(source, plan.config, planned, *context.kernels));
    ConversionReport::OfType& sums = report.types[std::string(NameOf(planned.type))];
    TC_RETURN_IF_ERROR(CompareTensor(*found, rows, planned, context, release, sums));
    ++sums.tensors;
    sums.weights += planned.rows() * planned.cols();
    sums.bytes += static_cast<int64_t>(found->bytes.size());
    done += static_cast<double>(found->bytes.size());
  }
  return absl::OkStatus();
}

}  // namespace thermocline
