// Sizes and planning flags: what is read and what is refused by the flag's name.
// SPDX-License-Identifier: Apache-2.0
#include "cli/planning_flags.h"

#include <gtest/gtest.h>

#include "scheduler/request.h"

namespace thermocline {
namespace {

TEST(ParseSize, ReadsUnits) {
  EXPECT_EQ(*ParseSize("4096"), 4096);
  EXPECT_EQ(*ParseSize("1B"), 1);
  EXPECT_EQ(*ParseSize("512MiB"), int64_t{512} << 20);
  EXPECT_EQ(*ParseSize("1.5GiB"), int64_t{3} << 29);
  EXPECT_EQ(*ParseSize("24GB"), 24'000'000'000);
  EXPECT_EQ(*ParseSize("2TiB"), int64_t{2} << 40);
}

TEST(ParseSize, RefusesWhatIsNoSize) {
  for (const char* text : {"", "GiB", "-1GiB", "1.2.3GiB", "12XiB", "12 GiB", "1e3MiB", "nan", "0", "0MiB",
                           "0.1B", "99999999TiB"}) {
    EXPECT_FALSE(ParseSize(text).ok()) << text;
  }
}

TEST(ReadPlanningFlags, RefusalsNameTheFlag) {
  EXPECT_TRUE(ReadPlanningFlags({}).ok());
  const std::pair<const char*, PlanningFlags> cases[] = {
      {"--gpu-memory", {.gpu_memory = "much"}}, {"--device", {.device = "tpu"}},
      {"--objective", {.objective = "beauty"}}, {"--slots", {.slots = 0}},
      {"--batch-tokens", {.batch_tokens = 0}},  {"--batch-tokens", {.batch_tokens = 4097}},
      {"--kv-type", {.kv_type = "q4_0"}},       {"--time-limit", {.time_limit_seconds = 0}}};
  for (const auto& [flag, flags] : cases) EXPECT_EQ(FieldOf(ReadPlanningFlags(flags).status()), flag);
}

TEST(ChooseDevice, AutoNeverTakesTheEmulatedAccelerator) {
  HardwareProfile emulated;
  emulated.accelerators.push_back(
      {.name = "emulated accelerator", .kind = DeviceKind::kHost, .emulated = true});
  EXPECT_EQ(*ChooseDevice({}, emulated), DeviceKind::kCpu);
  EXPECT_EQ(*ChooseDevice({.gpu_memory = "1GiB"}, emulated), DeviceKind::kCuda);  // the assumed one
  EXPECT_EQ(*ChooseDevice({.device = "host"}, emulated), DeviceKind::kHost);
  EXPECT_EQ(*ChooseDevice({.gpu_memory = "1GiB", .device = "none"}, emulated), DeviceKind::kCpu);
  EXPECT_EQ(ChooseDevice({.device = "cuda"}, emulated).status().code(),
            absl::StatusCode::kFailedPrecondition);
  HardwareProfile cuda;
  cuda.accelerators.push_back({.name = "GPU", .kind = DeviceKind::kCuda});
  EXPECT_EQ(*ChooseDevice({}, cuda), DeviceKind::kCuda);
}

}  // namespace
}  // namespace thermocline
