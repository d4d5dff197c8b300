// Plan and its file: totals, writing, and reading with every check.
// SPDX-License-Identifier: Apache-2.0
#include "model/plan.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "core/checked.h"
#include "core/mapped_file.h"
#include "core/replace_file.h"
#include "model/plan_messages.h"
#include "model/printable.h"

namespace thermocline {
namespace {

constexpr size_t kLargestFileBytes = size_t{1} << 30;
constexpr uint64_t kLargestBytes = std::numeric_limits<int64_t>::max();

v1::PlacementObjective ToProto(PlacementObjective objective) {
  switch (objective) {
    case PlacementObjective::kLatency:
      return v1::PLACEMENT_OBJECTIVE_LATENCY;
    case PlacementObjective::kImpact:
      return v1::PLACEMENT_OBJECTIVE_IMPACT;
    case PlacementObjective::kLayers:
      return v1::PLACEMENT_OBJECTIVE_LAYERS;
  }
  return v1::PLACEMENT_OBJECTIVE_UNSPECIFIED;
}

std::optional<PlacementObjective> FromProto(v1::PlacementObjective objective) {
  switch (objective) {
    case v1::PLACEMENT_OBJECTIVE_LATENCY:
      return PlacementObjective::kLatency;
    case v1::PLACEMENT_OBJECTIVE_IMPACT:
      return PlacementObjective::kImpact;
    case v1::PLACEMENT_OBJECTIVE_LAYERS:
      return PlacementObjective::kLayers;
    default:
      return std::nullopt;
  }
}

std::optional<DeviceKind> FromProto(v1::DeviceKind kind) {
  switch (kind) {
    case v1::DEVICE_KIND_CPU:
      return DeviceKind::kCpu;
    case v1::DEVICE_KIND_CUDA:
      return DeviceKind::kCuda;
    case v1::DEVICE_KIND_HOST:
      return DeviceKind::kHost;
    default:
      return std::nullopt;
  }
}

void ToProto(const PlanPrediction& prediction, v1::PlanPrediction& message) {
  message.set_tokens_per_second(prediction.tokens_per_second);
  message.set_binding(prediction.binding);
  message.set_gap(prediction.gap);
  message.set_coverage(prediction.coverage);
  message.set_held_out_coverage(prediction.held_out_coverage);
  message.set_by_layer(prediction.by_layer);
}

v1::Plan ToProto(const Plan& plan) {
  v1::Plan message;
  message.set_model_sha256(plan.model_sha256);
  message.set_profile_sha256(plan.profile_sha256);
  message.set_objective(ToProto(plan.objective));
  message.set_batch_tokens(plan.batch_tokens);
  for (const PlanDevice& device : plan.devices) {
    v1::PlanDevice& to = *message.add_devices();
    to.set_name(device.name);
    to.set_kind(ToProto(device.kind));
    to.set_budget_bytes(device.budget_bytes);
    to.set_attention_bytes(device.attention_bytes);
    to.set_kv_cache_bytes(device.kv_cache_bytes);
    to.set_predictor_bytes(device.predictor_bytes);
    to.set_head_bytes(device.head_bytes);
    to.set_scratch_bytes(device.scratch_bytes);
    to.set_neuron_bytes(device.neuron_bytes);
  }
  for (size_t l = 0; l < plan.layers.size(); ++l) {
    v1::PlanLayer& to = *message.add_layers();
    to.set_layer(static_cast<int32_t>(l));
    to.set_attention_device(plan.layers[l].attention_device);
    to.set_kv_cache_device(plan.layers[l].kv_cache_device);
    to.set_predictor_device(plan.layers[l].predictor_device);
    for (const PlanUnit& unit : plan.layers[l].units) {
      v1::PlanUnit& unit_to = *to.add_units();
      unit_to.set_device(unit.device);
      unit_to.set_bytes(unit.bytes);
      unit_to.set_probability(unit.probability);
      unit_to.mutable_neurons()->Add(unit.neurons.begin(), unit.neurons.end());
    }
  }
  ToProto(plan.prediction, *message.mutable_prediction());
  for (const PlanAlternative& alternative : plan.alternatives) {
    v1::PlanAlternative& to = *message.add_alternatives();
    to.set_name(alternative.name);
    to.set_hot_neurons(alternative.hot_neurons);
    ToProto(alternative.prediction, *to.mutable_prediction());
  }
  message.set_complete(true);
  return message;
}

// Turns the message of one file into a plan for one model; every refusal names the file.
class PlanReader {
 public:
  PlanReader(const std::string& path, const ModelIdentity& model) : path_(path), model_(model) {}

