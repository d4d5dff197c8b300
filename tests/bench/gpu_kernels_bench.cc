// Kernels of the GPU against the bandwidth of its memory; a table for people and one JSON.
// SPDX-License-Identifier: Apache-2.0
//
// gpu_kernels_bench [--emulated] [--quick] [--seconds N] [--json FILE]. --emulated runs tiny shapes on an
// emulated device: it shows that the program works, its times mean nothing.
#include <CLI/CLI.hpp>
#include <memory>

#include "core/cpu_info.h"
#include "core/thread_team.h"
#include "kernels_cuda/device_probe.h"
#include "tests/bench/cublas_dense.h"
#include "tests/bench/gpu_bench.h"
#include "tests/bench/result_json.h"
#include "tests/support/emulated_gpu.h"

namespace thermocline::bench {
namespace {

using nlohmann::ordered_json;

constexpr double kGoalSparsity = 0.9;
constexpr double kGoalShare = 0.8;  // of the copy's bandwidth, on active bytes

struct Flags {
  bool emulated = false;
  bool quick = false;
  double seconds = 0;
  std::string json_path;
};

// By the kernel that writes F32 weights as F32, which is a copy. On a real device cudaMemcpy is the measure.
absl::StatusOr<Samples> CopyByKernel(GpuBench& bench) {
  const int64_t cols = bench.options().tiny ? 32 : 1024,
                rows = std::max<int64_t>(1, bench.options().working_set_bytes / (cols * 4));
  TC_ASSIGN_OR_RETURN(const GpuOwned<DeviceBlock> from, bench.Allocate(rows * cols * 4));
  TC_ASSIGN_OR_RETURN(const GpuOwned<DeviceBlock> to, bench.Allocate(rows * cols * 4));
  TC_RETURN_IF_ERROR(bench.gpu().Fill(from.get().data, 0, rows * cols * 4, bench.stream()));
  TC_ASSIGN_OR_RETURN(const Samples micros, bench.MicrosOf(1, [&](int64_t) {
    return bench.gpu().kernels().dequantize({from.get().data, ElementType::kF32, rows, cols, cols * 4},
                                            {AddressIn<float>(to), rows, cols, cols}, bench.stream());
  }));
  Samples gb_per_second;
  for (const double micro : micros.values)
    gb_per_second.values.push_back(2e-3 * static_cast<double>(rows * cols * 4) / micro);
  return gb_per_second;
}

absl::StatusOr<ordered_json> DescribeDevice(const Flags& flags, const Gpu& gpu) {
  const CpuInfo cpu = ReadCpuInfo();
  ordered_json json = {
      {"gpu", gpu.info().name},
      {"compute_capability", fmt::format("{}.{}", gpu.info().compute_major, gpu.info().compute_minor)},
      {"gpu_memory_bytes", gpu.info().memory_bytes},
      {"cpu", cpu.model_name},
      {"cpu_threads", cpu.usable_threads}};
  if (flags.emulated) return json;
  TC_ASSIGN_OR_RETURN(const CudaVersions versions, ReadCudaVersions());
  json["cuda_driver"] = versions.driver;
  json["cuda_runtime"] = versions.runtime;
  json["cublas"] = versions.cublas;
  return json;
}

// The least share of the copy's bandwidth over the shapes, for one token.
ordered_json Goals(const ordered_json& ffn) {
  ordered_json goals = ordered_json::array();
  for (const auto& of_type : {"F16", "BF16", "Q8_0", "Q4_0"}) {
    std::optional<double> least;
    std::string where;
    for (const auto& block : ffn) {
      if (block["type"] != of_type || block["tokens"] != 1) continue;
      for (const auto& row : block["rows"]) {
        const double share = row["share_of_copy"].get<double>();
        if (row["sparsity"].get<double>() != kGoalSparsity || (least && *least <= share)) continue;
        least = share;
        where = block["shape"].get<std::string>();
      }
    }
    goals.push_back(
        {{"goal", fmt::format("sparse feed-forward block, {}, one token, 90 % sparse: active bytes at "
                              "{:.0f} % of the copy's bandwidth or more, in every shape",
                              of_type, 100 * kGoalShare)},
         {"least", least ? ordered_json(*least) : ordered_json(nullptr)},
         {"shape", where},
         {"met", least ? ordered_json(*least >= kGoalShare) : ordered_json(nullptr)}});
  }
  return goals;
}

void PrintFfn(const ordered_json& ffn) {
  fmt::print("\n{:14}{:6}{:>7}{:>9}{:>12}{:>12}{:>9}{:>9}{:>14}{:>12}\n", "block", "type", "tokens", "silent",
             "us", "MB", "GB/s", "of copy", "dense/sparse", "cuBLAS us");
  for (const auto& block : ffn) {
    const auto& cublas = block["cublas_f16_dense_micros"];
    for (const auto& row : block["rows"]) {
      fmt::print("{:14}{:6}{:>7}{:>8.0f}%{:>12.2f}{:>12.3f}{:>9.0f}{:>8.1f}%{:>13.2f}x{:>12}\n",
                 block["shape"].get<std::string>(), block["type"].get<std::string>(),
                 block["tokens"].get<int>(), 100 * row["sparsity"].get<double>(),
                 row["micros"]["median"].get<double>(), 1e-6 * row["bytes"].get<double>(),
                 row["gb_per_second"].get<double>(), 100 * row["share_of_copy"].get<double>(),
                 row["speedup_over_dense"].get<double>(),
                 cublas.is_null() ? "" : fmt::format("{:.2f}", cublas["median"].get<double>()));
    }
  }
}

// Every field that is no figure names the case.
void PrintOthers(std::string_view title, const ordered_json& cases) {
  fmt::print("\n{}\n", title);
  for (const auto& row : cases) {
    std::string name;
    for (const auto& [key, value] : row.items()) {
      if (key == "micros") break;
      name += fmt::format("{}{} {}", name.empty() ? "" : ", ", key,
                          value.is_string() ? value.get<std::string>() : value.dump());
    }
    fmt::print("{:90}{:>12.2f} us{:>9.0f} GB/s{:>8.1f}%\n", name, row["micros"]["median"].get<double>(),
               row["gb_per_second"].get<double>(), 100 * row["share_of_copy"].get<double>());
  }
}

absl::Status RunBench(const Flags& flags) {
  std::unique_ptr<Gpu> gpu;
  if (flags.emulated) {
    TC_ASSIGN_OR_RETURN(gpu, OpenEmulatedGpu({}));
  } else {
    TC_ASSIGN_OR_RETURN(gpu, OpenGpu(0));
  }
  TC_ASSIGN_OR_RETURN(const std::unique_ptr<ThreadTeam> team,
                      ThreadTeam::Create(ReadCpuInfo().usable_threads));
  GpuBenchOptions options{.quick = flags.quick, .most_seconds = flags.seconds};
  if (flags.emulated) {
    options.working_set_bytes = 1;
    options.samples = 1;
    options.sample_seconds = 0;
    options.tiny = true;
  }
  GpuBench bench(*gpu, {team.get(), &BestKernels()}, options);
  ordered_json json = {{"benchmark", "gpu_kernels"}, {"emulated", flags.emulated}, {"build", BuildJson()}};
  TC_ASSIGN_OR_RETURN(json["hardware"], DescribeDevice(flags, *gpu));
  TC_ASSIGN_OR_RETURN(Samples copy, CopyByKernel(bench));
  json["copy_by_kernel_gb_per_second"] = ToJson(copy);
  if (!flags.emulated) {
    TC_ASSIGN_OR_RETURN(const DeviceProbe probe, ProbeCudaDevice({}));
    copy = probe.copy_gb_per_second;
    json["to_device_pinned_gb_per_second"] = ToJson(probe.to_device_pinned_gb_per_second);
    json["from_device_pinned_gb_per_second"] = ToJson(probe.from_device_pinned_gb_per_second);
    json["launch_micros"] = ToJson(probe.launch_micros);
    json["sync_micros"] = ToJson(probe.sync_micros);
  }
  json["copy_gb_per_second"] = ToJson(copy);
  const double peak = copy.median();
  TC_ASSIGN_OR_RETURN(json["mat_mul"], BenchMatMul(bench, peak));
  TC_ASSIGN_OR_RETURN(json["attention"], BenchAttention(bench, peak));
  TC_ASSIGN_OR_RETURN(json["predictors"], BenchPredictors(bench, peak));
  // Last, since it takes the longest and may be cut short.
  TC_ASSIGN_OR_RETURN(json["sparse_ffn"], BenchSparseFfn(bench, peak));
  json["complete"] = !bench.out_of_time();
  if (!flags.emulated) json["goals"] = Goals(json["sparse_ffn"]);

  fmt::print("{}{}: a copy moves {:.0f} GB/s (read plus written)\n", gpu->info().name,
             flags.emulated ? " (emulated: times mean nothing)" : "", peak);
  PrintFfn(json["sparse_ffn"]);
  PrintOthers("Products with weights", json["mat_mul"]);
  PrintOthers("Attention (bytes of keys and values)", json["attention"]);
  PrintOthers("Predictors", json["predictors"]);
  if (!json["complete"].get<bool>()) fmt::print("\nThe time was up before every case had been measured.\n");
  if (json.contains("goals")) fmt::print("\n");
  for (const auto& goal : json.value("goals", ordered_json::array())) {
    const auto& least = goal["least"];
    fmt::print("{}: {}\n", goal["goal"].get<std::string>(),
               least.is_null() ? "not measured"
                               : fmt::format("{} ({:.1f} %, {})", goal["met"].get<bool>() ? "met" : "NOT MET",
                                             100 * least.get<double>(), goal["shape"].get<std::string>()));
  }
  if (flags.json_path.empty()) return absl::OkStatus();
  return WriteJson(flags.json_path, json);
}

}  // namespace
}  // namespace thermocline::bench

int main(int argc, char** argv) {
  CLI::App program("Measures the kernels of the GPU");
  thermocline::bench::Flags flags;
  program.add_flag("--emulated", flags.emulated, "tiny shapes on an emulated device");
  program.add_flag("--quick", flags.quick, "one model's shapes");
  program.add_option("--seconds", flags.seconds, "leave out what would begin later than this; 0: nothing");
  program.add_option("--json", flags.json_path, "file for the result with raw samples");
  CLI11_PARSE(program, argc, argv);
  const absl::Status status = thermocline::bench::RunBench(flags);
  if (status.ok()) return 0;
  fmt::print(stderr, "gpu_kernels_bench: {}\n", status.ToString());
  return 1;
}
