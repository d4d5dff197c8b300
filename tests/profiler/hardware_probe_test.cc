// The probe's structure on working sets that caches hold; its figures are for benchmarks.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/hardware_probe.h"

#include <gtest/gtest.h>

#include "core/cpu_info.h"
#include "kernels_cpu/kernel_table.h"
#include "kernels_cuda/device_info.h"
#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"

namespace thermocline {
namespace {

ProbeOptions QuickWith(int threads, std::vector<DeviceKind> accelerators) {
  ProbeOptions options = ProbeOptions::Quick();
  options.threads = threads;
  options.accelerators = std::move(accelerators);
  return options;
}

void ExpectSamples(const Samples& samples, size_t count) {
  EXPECT_EQ(samples.values.size(), count);
  EXPECT_GT(samples.min(), 0);
}

TEST(ProbeHardware, WithoutAcceleratorsAskedForThereAreNone) {
  const auto hardware = ProbeHardware(QuickWith(1, {}));
  ASSERT_TRUE(hardware.ok()) << hardware.status();
  EXPECT_TRUE(hardware->accelerators.empty());
  EXPECT_EQ(hardware->isa, BestKernels().isa);
  EXPECT_EQ(hardware->cpu, ReadCpuInfo().model_name);
  EXPECT_EQ(hardware->memory_bytes, ReadCpuInfo().memory_bytes);
  ASSERT_EQ(hardware->cpu_read.size(), 1u);
  EXPECT_EQ(hardware->cpu_read[0].threads, 1);
}

TEST(ProbeHardware, DoublesThreadsUpToTheTeam) {
  ProbeOptions options = QuickWith(6, {});
  options.repetitions = 7;
  const auto hardware = ProbeHardware(options);
  ASSERT_TRUE(hardware.ok()) << hardware.status();
  EXPECT_EQ(hardware->threads, 6);
  std::vector<int> threads;
  for (const ThreadBandwidth& bandwidth : hardware->cpu_read) {
    threads.push_back(bandwidth.threads);
    ExpectSamples(bandwidth.read_gb_per_second, 7);
  }
  EXPECT_EQ(threads, (std::vector<int>{1, 2, 4, 6}));
  ExpectSamples(hardware->cpu_neuron_gb_per_second, 7);
  EXPECT_EQ(hardware->cpu_neuron_shape.d_ff, options.neuron_shape.d_ff);
}

TEST(ProbeHardware, TakesEveryUsableCpuWhenNotTold) {
  const auto hardware = ProbeHardware(QuickWith(0, {}));
  ASSERT_TRUE(hardware.ok()) << hardware.status();
  EXPECT_EQ(hardware->threads, ReadCpuInfo().usable_threads);
  EXPECT_EQ(hardware->cpu_read.back().threads, hardware->threads);
}

TEST(ProbeHardware, MeasuresTheEmulatedAcceleratorAndWritesAFileThatIsRead) {
  const auto hardware = ProbeHardware(QuickWith(2, {DeviceKind::kHost}));
  ASSERT_TRUE(hardware.ok()) << hardware.status();
  ASSERT_EQ(hardware->accelerators.size(), 1u);
  EXPECT_TRUE(hardware->accelerators[0].emulated);
  ExpectSamples(hardware->accelerators[0].sync_micros, 5);
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/hardware.json";
  ASSERT_TRUE(WriteHardware(*hardware, path).ok());
  EXPECT_EQ(ReadHardware(path)->accelerators[0].sync_micros.values,
            hardware->accelerators[0].sync_micros.values);
}

TEST(ProbeHardware, CudaIsMeasuredOrRefusedInTheDriversWords) {
  const auto devices = ListCudaDevices();
  const auto hardware = ProbeHardware(QuickWith(1, {DeviceKind::kCuda}));
  if (!devices.ok()) {
    EXPECT_EQ(hardware.status(), devices.status());
    return;
  }
  ASSERT_TRUE(hardware.ok()) << hardware.status();
  ASSERT_EQ(hardware->accelerators.size(), devices->size());
  for (const AcceleratorProfile& accelerator : hardware->accelerators) {
    EXPECT_EQ(accelerator.kind, DeviceKind::kCuda);
    EXPECT_FALSE(accelerator.emulated);
    ExpectSamples(accelerator.read_gb_per_second, 5);
    ExpectSamples(accelerator.launch_micros, 5);
  }
}

TEST(ProbeHardware, RefusesAbsurdOptions) {
  const auto refused = [](auto change, const std::vector<std::string>& words) {
    ProbeOptions options = ProbeOptions::Quick();
    change(options);
    const absl::Status status = ProbeHardware(options).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    ExpectRefusal(status, words);
  };
  refused([](ProbeOptions& o) { o.threads = -1; }, {"threads is -1", "1024"});
  refused([](ProbeOptions& o) { o.threads = 5000; }, {"threads is 5000", "1024"});
  refused([](ProbeOptions& o) { o.repetitions = 4; }, {"repetitions is 4", "5 to 1000"});
  refused([](ProbeOptions& o) { o.working_set_bytes = -1; }, {"working_set_bytes is -1"});
  refused([](ProbeOptions& o) { o.device_bytes = 0; }, {"device_bytes is 0"});
  refused([](ProbeOptions& o) { o.link_bytes = 0; }, {"link_bytes is 0"});
  refused([](ProbeOptions& o) { o.accelerators = {DeviceKind::kCpu}; }, {"accelerators[0]"});
  refused(
      [](ProbeOptions& o) {
        o.accelerators = {DeviceKind::kHost, DeviceKind::kHost};
      },
      {"accelerators[1]", "twice"});
  refused([](ProbeOptions& o) { o.neuron_shape.d_model = -4; }, {"-4"});
}

}  // namespace
}  // namespace thermocline