  absl::StatusOr<Plan> Read(const v1::Plan& message) {
    if (!message.complete()) return InvalidArgument("{}: complete is false: the file was cut short", path_);
    plan_.model_sha256 = message.model_sha256();
    plan_.profile_sha256 = message.profile_sha256();
    if (message.model_sha256() != model_.sha256) {
      return InvalidArgument("{}: made for the model with SHA-256 {}, this model has {}", path_,
                             Printable(message.model_sha256()), model_.sha256);
    }
    const std::optional<PlacementObjective> objective = FromProto(message.objective());
    if (!objective) {
      return InvalidArgument("{}: objective is {}, which is none of 1 (latency) and 2 (impact)", path_,
                             static_cast<int>(message.objective()));
    }
    plan_.objective = *objective;
    plan_.batch_tokens = message.batch_tokens();
    if (plan_.batch_tokens < 1) {
      return InvalidArgument("{}: batch_tokens is {}, the least is 1", path_, plan_.batch_tokens);
    }
    TC_RETURN_IF_ERROR(ReadDevices(message));
    TC_RETURN_IF_ERROR(ReadLayers(message));
    TC_RETURN_IF_ERROR(CheckBudgets());
    if (!message.has_prediction()) return InvalidArgument("{}: prediction is missing", path_);
    TC_RETURN_IF_ERROR(Read(message.prediction(), "prediction", plan_.prediction));
    for (int i = 0; i < message.alternatives_size(); ++i) {
      const v1::PlanAlternative& from = message.alternatives(i);
      const std::string field = fmt::format("alternatives[{}]", i);
      PlanAlternative& alternative = plan_.alternatives.emplace_back();
      alternative.name = from.name();
      alternative.hot_neurons = from.hot_neurons();
      TC_RETURN_IF_ERROR(CheckNotNegative(field + ".hot_neurons", from.hot_neurons()));
      if (!from.has_prediction()) return InvalidArgument("{}: {}.prediction is missing", path_, field);
      TC_RETURN_IF_ERROR(Read(from.prediction(), field + ".prediction", alternative.prediction));
    }
    return std::move(plan_);
  }

 private:
  absl::Status CheckNotNegative(const std::string& field, int64_t value) const {
    if (value >= 0) return absl::OkStatus();
    return InvalidArgument("{}: {} is {}, the least is 0", path_, field, value);
  }

  absl::Status CheckFigure(const std::string& field, double value, double largest) const {
    if (value >= 0 && value <= largest) return absl::OkStatus();  // false for what is not a number
    return InvalidArgument("{}: {} is {}, the limits are 0 and {}", path_, field, value, largest);
  }

  // It is shown as it is.
  absl::Status CheckSentence(const std::string& field, const std::string& text) const {
    constexpr size_t kMostBytes = 1000;
    if (text.size() <= kMostBytes && std::ranges::none_of(text, [](unsigned char c) { return c < ' '; }))
      return absl::OkStatus();
    return InvalidArgument("{}: {} is no line of at most {} bytes", path_, field, kMostBytes);
  }

