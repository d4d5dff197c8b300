// The neuron-aware feed-forward block: checks, and its two kernels.
// SPDX-License-Identifier: Apache-2.0
//
// Why two: gate and up are sums along a row, down is a sum over neurons. In one kernel every block would hold
// partial sums of all of d_model and hand them over (132 blocks x 32 KiB for one token of 8192, 8.6 MB both
// ways, 16 times that for 16), and a token's sum would depend on which neurons its companions had marked,
// unless blocks owned fixed neurons, and then clusters of active ones would keep few multiprocessors busy. In
// two, the first shares the marked neurons out evenly, and the second splits columns as well as neurons. What
// it costs is one launch and n_neurons x (4 to 64 + 2) bytes of hidden values and masks.
//
// Floors on an H200. Bytes of the rows read over 4.8 TB/s: for d_model 8192, d_ff 32768, F16, ungated, 90 %
// silent 107 MB, 22 us; for d_ff 28672, Q4_0 with Q8_0 down, gated, 52 MB, 11 us. Launches, lists and the
// last slices' sum: about 5 us, whatever the size. Instructions, for one token (132 x 128 a clock of 1.75
// GHz; counted in the loops that nvcc makes for 9.0): 4.0 an element of F16 gates, 4.8 of Q4_0, 7.6 of F16
// downs, 7.7 of Q8_0; those of Q4_0 gates allow 3.5 TB/s, of Q8_0 downs 4.1, of F16 above the memory's rate.
#include <algorithm>

#include "kernels_cuda/launch_checks.h"
#include "kernels_cuda/launchers.h"
#include "kernels_cuda/sparse_ffn_down.cuh"
#include "kernels_cuda/sparse_ffn_hidden.cuh"
#include "kernels_cuda/sparse_ffn_layout.h"

