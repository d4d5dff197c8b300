// hardware.json: what is written is read again, and what no machine can be is refused.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/hardware.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/mapped_file.h"
#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"

namespace thermocline {
namespace {

// Written by hand: the format is a contract with files of other machines.
constexpr char kTwoDevices[] = R"({
  "format": "thermocline-hardware",
  "version": 1,
  "cpu": "Some CPU @ 3 GHz",
  "isa": "avx2",
  "threads": 6,
  "memory_bytes": 34359738368,
  "cpu_read": [
    {"threads": 1, "read_gb_per_second_samples": [10.5, 11]},
    {"threads": 2, "read_gb_per_second_samples": [20]},
    {"threads": 6, "read_gb_per_second_samples": [41.25, 40, 39.5]}
  ],
  "cpu_neuron": {
    "d_model": 2048,
    "d_ff": 5632,
    "weight_type": "Q8_0",
    "active_share": 0.125,
    "gb_per_second_samples": [30.5]
  },
  "accelerators": [
    {
      "name": "Some GPU",
      "kind": "cuda",
      "emulated": false,
      "memory_bytes": 25757220864,
      "read_gb_per_second_samples": [900],
      "to_device_pageable_gb_per_second_samples": [6.5],
      "to_device_pinned_gb_per_second_samples": [24.5],
      "from_device_pageable_gb_per_second_samples": [5.5],
      "from_device_pinned_gb_per_second_samples": [25.5],
      "launch_micros_samples": [3.5, 3.25],
      "sync_micros_samples": [9.5]
    },
    {
      "name": "emulated accelerator",
      "kind": "host",
      "emulated": true,
      "memory_bytes": 34359738368,
      "read_gb_per_second_samples": [12],
      "to_device_pageable_gb_per_second_samples": [8],
      "to_device_pinned_gb_per_second_samples": [9],
      "from_device_pageable_gb_per_second_samples": [7],
      "from_device_pinned_gb_per_second_samples": [6],
      "launch_micros_samples": [1],
      "sync_micros_samples": [2]
    }
  ]
})";

HardwareProfile SmallProfile() {
  const Samples one{.values = {1.0 / 3, 2e-5, 7}};
  return {.cpu = "cpu",
          .isa = "scalar",
          .threads = 2,
          .memory_bytes = 1,
          .cpu_read = {{1, one}, {2, one}},
          .cpu_neuron_gb_per_second = one,
          .accelerators = {{.name = "device",
                            .kind = DeviceKind::kCuda,
                            .memory_bytes = 2,
                            .read_gb_per_second = one,
                            .to_device_pageable_gb_per_second = one,
                            .to_device_pinned_gb_per_second = one,
                            .from_device_pageable_gb_per_second = one,
                            .from_device_pinned_gb_per_second = one,
                            .launch_micros = one,
                            .sync_micros = one}}};
}

std::string TextOf(const std::string& path) { return ReadTextFile(path, 1 << 20).value(); }

TEST(ReadHardware, ReadsEveryFieldOfAFileWrittenByHand) {
  const TemporaryFolder folder;
  const auto read = ReadHardware(folder.Write("hardware.json", kTwoDevices));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->cpu, "Some CPU @ 3 GHz");
  EXPECT_EQ(read->isa, "avx2");
  EXPECT_EQ(read->threads, 6);
  EXPECT_EQ(read->memory_bytes, int64_t{32} << 30);
  ASSERT_EQ(read->cpu_read.size(), 3u);
  EXPECT_EQ(read->cpu_read[1].threads, 2);
  EXPECT_EQ(read->cpu_read[2].read_gb_per_second.values, (std::vector<double>{41.25, 40, 39.5}));
  EXPECT_EQ(read->cpu_neuron_gb_per_second.values, std::vector<double>{30.5});
  EXPECT_EQ(read->cpu_neuron_shape.d_model, 2048);
  EXPECT_EQ(read->cpu_neuron_shape.d_ff, 5632);
  EXPECT_EQ(read->cpu_neuron_shape.weight_type, ElementType::kQ8_0);
  EXPECT_EQ(read->cpu_neuron_shape.active_share, 0.125);
  ASSERT_EQ(read->accelerators.size(), 2u);
  const AcceleratorProfile& gpu = read->accelerators[0];
  EXPECT_EQ(gpu.name, "Some GPU");
  EXPECT_EQ(gpu.kind, DeviceKind::kCuda);
  EXPECT_FALSE(gpu.emulated);
  EXPECT_EQ(gpu.memory_bytes, 25757220864);
  EXPECT_EQ(gpu.read_gb_per_second.median(), 900);
  EXPECT_EQ(gpu.to_device_pageable_gb_per_second.median(), 6.5);
  EXPECT_EQ(gpu.to_device_pinned_gb_per_second.median(), 24.5);
  EXPECT_EQ(gpu.from_device_pageable_gb_per_second.median(), 5.5);
  EXPECT_EQ(gpu.from_device_pinned_gb_per_second.median(), 25.5);
  EXPECT_EQ(gpu.launch_micros.values, (std::vector<double>{3.5, 3.25}));
  EXPECT_EQ(gpu.sync_micros.values, std::vector<double>{9.5});
  EXPECT_EQ(read->accelerators[1].kind, DeviceKind::kHost);
  EXPECT_TRUE(read->accelerators[1].emulated);
}