  absl::Status Read(const v1::PlanPrediction& from, const std::string& field, PlanPrediction& to) const {
    constexpr double kLargest = std::numeric_limits<double>::max();
    TC_RETURN_IF_ERROR(CheckFigure(field + ".tokens_per_second", from.tokens_per_second(), kLargest));
    TC_RETURN_IF_ERROR(CheckFigure(field + ".gap", from.gap(), kLargest));
    TC_RETURN_IF_ERROR(CheckFigure(field + ".coverage", from.coverage(), 1));
    TC_RETURN_IF_ERROR(CheckFigure(field + ".held_out_coverage", from.held_out_coverage(), 1));
    to.tokens_per_second = from.tokens_per_second();
    to.binding = from.binding();
    to.gap = from.gap();
    to.coverage = from.coverage();
    to.held_out_coverage = from.held_out_coverage();
    TC_RETURN_IF_ERROR(CheckSentence(field + ".by_layer", from.by_layer()));
    to.by_layer = from.by_layer();
    for (const char* known : {"memory", "synchronisation", "gpu bandwidth", "nothing"}) {
      if (to.binding == known) return absl::OkStatus();
    }
    return InvalidArgument(
        "{}: {}.binding is '{}', which is none of memory, synchronisation, gpu bandwidth, nothing", path_,
        field, Printable(to.binding));
  }

  absl::Status ReadDevices(const v1::Plan& message) {
    if (message.devices_size() == 0) return InvalidArgument("{}: devices is empty, the least is 1", path_);
    for (int i = 0; i < message.devices_size(); ++i) {
      const v1::PlanDevice& from = message.devices(i);
      const std::string field = fmt::format("devices[{}]", i);
      const std::optional<DeviceKind> kind = FromProto(from.kind());
      if (!kind) {
        return InvalidArgument("{}: {}.kind is {}, which is none of 1 (CPU), 2 (CUDA) and 3 (host)", path_,
                               field, static_cast<int>(from.kind()));
      }
      if ((*kind == DeviceKind::kCpu) != (i == 0)) {
        return InvalidArgument("{}: {}.kind is {}, but the CPU comes first and once", path_, field,
                               static_cast<int>(from.kind()));
      }
      if (from.name().empty()) return InvalidArgument("{}: {}.name is empty", path_, field);
      plan_.devices.push_back({.name = from.name(),
                               .kind = *kind,
                               .budget_bytes = from.budget_bytes(),
                               .attention_bytes = from.attention_bytes(),
                               .kv_cache_bytes = from.kv_cache_bytes(),
                               .predictor_bytes = from.predictor_bytes(),
                               .head_bytes = from.head_bytes(),
                               .scratch_bytes = from.scratch_bytes(),
                               .neuron_bytes = from.neuron_bytes()});
      TC_RETURN_IF_ERROR(CheckNotNegative(field + ".budget_bytes", from.budget_bytes()));
      TC_RETURN_IF_ERROR(CheckNotNegative(field + ".attention_bytes", from.attention_bytes()));
      TC_RETURN_IF_ERROR(CheckNotNegative(field + ".kv_cache_bytes", from.kv_cache_bytes()));
      TC_RETURN_IF_ERROR(CheckNotNegative(field + ".predictor_bytes", from.predictor_bytes()));
      TC_RETURN_IF_ERROR(CheckNotNegative(field + ".head_bytes", from.head_bytes()));
      TC_RETURN_IF_ERROR(CheckNotNegative(field + ".scratch_bytes", from.scratch_bytes()));
      TC_RETURN_IF_ERROR(CheckNotNegative(field + ".neuron_bytes", from.neuron_bytes()));
    }
    return absl::OkStatus();
  }

  absl::Status CheckDevice(const std::string& field, int64_t device) const {
    if (device >= 0 && device < static_cast<int64_t>(plan_.devices.size())) return absl::OkStatus();
    return InvalidArgument("{}: {} is {}, the limits are 0 and {}", path_, field, device,
                           plan_.devices.size() - 1);
  }

  absl::Status ReadLayers(const v1::Plan& message) {
    if (message.layers_size() != model_.n_layers) {
      return InvalidArgument("{}: made for {} layers, this model has {}", path_, message.layers_size(),
                             model_.n_layers);
    }
    for (int l = 0; l < message.layers_size(); ++l) {
      const v1::PlanLayer& from = message.layers(l);
      const std::string field = fmt::format("layers[{}]", l);
      if (from.layer() != l) {
        return InvalidArgument("{}: {}.layer is {} where layer {} belongs: a layer is missing or doubled",
                               path_, field, from.layer(), l);
      }
      TC_RETURN_IF_ERROR(CheckDevice(field + ".attention_device", from.attention_device()));
      TC_RETURN_IF_ERROR(CheckDevice(field + ".kv_cache_device", from.kv_cache_device()));
      TC_RETURN_IF_ERROR(CheckDevice(field + ".predictor_device", from.predictor_device()));
      PlanLayer& layer = plan_.layers.emplace_back();
      layer.attention_device = from.attention_device();
      layer.kv_cache_device = from.kv_cache_device();
      layer.predictor_device = from.predictor_device();
      TC_RETURN_IF_ERROR(ReadUnits(from, field, layer));
    }
    return absl::OkStatus();
  }

