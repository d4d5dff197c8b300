// The emulated runtime's streams: events, kernels put on them, captures and graphs.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <utility>

#include "tests/support/cuda_emulation_device.h"

namespace thermocline::cuda_emulation {
namespace {

thread_local std::string next_kernel_name;

// Runs a graph's nodes in an order that its edges allow but the order of capture does not favour.
void RunGraph(Device& device, const std::vector<Node>& nodes, uint32_t seed) {
  std::vector<bool> done(nodes.size(), false);
  for (size_t n_done = 0; n_done < nodes.size() && !device.lost(); ++n_done) {
    std::vector<size_t> ready;
    for (size_t i = 0; i < nodes.size(); ++i) {
      if (!done[i] &&
          std::all_of(nodes[i].after.begin(), nodes[i].after.end(), [&](size_t j) { return done[j]; }))
        ready.push_back(i);
    }
    seed = seed * 1664525u + 1013904223u;
    const size_t i = ready[(seed >> 16) % ready.size()];
    nodes[i].work();
    device.micros += 1;
    done[i] = true;
  }
}

}  // namespace

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  const Call call("cudaStreamCreateWithFlags");
  if (!call.ok()) return call.Answer();
  if (flags != cudaStreamNonBlocking) return call.Answer(cudaErrorInvalidValue);
  *stream = new CUstream_st{.device = &call.device()};
  call.device().streams.insert(*stream);
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const Call call("cudaStreamDestroy");
  RunStream(*stream, nullptr);
  stream->device->streams.erase(stream);
  delete stream;
  return call.Answer();
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const Call call("cudaStreamSynchronize", stream);
  if (!call.ok()) return call.Answer();
  if (stream->capture != nullptr) {
    stream->capture->valid = false;
    return call.Answer(cudaErrorStreamCaptureUnsupported);
  }
  RunStream(*stream, nullptr);
  return call.Answer(AfterWork(call.device()));
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const Call call("cudaStreamWaitEvent", stream);
  if (!call.ok()) return call.Answer();
  if (event->capture != nullptr) {
    if (event->capture->ended) return call.Answer(cudaErrorCapturedEvent);
    if (stream->capture == nullptr) {
      stream->capture = event->capture;
      stream->last.clear();
      event->capture->streams.insert(stream);
    } else if (stream->capture != event->capture) {
      stream->capture->valid = event->capture->valid = false;
      return call.Answer(cudaErrorStreamCaptureIsolation);
    }
    stream->last.insert(event->last.begin(), event->last.end());
    return cudaSuccess;
  }
  if (stream->capture != nullptr) {
    stream->capture->valid = false;
    return call.Answer(cudaErrorStreamCaptureIsolation);
  }
  if (event->moment != nullptr) stream->queue.push_back({.after = event->moment});
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  const Call call("cudaEventCreateWithFlags");
  if (!call.ok()) return call.Answer();
  *event = new CUevent_st{.device = &call.device(), .timed = (flags & cudaEventDisableTiming) == 0};
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const Call call("cudaEventDestroy");
  delete event;
  return call.Answer();
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const Call call("cudaEventRecord", stream);
  if (!call.ok()) return call.Answer();
  if (event->device != stream->device) return call.Answer(cudaErrorInvalidResourceHandle);
  event->capture = stream->capture;
  event->last = stream->last;
  event->moment = nullptr;
  if (stream->capture != nullptr) return cudaSuccess;
  event->moment = std::make_shared<Moment>(Moment{.stream = stream});
  stream->queue.push_back({.reached = event->moment});
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const Call call("cudaEventSynchronize");
  if (!call.ok()) return call.Answer();
  if (event->capture != nullptr) {
    event->capture->valid = false;
    return call.Answer(cudaErrorCapturedEvent);
  }
  if (event->moment != nullptr && !event->moment->reached)
    RunStream(*event->moment->stream, event->moment.get());
  return call.Answer(AfterWork(call.device()));
}

