// What happens to the rows of activations one by one besides RMSNorm and RoPE, split over a thread team.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "core/matrix.h"
#include "kernels_cpu/parallel.h"

namespace thermocline {

// out row t = LayerNorm(x row t); bias may be empty. All (n_tokens, width).
void LayerNorm(const CpuContext& context, MatrixView<const float> x, std::span<const float> weight,
               std::span<const float> bias, float epsilon, MatrixView<float> out);

// Every row of x += bias; nothing where bias is empty.
void AddBias(const CpuContext& context, std::span<const float> bias, MatrixView<float> x);

// x *= factor; nothing where it is 1.
void Scale(const CpuContext& context, float factor, MatrixView<float> x);

// x = cap * tanh(x / cap); nothing where cap is 0.
void SoftCap(const CpuContext& context, float cap, MatrixView<float> x);

}  // namespace thermocline