  absl::Status ReadUnits(const v1::PlanLayer& from, const std::string& layer_field, PlanLayer& layer) {
    std::vector<bool> seen(static_cast<size_t>(model_.d_ff));
    int64_t n_seen = 0;
    for (int u = 0; u < from.units_size(); ++u) {
      const v1::PlanUnit& unit = from.units(u);
      const std::string field = fmt::format("{}.units[{}]", layer_field, u);
      TC_RETURN_IF_ERROR(CheckDevice(field + ".device", unit.device()));
      TC_RETURN_IF_ERROR(CheckNotNegative(field + ".bytes", unit.bytes()));
      TC_RETURN_IF_ERROR(CheckFigure(field + ".probability", unit.probability(), 1));
      if (unit.neurons_size() == 0) return InvalidArgument("{}: {}.neurons is empty", path_, field);
      int64_t previous = -1;
      for (const uint32_t neuron : unit.neurons()) {
        if (neuron >= model_.d_ff) {
          return InvalidArgument("{}: {} holds neuron {}, this model's layers have {}", path_, field, neuron,
                                 model_.d_ff);
        }
        if (neuron <= previous) {
          return InvalidArgument("{}: {} holds neuron {} behind {}, neurons ascend", path_, field, neuron,
                                 previous);
        }
        if (seen[neuron]) {
          return InvalidArgument("{}: {} holds neuron {}, which another unit holds", path_, field, neuron);
        }
        seen[neuron] = true;
        previous = neuron;
      }
      n_seen += unit.neurons_size();
      layer.units.push_back({.device = unit.device(),
                             .bytes = unit.bytes(),
                             .probability = unit.probability(),
                             .neurons = {unit.neurons().begin(), unit.neurons().end()}});
    }
    if (n_seen == model_.d_ff) return absl::OkStatus();
    return InvalidArgument("{}: {} places {} neurons, this model's layers have {}", path_, layer_field,
                           n_seen, model_.d_ff);
  }

  // A device's neuron_bytes are its units', and an accelerator holds no more than its budget.
  absl::Status CheckBudgets() const {
    uint64_t budgets = 0;
    for (const PlanDevice& device : plan_.devices) {
      const auto sum = CheckedAdd(budgets, static_cast<uint64_t>(device.budget_bytes));
      if (!sum || *sum > kLargestBytes) {
        return InvalidArgument("{}: the devices' budget_bytes add up to 2^63 or more", path_);
      }
      budgets = *sum;
    }
    std::vector<uint64_t> unit_bytes(plan_.devices.size());
    for (const PlanLayer& layer : plan_.layers) {
      for (const PlanUnit& unit : layer.units) {
        const auto sum = CheckedAdd(unit_bytes[unit.device], static_cast<uint64_t>(unit.bytes));
        if (!sum) return InvalidArgument("{}: the units' bytes add up to 2^64 or more", path_);
        unit_bytes[unit.device] = *sum;
      }
    }
    for (size_t i = 0; i < plan_.devices.size(); ++i) {
      const PlanDevice& device = plan_.devices[i];
      if (static_cast<uint64_t>(device.neuron_bytes) != unit_bytes[i]) {
        return InvalidArgument("{}: devices[{}].neuron_bytes is {}, its units have {}", path_, i,
                               device.neuron_bytes, unit_bytes[i]);
      }
      uint64_t used = 0;
      for (const int64_t bytes : {device.attention_bytes, device.kv_cache_bytes, device.predictor_bytes,
                                  device.head_bytes, device.scratch_bytes, device.neuron_bytes}) {
        used += static_cast<uint64_t>(bytes);  // both are below 2^63
        if (used > kLargestBytes) {
          return InvalidArgument("{}: the bytes of devices[{}] add up to 2^63 or more", path_, i);
        }
      }
      if (i > 0 && used > static_cast<uint64_t>(device.budget_bytes)) {
        return InvalidArgument("{}: devices[{}] holds {} bytes, its budget_bytes is {}", path_, i, used,
                               device.budget_bytes);
      }
    }
    return absl::OkStatus();
  }

