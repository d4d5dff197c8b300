// The limits of a placement problem.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/placement_check.h"

#include <set>
#include <string>

#include "core/checked.h"

namespace thermocline {
namespace {

constexpr int64_t kLargestBytes = int64_t{1} << 50;  // 1 PiB: sums of a few stay far below 2^63
constexpr int64_t kMostLayers = 1 << 16;
constexpr int64_t kMostNeurons = int64_t{1} << 31;  // of all layers
constexpr int64_t kMostAccelerators = 256;
constexpr double kMostGigabytesPerSecond = 1e6;
constexpr double kLongestSyncMicros = 1e9;
constexpr double kLongestTimeLimitSeconds = 86400;

absl::Status CheckCount(const std::string& field, int64_t value, int64_t least, int64_t most) {
  if (least <= value && value <= most) return absl::OkStatus();
  return InvalidArgument("{} is {}, the limits are {} and {}", field, value, least, most);
}

absl::Status CheckPositive(const std::string& field, double value, double most) {
  if (value > 0 && value <= most) return absl::OkStatus();  // false for what is not a number
  return InvalidArgument("{} is {}, which is not above 0 and at most {}", field, value, most);
}

absl::Status CheckFrequencies(const std::string& field, const std::vector<double>& frequency) {
  for (size_t i = 0; i < frequency.size(); ++i) {
    if (frequency[i] >= 0 && frequency[i] <= 1) continue;
    return InvalidArgument("{}[{}] is {}, the limits are 0 and 1", field, i, frequency[i]);
  }
  return absl::OkStatus();
}

absl::Status CheckLayer(const PlacementProblem& problem, size_t l) {
  const PlacementLayer& layer = problem.layers[l];
  const std::string field = fmt::format("layers[{}]", l);
  const size_t d_ff = problem.layers[0].frequency.size();
  if (layer.frequency.size() != d_ff) {
    return InvalidArgument("{}.frequency holds {} neurons, layers[0].frequency {}", field,
                           layer.frequency.size(), d_ff);
  }
  const size_t n_held_out = layer.held_out_frequency.size();
  if (n_held_out != problem.layers[0].held_out_frequency.size() || (n_held_out != 0 && n_held_out != d_ff)) {
    return InvalidArgument("{}.held_out_frequency holds {} neurons, the limits are 0 in every layer and {}",
                           field, n_held_out, d_ff);
  }
  TC_RETURN_IF_ERROR(CheckFrequencies(field + ".frequency", layer.frequency));
  TC_RETURN_IF_ERROR(CheckFrequencies(field + ".held_out_frequency", layer.held_out_frequency));
  TC_RETURN_IF_ERROR(CheckCount(field + ".neuron_bytes", layer.neuron_bytes, 1, kLargestBytes));
  TC_RETURN_IF_ERROR(CheckCount(field + ".attention_bytes", layer.attention_bytes, 0, kLargestBytes));
  TC_RETURN_IF_ERROR(CheckCount(field + ".kv_cache_bytes", layer.kv_cache_bytes, 0, kLargestBytes));
  return CheckCount(field + ".predictor_bytes", layer.predictor_bytes, 0, kLargestBytes);
}

// The whole model must be countable in 64 bits, so that no later sum needs a check.
absl::Status CheckTotal(const PlacementProblem& problem) {
  uint64_t total = static_cast<uint64_t>(problem.head_bytes);
  for (size_t l = 0; l < problem.layers.size(); ++l) {
    const PlacementLayer& layer = problem.layers[l];
    const auto neurons = CheckedMul(layer.frequency.size(), static_cast<uint64_t>(layer.neuron_bytes));
    const auto sum = neurons ? CheckedAdd(total, *neurons) : std::nullopt;
    const uint64_t tenants =
        static_cast<uint64_t>(layer.attention_bytes + layer.kv_cache_bytes + layer.predictor_bytes);
    if (!sum || *sum + tenants > static_cast<uint64_t>(kLargestBytes)) {
      return InvalidArgument("the bytes of layers[0] to layers[{}] and the head are above the limit of {}", l,
                             kLargestBytes);
    }
    total = *sum + tenants;
  }
  return absl::OkStatus();
}

absl::Status CheckAccelerators(const PlacementProblem& problem) {
  const auto n_accelerators = static_cast<int64_t>(problem.accelerators.size());
  TC_RETURN_IF_ERROR(CheckCount("the number of accelerators", n_accelerators, 0, kMostAccelerators));
  std::set<std::string> names = {"cpu"};
  for (size_t i = 0; i < problem.accelerators.size(); ++i) {
    const PlacementDevice& device = problem.accelerators[i];
    const std::string field = fmt::format("accelerators[{}]", i);
    if (device.name.empty()) return InvalidArgument("{}.name is empty", field);
    if (!names.insert(device.name).second) {
      return InvalidArgument("{}.name is '{}', which another device has", field, device.name);
    }
    if (device.kind != DeviceKind::kCuda && device.kind != DeviceKind::kHost) {
      return InvalidArgument("{}.kind is {}, an accelerator is CUDA (1) or host (2)", field,
                             static_cast<int>(device.kind));
    }
    TC_RETURN_IF_ERROR(CheckCount(field + ".budget_bytes", device.budget_bytes, 1, kLargestBytes));
    TC_RETURN_IF_ERROR(
        CheckPositive(field + ".gb_per_second", device.gb_per_second, kMostGigabytesPerSecond));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckPlacementProblem(const PlacementProblem& problem) {
  if (problem.objective != PlacementObjective::kLatency && problem.objective != PlacementObjective::kImpact &&
      problem.objective != PlacementObjective::kLayers) {
    return InvalidArgument("objective is {}, which is none of 0 (latency), 1 (impact) and 2 (layers)",
                           static_cast<int>(problem.objective));
  }
  const auto n_layers = static_cast<int64_t>(problem.layers.size());
  TC_RETURN_IF_ERROR(CheckCount("the number of layers", n_layers, 1, kMostLayers));
  const auto d_ff = static_cast<int64_t>(problem.layers[0].frequency.size());
  TC_RETURN_IF_ERROR(CheckCount("the number of layers[0].frequency", d_ff, 1, kMostNeurons / n_layers));
  TC_RETURN_IF_ERROR(CheckCount("head_bytes", problem.head_bytes, 0, kLargestBytes));
  TC_RETURN_IF_ERROR(CheckCount("scratch_bytes", problem.scratch_bytes, 0, kLargestBytes));
  for (size_t l = 0; l < problem.layers.size(); ++l) TC_RETURN_IF_ERROR(CheckLayer(problem, l));
  TC_RETURN_IF_ERROR(CheckTotal(problem));
  TC_RETURN_IF_ERROR(CheckAccelerators(problem));
  TC_RETURN_IF_ERROR(CheckPositive("cpu_gb_per_second", problem.cpu_gb_per_second, kMostGigabytesPerSecond));
  if (!(problem.sync_micros >= 0 && problem.sync_micros <= kLongestSyncMicros)) {
    return InvalidArgument("sync_micros is {}, the limits are 0 and {}", problem.sync_micros,
                           kLongestSyncMicros);
  }
  TC_RETURN_IF_ERROR(CheckCount("batch_tokens", problem.batch_tokens, 1, 1 << 20));
  TC_RETURN_IF_ERROR(CheckCount("group_neurons", problem.group_neurons, 1, 1 << 20));
  return CheckPositive("time_limit_seconds", problem.time_limit_seconds, kLongestTimeLimitSeconds);
}

}  // namespace thermocline