TEST(WriteHardware, IsReadAgainBitForBitAndWrittenTheSame) {
  const TemporaryFolder folder;
  const std::string first = folder.path() + "/first.json", second = folder.path() + "/second.json";
  const HardwareProfile profile = SmallProfile();
  ASSERT_TRUE(WriteHardware(profile, first).ok());
  const auto read = ReadHardware(first);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->cpu_read[1].read_gb_per_second.values, profile.cpu_read[1].read_gb_per_second.values);
  EXPECT_EQ(read->accelerators[0].sync_micros.values, profile.accelerators[0].sync_micros.values);
  EXPECT_EQ(read->cpu_neuron_shape.weight_type, profile.cpu_neuron_shape.weight_type);
  ASSERT_TRUE(WriteHardware(*read, second).ok());
  EXPECT_EQ(TextOf(first), TextOf(second));
}

TEST(WriteHardware, KeepsAFileWrittenByHandThroughReadingAndWriting) {
  const TemporaryFolder folder;
  const std::string path = folder.Write("hardware.json", kTwoDevices);
  ASSERT_TRUE(WriteHardware(*ReadHardware(path), path).ok());
  EXPECT_EQ(nlohmann::ordered_json::parse(TextOf(path)), nlohmann::ordered_json::parse(kTwoDevices));
}

TEST(WriteHardware, AMachineWithoutAcceleratorIsAMachine) {
  const TemporaryFolder folder;
  HardwareProfile profile = SmallProfile();
  profile.accelerators.clear();
  ASSERT_TRUE(WriteHardware(profile, folder.path() + "/hardware.json").ok());
  EXPECT_TRUE(ReadHardware(folder.path() + "/hardware.json")->accelerators.empty());
}

TEST(WriteHardware, NamesThatAreNotUtf8DoNotStopIt) {
  const TemporaryFolder folder;
  HardwareProfile profile = SmallProfile();
  profile.cpu = "CPU \xff";
  ASSERT_TRUE(WriteHardware(profile, folder.path() + "/hardware.json").ok());
  EXPECT_EQ(ReadHardware(folder.path() + "/hardware.json")->cpu, "CPU \xEF\xBF\xBD");
}

TEST(WriteHardware, ARefusedProfileLeavesTheOlderFile) {
  const TemporaryFolder folder;
  const std::string path = folder.Write("hardware.json", "older");
  HardwareProfile profile = SmallProfile();
  profile.cpu_neuron_gb_per_second.values = {std::numeric_limits<double>::quiet_NaN()};
  ExpectRefusal(WriteHardware(profile, path), {path, "cpu_neuron.gb_per_second_samples[0]"});
  profile = SmallProfile();
  profile.accelerators[0].kind = DeviceKind::kCpu;
  ExpectRefusal(WriteHardware(profile, path), {path, "accelerators[0].kind", "'cpu'"});
  EXPECT_EQ(TextOf(path), "older");
}

TEST(WriteHardware, LeavesNothingBesideWhenItCannotReplace) {
  const TemporaryFolder folder;
  const std::string occupied = folder.path() + "/occupied";
  std::filesystem::create_directories(occupied + "/inside");
  ExpectRefusal(WriteHardware(SmallProfile(), occupied), {occupied});
  ExpectRefusal(WriteHardware(SmallProfile(), folder.path() + "/absent/hardware.json"), {"/absent/"});
  int entries = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder.path())) ++entries;
  EXPECT_EQ(entries, 1);
}

