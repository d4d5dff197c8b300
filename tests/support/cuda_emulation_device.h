// What the emulated runtime is made of: devices, streams, captures. Only for files of the emulation.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "tests/support/cuda_emulation/cuda_runtime_api.h"
#include "tests/support/emulated_gpu.h"

namespace thermocline::cuda_emulation {

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

struct Device {
  int ordinal;
  EmulatedGpuOptions options;
  std::map<std::byte*, size_t> memory;
  std::map<std::byte*, size_t> pinned;
  size_t used_bytes = 0;
  int at_work = 0;  // DeviceAtWork alive
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

// Captures under way.
std::vector<std::shared_ptr<Capture>>& Captures();

enum NotInCapture { kNotInCapture };

// One call of the runtime: holds its lock and knows whether it fails by plan.
class Call {
 public:
  explicit Call(const char* function);
  // Refuses while a capture is under way that forbids such calls, and spoils that.
  Call(const char* function, NotInCapture);
  // Refuses a stream of another device.
  Call(const char* function, const CUstream_st* stream);

  bool ok() const { return error_ == cudaSuccess; }
  Device& device() const { return *device_; }
  cudaError_t Answer(cudaError_t error) const;  // also remembers an error for the thread
  cudaError_t Answer() const { return Answer(error_); }

 private:
  std::unique_lock<std::recursive_mutex> lock_;
  Device* device_ = nullptr;
  cudaError_t error_ = cudaSuccess;
};

// While one lives, the device's memory may be followed; AddressSanitizer reports who does so otherwise.
class DeviceAtWork {
 public:
  explicit DeviceAtWork(Device& device);
  ~DeviceAtWork();
  DeviceAtWork(const DeviceAtWork&) = delete;
  DeviceAtWork& operator=(const DeviceAtWork&) = delete;

 private:
  Device& device_;
};

// Puts work on a stream, or into the capture that it is part of.
cudaError_t Enqueue(CUstream_st& stream, std::function<void()> work);

// Runs what a stream holds, to its end or until a moment is reached.
void RunStream(CUstream_st& stream, const Moment* until);
void RunAll(Device& device);

// What a wait of the host answers when all went well, or the device was lost meanwhile.
cudaError_t AfterWork(const Device& device);

}  // namespace thermocline::cuda_emulation
