// A layer's MLP predictor: two products of Q8_0 weights, then scores to token masks.
// SPDX-License-Identifier: Apache-2.0
//
// Floor: the bytes of both matrices, once. A warp holds all tokens' scores of a neuron in its lanes when the
// product ends, so a vote makes the mask, without a branch that depends on a score.
#include "kernels_cuda/launchers.h"
#include "kernels_cuda/row_products.cuh"

namespace thermocline::TC_GPU_NAMESPACE {
namespace {

struct StoreHidden {
  float* hidden;
  int64_t stride;
  int n_tokens;
  const float* bias;

  __device__ __forceinline__ void operator()(int row, float value) const {
    const int lane = threadIdx.x % kWarpLanes;
    value += bias[row];
    if (lane < n_tokens) hidden[lane * stride + row] = value < 0.0f ? 0.0f : value;  // NaN stays
  }
};

struct MarkTokens {
  GpuTokenMask* marked;
  const float* thresholds;
  int n_tokens;
  const float* bias;

  __device__ __forceinline__ void operator()(int row, float value) const {
    const int lane = threadIdx.x % kWarpLanes;
    const bool reached = lane < n_tokens && value + bias[row] >= thresholds[lane];  // never by NaN
    const unsigned tokens = __ballot_sync(kFullWarp, reached);
    if (lane == 0) marked[row] = static_cast<GpuTokenMask>(tokens);
  }
};

absl::Status CheckArgs(const GpuMlpPredictorArgs& args) {
  const int64_t tokens = args.x.rows;
  if (tokens < 1 || tokens > kGpuMostSparseTokens)
    return InvalidArgument("mlp_predictor: {} tokens, allowed are 1 to {}", tokens, kGpuMostSparseTokens);
  for (const WeightView& w : {args.w1, args.w2}) {
    if (w.type != ElementType::kQ8_0)
      return Unimplemented("mlp_predictor: no GPU kernel for {}", NameOf(w.type));
    if (w.cols > kMostStreamColumns)
      return InvalidArgument("mlp_predictor: {} columns, allowed are {}", w.cols, kMostStreamColumns);
  }
  TC_RETURN_IF_ERROR(CheckWeights("mlp_predictor: w1", args.w1));
  TC_RETURN_IF_ERROR(CheckWeights("mlp_predictor: w2", args.w2));
  if (args.w2.cols != args.w1.rows) {
    return InvalidArgument("mlp_predictor: w2 has {} columns, w1 {} rows", args.w2.cols, args.w1.rows);
  }
  TC_RETURN_IF_ERROR(CheckView("mlp_predictor: x", args.x, tokens, args.w1.cols));
  TC_RETURN_IF_ERROR(CheckVector("mlp_predictor: b1", args.b1, 4));
  TC_RETURN_IF_ERROR(CheckVector("mlp_predictor: b2", args.b2, 4));
  TC_RETURN_IF_ERROR(CheckVector("mlp_predictor: thresholds", args.thresholds, 4));
  TC_RETURN_IF_ERROR(CheckVector("mlp_predictor: marked", args.marked, 2));
  return CheckScratch("mlp_predictor", args.scratch, tokens * args.w1.rows);
}

}  // namespace

absl::Status MlpPredictor(const GpuMlpPredictorArgs& args, GpuStream stream) {
  TC_RETURN_IF_ERROR(CheckArgs(args));
  const int64_t hidden = args.w1.rows;
  const auto tokens = static_cast<int>(args.x.rows);
  float* const scratch = args.scratch.data();
  TC_RETURN_IF_ERROR(
      LaunchRowProducts<Q8_0Codec>(args.w1, args.x, StoreHidden{scratch, hidden, tokens, args.b1}, stream));
  return LaunchRowProducts<Q8_0Codec>(args.w2, {scratch, args.x.rows, hidden, hidden},
                                      MarkTokens{args.marked, args.thresholds, tokens, args.b2}, stream);
}

}  // namespace thermocline::TC_GPU_NAMESPACE
