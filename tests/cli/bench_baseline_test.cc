// Baselines: what is refused, what is compared, and when a ratio fails.
// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_baseline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bench_sample.h"
#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"

namespace thermocline {
namespace {

using nlohmann::ordered_json;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

const BenchWorkload kWorkload = {.model_sha256 = "aa11", .prompt_tokens = 512, .decode_tokens = 64};

absl::StatusOr<ordered_json> Read(const std::string& text) {
  const TemporaryFolder folder;
  return ReadBaseline(folder.Write("old.json", text));
}

// {schema, plans: {layers:4MiB, latency:4MiB}}
ordered_json SampleOfPlans() {
  return {{"schema", 1}, {"plans", {{"layers:4MiB", SampleResult()}, {"latency:4MiB", SampleResult()}}}};
}

const ComparedFigure* Find(const BenchComparison& comparison, const std::string& mode,
                           const std::string& name) {
  for (const ComparedFigure& figure : comparison.figures) {
    if (figure.mode == mode && figure.name == name) return &figure;
  }
  return nullptr;
}

TEST(ReadBaseline, TakesResultsOfThisSchema) {
  const auto json = Read(SampleResult().dump());
  ASSERT_TRUE(json.ok()) << json.status();
  EXPECT_EQ(*json, SampleResult());
  EXPECT_TRUE(Read(SampleOfPlans().dump()).ok());
}

TEST(ReadBaseline, RefusesWhatIsNoResult) {
  ordered_json other = SampleResult();
  other["schema"] = 2;
  ExpectRefusal(Read(other.dump()).status(), {"old.json", "schema 2", "schema 1"});
  other["schema"] = "new\nline";
  ExpectRefusal(Read(other.dump()).status(), {"schema new line"});
  other.erase("schema");
  ExpectRefusal(Read(other.dump()).status(), {"schema unknown"});
  for (const char* text : {"{", "[1]", "7", "\"text\""})
    ExpectRefusal(Read(text).status(), {"no JSON object"});
  for (const char* text :
       {R"({"schema":1})", R"({"schema":1,"modes":{}})", R"({"schema":1,"modes":[1]})",
        R"({"schema":1,"plans":{}})", R"({"schema":1,"plans":7})", R"({"schema":1,"plans":{"a":3}})"})
    ExpectRefusal(Read(text).status(), {"old.json", "without figures"});
  ExpectRefusal(Read("").status(), {"old.json", "empty"});
  EXPECT_EQ(ReadBaseline("/nonexistent/old.json").status().code(), absl::StatusCode::kNotFound);
}

TEST(CheckBaseline, ModelLengthsAndPlansMustBeTheSame) {
  EXPECT_TRUE(CheckBaseline(SampleResult(), "old.json", kWorkload).ok());
  BenchWorkload workload = kWorkload;
  workload.model_sha256 = "bb22";
  ExpectRefusal(CheckBaseline(SampleResult(), "old.json", workload),
                {"old.json", "another model", "aa11", "bb22"});
  workload = kWorkload;
  workload.prompt_tokens = 32;
  ExpectRefusal(CheckBaseline(SampleResult(), "old.json", workload), {"prompt_tokens 512", "32"});
  workload = kWorkload;
  workload.decode_tokens = 65;
  ExpectRefusal(CheckBaseline(SampleResult(), "old.json", workload), {"decode_tokens 64", "65"});
  workload = kWorkload;
  workload.plans = {"latency:4MiB"};
  EXPECT_TRUE(CheckBaseline(SampleOfPlans(), "old.json", workload).ok());
  ExpectRefusal(CheckBaseline(SampleResult(), "old.json", workload), {"without --plans"});
  ExpectRefusal(CheckBaseline(SampleOfPlans(), "old.json", kWorkload), {"of --plans"});
  workload.plans = {"impact:4MiB"};
  ExpectRefusal(CheckBaseline(SampleOfPlans(), "old.json", workload), {"impact:4MiB"});
  ordered_json nameless = SampleResult();
  nameless.erase("model");
  ExpectRefusal(CheckBaseline(nameless, "old.json", kWorkload), {"SHA-256 unknown"});
}

TEST(CompareBench, GivesEveryFigureOfBothWithItsRatio) {
  ordered_json now = SampleResult();
  now["modes"]["exact"]["decode_tokens_per_second"]["median"] = 27.0;
  now["modes"]["exact"]["inter_token_ms"]["p99"] = 35.0;
  now["modes"]["predicted"] = now["modes"]["exact"];  // the baseline has none
  const BenchComparison comparison = CompareBench(SampleResult(), "old.json", now);
  EXPECT_THAT(comparison.hardware_differences, IsEmpty());
  const ComparedFigure* speed = Find(comparison, "exact", "decode tokens/s");
  ASSERT_NE(speed, nullptr);
  EXPECT_EQ(speed->before, 18.0);
  EXPECT_EQ(speed->now, 27.0);
  EXPECT_EQ(speed->ratio(), 1.5);
  EXPECT_EQ(Find(comparison, "exact", "token p99 ms")->ratio(), 0.5);
  EXPECT_EQ(Find(comparison, "dense", "share of peak")->ratio(), 1);
  EXPECT_EQ(Find(comparison, "", "prefill tokens/s")->before, 120);
  EXPECT_EQ(Find(comparison, "", "first token ms")->before, 4266);
  EXPECT_EQ(Find(comparison, "", "reads GB/s")->before, 40);
  EXPECT_EQ(Find(comparison, "predicted", "decode tokens/s"), nullptr);
  EXPECT_EQ(comparison.figures.size(), 1u + 3u + 2u * 8u);

  const ordered_json json = ComparisonJson(comparison);
  EXPECT_EQ(json["file"], "old.json");
  EXPECT_EQ(json["figures"].size(), comparison.figures.size());
  EXPECT_EQ(json["figures"][0],
            ordered_json({{"figure", "reads GB/s"}, {"before", 40.0}, {"now", 40.0}, {"ratio", 1.0}}));
}

TEST(CompareBench, LeavesOutWhatIsNoPositiveNumber) {
  ordered_json before = SampleResult();
  before["modes"]["dense"]["speedup"] = 0;
  before["modes"]["dense"]["gb_per_second"] = "fast";
  before["modes"]["dense"]["bytes_per_token"] = nullptr;
  before["modes"]["exact"] = 7;
  const BenchComparison comparison = CompareBench(before, "old.json", SampleResult());
  EXPECT_EQ(comparison.figures.size(), 1u + 3u + 8u - 3u);
}

TEST(CompareBench, NamesOtherHardware) {
  ordered_json before = SampleResult();
  before["hardware"]["threads"] = 4;
  before["hardware"]["cpu"] = "Another\nCPU";
  EXPECT_THAT(CompareBench(before, "old.json", SampleResult()).hardware_differences,
              ElementsAre("cpu: Another CPU, here Some CPU", "threads: 4, here 2"));
}

TEST(CompareBench, ComparesPlansByName) {
  ordered_json now = SampleOfPlans();
  now["plans"].erase("layers:4MiB");
  now["plans"]["latency:4MiB"]["modes"]["dense"]["decode_tokens_per_second"]["median"] = 5.0;
  const BenchComparison comparison = CompareBench(SampleOfPlans(), "old.json", now);
  EXPECT_EQ(comparison.figures.size(), 20u);
  const ComparedFigure* speed = Find(comparison, "dense", "decode tokens/s");
  EXPECT_EQ(speed->plan, "latency:4MiB");
  EXPECT_EQ(speed->ratio(), 0.5);
}

TEST(CheckRatios, TheWorstSpeedDecides) {
  ordered_json now = SampleResult();
  now["modes"]["exact"]["decode_tokens_per_second"]["median"] = 9.0;
  now["modes"]["dense"]["decode_tokens_per_second"]["median"] = 9.0;
  now["modes"]["dense"]["inter_token_ms"]["p99"] = 1.0;  // no speed: shorter is no failure
  const BenchComparison comparison = CompareBench(SampleResult(), "old.json", now);
  EXPECT_TRUE(CheckRatios(comparison, 0.5).ok());
  const absl::Status failed = CheckRatios(comparison, 0.51);
  EXPECT_EQ(failed.code(), absl::StatusCode::kFailedPrecondition);
  ExpectRefusal(failed, {"old.json", "exact decode tokens/s", "0.500", "0.51"});
  ExpectRefusal(CheckRatios({.file = "old.json"}, 0.5), {"no speed"});
}

}  // namespace
}  // namespace thermocline
