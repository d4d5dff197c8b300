// The memory bars: what takes each device's memory.
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "profiler/report_sections.h"
#include "profiler/report_text.h"
#include "profiler/svg.h"

namespace thermocline {
namespace {

constexpr double kWidth = 1180;
constexpr double kRowHeight = 74;

struct Tenant {
  std::string_view name;
  std::string_view css_class;
  int64_t PlanDevice::*bytes;
};
// In the order in which memory is given out.
constexpr std::array<Tenant, 6> kTenants = {{{"scratch", "scratch", &PlanDevice::scratch_bytes},
                                             {"predictors", "predictors", &PlanDevice::predictor_bytes},
                                             {"attention", "attention", &PlanDevice::attention_bytes},
                                             {"KV cache", "kv-cache", &PlanDevice::kv_cache_bytes},
                                             {"final norm and head", "head", &PlanDevice::head_bytes},
                                             {"neurons", "neurons", &PlanDevice::neuron_bytes}}};

double FreeBytes(const PlanDevice& device) {
  return std::max(0., static_cast<double>(device.budget_bytes) - static_cast<double>(device.used_bytes()));
}

std::string KindName(DeviceKind kind) {
  switch (kind) {
    case DeviceKind::kCpu:
      return "CPU";
    case DeviceKind::kCuda:
      return "GPU";
    case DeviceKind::kHost:
      return "emulated accelerator";
  }
  return "";
}

std::string DeviceTitle(const PlanDevice& device) {
  const std::string used = FormatBytes(static_cast<double>(device.used_bytes()));
  const std::string of =
      device.budget_bytes > 0
          ? fmt::format("{} of {}", used, FormatBytes(static_cast<double>(device.budget_bytes)))
          : used + ", no budget set";
  return fmt::format("{} ({}): {}", device.name, KindName(device.kind), of);
}

void DrawSegment(Svg& svg, double left, double top, double width, const std::string& name, double bytes,
                 std::string_view css_class) {
  if (width <= 0) return;
  const std::string label = fmt::format("{} {}", name, FormatBytes(bytes));
  svg.Rect({left, top}, width, 34, {fmt::format("segment {}", css_class), label});
  // Up to ten units a letter, where narrow pages enlarge the text.
  if (width > static_cast<double>(label.size()) * 9.8 + 12)
    svg.Text({left + 8, top + 22}, label, fmt::format("segment-label on-{}", css_class));
}

void DrawDevice(Svg& svg, const PlanDevice& device, double top) {
  svg.Text({0, top + 16}, DeviceTitle(device), "device-label");
  const double all =
      std::max(static_cast<double>(device.budget_bytes), static_cast<double>(device.used_bytes()));
  const LinearScale x = {0, all, 0, kWidth};
  double sum = 0;
  for (const Tenant& tenant : kTenants) {
    const auto bytes = static_cast<double>(device.*tenant.bytes);
    const std::string css_class = tenant.name == "neurons"
                                      ? (device.kind == DeviceKind::kCpu ? "cold" : "hot")
                                      : std::string(tenant.css_class);
    const std::string name = tenant.name == "neurons" ? css_class + " neurons" : std::string(tenant.name);
    DrawSegment(svg, x(sum), top + 24, x(sum + bytes) - x(sum), name, bytes, css_class);
    sum += bytes;
  }
  DrawSegment(svg, x(sum), top + 24, x(sum + FreeBytes(device)) - x(sum), "free", FreeBytes(device), "free");
}

// Accelerators first: theirs is the memory that is short.
std::vector<const PlanDevice*> InOrderOfInterest(const Plan& plan) {
  std::vector<const PlanDevice*> devices;
  for (const PlanDevice& device : plan.devices) devices.push_back(&device);
  std::ranges::stable_partition(devices,
                                [](const PlanDevice* device) { return device->kind != DeviceKind::kCpu; });
  return devices;
}

std::string Bars(const std::vector<const PlanDevice*>& devices) {
  const double height = kRowHeight * static_cast<double>(std::max<size_t>(devices.size(), 1));
  Svg svg("memory-chart", kWidth, height, "Memory by device and tenant",
          "The figures stand in the table below.");
  for (size_t i = 0; i < devices.size(); ++i)
    DrawDevice(svg, *devices[i], kRowHeight * static_cast<double>(i));
  return "<figure>" + std::move(svg).Finish() + "</figure>\n";
}

std::string Swatches(std::string_view name, std::string_view css_class) {
  if (name != "neurons") return fmt::format("<span class=\"key {}\"></span>{}", css_class, EscapeHtml(name));
  return "<span class=\"key hot\"></span><span class=\"key cold\"></span>hot and cold neurons";
}

std::string Table(const std::vector<const PlanDevice*>& devices) {
  std::string head = "<th scope=\"col\">tenant</th>";
  for (const PlanDevice* device : devices)
    head += fmt::format("<th scope=\"col\" class=\"number\">{}</th>", EscapeHtml(device->name));
  std::string rows;
  for (const Tenant& tenant : kTenants) {
    rows += fmt::format("<tr><th scope=\"row\">{}</th>", Swatches(tenant.name, tenant.css_class));
    for (const PlanDevice* device : devices)
      rows += Cell(FormatBytes(static_cast<double>(device->*tenant.bytes)));
    rows += "</tr>\n";
  }
  std::string used = "<tr class=\"sum\"><th scope=\"row\">used</th>";
  std::string free = "<tr><th scope=\"row\"><span class=\"key free\"></span>free</th>";
  for (const PlanDevice* device : devices) {
    used += Cell(FormatBytes(static_cast<double>(device->used_bytes())), "number strong");
    free += Cell(device->budget_bytes > 0 ? FormatBytes(FreeBytes(*device)) : "–");
  }
  return fmt::format(
      "<div "
      "class=\"scroll\"><table><thead><tr>{}</tr></thead>\n<tbody>\n{}{}</tr>\n{}</tr>\n</tbody></table></"
      "div>\n",
      head, rows, used, free);
}

}  // namespace

std::string RenderMemory(const ReportInput& input) {
  const std::vector<const PlanDevice*> devices = InOrderOfInterest(*input.plan);
  return Section(
      "memory", "What takes the memory",
      "Everything that each token needs goes to the accelerator first; neurons share what is left. Each bar "
      "has a scale of its own.",
      Bars(devices) + Table(devices));
}

}  // namespace thermocline
