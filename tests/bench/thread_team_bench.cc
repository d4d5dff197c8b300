// A spinning team beside an arena of oneTBB: loops of microseconds, and whole decode steps of models.
// SPDX-License-Identifier: Apache-2.0
//
// The two kinds take turns, so that what else the machine does meets both alike; figures are medians over the
// rounds. `cpu` counts the time of all threads of the process, looking and yielding included.
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/cpu_info.h"
#include "core/thread_team.h"
#include "core/timer.h"
#include "model/checkpoint.h"
#include "model/weights.h"
#include "scheduler/transformer.h"
#include "tests/bench/result_json.h"

namespace thermocline {
namespace {

using Json = nlohmann::ordered_json;

struct Kind {
  TeamKind kind;
  const char* name;
};
constexpr std::array<Kind, 2> kKinds = {{{TeamKind::kSpin, "spin"}, {TeamKind::kTbb, "tbb"}}};

struct Flags {
  std::vector<std::string> models;
  int threads = 0;
  int rounds = 15;
  int tokens = 32;
  std::string json;
};

double CpuSeconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// Works until so many microseconds have gone by on the clock.
void WorkFor(double micros) {
  const Stopwatch watch;
  while (watch.Seconds() * 1e6 < micros) {
  }
}

// Loops of one part a thread: `micros` of work each, `gap` microseconds of the caller's own between them.
struct Loop {
  const char* name;
  double micros;
  double gap;
  int count;
  bool sleeping = false;  // the team sleeps before each loop
};
constexpr Loop kLoops[] = {{"empty", 0, 0, 2000},
                           {"1 us", 1, 0, 2000},
                           {"5 us", 5, 0, 1000},
                           {"20 us", 20, 0, 300},
                           {"100 us", 100, 0, 100},
                           {"1 us, 3 us apart", 1, 3, 1000},
                           {"5 us, 3 us apart", 5, 3, 1000},
                           {"20 us, 3 us apart", 20, 3, 300},
                           {"5 us, after 5 ms of sleep", 5, 0, 10, true}};

// Microseconds a loop takes beyond its work.
double Overhead(const ThreadTeam& team, const Loop& loop) {
  double seconds = 0;
  for (int i = 0; i < loop.count; ++i) {
    if (loop.sleeping) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    if (loop.gap > 0) WorkFor(loop.gap);
    const Stopwatch watch;
    team.ParallelFor(team.threads(), 1, [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part)
        if (loop.micros > 0) WorkFor(loop.micros);
    });
    seconds += watch.Seconds();
  }
  return seconds * 1e6 / loop.count - loop.micros;
}

Json MeasureLoops(int threads, int rounds) {
  std::array<std::unique_ptr<ThreadTeam>, 2> teams;
  for (size_t k = 0; k < kKinds.size(); ++k)
    teams[k] = ThreadTeam::Create(threads, {.kind = kKinds[k].kind, .nodes = {}}).value();
  Json loops = Json::array();
  for (const Loop& loop : kLoops) {
    std::array<Samples, 2> micros;
    for (int round = 0; round < rounds; ++round)
      for (size_t k = 0; k < kKinds.size(); ++k) micros[k].values.push_back(Overhead(*teams[k], loop));
    Json figures = {{"loop", loop.name}, {"threads", threads}};
    for (size_t k = 0; k < kKinds.size(); ++k) figures[kKinds[k].name] = bench::ToJson(micros[k]);
    fmt::print("{:<28} {:>2} threads   spin {:>8.2f}   tbb {:>8.2f} us beyond the work\n", loop.name, threads,
               micros[0].median(), micros[1].median());
    loops.push_back(std::move(figures));
  }
  return loops;
}

// A model with a team of its own.
struct Decoder {
  std::unique_ptr<ThreadTeam> team;
  ModelWeights weights;
  std::unique_ptr<Transformer> runner;
  std::vector<float> logits;
  Samples tokens_per_second;
  Samples cpu_ms_per_token;

