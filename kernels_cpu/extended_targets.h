// Instruction sets that extend one of Highway's: who has them, and the kernels that differ.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/matrix.h"
#include "kernels_cpu/column_matrix.h"
#include "kernels_cpu/listed_activations.h"
#include "kernels_cpu/packed_matrix.h"
#include "kernels_cpu/quantized_activations.h"

namespace thermocline {

// The functions' contracts: KernelTable::mat_mul_packed, mat_mul_packed_int16 and mat_mul_columns.
#if defined(__x86_64__)
// Whether processor and system have AVX-512 with VNNI.
bool HasVnni();
// Whether they have AMX's tiles of 8-bit integers besides. Asks the system for the tiles' state, which it
// grants to the whole process.
bool HasAmx();

void MatMulPackedVnni(const PackedView& w, const QuantizedActivations& x, MatrixView<float> y);
void MatMulPackedInt16Vnni(const PackedView& w, const Int16Activations& x, MatrixView<float> y);
void MatMulPackedAmx(const PackedView& w, const QuantizedActivations& x, MatrixView<float> y);
void MatMulColumnsVnni(const ColumnView& w, int64_t begin, int64_t end, const ListedActivations& x,
                       MatrixView<float> sums);
#elif defined(__aarch64__)
// Whether the system says that the processor has DotProd.
bool HasDotProd();

void MatMulPackedDotProd(const PackedView& w, const QuantizedActivations& x, MatrixView<float> y);
void MatMulColumnsDotProd(const ColumnView& w, int64_t begin, int64_t end, const ListedActivations& x,
                          MatrixView<float> sums);
#endif

}  // namespace thermocline
