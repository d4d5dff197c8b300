// hardware.json: writing, reading and checking a HardwareProfile.
// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>
#include <string_view>

#include "core/mapped_file.h"
#include "core/replace_file.h"
#include "model/printable.h"
#include "model/strict_json.h"
#include "profiler/hardware.h"

namespace thermocline {
namespace {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;

constexpr std::string_view kFormat = "thermocline-hardware";
constexpr int64_t kVersion = 1;

// Past these a figure is a mistake: no machine is within orders of magnitude of them.
constexpr double kMostGbPerSecond = 1e6;
constexpr double kMostMicros = 1e6;
constexpr int64_t kMostMemoryBytes = int64_t{1} << 50;
constexpr int64_t kMostDimension = int64_t{1} << 24;
constexpr int64_t kMostThreads = 1024;  // of a ThreadTeam
constexpr size_t kMostEntries = 1024;   // of a list
constexpr size_t kMostNameBytes = 256;
constexpr int64_t kMostFileBytes = int64_t{4} << 20;

struct KindName {
  DeviceKind kind;
  std::string_view name;
};
constexpr KindName kKinds[] = {
    {DeviceKind::kCpu, "cpu"}, {DeviceKind::kCuda, "cuda"}, {DeviceKind::kHost, "host"}};

std::string_view NameOf(DeviceKind kind) {
  for (const KindName& known : kKinds)
    if (known.kind == kind) return known.name;
  return "unknown";
}

struct SamplesField {
  const char* name;
  Samples AcceleratorProfile::*member;
  double most;
};
constexpr SamplesField kAcceleratorFields[] = {
    {"read_gb_per_second_samples", &AcceleratorProfile::read_gb_per_second, kMostGbPerSecond},
    {"to_device_pageable_gb_per_second_samples", &AcceleratorProfile::to_device_pageable_gb_per_second,
     kMostGbPerSecond},
    {"to_device_pinned_gb_per_second_samples", &AcceleratorProfile::to_device_pinned_gb_per_second,
     kMostGbPerSecond},
    {"from_device_pageable_gb_per_second_samples", &AcceleratorProfile::from_device_pageable_gb_per_second,
     kMostGbPerSecond},
    {"from_device_pinned_gb_per_second_samples", &AcceleratorProfile::from_device_pinned_gb_per_second,
     kMostGbPerSecond},
    {"launch_micros_samples", &AcceleratorProfile::launch_micros, kMostMicros},
    {"sync_micros_samples", &AcceleratorProfile::sync_micros, kMostMicros},
};

// One object of the document, with its place for messages ("accelerators[0].").
class Fields {
 public:
  Fields(const Json& object, const std::string& path, std::string place)
      : object_(object), path_(path), place_(std::move(place)) {}

  absl::StatusOr<std::string> Text(const char* name) const {
    TC_ASSIGN_OR_RETURN(const Json* value, Find(name));
    if (!value->is_string()) return Wrong(name, *value, "a string");
    const auto& text = value->get_ref<const std::string&>();
    if (text.empty()) return InvalidArgument("{}: {}{} is empty", path_, place_, name);
    if (text.size() > kMostNameBytes) {
      return InvalidArgument("{}: {}{} is {} bytes long, the limit is {}", path_, place_, name, text.size(),
                             kMostNameBytes);
    }
    return text;
  }

  absl::StatusOr<bool> Flag(const char* name) const {
    TC_ASSIGN_OR_RETURN(const Json* value, Find(name));
    if (!value->is_boolean()) return Wrong(name, *value, "true or false");
    return value->get<bool>();
  }

  absl::StatusOr<int64_t> Integer(const char* name, int64_t most) const {
    TC_ASSIGN_OR_RETURN(const Json* value, Find(name));
    if (!value->is_number_integer()) return Wrong(name, *value, "an integer");
    // Everything positive is stored unsigned, so one that is not is negative or zero.
    if (!value->is_number_unsigned() || value->get<uint64_t>() == 0 ||
        value->get<uint64_t>() > static_cast<uint64_t>(most)) {
      return InvalidArgument("{}: {}{} is {}, allowed are 1 to {}", path_, place_, name, value->dump(), most);
    }
    return value->get<int64_t>();
  }

  absl::StatusOr<double> Number(const char* name, double most) const {
    TC_ASSIGN_OR_RETURN(const Json* value, Find(name));
    return CheckedNumber(*value, name, most);
  }

  absl::StatusOr<Samples> SamplesOf(const char* name, double most) const {
    TC_ASSIGN_OR_RETURN(const Json* list, List(name));
    if (list->empty()) return InvalidArgument("{}: {}{} has no sample", path_, place_, name);
    Samples samples;
    for (size_t i = 0; i < list->size(); ++i) {
      TC_ASSIGN_OR_RETURN(const double value,
                          CheckedNumber((*list)[i], fmt::format("{}[{}]", name, i), most));
      samples.values.push_back(value);
    }
    return samples;
  }

