// Opens emulated devices, and plans their faults.
// SPDX-License-Identifier: Apache-2.0
#include "tests/support/emulated_gpu.h"

#include "kernels_cuda/gpu_cuda.h"

namespace thermocline {
namespace {

// Errors after which CUDA answers nothing but them.
bool LosesTheDevice(EmulatedError error) {
  switch (error) {
    case EmulatedError::kEccUncorrectable:
    case EmulatedError::kIllegalAddress:
    case EmulatedError::kLaunchFailure:
      return true;
    default:
      return false;
  }
}

}  // namespace

void EmulatedFaults::FailCall(std::string_view function, int64_t nth, EmulatedError error) {
  const std::lock_guard lock(mutex_);
  Function& of = functions_.try_emplace(std::string(function)).first->second;
  of.failing[of.calls + nth] = error;
}

void EmulatedFaults::LoseDevice(EmulatedError error) {
  const std::lock_guard lock(mutex_);
  if (lost_ == EmulatedError::kNone) lost_ = error;
}

EmulatedError EmulatedFaults::OnCall(std::string_view function) {
  const std::lock_guard lock(mutex_);
  Function& of = functions_.try_emplace(std::string(function)).first->second;
  ++of.calls;
  if (lost_ != EmulatedError::kNone) return lost_;
  const auto planned = of.failing.find(of.calls);
  if (planned == of.failing.end()) return EmulatedError::kNone;
  if (LosesTheDevice(planned->second)) lost_ = planned->second;
  return planned->second;
}

EmulatedError EmulatedFaults::lost() const {
  const std::lock_guard lock(mutex_);
  return lost_;
}

int64_t EmulatedFaults::calls(std::string_view function) const {
  const std::lock_guard lock(mutex_);
  const auto found = functions_.find(function);
  return found == functions_.end() ? 0 : found->second.calls;
}

std::string EmulatedFaults::misuse() const {
  const std::lock_guard lock(mutex_);
  return misuse_;
}

void EmulatedFaults::AddMisuse(const std::string& what) {
  const std::lock_guard lock(mutex_);
  misuse_ += what + "\n";
}

absl::StatusOr<std::unique_ptr<Gpu>> OpenEmulatedGpu(const EmulatedGpuOptions& options) {
  return emulated_gpu::OpenDevice(cuda_emulation::AddEmulatedDevice(options));
}

}  // namespace thermocline
