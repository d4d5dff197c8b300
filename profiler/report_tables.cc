// The tables at the end of the report: the machine, and every layer.
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <string>
#include <vector>

#include "profiler/report_sections.h"
#include "profiler/report_text.h"

namespace thermocline {
namespace {

constexpr std::string_view kBandwidth = "GB/s";
constexpr std::string_view kLatency = "µs";

std::string SamplesRow(std::string_view name, const Samples& samples, std::string_view unit) {
  std::string row = fmt::format("<tr><th scope=\"row\">{}</th>", EscapeHtml(name));
  if (samples.values.empty()) {
    row += Cell("–") + Cell("–") + Cell("not measured");
  } else {
    row += Cell(fmt::format("{} {}", FormatNumber(samples.median()), unit), "number strong");
    row += Cell(fmt::format("{} to {}", FormatNumber(samples.min()), FormatNumber(samples.max())));
    row += Cell(FormatCount(static_cast<int64_t>(samples.values.size())));
  }
  return row + "</tr>\n";
}

std::string GroupRow(std::string_view name, std::string_view detail, bool emulated) {
  return fmt::format(
      "<tr class=\"group\"><th scope=\"rowgroup\" colspan=\"4\">{} <span "
      "class=\"detail\">{}</span>{}</th></tr>\n",
      EscapeHtml(name), EscapeHtml(detail),
      emulated ? " <span class=\"badge\">emulated: measured on the CPU</span>" : "");
}

std::string CpuRows(const HardwareProfile& hardware) {
  std::string rows = GroupRow(hardware.cpu,
                              fmt::format("{}, {} threads, {}", hardware.isa, hardware.threads,
                                          FormatBytes(static_cast<double>(hardware.memory_bytes))),
                              false);
  for (const ThreadBandwidth& read : hardware.cpu_read) {
    rows +=
        SamplesRow(fmt::format("memory read, {} {}", read.threads, read.threads == 1 ? "thread" : "threads"),
                   read.read_gb_per_second, kBandwidth);
  }
  return rows +
         SamplesRow("neuron-aware kernels, active bytes", hardware.cpu_neuron_gb_per_second, kBandwidth);
}

std::string AcceleratorRows(const AcceleratorProfile& accelerator) {
  std::string rows = GroupRow(accelerator.name, FormatBytes(static_cast<double>(accelerator.memory_bytes)),
                              accelerator.emulated);
  rows += SamplesRow("memory read", accelerator.read_gb_per_second, kBandwidth);
  rows += SamplesRow("to the device, pageable", accelerator.to_device_pageable_gb_per_second, kBandwidth);
  rows += SamplesRow("to the device, pinned", accelerator.to_device_pinned_gb_per_second, kBandwidth);
  rows += SamplesRow("from the device, pageable", accelerator.from_device_pageable_gb_per_second, kBandwidth);
  rows += SamplesRow("from the device, pinned", accelerator.from_device_pinned_gb_per_second, kBandwidth);
  rows += SamplesRow("launch", accelerator.launch_micros, kLatency);
  return rows + SamplesRow("synchronisation of a layer", accelerator.sync_micros, kLatency);
}

std::string DeviceName(const Plan& plan, int device) {
  if (device < 0 || static_cast<size_t>(device) >= plan.devices.size()) return "–";
  return plan.devices[static_cast<size_t>(device)].name;
}

std::string LayerRow(const ReportInput& input, const ReportFigures& figures, size_t index) {
  const LayerFigures& layer = figures.layers[index];
  const bool active = layer.active();
  const auto shown = [active](double share) { return Cell(active ? FormatColumnShare(share) : "–"); };
  std::string row = fmt::format("<tr data-layer=\"{0}\"><th scope=\"row\" class=\"number\">{0}</th>", index);
  row +=
      Cell(FormatCount(layer.hot_neurons)) +
      Cell(FormatColumnShare(static_cast<double>(layer.hot_neurons) / static_cast<double>(layer.neurons())));
  row += Cell(FormatColumnShare(layer.coverage)) + Cell(FormatColumnShare(layer.held_out_coverage));
  row += Cell(FormatColumnShare(layer.profiled.sparsity));
  row += shown(layer.profiled.share_for_50) + shown(layer.profiled.share_for_80) +
         shown(layer.profiled.share_for_90) + shown(layer.profiled.share_for_99);
  row += Cell(active ? FormatFixed(layer.profiled.gini, 3) : "–") +
         Cell(active ? FormatFixed(layer.profiled.third_moment, 2) : "–");
  row += Cell(FormatCount(layer.silent_neurons));
  row += Cell(index < input.plan->layers.size()
                  ? DeviceName(*input.plan, input.plan->layers[index].attention_device)
                  : "–",
              "");
  return row + "</tr>\n";
}

}  // namespace

std::string RenderHardware(const ReportInput& input) {
  std::string rows = CpuRows(*input.hardware);
  for (const AcceleratorProfile& accelerator : input.hardware->accelerators)
    rows += AcceleratorRows(accelerator);
  return Section("hardware", "The machine it was planned for",
                 "Measured, each several times. GB are 10⁹ bytes.",
                 "<div class=\"scroll\"><table><thead><tr><th scope=\"col\">quantity</th><th scope=\"col\" "
                 "class=\"number\">median</th>"
                 "<th scope=\"col\" class=\"number\">least to greatest</th><th scope=\"col\" "
                 "class=\"number\">samples</th></tr></thead>\n<tbody>\n" +
                     rows + "</tbody></table></div>\n");
}

std::string RenderLayerTable(const ReportInput& input, const ReportFigures& figures) {
  std::string rows;
  for (size_t index = 0; index < figures.layers.size(); ++index) rows += LayerRow(input, figures, index);
  std::string head;
  for (const std::string_view name :
       {"layer", "hot neurons", "hot share", "coverage", "held-out coverage", "sparsity", "for 50\u00a0%",
        "for 80\u00a0%", "for 90\u00a0%", "for 99\u00a0%", "Gini", "third moment", "never active"}) {
    head += fmt::format("<th scope=\"col\" class=\"number\">{}</th>", name);
  }
  head += "<th scope=\"col\">attention</th>";
  return Section(
      "layers", "Every layer",
      "“for 80 %”: the least share of the layer's neurons that make 80 % of its activations.",
      fmt::format("<div class=\"scroll\"><table "
                  "class=\"dense\"><thead><tr>{}</tr></thead>\n<tbody>\n{}</tbody></table></div>\n",
                  head, rows));
}

}  // namespace thermocline
