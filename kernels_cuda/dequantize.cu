// Expansion of weights to F32: whole matrices, and the rows of an embedding.
// SPDX-License-Identifier: Apache-2.0
//
// A warp copies a piece of a row, about 1 KiB, to shared memory, expands steps of it there and stores each as
// two float4 a lane, neighbours by neighbours. Floor: the weights' bytes, read once, and 4 bytes an element
// written, which outweigh them.
#include <cmath>

#include "kernels_cuda/launch_checks.h"
#include "kernels_cuda/launchers.h"
#include "kernels_cuda/row_stream.cuh"

namespace thermocline::TC_GPU_NAMESPACE {
namespace {

constexpr int kWarps = 8;  // of a block
constexpr int kStepQuads = kStepColumns / 4;
constexpr int kOddQuads =
    kStepQuads / 2 + 4;  // where they begin, so that they meet other banks than the even

template <class Codec>
constexpr int kSteps = Codec::kSegmentBytes / Codec::kStepBytes;  // of a piece

struct ExpandLaunch {
  WeightView w;
  int64_t row_bytes = 0;
  const int32_t* tokens = nullptr;
  MatrixView<float> to;
  int64_t pieces = 0;  // of a row
};

// Row r of the target is row r of w, or with tokens row tokens[r], NaN where w has no such row. Warp r *
// pieces + p expands piece p. kAligned: as StageBytes has it, and the target consists of aligned float4.
template <class Codec, bool kAligned>
__global__ void __launch_bounds__(kWarps* kWarpLanes) ExpandRows(ExpandLaunch launch) {
  constexpr int kPieceBytes = Codec::kSegmentBytes;
  static_assert(kPieceBytes + 16 <= kSlotBytes);
  __shared__ float4 slots[kWarps][kSlotBytes / 16];
  __shared__ float4 expanded[kWarps][kOddQuads + kStepQuads / 2];
  const int warp = threadIdx.x / kWarpLanes, lane = threadIdx.x % kWarpLanes;
  const MatrixView<float>& to = launch.to;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kWarps + warp;
  const int64_t row = index / launch.pieces, piece = index % launch.pieces;
  if (row >= to.rows) return;
  float* const target = to.data + row * to.stride;
  const int64_t source_row = launch.tokens == nullptr ? row : launch.tokens[row];
  const bool exists = source_row >= 0 && source_row < launch.w.rows;
  auto* const slot = reinterpret_cast<std::byte*>(slots[warp]);
  if (exists) {
    const int64_t begin = piece * kPieceBytes;
    const int64_t left = launch.row_bytes - begin < kPieceBytes ? launch.row_bytes - begin : kPieceBytes;
    StageBytes<kPieceBytes, kAligned>(launch.w.data + source_row * launch.w.row_stride_bytes + begin,
                                      static_cast<int>(left), lane, PlaceOf(slot));
    CommitCopies();
    WaitForCopies<0>();
  }
  const LanePlace place = Codec::Place(lane);
  const LanePiece in_slot = {slot + place.words, slot + place.scale, place.shift};
  for (int s = 0; s < kSteps<Codec>; ++s) {
    const int64_t begin = (piece * kSteps<Codec> + s) * kStepColumns;
    if (begin >= to.cols) break;
    __syncwarp();  // the copies are there, and the step before has been stored
    float w[kLaneColumns] = {};
    const float scale = exists ? Codec::Decode(in_slot + s * Codec::kStepBytes, w) : NAN;
    expanded[warp][lane] = float4{scale * w[0], scale * w[1], scale * w[2], scale * w[3]};
    expanded[warp][kOddQuads + lane] = float4{scale * w[4], scale * w[5], scale * w[6], scale * w[7]};
    __syncwarp();
#pragma unroll
    for (int quad = lane; quad < kStepQuads; quad += kWarpLanes) {
      Store4<kAligned>(expanded[warp][quad % 2 * kOddQuads + quad / 2], begin + 4 * quad, to.cols, target);
    }
  }
}

template <class Codec>
absl::Status LaunchExpand(ExpandLaunch launch, GpuStream stream) {
  const int64_t piece_columns = int64_t{kSteps<Codec>} * kStepColumns;
  launch.pieces = (launch.to.cols + piece_columns - 1) / piece_columns;
  if (launch.to.rows > kMostGpuRows / launch.pieces) {
    return InvalidArgument("dequantize: {} x {} is more than one launch takes", launch.to.rows,
                           launch.to.cols);
  }
  const auto blocks = static_cast<unsigned>((launch.to.rows * launch.pieces + kWarps - 1) / kWarps);
  const bool aligned = IsFloat4View(launch.to) && IsAligned(launch.w.data, 16) &&
                       launch.w.row_stride_bytes % 16 == 0 && launch.row_bytes % 16 == 0;
  const auto kernel = aligned ? ExpandRows<Codec, true> : ExpandRows<Codec, false>;
  return Launch("ExpandRows", kernel, blocks, kWarps * kWarpLanes, 0, stream, launch);
}

absl::Status Expand(const WeightView& w, const int32_t* tokens, MatrixView<float> to, GpuStream stream) {
  TC_ASSIGN_OR_RETURN(const int64_t row_bytes, RowBytes(w.type, w.cols));
  const ExpandLaunch launch{.w = w, .row_bytes = row_bytes, .tokens = tokens, .to = to};
  switch (w.type) {
    case ElementType::kF32:
      return LaunchExpand<F32Codec>(launch, stream);
    case ElementType::kF16:
      return LaunchExpand<F16Codec>(launch, stream);
    case ElementType::kBF16:
      return LaunchExpand<BF16Codec>(launch, stream);
    case ElementType::kQ8_0:
      return LaunchExpand<Q8_0Codec>(launch, stream);
    case ElementType::kQ4_0:
      return LaunchExpand<Q4_0Codec>(launch, stream);
    default:
      return Unimplemented("dequantize: no GPU kernel for {}", NameOf(w.type));
  }
}

}  // namespace

absl::Status Embed(const WeightView& embedding, const int32_t* tokens, MatrixView<float> out,
                   GpuStream stream) {
  TC_RETURN_IF_ERROR(CheckWeights("embed: embedding", embedding));
  TC_RETURN_IF_ERROR(CheckVector("embed: tokens", tokens, alignof(int32_t)));
  TC_RETURN_IF_ERROR(CheckView("embed: out", out, out.rows, embedding.cols));
  return Expand(embedding, tokens, out, stream);
}

absl::Status Dequantize(const WeightView& w, MatrixView<float> to, GpuStream stream) {
  TC_RETURN_IF_ERROR(CheckWeights("dequantize: weights", w));
  TC_RETURN_IF_ERROR(CheckView("dequantize: target", to, w.rows, w.cols));
  return Expand(w, nullptr, to, stream);
}

}  // namespace thermocline::TC_GPU_NAMESPACE
