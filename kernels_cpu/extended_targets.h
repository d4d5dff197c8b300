// Instruction sets that extend one of Highway's: who has them, and the kernels that differ.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/matrix.h"
#include "kernels_cpu/packed_matrix.h"
#include "kernels_cpu/quantized_activations.h"

namespace thermocline {

#if defined(__x86_64__)
// Contract: KernelTable::mat_mul_packed. AVX-512 with VNNI only.
void MatMulPackedVnni(const PackedView& w, const QuantizedActivations& x, MatrixView<float> y);
// Whether processor and system have AVX-512 with VNNI.
bool HasVnni();
#elif defined(__aarch64__)
// Contract: KernelTable::mat_mul_packed. NEON with DotProd only.
void MatMulPackedDotProd(const PackedView& w, const QuantizedActivations& x, MatrixView<float> y);
// Whether the system says that the processor has DotProd.
bool HasDotProd();
#endif

}  // namespace thermocline
