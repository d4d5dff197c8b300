// A graph knows successors and devices and takes only earlier prerequisites.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/graph.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace thermocline {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

Operator Named(std::string name, int32_t device, std::vector<OperatorId> prerequisites) {
  return {
      .name = std::move(name), .device = device, .work = [] {}, .prerequisites = std::move(prerequisites)};
}

TEST(OperatorGraph, IsEmptyOnOneDeviceAtFirst) {
  const OperatorGraph graph;
  EXPECT_EQ(graph.size(), 0);
  EXPECT_EQ(graph.n_devices(), 1);
}

TEST(OperatorGraph, NumbersOperatorsAndLinksThemToTheirSuccessors) {
  OperatorGraph graph;
  EXPECT_EQ(graph.Add(Named("attention", 0, {})), 0);
  EXPECT_EQ(graph.Add(Named("hot", 2, {0})), 1);
  EXPECT_EQ(graph.Add(Named("cold", 0, {0})), 2);
  EXPECT_EQ(graph.Add(Named("merge", 0, {1, 2})), 3);
  EXPECT_EQ(graph.size(), 4);
  EXPECT_EQ(graph.n_devices(), 3);
  EXPECT_EQ(graph.at(1).name, "hot");
  EXPECT_THAT(graph.successors(0), ElementsAre(1, 2));
  EXPECT_THAT(graph.successors(1), ElementsAre(3));
  EXPECT_THAT(graph.successors(2), ElementsAre(3));
  EXPECT_THAT(graph.successors(3), IsEmpty());
}

TEST(OperatorGraphDeathTest, RefusesWhatIsNoEarlierOperatorOrNoDevice) {
  OperatorGraph graph;
  graph.Add(Named("first", 0, {}));
  EXPECT_DEATH(graph.Add(Named("of itself", 0, {1})), "prerequisite < id");
  EXPECT_DEATH(graph.Add(Named("negative", 0, {-1})), "prerequisite >= 0");
  EXPECT_DEATH(graph.Add(Named("nowhere", -1, {})), "device >= 0");
  EXPECT_DEATH(graph.Add({.name = "idle", .work = {}}), "work");
}

}  // namespace
}  // namespace thermocline
