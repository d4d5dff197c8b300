// Scalar reference of every CPU kernel: plain loops in double, the measure that the tests hold kernels to.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/matrix.h"
#include "kernels_cpu/activation.h"
#include "kernels_cpu/kernel_table.h"

namespace thermocline::reference {

// Element `index` of a row that starts at `row`, from the format's definition.
float Element(ElementType type, const std::byte* row, int64_t index);

// `count` elements of a row.
std::vector<float> Dequantize(ElementType type, const std::byte* row, int64_t count);

// A sum and the sum of its terms' magnitudes, to which rounding errors are proportional.
struct Sum {
  double value = 0.0;
  double magnitude = 0.0;
};

// w(row, :) . x.
Sum Dot(const WeightView& w, int64_t row, std::span<const float> x);

// start + sum_i h[i] * w(i, column), over i with h[i] != 0.
Sum AccumulateColumn(const WeightView& w, std::span<const float> h, int64_t column, float start);

std::vector<double> RmsNorm(std::span<const float> x, std::span<const float> weight, float epsilon);

std::vector<double> Rope(std::span<const float> head, std::span<const float> cos, std::span<const float> sin,
                         bool half);

double Activate(ActivationFunction activation, double x);

// Keys and values that one query head sees: (positions, d_head).
struct HeadCache {
  std::vector<const float*> keys, values;
};
// The output of that head (d_head).
std::vector<double> AttendHead(std::span<const float> query, const HeadCache& cache, float scale,
                               float soft_cap = 0);

// An element of a page's keys or values, from the layout's definition.
float KvElement(const KvLayout& layout, const std::byte* page, bool value, int64_t kv_head, int64_t place,
                int64_t column);

// The output of one query head (d_head) of one token.
std::vector<double> AttendHead(const AttentionArgs& args, int64_t token, int64_t head);

}  // namespace thermocline::reference
