// Gpu over the CUDA runtime and cuBLAS; also compiled over their emulation.
// SPDX-License-Identifier: Apache-2.0
#include "kernels_cuda/gpu_cuda.h"

#include <type_traits>
#include <utility>

#include "kernels_cuda/launchers.h"

namespace thermocline::TC_GPU_NAMESPACE {
namespace {

constexpr int kLeastComputeMajor = 7, kLeastComputeMinor = 5;

struct CublasDeleter {
  void operator()(cublasHandle_t handle) const { cublasDestroy(handle); }
};
using CublasHandle = std::unique_ptr<std::remove_pointer_t<cublasHandle_t>, CublasDeleter>;

size_t Size(int64_t bytes) { return static_cast<size_t>(bytes); }

cudaStream_t CudaOf(GpuStream stream) { return StreamOf(stream).stream.get(); }
cudaEvent_t CudaOf(GpuEvent event) { return reinterpret_cast<cudaEvent_t>(event); }
cudaGraphExec_t CudaOf(GpuGraph graph) { return reinterpret_cast<cudaGraphExec_t>(graph); }

class CudaGpu final : public Gpu {
 public:
  explicit CudaGpu(int ordinal) : ordinal_(ordinal) {}
  ~CudaGpu() override;
  absl::Status Open();
  absl::StatusOr<cublasHandle_t> CublasOn(GpuStream stream);

  const CudaDeviceInfo& info() const override { return info_; }
  const GpuKernels& kernels() const override { return kKernels; }

  absl::StatusOr<GpuOwned<DeviceBlock>> Allocate(std::string_view what, int64_t size_bytes) override;
  absl::StatusOr<GpuOwned<HostBlock>> AllocatePinned(std::string_view what, int64_t size_bytes) override;
  int64_t allocated_bytes() const override { return allocated_bytes_; }
  absl::StatusOr<GpuMemoryInfo> memory_info() override;

  GpuStream compute() const override { return Handle(compute_); }
  GpuStream transfer() const override { return Handle(transfer_); }

  absl::Status CopyToDevice(std::byte* target, const std::byte* source, int64_t size_bytes,
                            GpuStream stream) override;
  absl::Status CopyToHost(std::byte* target, const std::byte* source, int64_t size_bytes,
                          GpuStream stream) override;
  absl::Status Fill(std::byte* target, int value, int64_t size_bytes, GpuStream stream) override;
  absl::Status Synchronize(GpuStream stream) override;

  absl::StatusOr<GpuOwned<GpuEvent>> CreateEvent(bool timed) override;
  absl::Status Record(GpuEvent event, GpuStream stream) override;
  absl::Status Wait(GpuStream stream, GpuEvent event) override;
  absl::Status Synchronize(GpuEvent event) override;
  absl::StatusOr<double> SecondsBetween(GpuEvent begin, GpuEvent end) override;

  absl::Status BeginCapture(GpuStream stream) override;
  absl::StatusOr<GpuOwned<GpuGraph>> EndCapture(GpuStream stream) override;
  absl::Status Launch(GpuGraph graph, GpuStream stream) override;

 private:
  // Handles are given out as const, for a Gpu does not change by what is put on its streams.
  static GpuStream Handle(const Stream& stream) {
    return reinterpret_cast<GpuStream>(const_cast<Stream*>(&stream));
  }
  absl::Status Use() const { return UseDevice(ordinal_); }

  void Release(DeviceBlock memory) override;
  void Release(HostBlock memory) override;
  void Release(GpuEvent event) override;
  void Release(GpuGraph graph) override;