  absl::Status Load(const Checkpoint& checkpoint, int threads, TeamKind kind, int tokens) {
    TC_ASSIGN_OR_RETURN(team, ThreadTeam::Create(threads, {.kind = kind, .nodes = {}}));
    const CpuContext context{.team = team.get(), .kernels = &BestKernels()};
    TC_ASSIGN_OR_RETURN(weights, ModelWeights::Load(checkpoint, context));
    TC_ASSIGN_OR_RETURN(runner,
                        Transformer::Create(checkpoint.config, weights, context, {.context_tokens = tokens}));
    logits.resize(static_cast<size_t>(runner->n_vocab()));
    return absl::OkStatus();
  }
  absl::Status Decode(int tokens) {
    const double cpu = CpuSeconds();
    const Stopwatch watch;
    for (int position = 0; position < tokens; ++position) {
      const auto token = static_cast<TokenId>((1 + position * 7919) % runner->n_vocab());
      TC_RETURN_IF_ERROR(runner->Forward(
          {.tokens = {&token, 1}, .first_position = position, .kind = StepKind::kPrefill}, logits));
    }
    tokens_per_second.values.push_back(tokens / watch.Seconds());
    cpu_ms_per_token.values.push_back((CpuSeconds() - cpu) * 1e3 / tokens);
    return absl::OkStatus();
  }
};

absl::StatusOr<Json> MeasureDecode(const std::string& path, int threads, const Flags& flags) {
  TC_ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(path));
  std::array<Decoder, 2> decoders;
  for (size_t k = 0; k < kKinds.size(); ++k) {
    TC_RETURN_IF_ERROR(decoders[k].Load(checkpoint, threads, kKinds[k].kind, flags.tokens));
    TC_RETURN_IF_ERROR(decoders[k].Decode(flags.tokens));  // the first touch of everything
    decoders[k].tokens_per_second = decoders[k].cpu_ms_per_token = {};
  }
  for (int round = 0; round < flags.rounds; ++round) {
    // The kinds take turns in going first.
    for (size_t k = 0; k < kKinds.size(); ++k)
      TC_RETURN_IF_ERROR(decoders[(k + static_cast<size_t>(round)) % kKinds.size()].Decode(flags.tokens));
  }
  const std::string name = std::filesystem::path(path).filename().string();
  Json figures = {{"model", name}, {"threads", threads}, {"decode_tokens", flags.tokens}};
  for (size_t k = 0; k < kKinds.size(); ++k) {
    figures[kKinds[k].name] = {{"tokens_per_second", bench::ToJson(decoders[k].tokens_per_second)},
                               {"cpu_ms_per_token", bench::ToJson(decoders[k].cpu_ms_per_token)}};
    fmt::print("{:<36} {:>2} threads   {:<4} {:>9.1f} tokens/s {:>8.3f} ms of CPU a token\n", name, threads,
               kKinds[k].name, decoders[k].tokens_per_second.median(), decoders[k].cpu_ms_per_token.median());
  }
  return figures;
}

absl::Status Run(const Flags& flags) {
  const CpuInfo cpu = ReadCpuInfo();
  const int most = flags.threads > 0 ? flags.threads : cpu.usable_threads;
  Json result = {{"build", bench::BuildJson()},
                 {"hardware", {{"cpu", cpu.model_name}, {"usable_threads", cpu.usable_threads}}},
                 {"rounds", flags.rounds},
                 {"loops_micros_beyond_the_work", Json::array()},
                 {"decode", Json::array()}};
  std::vector<int> sizes = {1};
  if (most > 1) sizes.push_back(most);
  for (const int threads : sizes) {
    for (Json& loop : MeasureLoops(threads, flags.rounds))
      result["loops_micros_beyond_the_work"].push_back(loop);
    for (const std::string& model : flags.models) {
      TC_ASSIGN_OR_RETURN(Json figures, MeasureDecode(model, threads, flags));
      result["decode"].push_back(std::move(figures));
    }
  }
  return flags.json.empty() ? absl::OkStatus() : bench::WriteJson(flags.json, result);
}

}  // namespace
}  // namespace thermocline

int main(int argc, char** argv) {
  thermocline::Flags flags;
  CLI::App app("Compare a spinning thread team with an arena of oneTBB");
  app.add_option("--model", flags.models, "decode this model too; may be given again");
  app.add_option("--threads", flags.threads, "of the larger teams; 0 takes every usable CPU");
  app.add_option("--rounds", flags.rounds, "of each figure")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--tokens", flags.tokens, "decoded a round")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--json", flags.json, "write the figures to this file");
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = thermocline::Run(flags);
  if (!status.ok()) fmt::print(stderr, "thread_team_bench: {}\n", std::string(status.message()));
  return status.ok() ? 0 : 1;
}
