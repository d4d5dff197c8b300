// The neuron probe's arithmetic and refusals; its figures are for benchmarks.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/neuron_probe.h"

#include <gtest/gtest.h>

#include <memory>

#include "tests/support/refusal.h"

namespace thermocline {
namespace {

class NeuronProbeTest : public testing::Test {
 protected:
  CpuContext context() const { return {.team = team_.get(), .kernels = &BestKernels()}; }
  std::unique_ptr<ThreadTeam> team_ = *ThreadTeam::Create(2);
};

TEST_F(NeuronProbeTest, EveryMarkedNeuronFiresWithEveryType) {
  // The probe itself checks that each marked neuron fired, so that its down row was read.
  for (const ElementType type :
       {ElementType::kF32, ElementType::kF16, ElementType::kBF16, ElementType::kQ8_0, ElementType::kQ4_0}) {
    // 333 neurons: neither a multiple of the tokens nor of any block; several layers.
    const auto samples =
        MeasureNeuronBandwidth(context(), {.shape = {.d_model = 64, .d_ff = 333, .weight_type = type},
                                           .working_set_bytes = 1 << 18,
                                           .repetitions = 3});
    ASSERT_TRUE(samples.ok()) << samples.status();
    EXPECT_EQ(samples->values.size(), 3u);
    EXPECT_GT(samples->min(), 0);
  }
}

TEST_F(NeuronProbeTest, AnyShareOfNeuronsCanBeActive) {
  for (const double share : {1.0, 0.7, 0.5, 0.01, 1e-300}) {
    const auto samples =
        MeasureNeuronBandwidth(context(), {.shape = {.d_model = 32, .d_ff = 40, .active_share = share},
                                           .working_set_bytes = 1,
                                           .repetitions = 1});
    ASSERT_TRUE(samples.ok()) << share << ": " << samples.status();
    EXPECT_GT(samples->min(), 0);
  }
}

TEST_F(NeuronProbeTest, RefusesWhatItCannotMeasure) {
  const auto refused = [&](const NeuronProbeOptions& options, absl::StatusCode code,
                           const std::string& word) {
    const absl::Status status = MeasureNeuronBandwidth(context(), options).status();
    EXPECT_EQ(status.code(), code) << status;
    ExpectRefusal(status, {word});
  };
  const auto invalid = absl::StatusCode::kInvalidArgument;
  refused({.shape = {.weight_type = ElementType::kQ4_K}, .working_set_bytes = 1}, invalid, "Q4_K");
  refused({.shape = {.d_model = 33, .weight_type = ElementType::kQ8_0}}, invalid, "33");
  refused({.shape = {.d_model = 0}}, invalid, "width 0");
  refused({.shape = {.d_ff = int64_t{1} << 40}}, invalid, "1099511627776");
  refused({.shape = {.active_share = 0}}, invalid, "active share of 0");
  refused({.shape = {.active_share = 1.5}}, invalid, "1.5");
  refused({.working_set_bytes = -1}, invalid, "-1");
  refused({.repetitions = 0}, invalid, "0 repetitions");
  refused({.working_set_bytes = INT64_MAX}, absl::StatusCode::kResourceExhausted, "bytes");
}

}  // namespace
}  // namespace thermocline
