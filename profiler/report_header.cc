// The top of the report: whose it is, and what came out of it.
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <string>
#include <vector>

#include "profiler/activity_rule.h"
#include "profiler/report_sections.h"
#include "profiler/report_text.h"

namespace thermocline {
namespace {

std::string BindingNote(std::string_view binding) {
  if (binding == "memory") return "a larger budget would be faster";
  if (binding == "synchronisation") return "joining the devices costs more than further neurons would gain";
  if (binding == "gpu bandwidth") return "the accelerator is as busy as the CPU; more memory would not help";
  if (binding == "nothing") return "all that could gain is on the accelerator";
  return "";
}

std::string GapNote(double gap) {
  if (!std::isfinite(gap)) return "the solver gave no bound";
  return gap <= 0 ? "no plan of these groups can be better" : "no plan can be better by more than this";
}

// The finding in one or two sentences, as one would tell it.
std::string Finding(const ReportInput& input, const ReportFigures& figures) {
  if (!figures.model.active()) return "No neuron was active in the profiled text.";
  std::string finding = fmt::format("{} of the neurons make 80\u00a0% of the activations.",
                                    FormatShare(figures.model.profiled.share_for_80));
  if (!figures.has_accelerator)
    return finding + " The plan has no accelerator: every neuron is left to the CPU.";
  const double hot = static_cast<double>(figures.model.hot_neurons);
  finding +=
      fmt::format(" With {} of memory, the plan keeps {} of all neurons on the {}",
                  FormatBytes(static_cast<double>(input.plan->accelerator_budget())),
                  FormatShare(hot / static_cast<double>(figures.model.neurons())), figures.accelerator);
  if (figures.has_held_out) {
    finding += fmt::format("; they catch {} of the activations in text that it has not seen",
                           FormatShare(input.plan->prediction.held_out_coverage));
  }
  return finding + ".";
}

// Why no neurons were chosen; empty where they were.
std::string ByLayer(const Plan& plan) {
  std::string sentence = plan.prediction.by_layer;
  if (sentence.empty()) return sentence;
  sentence.front() = static_cast<char>(std::toupper(static_cast<unsigned char>(sentence.front())));
  return fmt::format("<p class=\"finding\" id=\"by-layer\">{}.</p>\n", EscapeHtml(sentence));
}

std::string AimOf(const Plan& plan) {
  switch (plan.objective) {
    case PlacementObjective::kLatency:
      return fmt::format("least time a token, batch of {}", FormatCount(plan.batch_tokens));
    case PlacementObjective::kImpact:
      return "most activations on the accelerator";
    case PlacementObjective::kLayers:
      return "whole layers on the accelerator, from the first";
  }
  return "nothing known";
}

}  // namespace

std::string RenderHeader(const ReportInput& input, const ReportFigures& figures) {
  const ActivationProfile& profile = *input.profile;
  std::string facts;
  facts += Fact("Model hash (SHA-256)", profile.model_sha256, "hash");
  facts += Fact("Architecture", profile.architecture);
  facts += Fact("Activation", fmt::format("{}; a neuron is active when {}", profile.activation,
                                          DescribeActivity(profile).text));
  facts += Fact("Shape", fmt::format("layers: {}; neurons in each: {}; width: {}",
                                     FormatCount(static_cast<int64_t>(profile.layers.size())),
                                     FormatCount(profile.d_ff), FormatCount(profile.d_model)));
  facts += Fact("Corpus", profile.corpus.file);
  facts += Fact("Tokens profiled", FormatCount(profile.profiled_tokens));
  facts += Fact("Tokens held out", FormatCount(profile.held_out_tokens));
  facts += Fact("The plan aims at", AimOf(*input.plan));
  const std::string_view badge =
      figures.emulated ? "<p class=\"badge\">Emulated accelerator: its timings were measured on the CPU</p>\n"
                       : "";
  return fmt::format(
      "<header>\n<p class=\"kicker\">Thermocline · activation profile and placement</p>\n<h1>{}</h1>\n{}"
      "<p class=\"finding\">{}</p>\n{}<dl class=\"facts\">\n{}</dl>\n</header>\n",
      EscapeHtml(input.model_name), badge, EscapeHtml(Finding(input, figures)), ByLayer(*input.plan), facts);
}

std::string RenderHeadline(const ReportInput& input, const ReportFigures& figures) {
  const Plan& plan = *input.plan;
  const PlanPrediction& prediction = plan.prediction;
  const double neurons = static_cast<double>(figures.model.neurons());
  const double hot = static_cast<double>(plan.hot_neurons());
  const double budget = static_cast<double>(plan.accelerator_budget());
  const double used = static_cast<double>(plan.accelerator_bytes());

  std::string tiles;
  tiles += Tile("figure-speed", "Predicted speed", FormatNumber(prediction.tokens_per_second) + " tokens/s",
                figures.emulated ? "decoding, on an emulated accelerator" : "decoding");
  tiles += Tile("figure-coverage", "Coverage on held-out text",
                figures.has_held_out ? FormatShare(prediction.held_out_coverage) : "–",
                FormatShare(prediction.coverage) + " on the profiled text");
  tiles += Tile("figure-hot", "Hot neurons", FormatCount(plan.hot_neurons()),
                fmt::format("{} of {}", FormatShare(hot / neurons), FormatCount(figures.model.neurons())));
  tiles += Tile("figure-memory",
                figures.has_accelerator ? "Memory of the " + figures.accelerator : "Accelerator memory",
                FormatBytes(used), fmt::format("{} of {}", FormatShare(used / budget), FormatBytes(budget)));
  tiles += Tile("figure-binding", "What binds", prediction.binding.empty() ? "–" : prediction.binding,
                BindingNote(prediction.binding));
  tiles += Tile("figure-gap", "Optimality gap", FormatShare(prediction.gap),
                prediction.by_layer.empty() ? GapNote(prediction.gap)
                                            : "what choosing neurons is expected to be faster by");
  return fmt::format("<dl class=\"tiles\" id=\"headline\">\n{}</dl>\n", tiles);
}

}  // namespace thermocline