  const int ordinal_;
  CudaDeviceInfo info_;
  int64_t allocated_bytes_ = 0;
  Stream compute_, transfer_;
  DeviceMemory workspace_;
  CublasHandle cublas_;
  GpuStream cublas_stream_ = nullptr;
};

absl::Status CudaGpu::Open() {
  cudaDeviceProp properties{};
  TC_CUDA_RETURN_IF_ERROR(cudaGetDeviceProperties(&properties, ordinal_));
  info_ = {properties.name, properties.major, properties.minor,
           static_cast<int64_t>(properties.totalGlobalMem)};
  if (std::pair(info_.compute_major, info_.compute_minor) <
      std::pair(kLeastComputeMajor, kLeastComputeMinor)) {
    return FailedPrecondition("CUDA device {} ({}) has compute capability {}.{}, needed is {}.{}", ordinal_,
                              info_.name, info_.compute_major, info_.compute_minor, kLeastComputeMajor,
                              kLeastComputeMinor);
  }
  TC_RETURN_IF_ERROR(Use());
  for (Stream* stream : {&compute_, &transfer_}) {
    stream->device = ordinal_;
    TC_ASSIGN_OR_RETURN(stream->stream, CreateCudaStream());
  }
  TC_ASSIGN_OR_RETURN(workspace_, AllocateDeviceMemory(kGpuWorkspaceBytes));
  allocated_bytes_ = kGpuWorkspaceBytes;
  cublasHandle_t handle = nullptr;
  TC_CUBLAS_RETURN_IF_ERROR(cublasCreate(&handle));
  cublas_.reset(handle);
  TC_CUBLAS_RETURN_IF_ERROR(cublasSetMathMode(handle, CUBLAS_PEDANTIC_MATH));
  return absl::OkStatus();
}

// Whoever still owned memory of this device would give it back to nobody.
CudaGpu::~CudaGpu() {
  TC_CHECK(workspace_ == nullptr || allocated_bytes_ == kGpuWorkspaceBytes);
  Use().IgnoreError();
}

absl::StatusOr<cublasHandle_t> CudaGpu::CublasOn(GpuStream stream) {
  TC_RETURN_IF_ERROR(Use());
  if (cublas_stream_ != stream) {
    cublas_stream_ = nullptr;
    TC_CUBLAS_RETURN_IF_ERROR(cublasSetStream(cublas_.get(), CudaOf(stream)));
    // Setting the stream takes the workspace away.
    TC_CUBLAS_RETURN_IF_ERROR(cublasSetWorkspace(cublas_.get(), workspace_.get(), Size(kGpuWorkspaceBytes)));
    cublas_stream_ = stream;
  }
  return cublas_.get();
}

absl::StatusOr<GpuOwned<DeviceBlock>> CudaGpu::Allocate(std::string_view what, int64_t size_bytes) {
  if (size_bytes < 1)
    return InvalidArgument("{}: {} bytes of device memory, allowed is 1 and above", what, size_bytes);
  TC_RETURN_IF_ERROR(Use());
  absl::StatusOr<DeviceMemory> memory = AllocateDeviceMemory(size_bytes);
  if (!memory.ok()) {
    return absl::Status(memory.status().code(), fmt::format("{}: {} bytes of device memory: {}", what,
                                                            size_bytes, MessageOf(memory.status())));
  }
  allocated_bytes_ += size_bytes;
  return GpuOwned<DeviceBlock>(this, {memory->release(), size_bytes});
}

absl::StatusOr<GpuOwned<HostBlock>> CudaGpu::AllocatePinned(std::string_view what, int64_t size_bytes) {
  if (size_bytes < 1)
    return InvalidArgument("{}: {} bytes of pinned memory, allowed is 1 and above", what, size_bytes);
  TC_RETURN_IF_ERROR(Use());
  absl::StatusOr<PinnedMemory> memory = AllocatePinnedMemory(size_bytes);
  if (!memory.ok()) {
    return absl::Status(memory.status().code(), fmt::format("{}: {} bytes of pinned memory: {}", what,
                                                            size_bytes, MessageOf(memory.status())));
  }
  return GpuOwned<HostBlock>(this, {memory->release(), size_bytes});
}

absl::StatusOr<GpuMemoryInfo> CudaGpu::memory_info() {
  TC_RETURN_IF_ERROR(Use());
  size_t free_bytes = 0, total_bytes = 0;
  TC_CUDA_RETURN_IF_ERROR(cudaMemGetInfo(&free_bytes, &total_bytes));
  return GpuMemoryInfo{static_cast<int64_t>(free_bytes), static_cast<int64_t>(total_bytes)};
}

absl::Status CudaGpu::CopyToDevice(std::byte* target, const std::byte* source, int64_t size_bytes,
                                   GpuStream stream) {
  TC_RETURN_IF_ERROR(Use());
  TC_CUDA_RETURN_IF_ERROR(
      cudaMemcpyAsync(target, source, Size(size_bytes), cudaMemcpyHostToDevice, CudaOf(stream)));
  return absl::OkStatus();
}

absl::Status CudaGpu::CopyToHost(std::byte* target, const std::byte* source, int64_t size_bytes,
                                 GpuStream stream) {
  TC_RETURN_IF_ERROR(Use());
  TC_CUDA_RETURN_IF_ERROR(
      cudaMemcpyAsync(target, source, Size(size_bytes), cudaMemcpyDeviceToHost, CudaOf(stream)));
  return absl::OkStatus();
}

absl::Status CudaGpu::Fill(std::byte* target, int value, int64_t size_bytes, GpuStream stream) {
  TC_RETURN_IF_ERROR(Use());
  TC_CUDA_RETURN_IF_ERROR(cudaMemsetAsync(target, value, Size(size_bytes), CudaOf(stream)));
  return absl::OkStatus();
}

absl::Status CudaGpu::Synchronize(GpuStream stream) {
  TC_RETURN_IF_ERROR(Use());
  TC_CUDA_RETURN_IF_ERROR(cudaStreamSynchronize(CudaOf(stream)));
  return absl::OkStatus();
}

absl::StatusOr<GpuOwned<GpuEvent>> CudaGpu::CreateEvent(bool timed) {
  TC_RETURN_IF_ERROR(Use());
  TC_ASSIGN_OR_RETURN(CudaEvent event, CreateCudaEvent(timed));
  return GpuOwned<GpuEvent>(this, reinterpret_cast<GpuEvent>(event.release()));
}

absl::Status CudaGpu::Record(GpuEvent event, GpuStream stream) {
  TC_RETURN_IF_ERROR(Use());
  TC_CUDA_RETURN_IF_ERROR(cudaEventRecord(CudaOf(event), CudaOf(stream)));
  return absl::OkStatus();
}

absl::Status CudaGpu::Wait(GpuStream stream, GpuEvent event) {
  TC_RETURN_IF_ERROR(Use());
  TC_CUDA_RETURN_IF_ERROR(cudaStreamWaitEvent(CudaOf(stream), CudaOf(event), 0));
  return absl::OkStatus();
}

absl::Status CudaGpu::Synchronize(GpuEvent event) {
  TC_RETURN_IF_ERROR(Use());
  TC_CUDA_RETURN_IF_ERROR(cudaEventSynchronize(CudaOf(event)));
  return absl::OkStatus();
}

absl::StatusOr<double> CudaGpu::SecondsBetween(GpuEvent begin, GpuEvent end) {
  TC_RETURN_IF_ERROR(Use());
  float millis = 0;
  TC_CUDA_RETURN_IF_ERROR(cudaEventElapsedTime(&millis, CudaOf(begin), CudaOf(end)));
  return double{millis} * 1e-3;
}

// Other threads may allocate meanwhile, for other devices.
absl::Status CudaGpu::BeginCapture(GpuStream stream) {
  TC_RETURN_IF_ERROR(Use());
  TC_CUDA_RETURN_IF_ERROR(cudaStreamBeginCapture(CudaOf(stream), cudaStreamCaptureModeThreadLocal));
  return absl::OkStatus();
}

absl::StatusOr<GpuOwned<GpuGraph>> CudaGpu::EndCapture(GpuStream stream) {
  TC_RETURN_IF_ERROR(Use());
  cudaGraph_t captured = nullptr;
  TC_CUDA_RETURN_IF_ERROR(cudaStreamEndCapture(CudaOf(stream), &captured));
  const CudaGraph graph(captured);
  cudaGraphExec_t executable = nullptr;
  TC_CUDA_RETURN_IF_ERROR(cudaGraphInstantiate(&executable, graph.get(), 0));
  return GpuOwned<GpuGraph>(this, reinterpret_cast<GpuGraph>(executable));
}

absl::Status CudaGpu::Launch(GpuGraph graph, GpuStream stream) {
  TC_RETURN_IF_ERROR(Use());
  TC_CUDA_RETURN_IF_ERROR(cudaGraphLaunch(CudaOf(graph), CudaOf(stream)));
  return absl::OkStatus();
}

void CudaGpu::Release(DeviceBlock memory) {
  Use().IgnoreError();
  DeviceMemory(memory.data).reset();
  allocated_bytes_ -= memory.size_bytes;
}

void CudaGpu::Release(HostBlock memory) {
  Use().IgnoreError();
  PinnedMemory(memory.data).reset();
}

void CudaGpu::Release(GpuEvent event) {
  Use().IgnoreError();
  CudaEvent(CudaOf(event)).reset();
}

void CudaGpu::Release(GpuGraph graph) {
  Use().IgnoreError();
  CudaGraphExec(CudaOf(graph)).reset();
}

}  // namespace

absl::Status UseDevice(int device) {
  int current = -1;
  TC_CUDA_RETURN_IF_ERROR(cudaGetDevice(&current));
  if (current != device) TC_CUDA_RETURN_IF_ERROR(cudaSetDevice(device));
  return absl::OkStatus();
}

absl::StatusOr<cublasHandle_t> CublasOn(Gpu& gpu, GpuStream stream) {
  return static_cast<CudaGpu&>(gpu).CublasOn(stream);
}

absl::Status CublasError(std::string_view call, cublasStatus_t status) {
  // What the runtime remembers says more than cuBLAS, which only knows that something failed.
  if (const cudaError_t error = cudaGetLastError(); error != cudaSuccess) return CudaError(call, error);
  const std::string_view name = call.substr(0, call.find('('));
  if (status == CUBLAS_STATUS_ALLOC_FAILED)
    return ResourceExhausted("{}: {}", name, cublasGetStatusName(status));
  if (status == CUBLAS_STATUS_ARCH_MISMATCH) return Unavailable("{}: {}", name, cublasGetStatusName(status));
  return Internal("{}: {}", name, cublasGetStatusName(status));
}

absl::StatusOr<std::unique_ptr<Gpu>> OpenDevice(int ordinal) {
  auto gpu = std::make_unique<CudaGpu>(ordinal);
  TC_RETURN_IF_ERROR(gpu->Open());
  return gpu;
}

}  // namespace thermocline::TC_GPU_NAMESPACE