// One change of kTwoDevices: the value at `pointer` becomes `value`, or goes.
struct Refusal {
  std::string name;
  std::string pointer;
  std::optional<std::string> value;
  std::vector<std::string> words;
};

class RefusedHardware : public testing::TestWithParam<Refusal> {};

TEST_P(RefusedHardware, NamesPathAndField) {
  nlohmann::ordered_json document = nlohmann::ordered_json::parse(kTwoDevices);
  const nlohmann::ordered_json::json_pointer pointer(GetParam().pointer);
  if (GetParam().value) {
    document[pointer] = nlohmann::ordered_json::parse(*GetParam().value);
  } else {
    document[pointer.parent_pointer()].erase(pointer.back());
  }
  const TemporaryFolder folder;
  const std::string path = folder.Write("hardware.json", document.dump());
  const absl::Status status = ReadHardware(path).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  std::vector<std::string> words = GetParam().words;
  words.push_back(path);
  ExpectRefusal(status, words);
}

INSTANTIATE_TEST_SUITE_P(
    Field, RefusedHardware,
    testing::Values(
        Refusal{"NoFormat", "/format", std::nullopt, {"format is missing"}},
        Refusal{"OtherFormat", "/format", "\"a\\nb\"", {"format is 'a"}},
        Refusal{"OtherVersion", "/version", "2", {"version is 2", "reads 1"}},
        Refusal{"NoCpu", "/cpu", std::nullopt, {"cpu is missing"}},
        Refusal{"EmptyCpu", "/cpu", "\"\"", {"cpu is empty"}},
        Refusal{"LongIsa", "/isa", "\"" + std::string(300, 'x') + "\"", {"isa", "300", "256"}},
        Refusal{"NumberForText", "/cpu", "3", {"cpu must be a string"}},
        Refusal{"NoThreads", "/threads", std::nullopt, {"threads is missing"}},
        Refusal{"ZeroThreads", "/threads", "0", {"threads is 0", "1024"}},
        Refusal{"HalfAThread", "/threads", "2.5", {"threads must be an integer"}},
        Refusal{"TooManyThreads", "/threads", "5000", {"threads is 5000", "1024"}},
        Refusal{"NegativeMemory", "/memory_bytes", "-5", {"memory_bytes is -5"}},
        Refusal{"AbsurdMemory", "/memory_bytes", "18446744073709551615", {"18446744073709551615"}},
        Refusal{
            "TextForMemory", "/memory_bytes", "\"4GiB\"", {"memory_bytes must be an integer, found string"}},
        Refusal{"NoCpuRead", "/cpu_read", std::nullopt, {"cpu_read is missing"}},
        Refusal{"EmptyCpuRead", "/cpu_read", "[]", {"cpu_read ends at 0 threads, threads is 6"}},
        Refusal{"CpuReadOfNumbers", "/cpu_read", "[1]", {"cpu_read[0] must be an object"}},
        Refusal{"ThreadsDoNotAscend", "/cpu_read/1/threads", "1", {"cpu_read[1].threads is 1 after 1"}},
        Refusal{"ThreadsEndElsewhere", "/cpu_read/2/threads", "7", {"ends at 7 threads, threads is 6"}},
        Refusal{"NoSample",
                "/cpu_read/0/read_gb_per_second_samples",
                "[]",
                {"cpu_read[0].read_gb_per_second_samples has no sample"}},
        Refusal{"SampleIsText",
                "/cpu_read/0/read_gb_per_second_samples/1",
                "\"11\"",
                {"cpu_read[0].read_gb_per_second_samples[1] must be a number"}},
        Refusal{"SampleIsNull",
                "/cpu_read/0/read_gb_per_second_samples/1",
                "null",
                {"cpu_read[0].read_gb_per_second_samples[1] must be a number, found null"}},
        Refusal{"SamplesAreOneNumber", "/cpu_read/0/read_gb_per_second_samples", "11", {"must be a list"}},
        Refusal{"ZeroBandwidth", "/cpu_read/0/read_gb_per_second_samples/0", "0", {"[0] is 0", "above 0"}},
        Refusal{"NeuronMissing", "/cpu_neuron", std::nullopt, {"cpu_neuron is missing"}},
        Refusal{"NeuronIsAList", "/cpu_neuron", "[]", {"cpu_neuron must be an object"}},
        Refusal{"NeuronSamplesMissing",
                "/cpu_neuron/gb_per_second_samples",
                std::nullopt,
                {"cpu_neuron.gb_per_second_samples is missing"}},
        Refusal{"NeuronWidthZero", "/cpu_neuron/d_model", "0", {"cpu_neuron.d_model is 0"}},
        Refusal{"UnknownWeightType", "/cpu_neuron/weight_type", "\"Q9\"", {"cpu_neuron.weight_type", "Q9"}},
        Refusal{"ShareAboveOne", "/cpu_neuron/active_share", "1.5", {"cpu_neuron.active_share is 1.5"}},
        Refusal{"NoAccelerators", "/accelerators", std::nullopt, {"accelerators is missing"}},
        Refusal{"AcceleratorsAreOne", "/accelerators", "{}", {"accelerators must be a list, found object"}},
        Refusal{"UnknownKind", "/accelerators/0/kind", "\"tpu\"", {"accelerators[0].kind is 'tpu'"}},
        Refusal{"CpuIsNoAccelerator", "/accelerators/0/kind", "\"cpu\"", {"accelerators[0].kind is 'cpu'"}},
        Refusal{"EmulatedCuda", "/accelerators/0/emulated", "true", {"accelerators[0].emulated is true"}},
        Refusal{"EmulatedIsText", "/accelerators/0/emulated", "\"no\"", {"must be true or false"}},
        Refusal{"RealHost", "/accelerators/1/emulated", "false", {"accelerators[1].emulated is false"}},
        Refusal{"AcceleratorWithoutMemory",
                "/accelerators/1/memory_bytes",
                "0",
                {"accelerators[1].memory_bytes is 0"}},
        Refusal{"NoPinned",
                "/accelerators/0/to_device_pinned_gb_per_second_samples",
                std::nullopt,
                {"accelerators[0].to_device_pinned_gb_per_second_samples is missing"}},
        Refusal{"NegativeLatency",
                "/accelerators/0/launch_micros_samples/1",
                "-3.25",
                {"accelerators[0].launch_micros_samples[1] is -3.25", "1000000"}},
        Refusal{"AbsurdLatency",
                "/accelerators/0/sync_micros_samples/0",
                "1e9",
                {"accelerators[0].sync_micros_samples[0] is 1000000000"}},
        Refusal{"AbsurdBandwidth",
                "/accelerators/0/read_gb_per_second_samples/0",
                "1e300",
                {"accelerators[0].read_gb_per_second_samples[0]"}}),
    [](const testing::TestParamInfo<Refusal>& refusal) { return refusal.param.name; });

