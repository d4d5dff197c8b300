// The emulated CUDA runtime: devices, memory, streams that run late, events, captured graphs, faults.
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/cuda_emulation/cuda_runtime_api.h"
#include "tests/support/cuda_emulation_device.h"

namespace thermocline::cuda_emulation {

namespace {

struct Device;

// One recording of an event.
struct Moment {
  CUstream_st* stream;
  bool reached = false;
  double micros = 0;
};

struct Operation {
  std::function<void()> work;
  std::shared_ptr<Moment> after;    // of another stream
  std::shared_ptr<Moment> reached;  // by having come here
};

struct Node {
  std::function<void()> work;
  std::set<size_t> after;
};

struct Capture {
  CUstream_st* origin;
  cudaStreamCaptureMode mode;
  std::thread::id thread;
  bool valid = true;
  bool ended = false;
  std::vector<Node> nodes;
  std::set<CUstream_st*> streams;
};

}  // namespace

struct CUstream_st {
  Device* device;
  std::deque<Operation> queue;
  std::shared_ptr<Capture> capture;
  std::set<size_t> last;  // nodes of the capture that its next one follows
};

struct CUevent_st {
  Device* device;
  bool timed;
  std::shared_ptr<Moment> moment;    // nullptr: not yet recorded
  std::shared_ptr<Capture> capture;  // nullptr: not recorded in one
  std::set<size_t> last;
};

struct CUgraph_st {
  std::vector<Node> nodes;
};
struct CUgraphExec_st {
  std::vector<Node> nodes;
};

namespace {

constexpr size_t kAlignment = 256;
constexpr auto kGuard = std::byte{0xA5};
#if defined(__SANITIZE_ADDRESS__)
constexpr size_t kGuardBytes = 0;  // the block of the heap ends where the allocation ends
#else
constexpr size_t kGuardBytes = 256;
#endif

struct Device {
  int ordinal;
  EmulatedGpuOptions options;
  std::map<std::byte*, size_t> memory;
  std::map<std::byte*, size_t> pinned;
  size_t used_bytes = 0;
  double micros = 0;
  uint32_t launches = 0;
  std::set<CUstream_st*> streams;
  std::map<const void*, size_t> dynamic_shared;  // opted into by a kernel

  bool lost() const { return options.faults->lost() != EmulatedError::kNone; }
  size_t RoundedUp(size_t bytes) const {
    const auto granule = static_cast<size_t>(options.granule_bytes);
    return (bytes + granule - 1) / granule * granule;
  }
  size_t MostDynamicShared() const {
    switch (options.compute_major * 10 + options.compute_minor) {
      case 75:
        return size_t{64} << 10;
      case 80:
      case 87:
        return size_t{163} << 10;
      case 90:
      case 100:
      case 103:
        return size_t{227} << 10;
      default:
        return size_t{99} << 10;
    }
  }
};

std::recursive_mutex mutex;
std::vector<std::unique_ptr<Device>>& Devices() {
  static auto& devices = *new std::vector<std::unique_ptr<Device>>;
  return devices;
}
std::vector<std::shared_ptr<Capture>>& Captures() {  // those under way
  static auto& captures = *new std::vector<std::shared_ptr<Capture>>;
  return captures;
}
thread_local int current_device = 0;
thread_local cudaError_t last_error = cudaSuccess;
thread_local std::string next_kernel_name;

enum NotInCapture { kNotInCapture };

// One call of the runtime: holds its lock and knows whether it fails by plan.
class Call {
 public:
  explicit Call(const char* function) : lock_(mutex) {
    if (static_cast<size_t>(current_device) >= Devices().size()) {
      error_ = cudaErrorNoDevice;
      return;
    }
    device_ = Devices()[static_cast<size_t>(current_device)].get();
    error_ = static_cast<cudaError_t>(device_->options.faults->OnCall(function));
  }
  // Refuses while a capture is under way that forbids such calls, and spoils that.
  Call(const char* function, NotInCapture) : Call(function) {
    for (const std::shared_ptr<Capture>& capture : Captures()) {
      const bool forbids = capture->mode == cudaStreamCaptureModeGlobal ||
                           (capture->mode == cudaStreamCaptureModeThreadLocal &&
                            capture->thread == std::this_thread::get_id());
      if (!forbids || error_ != cudaSuccess) continue;
      capture->valid = false;
      error_ = cudaErrorStreamCaptureUnsupported;
    }
  }
  // Refuses a stream of another device.
  Call(const char* function, const CUstream_st* stream) : Call(function) {
    if (error_ == cudaSuccess && (stream == nullptr || stream->device != device_))
      error_ = cudaErrorInvalidResourceHandle;
  }
  bool ok() const { return error_ == cudaSuccess; }
  Device& device() const { return *device_; }
  cudaError_t Answer(cudaError_t error) const {
    if (error != cudaSuccess) last_error = error;
    return error;
  }
  cudaError_t Answer() const { return Answer(error_); }