  absl::StatusOr<const Json*> List(const char* name) const {
    TC_ASSIGN_OR_RETURN(const Json* value, Find(name));
    if (!value->is_array()) return Wrong(name, *value, "a list");
    if (value->size() > kMostEntries) {
      return InvalidArgument("{}: {}{} has {} entries, the limit is {}", path_, place_, name, value->size(),
                             kMostEntries);
    }
    return value;
  }

  absl::StatusOr<Fields> Object(const char* name) const {
    TC_ASSIGN_OR_RETURN(const Json* value, Find(name));
    if (!value->is_object()) return Wrong(name, *value, "an object");
    return Fields(*value, path_, fmt::format("{}{}.", place_, name));
  }

  // Entry i of a list of objects.
  absl::StatusOr<Fields> Entry(const char* name, const Json& list, size_t i) const {
    const std::string entry = fmt::format("{}[{}]", name, i);
    if (!list[i].is_object()) return Wrong(entry, list[i], "an object");
    return Fields(list[i], path_, fmt::format("{}{}.", place_, entry));
  }

 private:
  absl::StatusOr<const Json*> Find(const char* name) const {
    const auto found = object_.find(name);
    if (found == object_.end()) return InvalidArgument("{}: {}{} is missing", path_, place_, name);
    return &*found;
  }

  absl::StatusOr<double> CheckedNumber(const Json& value, std::string_view name, double most) const {
    if (!value.is_number()) return Wrong(name, value, "a number");
    const double number = value.get<double>();
    if (!(number > 0 && number <= most)) {
      return InvalidArgument("{}: {}{} is {}, allowed are above 0 and at most {}", path_, place_, name,
                             number, most);
    }
    return number;
  }

  absl::Status Wrong(std::string_view name, const Json& value, std::string_view wanted) const {
    return InvalidArgument("{}: {}{} must be {}, found {}", path_, place_, name, wanted, value.type_name());
  }

