// Coverage, frequencies and curves of small profiles worked out by hand.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/report_figures.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "report_fixture.h"

namespace thermocline {
namespace {

using ::testing::DoubleEq;
using ::testing::ElementsAre;

// Two layers of four neurons over ten tokens; neurons 2 and 0 of the first are hot, none of the second.
ReportSample TwoLayers() {
  ReportSample sample;
  sample.profile.d_ff = 4;
  sample.profile.profiled_tokens = 10;
  sample.profile.held_out_tokens = 5;
  sample.profile.layers.resize(2);
  sample.profile.layers[0].profiled.active = {3, 0, 8, 1};
  sample.profile.layers[0].held_out.active = {1, 1, 4, 2};
  sample.profile.layers[1].profiled.active = {2, 2, 2, 2};
  sample.profile.layers[1].held_out.active = {0, 0, 0, 0};
  sample.plan.devices = {{.name = "cpu"}, {.name = "cuda:0", .kind = DeviceKind::kCuda}};
  sample.plan.layers.resize(2);
  sample.plan.layers[0].units = {{.device = 1, .neurons = {0, 2}}, {.device = 0, .neurons = {1, 3}}};
  sample.plan.layers[1].units = {{.device = 0, .neurons = {0, 1, 2, 3}}};
  return sample;
}

TEST(WorkOutFigures, LayerByLayer) {
  const ReportSample sample = TwoLayers();
  const ReportFigures figures = WorkOutFigures(sample.input());
  ASSERT_EQ(figures.layers.size(), 2u);
  const LayerFigures& first = figures.layers[0];
  EXPECT_THAT(first.frequency, ElementsAre(DoubleEq(0.8), DoubleEq(0.3), DoubleEq(0.1), DoubleEq(0)));
  EXPECT_EQ(first.hot_neurons, 2);
  EXPECT_EQ(first.silent_neurons, 1);
  EXPECT_DOUBLE_EQ(first.coverage, 11. / 12);
  EXPECT_DOUBLE_EQ(first.held_out_coverage, 5. / 8);
  EXPECT_DOUBLE_EQ(first.profiled.sparsity, 28. / 40);
  EXPECT_DOUBLE_EQ(first.held_out.sparsity, 12. / 20);
  EXPECT_DOUBLE_EQ(first.profiled.share_for_80, 0.5);
  EXPECT_EQ(figures.layers[1].hot_neurons, 0);
  EXPECT_DOUBLE_EQ(figures.layers[1].coverage, 0);
  EXPECT_TRUE(std::isnan(figures.layers[1].held_out_coverage));
}

TEST(WorkOutFigures, WholeModelIsAllLayersTogether) {
  const ReportSample sample = TwoLayers();
  const LayerFigures model = WorkOutFigures(sample.input()).model;
  EXPECT_EQ(model.neurons(), 8);
  EXPECT_EQ(model.hot_neurons, 2);
  EXPECT_DOUBLE_EQ(model.coverage, 11. / 20);
  EXPECT_DOUBLE_EQ(model.held_out_coverage, 5. / 8);
  EXPECT_DOUBLE_EQ(model.frequency.front(), 0.8);
  EXPECT_DOUBLE_EQ(model.frequency.back(), 0);
}

TEST(WorkOutFigures, NamesTheAccelerator) {
  ReportSample sample = TwoLayers();
  EXPECT_EQ(WorkOutFigures(sample.input()).accelerator, "GPU");
  sample.plan.devices[1].kind = DeviceKind::kHost;
  const ReportFigures emulated = WorkOutFigures(sample.input());
  EXPECT_TRUE(emulated.emulated);
  EXPECT_EQ(emulated.accelerator, "emulated accelerator");
  sample.plan.devices.pop_back();
  EXPECT_FALSE(WorkOutFigures(sample.input()).has_accelerator);
}

TEST(ActivationShare, InterpolatesBetweenNeurons) {
  const std::vector<double> cumulative = Cumulative({0.6, 0.3, 0.1, 0});
  EXPECT_DOUBLE_EQ(ActivationShare(cumulative, 0), 0);
  EXPECT_DOUBLE_EQ(ActivationShare(cumulative, 0.125), 0.3);
  EXPECT_DOUBLE_EQ(ActivationShare(cumulative, 0.25), 0.6);
  EXPECT_DOUBLE_EQ(ActivationShare(cumulative, 0.5), 0.9);
  EXPECT_DOUBLE_EQ(ActivationShare(cumulative, 1), 1);
}

TEST(ActivationShare, IsNotANumberWhereNothingIsActive) {
  EXPECT_TRUE(std::isnan(ActivationShare(Cumulative({0, 0}), 0.5)));
  EXPECT_TRUE(std::isnan(ActivationShare(Cumulative({}), 0.5)));
}

}  // namespace
}  // namespace thermocline
