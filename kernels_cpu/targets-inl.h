// Declarations of the kernels of one target; kernel_table.cc puts their addresses into that target's table.
// SPDX-License-Identifier: Apache-2.0
#include "hwy/highway.h"
#include "kernels_cpu/kernel_table.h"

#if defined(THERMOCLINE_KERNELS_CPU_TARGETS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef THERMOCLINE_KERNELS_CPU_TARGETS_INL_H_
#undef THERMOCLINE_KERNELS_CPU_TARGETS_INL_H_
#else
#define THERMOCLINE_KERNELS_CPU_TARGETS_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace thermocline {
namespace HWY_NAMESPACE {

// Contracts: kernel_table.h.
void Dequantize(ElementType type, const std::byte* source, int64_t count, float* target);
void MatMul(const WeightView& w, MatrixView<const float> x, MatrixView<float> y);
void MatMulPacked(const PackedView& w, const QuantizedActivations& x, MatrixView<float> y);
void MatMulPackedInt16(const PackedView& w, const Int16Activations& x, MatrixView<float> y);
void MatMulColumns(const ColumnView& w, int64_t begin, int64_t end, const ListedActivations& x,
                   MatrixView<float> sums);
void MatMulFloatColumns(const ColumnView& w, int64_t begin, int64_t end, const ListedActivations& x,
                        MatrixView<float> sums);
void MatMulRows(const WeightView& w, std::span<const uint32_t> rows, MatrixView<const float> x,
                MatrixView<float> y);
void QuantizeActivations(MatrixView<const float> x, MatrixView<int8_t> values,
                         MatrixView<ActivationBlock> blocks);
void QuantizeInt16(MatrixView<const float> x, MatrixView<int16_t> values, MatrixView<float> scales);
void AccumulateRows(const WeightView& w, MatrixView<const float> h, int64_t column_begin, int64_t column_end,
                    ZeroRows zero_rows, MatrixView<float> y);
NeuronReads AccumulateNeurons(const SparseFfnArgs& args, std::span<const uint32_t> next_rows);
void RmsNorm(std::span<const float> x, std::span<const float> weight, float epsilon, std::span<float> out);
void LayerNorm(std::span<const float> x, std::span<const float> weight, std::span<const float> bias,
               float epsilon, std::span<float> out);
void SoftCap(float cap, std::span<float> x);
void Rope(std::span<float> head, std::span<const float> cos, std::span<const float> sin, bool half);
void GatedActivation(ActivationFunction activation, std::span<const float> gate, std::span<const float> up,
                     std::span<float> hidden);
void Activate(ActivationFunction activation, std::span<const float> gate, std::span<float> hidden);
void CountActive(ActivationFunction activation, float threshold, MatrixView<const float> gate,
                 std::span<uint64_t> active, std::span<double> magnitude);
int64_t SelectActive(MatrixView<const float> scores, std::span<const float> thresholds,
                     MatrixView<uint64_t> bits, uint32_t first_row, std::span<uint32_t> rows,
                     std::span<TokenMask> tokens);
int64_t SelectColumns(MatrixView<float> x, float threshold, std::span<uint32_t> columns);
void PackSigns(std::span<const float> row, std::span<uint64_t> words);
void SignAgreement(MatrixView<const uint64_t> signs, MatrixView<const uint64_t> inputs, int64_t cols,
                   MatrixView<float> scores);
void Add(std::span<const float> y, std::span<float> x);
void Attention(const AttentionArgs& args, const AttentionTile& tile, std::span<float> scratch);

// Expands columns [begin, begin + count) of a row to `target`, which is aligned to 64 bytes, and zeroes it up
// to the next multiple of 32. begin is a multiple of the type's block (plain floats: of 32).
void DecodeColumns(ElementType type, const std::byte* row, int64_t begin, int64_t count, float* target);

// Rows of a weight matrix by their numbers.
struct RowList {
  WeightView w;
  std::span<const uint32_t> rows;

  int64_t size() const { return static_cast<int64_t>(rows.size()); }
  const std::byte* row_data(int64_t i) const { return w.row_data(rows[static_cast<size_t>(i)]); }
};

// products[i] = row i of the list . x, with the bits of MatMul. `next`: rows that the caller will read
// afterwards; the first of them are prefetched.
void DotListed(const RowList& list, const RowList& next, const float* x, float* products);

// The same for the tokens of x that need each row; products(t, i) of the others stays. tokens: (rows).
// products: (n_tokens, at least list.size()).
void DotListedBatch(const RowList& list, std::span<const TokenMask> tokens, MatrixView<const float> x,
                    MatrixView<float> products);

// y += factors[i] * row i, i ascending, with the bits of AccumulateRows. Every row is read. `next`: as above.
void AddListed(const RowList& list, const RowList& next, const float* factors, float* y);

// y(t, :) += h(t, i) * row i, i ascending, where h(t, i) is not zero. Returns how many rows were read.
// h: (n_tokens, at least list.size()).
int64_t AddListedBatch(const RowList& list, MatrixView<const float> h, MatrixView<float> y);

}  // namespace HWY_NAMESPACE
}  // namespace thermocline
HWY_AFTER_NAMESPACE();

#endif  // toggled guard