  const std::string& path_;
  const ModelIdentity& model_;
  Plan plan_;
};

}  // namespace

std::string_view NameOf(PlacementObjective objective) {
  switch (objective) {
    case PlacementObjective::kLatency:
      return "latency";
    case PlacementObjective::kImpact:
      return "impact";
    case PlacementObjective::kLayers:
      return "layers";
  }
  return "unknown";
}

absl::StatusOr<PlacementObjective> ParseObjective(std::string_view name) {
  for (const PlacementObjective objective :
       {PlacementObjective::kLatency, PlacementObjective::kImpact, PlacementObjective::kLayers}) {
    if (name == NameOf(objective)) return objective;
  }
  return InvalidArgument("'{}' is unknown; known are latency, impact, layers", Printable(name));
}

v1::DeviceKind ToProto(DeviceKind kind) {
  switch (kind) {
    case DeviceKind::kCpu:
      return v1::DEVICE_KIND_CPU;
    case DeviceKind::kCuda:
      return v1::DEVICE_KIND_CUDA;
    case DeviceKind::kHost:
      return v1::DEVICE_KIND_HOST;
  }
  return v1::DEVICE_KIND_UNSPECIFIED;
}

int64_t Plan::hot_neurons() const {
  int64_t count = 0;
  for (const PlanLayer& layer : layers) {
    for (const PlanUnit& unit : layer.units) {
      if (unit.device > 0) count += static_cast<int64_t>(unit.neurons.size());
    }
  }
  return count;
}

int64_t Plan::whole_layers() const {
  return std::ranges::count_if(layers, [](const PlanLayer& layer) {
    return std::ranges::all_of(layer.units, [](const PlanUnit& unit) { return unit.device > 0; });
  });
}

bool Plan::splits_layers() const {
  return std::ranges::any_of(layers, [](const PlanLayer& layer) {
    return std::ranges::any_of(
        layer.units, [&](const PlanUnit& unit) { return unit.device != layer.units.front().device; });
  });
}

int64_t Plan::accelerator_bytes() const {
  int64_t bytes = 0;
  for (size_t i = 1; i < devices.size(); ++i) bytes += devices[i].used_bytes();
  return bytes;
}

int64_t Plan::accelerator_budget() const {
  int64_t bytes = 0;
  for (size_t i = 1; i < devices.size(); ++i) bytes += devices[i].budget_bytes;
  return bytes;
}

absl::Status WritePlan(const Plan& plan, const std::string& path) {
  // The message has no maps, so its fields are written in one order only.
  std::string bytes;
  const v1::Plan message = ToProto(plan);
  if (message.ByteSizeLong() > kLargestFileBytes || !message.SerializeToString(&bytes)) {
    return ResourceExhausted("{}: the plan needs {} bytes, the limit is {}", path, message.ByteSizeLong(),
                             kLargestFileBytes);
  }
  return ReplaceFile(path, bytes);
}

absl::StatusOr<Plan> ReadPlan(const std::string& path, const ModelIdentity& model) {
  TC_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  if (file.bytes().size() > kLargestFileBytes) {
    return ResourceExhausted("{}: {} bytes, the limit is {}", path, file.bytes().size(), kLargestFileBytes);
  }
  v1::Plan message;
  if (!message.ParseFromArray(file.bytes().data(), static_cast<int>(file.bytes().size()))) {
    return InvalidArgument("{}: no plan, or a plan that was cut short", path);
  }
  return PlanReader(path, model).Read(message);
}

}  // namespace thermocline