  const Json& object_;
  const std::string& path_;
  std::string place_;
};

absl::Status CheckFormat(const Fields& root, const std::string& path) {
  TC_ASSIGN_OR_RETURN(const std::string format, root.Text("format"));
  if (format != kFormat) {
    return InvalidArgument("{}: format is '{}', a hardware profile says '{}'", path, Printable(format),
                           kFormat);
  }
  TC_ASSIGN_OR_RETURN(const int64_t version, root.Integer("version", INT64_MAX));
  if (version != kVersion)
    return InvalidArgument("{}: version is {}, this program reads {}", path, version, kVersion);
  return absl::OkStatus();
}

absl::Status ReadCpuBandwidth(const Fields& root, const std::string& path, HardwareProfile& hardware) {
  TC_ASSIGN_OR_RETURN(const Json* list, root.List("cpu_read"));
  int before = 0;
  for (size_t i = 0; i < list->size(); ++i) {
    TC_ASSIGN_OR_RETURN(const Fields entry, root.Entry("cpu_read", *list, i));
    TC_ASSIGN_OR_RETURN(const int64_t threads, entry.Integer("threads", kMostThreads));
    if (threads <= before) {
      return InvalidArgument("{}: cpu_read[{}].threads is {} after {}, they must ascend", path, i, threads,
                             before);
    }
    before = static_cast<int>(threads);
    TC_ASSIGN_OR_RETURN(Samples samples, entry.SamplesOf("read_gb_per_second_samples", kMostGbPerSecond));
    hardware.cpu_read.push_back({before, std::move(samples)});
  }
  if (before != hardware.threads) {
    return InvalidArgument("{}: cpu_read ends at {} threads, threads is {}", path, before, hardware.threads);
  }
  return absl::OkStatus();
}

absl::Status ReadNeuronBandwidth(const Fields& root, const std::string& path, HardwareProfile& hardware) {
  TC_ASSIGN_OR_RETURN(const Fields neuron, root.Object("cpu_neuron"));
  NeuronShape& shape = hardware.cpu_neuron_shape;
  TC_ASSIGN_OR_RETURN(hardware.cpu_neuron_gb_per_second,
                      neuron.SamplesOf("gb_per_second_samples", kMostGbPerSecond));
  TC_ASSIGN_OR_RETURN(shape.d_model, neuron.Integer("d_model", kMostDimension));
  TC_ASSIGN_OR_RETURN(shape.d_ff, neuron.Integer("d_ff", kMostDimension));
  TC_ASSIGN_OR_RETURN(shape.active_share, neuron.Number("active_share", 1));
  TC_ASSIGN_OR_RETURN(const std::string type, neuron.Text("weight_type"));
  const auto parsed = ParseElementType(type);
  if (!parsed.ok())
    return InvalidArgument("{}: cpu_neuron.weight_type: {}", path, Printable(MessageOf(parsed.status())));
  shape.weight_type = *parsed;
  return absl::OkStatus();
}

absl::StatusOr<AcceleratorProfile> ReadAccelerator(const Fields& entry, const std::string& path, size_t i) {
  AcceleratorProfile accelerator;
  TC_ASSIGN_OR_RETURN(accelerator.name, entry.Text("name"));
  TC_ASSIGN_OR_RETURN(const std::string kind, entry.Text("kind"));
  if (kind == NameOf(DeviceKind::kCuda)) {
    accelerator.kind = DeviceKind::kCuda;
  } else if (kind == NameOf(DeviceKind::kHost)) {
    accelerator.kind = DeviceKind::kHost;
  } else {
    return InvalidArgument("{}: accelerators[{}].kind is '{}', known are cuda and host", path, i,
                           Printable(kind));
  }
  TC_ASSIGN_OR_RETURN(accelerator.emulated, entry.Flag("emulated"));
  if (accelerator.emulated != (accelerator.kind == DeviceKind::kHost)) {
    return InvalidArgument("{}: accelerators[{}].emulated is {}, but its kind is {}", path, i,
                           accelerator.emulated, kind);
  }
  TC_ASSIGN_OR_RETURN(accelerator.memory_bytes, entry.Integer("memory_bytes", kMostMemoryBytes));
  for (const SamplesField& field : kAcceleratorFields) {
    TC_ASSIGN_OR_RETURN(accelerator.*field.member, entry.SamplesOf(field.name, field.most));
  }
  return accelerator;
}

absl::StatusOr<HardwareProfile> ParseHardware(std::string_view text, const std::string& path) {
  TC_ASSIGN_OR_RETURN(const Json document, ParseStrictJson(text, path));
  const Fields root(document, path, "");
  TC_RETURN_IF_ERROR(CheckFormat(root, path));
  HardwareProfile hardware;
  TC_ASSIGN_OR_RETURN(hardware.cpu, root.Text("cpu"));
  TC_ASSIGN_OR_RETURN(hardware.isa, root.Text("isa"));
  TC_ASSIGN_OR_RETURN(const int64_t threads, root.Integer("threads", kMostThreads));
  hardware.threads = static_cast<int>(threads);
  TC_ASSIGN_OR_RETURN(hardware.memory_bytes, root.Integer("memory_bytes", kMostMemoryBytes));
  TC_RETURN_IF_ERROR(ReadCpuBandwidth(root, path, hardware));
  TC_RETURN_IF_ERROR(ReadNeuronBandwidth(root, path, hardware));
  TC_ASSIGN_OR_RETURN(const Json* accelerators, root.List("accelerators"));
  for (size_t i = 0; i < accelerators->size(); ++i) {
    TC_ASSIGN_OR_RETURN(const Fields entry, root.Entry("accelerators", *accelerators, i));
    TC_ASSIGN_OR_RETURN(AcceleratorProfile accelerator, ReadAccelerator(entry, path, i));
    hardware.accelerators.push_back(std::move(accelerator));
  }
  return hardware;
}

OrderedJson ToJson(const HardwareProfile& hardware) {
  OrderedJson cpu_read = OrderedJson::array();
  for (const ThreadBandwidth& bandwidth : hardware.cpu_read) {
    cpu_read.push_back({{"threads", bandwidth.threads},
                        {"read_gb_per_second_samples", bandwidth.read_gb_per_second.values}});
  }
  OrderedJson accelerators = OrderedJson::array();
  for (const AcceleratorProfile& accelerator : hardware.accelerators) {
    OrderedJson entry = {{"name", accelerator.name},
                         {"kind", NameOf(accelerator.kind)},
                         {"emulated", accelerator.emulated},
                         {"memory_bytes", accelerator.memory_bytes}};
    for (const SamplesField& field : kAcceleratorFields)
      entry[field.name] = (accelerator.*field.member).values;
    accelerators.push_back(std::move(entry));
  }
  const NeuronShape& shape = hardware.cpu_neuron_shape;
  return {{"format", kFormat},
          {"version", kVersion},
          {"cpu", hardware.cpu},
          {"isa", hardware.isa},
          {"threads", hardware.threads},
          {"memory_bytes", hardware.memory_bytes},
          {"cpu_read", cpu_read},
          {"cpu_neuron",
           {{"d_model", shape.d_model},
            {"d_ff", shape.d_ff},
            {"weight_type", NameOf(shape.weight_type)},
            {"active_share", shape.active_share},
            {"gb_per_second_samples", hardware.cpu_neuron_gb_per_second.values}}},
          {"accelerators", accelerators}};
}

}  // namespace

absl::Status WriteHardware(const HardwareProfile& hardware, const std::string& path) {
  // The name of a CPU comes from the system and may hold any bytes; "replace" keeps dump from throwing.
  const std::string text = ToJson(hardware).dump(2, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
  TC_RETURN_IF_ERROR(ParseHardware(text, path).status());
  return ReplaceFile(path, text);
}

absl::StatusOr<HardwareProfile> ReadHardware(const std::string& path) {
  TC_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path, kMostFileBytes));
  return ParseHardware(text, path);
}

}  // namespace thermocline