cudaError_t cudaEventElapsedTime(float* millis, cudaEvent_t begin, cudaEvent_t end) {
  const Call call("cudaEventElapsedTime");
  if (!call.ok()) return call.Answer();
  for (const cudaEvent_t event : {begin, end}) {
    if (!event->timed || event->moment == nullptr) return call.Answer(cudaErrorInvalidResourceHandle);
    if (!event->moment->reached) return call.Answer(cudaErrorNotReady);
  }
  *millis = static_cast<float>((end->moment->micros - begin->moment->micros) * 1e-3);
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  const Call call("cudaStreamBeginCapture", stream);
  if (!call.ok()) return call.Answer();
  if (stream->capture != nullptr) return call.Answer(cudaErrorInvalidValue);
  stream->capture = std::make_shared<Capture>(
      Capture{.origin = stream, .mode = mode, .thread = std::this_thread::get_id(), .streams = {stream}});
  stream->last.clear();
  Captures().push_back(stream->capture);
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const Call call("cudaStreamEndCapture", stream);
  *graph = nullptr;
  const std::shared_ptr<Capture> capture = stream->capture;
  if (capture == nullptr) return call.Answer(call.ok() ? cudaErrorInvalidValue : call.Answer());
  if (capture->origin != stream) return call.Answer(cudaErrorStreamCaptureUnmatched);
  if (capture->mode != cudaStreamCaptureModeRelaxed && capture->thread != std::this_thread::get_id())
    return call.Answer(cudaErrorStreamCaptureWrongThread);
  // What the origin has come to wait for, in the order from last to first, for nodes follow earlier ones.
  std::vector<bool> joined(capture->nodes.size(), false);
  for (const size_t i : stream->last) joined[i] = true;
  for (size_t i = capture->nodes.size(); i-- > 0;) {
    if (!joined[i]) continue;
    for (const size_t j : capture->nodes[i].after) joined[j] = true;
  }
  capture->ended = true;
  std::erase(Captures(), capture);
  for (CUstream_st* each : capture->streams) {
    each->capture = nullptr;
    each->last.clear();
  }
  if (!call.ok()) return call.Answer();
  if (!capture->valid) return call.Answer(cudaErrorStreamCaptureInvalidated);
  if (std::find(joined.begin(), joined.end(), false) != joined.end())
    return call.Answer(cudaErrorStreamCaptureUnjoined);
  *graph = new CUgraph_st{capture->nodes};
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  const Call call("cudaGraphDestroy");
  delete graph;
  return call.Answer();
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  const Call call("cudaGraphInstantiate");
  if (!call.ok()) return call.Answer();
  *exec = new CUgraphExec_st{graph->nodes};
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  const Call call("cudaGraphExecDestroy");
  RunAll(call.device());
  delete exec;
  return call.Answer();
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  const Call call("cudaGraphLaunch", stream);
  if (!call.ok()) return call.Answer();
  Device& device = call.device();
  const uint32_t seed = device.options.seed + ++device.launches;
  return call.Answer(Enqueue(*stream, [&device, exec, seed] { RunGraph(device, exec->nodes, seed); }));
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute, int value) {
  const Call call("cudaFuncSetAttribute");
  if (!call.ok()) return call.Answer();
  if (value < 0 || static_cast<size_t>(value) > call.device().MostDynamicShared())
    return call.Answer(cudaErrorInvalidValue);
  call.device().dynamic_shared[kernel] = static_cast<size_t>(value);
  return cudaSuccess;
}

void NameNextKernel(std::string_view name) { next_kernel_name = name; }

cudaError_t LaunchEmulated(const cudaLaunchConfig_t& config, const void* kernel, std::function<void()> body) {
  const Call call("cudaLaunchKernel", config.stream);
  if (!call.ok()) return call.Answer();
  Device& device = call.device();
  const dim3 &grid = config.gridDim, &block = config.blockDim;
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  const bool block_fits =
      threads >= 1 && threads <= 1024 && block.x <= 1024 && block.y <= 1024 && block.z <= 64;
  const bool grid_fits = grid.x >= 1 && grid.y >= 1 && grid.z >= 1 && grid.x <= 0x7FFFFFFFu &&
                         grid.y <= 65535 && grid.z <= 65535;
  if (!block_fits || !grid_fits) return call.Answer(cudaErrorInvalidConfiguration);
  const auto opted = device.dynamic_shared.find(kernel);
  const size_t most_shared =
      std::max(size_t{48} << 10, opted == device.dynamic_shared.end() ? 0 : opted->second);
  if (config.dynamicSmemBytes > most_shared) return call.Answer(cudaErrorInvalidValue);
  KernelLaunch launch{.name = std::exchange(next_kernel_name, "kernel"),
                      .grid = grid,
                      .block = block,
                      .dynamic_shared_bytes = config.dynamicSmemBytes,
                      .seed = device.options.seed + ++device.launches,
                      .body = std::move(body)};
  return call.Answer(Enqueue(*config.stream, [&device, launch = std::move(launch)] {
    const std::string misuse = RunKernel(launch);
    if (misuse.empty()) return;
    device.options.faults->AddMisuse(misuse);
    device.options.faults->LoseDevice(EmulatedError::kLaunchFailure);
  }));
}

cudaError_t EnqueueEmulated(const char* name, cudaStream_t stream, std::function<void()> work) {
  const Call call(name, stream);
  if (!call.ok()) return call.Answer();
  return call.Answer(Enqueue(*stream, std::move(work)));
}

}  // namespace thermocline::cuda_emulation
