// The rungs of the kernel ladder: what each family computes, and its steps by instruction set.
// SPDX-License-Identifier: Apache-2.0
//
// A rung is a pure single-threaded function; all rungs of a family compute the same. Scalar rungs are
// compiled without vectorisation (CMakeLists.txt); the SIMD rungs are one source for every instruction set.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "core/matrix.h"
#include "core/status.h"

namespace thermocline::ladder {

// ---- ReLU: y[i] = x[i] > 0 ? x[i] : 0, and leaky ReLU: y[i] = x[i] > 0 ? x[i] : slope * x[i]. NaN gives 0
// and NaN. Same bits from every rung.

struct ReluRung {
  std::string_view name;
  int64_t offset = 0;  // of x and y from a multiple of 64 bytes, in floats
  void (*relu)(const float* x, int64_t count, float* y) = nullptr;
  void (*leaky)(const float* x, int64_t count, float slope, float* y) = nullptr;
};

// ---- Matrix product: c = a * b, row-major. a: (m, k), b: (k, n), c: (m, n). Any of them may be empty; where
// k is 0, c is zero.

struct MatMulArgs {
  MatrixView<const float> a;
  MatrixView<const float> b;
  const float* packed_b = nullptr;  // by pack_b, for rungs that have it
  float* scratch = nullptr;         // MatMulScratchFloats(k, n), aligned to 64 bytes
  MatrixView<float> c;
};

// Packed panels are padded to whole register tiles, of at most 64 rows or columns.
constexpr int64_t kMostTile = 64;
constexpr int64_t kPackedRows = 512;   // of a, packed at a time: at most
constexpr int64_t kPackedDepth = 512;  // of a and b: at most
constexpr int64_t PackedBFloats(int64_t k, int64_t n) { return (k + 1) * (n + kMostTile); }
constexpr int64_t MatMulScratchFloats(int64_t k, int64_t n) {
  return PackedBFloats(k, n) + kPackedRows * kPackedDepth;
}

struct MatMulRung {
  std::string_view name;
  int64_t most_size = 0;  // timed up to this m = n = k; slow rungs would take minutes beyond
  void (*pack_b)(MatrixView<const float> b,
                 float* packed_b) = nullptr;  // before the call; null: nothing is packed
  void (*multiply)(const MatMulArgs& args) = nullptr;
};

// ---- 4x4 matrices, column-major, 16 elements each, one after the other: c[i] = a[i] * b[i].

struct Matrix4Rung {
  std::string_view name;
  void (*multiply)(const float* a, const float* b, int64_t count, float* c) = nullptr;
};

// Q1.14: 16 bits, 14 of them behind the point, so [-2, 2). Each element is the sum of four products in 32
// bits (which wraps: entries of magnitude up to 1.41 are safe), rounded half up to 14 bits behind the point,
// and saturated. Same bits from every rung.
struct FixedMatrix4Rung {
  std::string_view name;
  void (*multiply)(const int16_t* a, const int16_t* b, int64_t count, int16_t* c) = nullptr;
};

// ---- 3x3 box filter over the valid region: output (y, x) is the sum of the input's (y..y+2, x..x+2), each
// times its weight of `kernel`, all of them 1. output: (rows - 2, cols - 2) of the input; empty where the
// input has fewer than three rows or columns. The output's rows start at multiples of 64 bytes.

struct BoxFilterArgs {
  MatrixView<const float> input;
  const float* kernel = nullptr;  // nine ones; rungs without multiplications do not look
  float* scratch = nullptr;       // kBoxFilterScratchFloats, aligned to 64 bytes
  MatrixView<float> output;
};

constexpr int64_t kBoxFilterColumns = 1024;  // filtered at a time by rungs that keep sums of rows: at most
constexpr int64_t kBoxFilterScratchFloats = 2 * kBoxFilterColumns;

struct BoxFilterRung {
  std::string_view name;
  void (*filter)(const BoxFilterArgs& args) = nullptr;
};

// ---- All rungs.

// Scalar rungs, slowest first. The first of each family is what the others are verified against.
std::vector<ReluRung> ScalarReluRungs();
std::vector<MatMulRung> ScalarMatMulRungs();
std::vector<Matrix4Rung> ScalarMatrix4Rungs();
std::vector<FixedMatrix4Rung> ScalarFixedMatrix4Rungs();
std::vector<BoxFilterRung> ScalarBoxFilterRungs();

// The rungs of one instruction set.
struct SimdRungs {
  std::string_view isa;  // "sse4", "avx2", "avx512", "neon"
  std::vector<ReluRung> relu;
  std::vector<MatMulRung> mat_mul;
  std::vector<Matrix4Rung> matrix4;
  std::vector<FixedMatrix4Rung> fixed_matrix4;
  std::vector<BoxFilterRung> box_filter;

  // Chains of multiply-adds in registers, for the peak. Returns how many floating-point operations were done.
  double (*multiply_add_chains)(int64_t steps, float* sink) = nullptr;
  // Copies past the caches; source and target aligned to 64 bytes.
  void (*stream_copy)(const float* source, int64_t count, float* target) = nullptr;
};

// Of every instruction set that this machine runs and this build has, best first; empty where it has none.
const std::vector<SimdRungs>& AvailableSimdRungs();

}  // namespace thermocline::ladder
