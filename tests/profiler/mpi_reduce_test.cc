// Profiles summed over the ranks. Run alone and, by the ctest profiler.mpirun, as two ranks.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/mpi_reduce.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "model/checkpoint.h"
#include "model/weights.h"
#include "profiler/activation_counter.h"
#include "tests/support/refusal.h"

namespace thermocline {
namespace {

constexpr char kDemo[] = THERMOCLINE_SOURCE_DIR "/models/demo";

// MPI can be started only once in a program.
const MpiSession& Session() {
  static const std::unique_ptr<MpiSession> session = *MpiSession::Start();
  return *session;
}

ActivationProfile Ranked(uint64_t value) {
  ActivationProfile profile;
  profile.model_sha256 = std::string(64, '1');
  profile.activation = "relu";
  profile.d_model = 8;
  profile.profiled_tokens = 1000;
  profile.held_out_tokens = 100;
  profile.Resize(12, 3);
  for (size_t l = 0; l < 12; ++l) {
    profile.layers[l].profiled.active = {value, value + l, 0};
    profile.layers[l].held_out.magnitude_sum = {0.5, static_cast<double>(l), 0};
  }
  profile.corpus = {.file = "a.txt", .size_bytes = 10, .consumed_bytes = 10, .windows = 4};
  return profile;
}

TEST(MpiReduce, StartsOnce) {
  EXPECT_GE(Session().rank(), 0);
  EXPECT_LT(Session().rank(), Session().size());
  const char* ranks = std::getenv("THERMOCLINE_TEST_RANKS");  // set where mpirun is
  EXPECT_EQ(Session().size(), ranks == nullptr ? 1 : std::atoi(ranks));
  EXPECT_EQ(MpiSession::Start().status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(MpiReduce, SumsEveryLayerOnRankZero) {
  const auto ranks = static_cast<uint64_t>(Session().size());
  const auto rank = static_cast<uint64_t>(Session().rank());
  ActivationProfile profile = Ranked(rank + 1);
  ASSERT_TRUE(Session().ReduceProfile(absl::OkStatus(), profile).ok());
  const uint64_t sum = rank == 0 ? ranks * (ranks + 1) / 2 : rank + 1;
  const uint64_t parts = rank == 0 ? ranks : 1;
  EXPECT_EQ(profile.profiled_tokens, static_cast<int64_t>(1000 * parts));
  EXPECT_EQ(profile.held_out_tokens, static_cast<int64_t>(100 * parts));
  EXPECT_EQ(profile.corpus, Ranked(0).corpus);
  for (size_t l = 0; l < 12; ++l) {
    EXPECT_EQ(profile.layers[l].profiled.active, (std::vector<uint64_t>{sum, sum + parts * l, 0}));
    EXPECT_EQ(profile.layers[l].held_out.magnitude_sum[1], static_cast<double>(parts * l));
  }
}

TEST(MpiReduce, UnequalPlacesCannotBeGoneOnFrom) {
  ActivationProfile profile = Ranked(1);
  profile.corpus.windows += Session().rank();
  const CorpusPosition mine = profile.corpus;
  ASSERT_TRUE(Session().ReduceProfile(absl::OkStatus(), profile).ok());
  const bool is_cleared = Session().rank() == 0 && Session().size() > 1;
  EXPECT_EQ(profile.corpus, is_cleared ? CorpusPosition() : mine);
}

TEST(MpiReduce, AFailureOfOneIsAFailureOfAll) {
  ActivationProfile profile = Ranked(1);
  const bool is_mine = Session().rank() == Session().size() - 1;
  const absl::Status status =
      Session().ReduceProfile(is_mine ? InvalidArgument("bad corpus") : absl::OkStatus(), profile);
  ExpectRefusal(status, {is_mine ? "bad corpus" : "another rank"});
}

TEST(MpiReduce, ProfilesOfOtherModelsAreRefusedByAll) {
  if (Session().size() == 1) GTEST_SKIP() << "needs mpirun";
  ActivationProfile profile = Ranked(1);
  if (Session().rank() == 1) profile.threshold = 0.5;
  const absl::Status status = Session().ReduceProfile(absl::OkStatus(), profile);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  if (Session().rank() == 1) ExpectRefusal(status, {"rank 1", "threshold 0.5", "threshold 0,"});
}

TEST(MpiReduce, SharedCountsEqualThoseOfOneProcess) {
  const Checkpoint checkpoint = *Checkpoint::Open(kDemo);
  const auto team = *ThreadTeam::Create(1);
  const CpuContext cpu{.team = team.get(), .kernels = &BestKernels()};
  ModelWeights weights = *ModelWeights::Load(checkpoint, cpu);
  const auto transformer = *Transformer::Create(checkpoint.config, weights, cpu, {});
  const auto count = [&](int rank, int ranks, ActivationProfile& profile) {
    const CountingOptions options{
        .window_tokens = 64, .held_out_every = 3, .max_tokens = 1500, .rank = rank, .ranks = ranks};
    return CountActivations(*transformer, *checkpoint.tokenizer, std::string(kDemo) + "/valid.txt", options,
                            profile, [](const CountingProgress&) { return true; });
  };
  ActivationProfile shared = EmptyProfile(checkpoint.config, std::string(64, 'a'), 0), whole = shared;
  const absl::Status counted = count(Session().rank(), Session().size(), shared);
  ASSERT_TRUE(Session().ReduceProfile(counted, shared).ok());
  ASSERT_TRUE(count(0, 1, whole).ok());
  EXPECT_EQ(shared.corpus, whole.corpus);
  if (Session().rank() != 0) {
    EXPECT_LT(shared.profiled_tokens, whole.profiled_tokens);
    return;
  }
  EXPECT_GE(whole.profiled_tokens + whole.held_out_tokens, 1500);
  EXPECT_EQ(shared.profiled_tokens, whole.profiled_tokens);
  EXPECT_EQ(shared.held_out_tokens, whole.held_out_tokens);
  for (size_t l = 0; l < whole.layers.size(); ++l) {
    EXPECT_EQ(shared.layers[l].profiled.active, whole.layers[l].profiled.active);
    EXPECT_EQ(shared.layers[l].held_out.active, whole.layers[l].held_out.active);
    for (size_t i = 0; i < whole.layers[l].profiled.magnitude_sum.size(); ++i) {
      const double sum = whole.layers[l].profiled.magnitude_sum[i];
      EXPECT_NEAR(shared.layers[l].profiled.magnitude_sum[i], sum, 1e-12 * sum);
    }
  }
}

}  // namespace
}  // namespace thermocline