namespace thermocline::TC_GPU_NAMESPACE {
namespace {

struct RowSizes {
  int64_t gate = 0;
  int64_t up = 0;
  int64_t down = 0;
};

absl::Status CheckPart(std::string_view name, const GpuSparseFfnArgs& args, ElementType type, int64_t offset,
                       int64_t& row_bytes) {
  TC_RETURN_IF_ERROR(CheckWeights(name, {args.data == nullptr ? nullptr : args.data + offset, type,
                                         args.n_neurons, args.d_model, args.stride_bytes}));
  TC_ASSIGN_OR_RETURN(row_bytes, RowBytes(type, args.d_model));
  if (offset < 0 || offset + row_bytes > args.stride_bytes) {
    return InvalidArgument("{}: {} bytes from {} on leave a bundle of {}", name, row_bytes, offset,
                           args.stride_bytes);
  }
  return absl::OkStatus();
}

absl::Status CheckArgs(const GpuSparseFfnArgs& args, const SparseFfnLayout& layout, RowSizes& sizes) {
  const int64_t tokens = args.x.rows;
  if (tokens < 1 || tokens > kGpuMostSparseTokens)
    return InvalidArgument("sparse_ffn: {} tokens, allowed are 1 to {}", tokens, kGpuMostSparseTokens);
  if (args.d_model > kMostStreamColumns || args.n_neurons > kMostStreamColumns) {
    return InvalidArgument("sparse_ffn: {} neurons of d_model {}, allowed are {} of {}", args.n_neurons,
                           args.d_model, kMostStreamColumns, kMostStreamColumns);
  }
  TC_RETURN_IF_ERROR(CheckPart("sparse_ffn: gate", args, args.gate_type, 0, sizes.gate));
  if (args.gated)
    TC_RETURN_IF_ERROR(CheckPart("sparse_ffn: up", args, args.up_type, args.up_offset_bytes, sizes.up));
  TC_RETURN_IF_ERROR(CheckPart("sparse_ffn: down", args, args.down_type, args.down_offset_bytes, sizes.down));
  TC_RETURN_IF_ERROR(CheckView("sparse_ffn: x", args.x, tokens, args.d_model));
  TC_RETURN_IF_ERROR(CheckView("sparse_ffn: y", args.y, tokens, args.d_model));
  if (args.marked != nullptr) TC_RETURN_IF_ERROR(CheckVector("sparse_ffn: marked", args.marked, 16));
  if (args.fired != nullptr) TC_RETURN_IF_ERROR(CheckVector("sparse_ffn: fired", args.fired, 2));
  if (args.counts != nullptr) TC_RETURN_IF_ERROR(CheckVector("sparse_ffn: counts", args.counts, 8));
  return CheckScratch("sparse_ffn", args.scratch, layout.size);
}

// Whether the rows of a part can be read 16 bytes at a time.
bool IsAlignedPart(const GpuSparseFfnArgs& args, int64_t offset, int64_t row_bytes) {
  return IsAligned(args.data + offset, 16) && args.stride_bytes % 16 == 0 && row_bytes % 16 == 0;
}

absl::Status LaunchGateAndUp(const GpuSparseFfnArgs& args, const SparseFfnLayout& layout,
                             const RowSizes& sizes, GpuStream stream) {
  const bool aligned = IsAlignedPart(args, 0, sizes.gate) &&
                       (!args.gated || IsAlignedPart(args, args.up_offset_bytes, sizes.up)) &&
                       args.d_model % kLaneColumns == 0 && IsFloat4View(args.x);
  TC_ASSIGN_OR_RETURN(const StreamLaunch plan,
                      PlanStreams(stream, args.d_model, args.x.rows, aligned, kRingBytes, kListBytes));
  float* const scratch = args.scratch.data();
  const HiddenArgs hidden = {.bundles = args.data,
                             .stride_bytes = args.stride_bytes,
                             .up_offset_bytes = args.up_offset_bytes,
                             .gate_row_bytes = static_cast<int>(sizes.gate),
                             .up_row_bytes = static_cast<int>(sizes.up),
                             .gate_type = args.gate_type,
                             .up_type = args.up_type,
                             .gated = args.gated,
                             .read_silent = args.read_silent,
                             .activation = args.activation.kind,
                             .threshold = args.activation.threshold,
                             .n_neurons = static_cast<int>(args.n_neurons),
                             .d_model = static_cast<int>(args.d_model),
                             .x = args.x.data,
                             .x_stride = args.x.stride,
                             .n_tokens = static_cast<int>(args.x.rows),
                             .marked = args.marked,
                             .fired = args.fired,
                             .counts = reinterpret_cast<unsigned long long*>(args.counts),
                             .hidden = scratch,
                             .hidden_stride = static_cast<int>(layout.hidden_stride),
                             .live = reinterpret_cast<GpuTokenMask*>(scratch + layout.live),
                             .finished = reinterpret_cast<unsigned*>(scratch + layout.finished),
                             .tiles = static_cast<int>(layout.tiles),
                             .input_bytes = plan.input_bytes};
  // No block's share is longer than its list.
  const int64_t blocks = std::max<int64_t>(plan.blocks, (args.n_neurons + kMostListed - 1) / kMostListed);
  const auto launch = [&](void (*kernel)(HiddenArgs)) {
    return TC_LAUNCH(kernel, dim3(static_cast<unsigned>(blocks)),
                     dim3(static_cast<unsigned>(plan.warps * kWarpLanes)), plan.shared_bytes, stream, hidden);
  };
  if (!aligned) return launch(GateAndUp<kGpuMostSparseTokens, false, false>);
  if (plan.input_bytes > 0) return launch(GateAndUp<1, true, true>);
  if (args.x.rows <= 4) return launch(GateAndUp<4, true, false>);
  return launch(GateAndUp<kGpuMostSparseTokens, true, false>);
}

absl::Status LaunchDown(const GpuSparseFfnArgs& args, const SparseFfnLayout& layout, const RowSizes& sizes,
                        GpuStream stream) {
  float* const scratch = args.scratch.data();
  const DownArgs down = {.down = args.data + args.down_offset_bytes,
                         .stride_bytes = args.stride_bytes,
                         .row_bytes = static_cast<int>(sizes.down),
                         .type = args.down_type,
                         .n_neurons = static_cast<int>(args.n_neurons),
                         .d_model = static_cast<int>(args.d_model),
                         .n_tokens = static_cast<int>(args.x.rows),
                         .hidden = scratch,
                         .hidden_stride = static_cast<int>(layout.hidden_stride),
                         .live = reinterpret_cast<const GpuTokenMask*>(scratch + layout.live),
                         .partials = scratch + layout.partials,
                         .finished = reinterpret_cast<unsigned*>(scratch + layout.finished),
                         .y = args.y.data,
                         .y_stride = args.y.stride};
  const auto launch = [&](void (*kernel)(DownArgs)) {
    return TC_LAUNCH(kernel, dim3(static_cast<unsigned>(layout.tiles), kFfnSlices),
                     dim3(kFfnWarps * kWarpLanes), kDownSharedBytes, stream, down);
  };
  if (!IsAlignedPart(args, args.down_offset_bytes, sizes.down) || args.d_model % kLaneColumns != 0)
    return launch(DownSum<kGpuMostSparseTokens, false>);
  if (args.x.rows == 1) return launch(DownSum<1, true>);
  if (args.x.rows <= 4) return launch(DownSum<4, true>);
  return launch(DownSum<kGpuMostSparseTokens, true>);
}

}  // namespace

absl::Status SparseFfn(const GpuSparseFfnArgs& args, GpuStream stream) {
  const SparseFfnLayout layout(args.x.rows, args.n_neurons, args.d_model);
  RowSizes sizes;
  TC_RETURN_IF_ERROR(CheckArgs(args, layout, sizes));
  TC_RETURN_IF_ERROR(LaunchGateAndUp(args, layout, sizes, stream));
  return LaunchDown(args, layout, sizes, stream);
}

}  // namespace thermocline::TC_GPU_NAMESPACE