 private:
  std::unique_lock<std::recursive_mutex> lock_;
  Device* device_ = nullptr;
  cudaError_t error_ = cudaSuccess;
};

// Runs what a stream holds, to its end or until a moment is reached.
void RunStream(CUstream_st& stream, const Moment* until) {
  Device& device = *stream.device;
  while (!stream.queue.empty() && (until == nullptr || !until->reached) && !device.lost()) {
    const Operation operation = std::move(stream.queue.front());
    stream.queue.pop_front();
    if (operation.after != nullptr && !operation.after->reached)
      RunStream(*operation.after->stream, operation.after.get());
    if (operation.work) {
      operation.work();
      device.micros += 1;
    }
    if (operation.reached != nullptr) {
      operation.reached->reached = true;
      operation.reached->micros = device.micros;
    }
  }
}

// What a wait of the host answers when all went well, or the device was lost meanwhile.
cudaError_t AfterWork(const Device& device) {
  return static_cast<cudaError_t>(device.options.faults->lost());
}

void RunAll(Device& device) {
  for (CUstream_st* stream : device.streams) RunStream(*stream, nullptr);
}

cudaError_t Enqueue(CUstream_st& stream, std::function<void()> work) {
  if (stream.capture == nullptr) {
    stream.queue.push_back({.work = std::move(work)});
    return cudaSuccess;
  }
  if (!stream.capture->valid) return cudaErrorStreamCaptureInvalidated;
  stream.capture->nodes.push_back({std::move(work), stream.last});
  stream.last = {stream.capture->nodes.size() - 1};
  return cudaSuccess;
}

// Whether [begin, begin + bytes) lies within one allocation.
bool Holds(const std::map<std::byte*, size_t>& allocations, const void* begin, size_t bytes) {
  auto* const address = static_cast<std::byte*>(const_cast<void*>(begin));
  auto after = allocations.upper_bound(address);
  if (after == allocations.begin()) return false;
  const auto& [base, size] = *std::prev(after);
  const auto offset = static_cast<size_t>(address - base);
  return offset <= size && bytes <= size - offset;
}

std::byte* Poisoned(size_t bytes) {
  void* memory = nullptr;
  if (posix_memalign(&memory, kAlignment, std::max<size_t>(bytes + kGuardBytes, 1)) != 0) return nullptr;
  auto* const data = static_cast<std::byte*>(memory);
  std::fill_n(data, bytes, std::byte{0xFF});
  std::fill_n(data + bytes, kGuardBytes, kGuard);
  return data;
}

void CheckGuard(Device& device, const std::byte* data, size_t bytes) {
  if (std::all_of(data + bytes, data + bytes + kGuardBytes, [](std::byte b) { return b == kGuard; })) return;
  device.options.faults->AddMisuse(fmt::format("a write past the end of an allocation of {} bytes", bytes));
}

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

int AddEmulatedDevice(const EmulatedGpuOptions& options) {
  const std::lock_guard lock(mutex);
  auto device = std::make_unique<Device>();
  device->ordinal = static_cast<int>(Devices().size());
  device->options = options;
  if (device->options.faults == nullptr) device->options.faults = std::make_shared<EmulatedFaults>();
  Devices().push_back(std::move(device));
  return Devices().back()->ordinal;
}

const char* cudaGetErrorName(cudaError_t error) {
#define TC_EMULATED_NAME(name, number) \
  case name:                           \
    return #name;
  switch (error) { TC_EMULATED_ERRORS(TC_EMULATED_NAME) }
#undef TC_EMULATED_NAME
  return "cudaErrorUnknown";
}

const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "out of memory" : "emulated error";
}

cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }

cudaError_t cudaGetDeviceCount(int* count) {
  const std::lock_guard lock(mutex);
  *count = static_cast<int>(Devices().size());
  return *count > 0 ? cudaSuccess : cudaErrorNoDevice;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  const std::lock_guard lock(mutex);
  if (device < 0 || static_cast<size_t>(device) >= Devices().size()) return cudaErrorInvalidDevice;
  const EmulatedGpuOptions& options = Devices()[static_cast<size_t>(device)]->options;
  *properties = {};
  std::snprintf(properties->name, sizeof(properties->name), "emulated CUDA device %d", device);
  properties->totalGlobalMem = static_cast<size_t>(options.total_memory_bytes);
  properties->major = options.compute_major;
  properties->minor = options.compute_minor;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = current_device;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  const std::lock_guard lock(mutex);
  if (device < 0 || static_cast<size_t>(device) >= Devices().size()) return cudaErrorInvalidDevice;
  current_device = device;
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  const Call call("cudaMalloc", kNotInCapture);
  if (!call.ok()) return call.Answer();
  Device& device = call.device();
  if (bytes > static_cast<size_t>(device.options.total_memory_bytes) ||
      device.RoundedUp(bytes) > static_cast<size_t>(device.options.total_memory_bytes) - device.used_bytes)
    return call.Answer(cudaErrorMemoryAllocation);
  std::byte* const data = Poisoned(bytes);
  if (data == nullptr) return call.Answer(cudaErrorMemoryAllocation);
  device.memory.emplace(data, bytes);
  device.used_bytes += device.RoundedUp(bytes);
  *memory = data;
  return cudaSuccess;
}

// The memory of a lost device is given back, too, as the end of a process does.
cudaError_t cudaFree(void* memory) {
  const Call call("cudaFree", kNotInCapture);
  if (memory == nullptr) return call.Answer();
  Device& device = call.device();
  const auto found = device.memory.find(static_cast<std::byte*>(memory));
  if (found == device.memory.end()) return call.Answer(cudaErrorInvalidValue);
  RunAll(device);
  CheckGuard(device, found->first, found->second);
  device.used_bytes -= device.RoundedUp(found->second);
  std::free(found->first);
  device.memory.erase(found);
  return call.Answer();
}

cudaError_t cudaHostAlloc(void** memory, size_t bytes, unsigned) {
  const Call call("cudaHostAlloc", kNotInCapture);
  if (!call.ok()) return call.Answer();
  std::byte* const data = Poisoned(bytes);
  if (data == nullptr) return call.Answer(cudaErrorMemoryAllocation);
  call.device().pinned.emplace(data, bytes);
  *memory = data;
  return cudaSuccess;
}

cudaError_t cudaFreeHost(void* memory) {
  const Call call("cudaFreeHost", kNotInCapture);
  if (memory == nullptr) return call.Answer();
  Device& device = call.device();
  const auto found = device.pinned.find(static_cast<std::byte*>(memory));
  if (found == device.pinned.end()) return call.Answer(cudaErrorInvalidValue);
  RunAll(device);
  CheckGuard(device, found->first, found->second);
  std::free(found->first);
  device.pinned.erase(found);
  return call.Answer();
}

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  const Call call("cudaMemGetInfo");
  if (!call.ok()) return call.Answer();
  *total_bytes = static_cast<size_t>(call.device().options.total_memory_bytes);
  *free_bytes = *total_bytes - call.device().used_bytes;
  return cudaSuccess;
}

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

cudaError_t cudaMemcpyAsync(void* target, const void* source, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  const Call call("cudaMemcpyAsync", stream);
  if (!call.ok()) return call.Answer();
  const Device& device = call.device();
  const bool to_device = kind != cudaMemcpyDeviceToHost, from_device = kind != cudaMemcpyHostToDevice;
  if ((to_device && !Holds(device.memory, target, bytes)) ||
      (from_device && !Holds(device.memory, source, bytes)))
    return call.Answer(cudaErrorInvalidValue);
  const auto copy = [=] { std::memcpy(target, source, bytes); };
  const bool pageable = kind != cudaMemcpyDeviceToDevice &&
                        !Holds(device.pinned, kind == cudaMemcpyHostToDevice ? source : target, bytes);
  if (!pageable) return call.Answer(Enqueue(*stream, copy));
  if (stream->capture != nullptr) {
    stream->capture->valid = false;
    return call.Answer(cudaErrorStreamCaptureUnsupported);
  }
  if (kind == cudaMemcpyHostToDevice) {  // through a buffer that is filled before the call returns
    const auto* const begin = static_cast<const std::byte*>(source);
    return call.Answer(Enqueue(*stream, [target, staged = std::vector<std::byte>(begin, begin + bytes)] {
      std::memcpy(target, staged.data(), staged.size());
    }));
  }
  RunStream(*stream, nullptr);
  if (!device.lost()) copy();
  return call.Answer(AfterWork(device));
}

cudaError_t cudaMemsetAsync(void* target, int value, size_t bytes, cudaStream_t stream) {
  const Call call("cudaMemsetAsync", stream);
  if (!call.ok()) return call.Answer();
  if (!Holds(call.device().memory, target, bytes)) return call.Answer(cudaErrorInvalidValue);
  return call.Answer(Enqueue(*stream, [=] { std::memset(target, value, bytes); }));
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