TEST(ReadHardware, RefusesWhatIsNoSuchDocument) {
  const TemporaryFolder folder;
  const auto refused = [&](const std::string& text, const std::vector<std::string>& words) {
    ExpectRefusal(ReadHardware(folder.Write("hardware.json", text)).status(), words);
  };
  refused("", {"hardware.json", "empty"});
  refused("[]", {"hardware.json", "object"});
  refused(std::string(kTwoDevices).substr(0, 700), {"hardware.json", "not valid JSON"});
  refused(R"({"format": "thermocline-hardware", "format": "thermocline-hardware"})", {"'format'", "twice"});
  refused(R"({"format": )" + std::string(100, '[') + std::string(100, ']') + "}", {"nested deeper", "64"});
  refused(std::string((4 << 20) + 1, ' '), {"hardware.json", "4194304"});
  EXPECT_EQ(ReadHardware(folder.path() + "/absent.json").status().code(), absl::StatusCode::kNotFound);
}

TEST(ReadHardware, RefusesMoreSamplesThanAnyProbeTakes) {
  const TemporaryFolder folder;
  HardwareProfile profile = SmallProfile();
  profile.cpu_neuron_gb_per_second.values.assign(1025, 1.0);
  ExpectRefusal(WriteHardware(profile, folder.path() + "/hardware.json"),
                {"cpu_neuron.gb_per_second_samples has 1025 entries", "1024"});
}

}  // namespace
}  // namespace thermocline
