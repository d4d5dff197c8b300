// The probe's arithmetic; its figures are for benchmarks.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/bandwidth.h"

#include <gtest/gtest.h>

namespace thermocline {
namespace {

TEST(MeasureReadBandwidth, GivesAsManyPositiveSamplesAsAsked) {
  auto team = *ThreadTeam::Create(2);
  const Samples samples = *MeasureReadBandwidth(*team, {.working_set_bytes = 8 << 20, .repetitions = 3});
  ASSERT_EQ(samples.values.size(), 3u);
  EXPECT_GT(samples.min(), 0);
}

TEST(MeasureReadBandwidth, AbsurdWorkingSetIsRefused) {
  auto team = *ThreadTeam::Create(1);
  EXPECT_EQ(MeasureReadBandwidth(*team, {.working_set_bytes = INT64_MAX}).status().code(),
            absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace thermocline
