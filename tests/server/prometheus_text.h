// A strict reader of Prometheus' text format, for tests.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <optional>
#include <regex>
#include <set>
#include <string>
#include <vector>

namespace thermocline::testing {

struct PrometheusSample {
  std::string name;
  std::map<std::string, std::string> labels;
  double value = 0;
};

// Families of HELP, TYPE and samples, in this order, each once. `error` is empty when all of it holds.
struct PrometheusText {
  std::map<std::string, std::string> types;  // by family
  std::vector<PrometheusSample> samples;
  std::string error;

  // The sample's value; nullopt where there is none. `labels`: those that must be there.
  std::optional<double> Value(const std::string& name,
                              const std::map<std::string, std::string>& labels = {}) const {
    for (const PrometheusSample& sample : samples) {
      if (sample.name != name) continue;
      bool matches = true;
      for (const auto& [key, value] : labels) {
        const auto found = sample.labels.find(key);
        matches = matches && found != sample.labels.end() && found->second == value;
      }
      if (matches) return sample.value;
    }
    return std::nullopt;
  }
};

inline std::optional<double> PrometheusNumber(const std::string& text) {
  if (text == "+Inf") return HUGE_VAL;
  if (text == "NaN") return NAN;
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  return text.empty() || *end != '\0' ? std::nullopt : std::optional(value);
}

inline PrometheusText ParsePrometheus(const std::string& text) {
  static const std::regex kSample(R"re(([a-zA-Z_:][a-zA-Z0-9_:]*)\{(.*)\} (\S+))re");
  static const std::regex kLabel(R"re(([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$))re");
  PrometheusText parsed;
  std::string family, help;
  std::set<std::string> series;
  const auto fail = [&parsed](const std::string& line, const std::string& why) {
    if (parsed.error.empty()) parsed.error = why + ": " + line;
  };
  if (!text.empty() && text.back() != '\n') fail(text, "no line end at the end");
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    if (line.starts_with("# HELP ")) {
      help = line.substr(7, line.find(' ', 7) - 7);
      if (line.size() < 7 + help.size() + 2) fail(line, "no help");
      continue;
    }
    if (line.starts_with("# TYPE ")) {
      const size_t space = line.find(' ', 7);
      family = line.substr(7, space - 7);
      const std::string type = line.substr(space + 1);
      if (family != help) fail(line, "TYPE without its HELP");
      if (type != "counter" && type != "gauge" && type != "histogram") fail(line, "unknown type");
      if (!parsed.types.emplace(family, type).second) fail(line, "a family comes twice");
      continue;
    }
    std::smatch match;
    if (!std::regex_match(line, match, kSample)) {
      fail(line, "no sample");
      continue;
    }
    PrometheusSample sample{.name = match[1].str()};
    const std::string labels = match[2].str();
    size_t read = 0;
    for (std::sregex_iterator label(labels.begin(), labels.end(), kLabel), last; label != last; ++label) {
      read += static_cast<size_t>(label->length());
      if (!sample.labels.emplace((*label)[1].str(), (*label)[2].str()).second)
        fail(line, "a label comes twice");
    }
    if (read != labels.size()) fail(line, "malformed labels");
    const std::optional<double> value = PrometheusNumber(match[3].str());
    if (!value) fail(line, "no number");
    sample.value = value.value_or(0);
    const std::string suffix = sample.name.substr(std::min(family.size(), sample.name.size()));
    const bool is_histogram = parsed.types[family] == "histogram";
    const bool fits =
        is_histogram ? suffix == "_bucket" || suffix == "_sum" || suffix == "_count" : suffix.empty();
    if (!sample.name.starts_with(family) || !fits) fail(line, "a sample outside of its family");
    if (sample.labels.contains("le") != (suffix == "_bucket")) fail(line, "le outside of buckets");
    if (!series.insert(match[1].str() + match[2].str()).second) fail(line, "a series comes twice");
    parsed.samples.push_back(std::move(sample));
  }
  // Buckets grow, and the last one is the count.
  for (const auto& [name, type] : parsed.types) {
    if (type != "histogram") continue;
    double bound = -HUGE_VAL, count = 0;
    for (const PrometheusSample& sample : parsed.samples) {
      if (sample.name != name + "_bucket") continue;
      const double next = PrometheusNumber(sample.labels.at("le")).value_or(-HUGE_VAL);
      if (next <= bound || sample.value < count) fail(name, "buckets do not grow");
      bound = next;
      count = sample.value;
    }
    if (bound != HUGE_VAL || parsed.Value(name + "_count") != count || !parsed.Value(name + "_sum")) {
      fail(name, "a histogram is not whole");
    }
  }
  return parsed;
}

}  // namespace thermocline::testing
