// thresholds.json: from memory to the file and back, with every check that a file deserves.
// SPDX-License-Identifier: Apache-2.0
#include "model/thresholds.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/mapped_file.h"
#include "core/replace_file.h"
#include "model/printable.h"
#include "model/strict_json.h"

namespace thermocline {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr std::string_view kFormat = "thermocline thresholds";
constexpr int64_t kVersion = 1;
constexpr int64_t kMostFileBytes = int64_t{1} << 24;

constexpr std::array kMethods = {ThresholdMethod::kTeal, ThresholdMethod::kUniform, ThresholdMethod::kCats};
constexpr std::array<ThresholdSite, kThresholdSites> kSites = {
    ThresholdSite::kAttention, ThresholdSite::kAttentionOutput, ThresholdSite::kFeedForward,
    ThresholdSite::kDown, ThresholdSite::kGate};

ordered_json ToJson(const LayerThresholds& layer) {
  ordered_json object = ordered_json::object();
  for (const ThresholdSite site : kSites) {
    const SiteThreshold& threshold = layer.at(site);
    object[std::string(NameOf(site))] = {{"magnitude", static_cast<double>(threshold.magnitude)},
                                         {"share", threshold.share}};
  }
  object["skipped"] = layer.skipped;
  object["error"] = layer.error;
  return object;
}

// Reads and checks one document; every error starts with the path.
class ThresholdReader {
 public:
  ThresholdReader(const std::string& path, const ModelIdentity& model) : path_(path), model_(model) {}

  absl::StatusOr<ThresholdSet> Read(const json& document) const {
    TC_ASSIGN_OR_RETURN(const std::string format, Text(document, "format"));
    TC_ASSIGN_OR_RETURN(const int64_t version, Count(document, "version"));
    if (format != kFormat || version != kVersion) {
      return InvalidArgument("{}: format is '{}' {}, this program reads '{}' {}", path_, Printable(format),
                             version, kFormat, kVersion);
    }
    ThresholdSet thresholds;
    TC_ASSIGN_OR_RETURN(thresholds.model, Model(document));
    TC_ASSIGN_OR_RETURN(const std::string method, Text(document, "method"));
    const auto known = ParseThresholdMethod(method);
    if (!known.ok()) return InvalidArgument("{}: method: {}", path_, MessageOf(known.status()));
    thresholds.method = *known;
    TC_ASSIGN_OR_RETURN(thresholds.target, Number(document, "target", 1));
    TC_ASSIGN_OR_RETURN(thresholds.tokens, Count(document, "tokens"));
    const auto layers = document.find("layers");
    if (layers == document.end() || !layers->is_array() ||
        static_cast<int64_t>(layers->size()) != model_.n_layers) {
      return InvalidArgument("{}: layers must be an array of {}", path_, model_.n_layers);
    }
    for (size_t l = 0; l < layers->size(); ++l) {
      auto layer = Layer((*layers)[l]);
      if (!layer.ok()) return InvalidArgument("{}: layer {}: {}", path_, l, MessageOf(layer.status()));
      thresholds.layers.push_back(*std::move(layer));
    }
    return thresholds;
  }

 private:
  absl::StatusOr<ModelIdentity> Model(const json& document) const {
    const auto object = document.find("model");
    if (object == document.end() || !object->is_object())
      return InvalidArgument("{}: model must be an object", path_);
    ModelIdentity made_for;
    TC_ASSIGN_OR_RETURN(made_for.sha256, Text(*object, "sha256"));
    TC_ASSIGN_OR_RETURN(made_for.n_layers, Count(*object, "n_layers"));
    TC_ASSIGN_OR_RETURN(made_for.d_model, Count(*object, "d_model"));
    TC_ASSIGN_OR_RETURN(made_for.d_ff, Count(*object, "d_ff"));
    if (made_for.sha256 != model_.sha256) {
      return FailedPrecondition("{}: made for the model with SHA-256 {}, this one has {}", path_,
                                Printable(made_for.sha256), model_.sha256);
    }
    if (made_for.n_layers != model_.n_layers || made_for.d_model != model_.d_model ||
        made_for.d_ff != model_.d_ff) {
      return FailedPrecondition("{}: made for {} layers, d_model {}, d_ff {}; this model has {}, {}, {}",
                                path_, made_for.n_layers, made_for.d_model, made_for.d_ff, model_.n_layers,
                                model_.d_model, model_.d_ff);
    }
    return made_for;
  }

  // Errors of these are about a layer: without the path.
  absl::StatusOr<LayerThresholds> Layer(const json& object) const {
    if (!object.is_object()) return InvalidArgument("is no object");
    LayerThresholds layer;
    for (const ThresholdSite site : kSites) {
      const std::string name(NameOf(site));
      const auto found = object.find(name);
      if (found == object.end() || !found->is_object()) return InvalidArgument("{} must be an object", name);
      const auto magnitude = NumberOf(*found, "magnitude", std::numeric_limits<float>::max());
      if (!magnitude.ok()) return InvalidArgument("{}: {}", name, MessageOf(magnitude.status()));
      const auto share = NumberOf(*found, "share", 1);
      if (!share.ok()) return InvalidArgument("{}: {}", name, MessageOf(share.status()));
      layer.at(site) = {.magnitude = static_cast<float>(*magnitude), .share = *share};
    }
    TC_ASSIGN_OR_RETURN(layer.skipped, NumberOf(object, "skipped", 1));
    TC_ASSIGN_OR_RETURN(layer.error, NumberOf(object, "error", std::numeric_limits<double>::max()));
    return layer;
  }

  // From 0 to `most`.
  static absl::StatusOr<double> NumberOf(const json& object, const char* name, double most) {
    const auto found = object.find(name);
    if (found == object.end() || !found->is_number()) return InvalidArgument("{} must be a number", name);
    const auto value = found->get<double>();
    if (!(value >= 0 && value <= most))
      return InvalidArgument("{} is {}, allowed are 0 to {}", name, value, most);
    return value;
  }

  absl::StatusOr<double> Number(const json& object, const char* name, double most) const {
    const auto number = NumberOf(object, name, most);
    if (!number.ok()) return InvalidArgument("{}: {}", path_, MessageOf(number.status()));
    return number;
  }

  absl::StatusOr<std::string> Text(const json& object, const char* name) const {
    const auto found = object.find(name);
    if (found == object.end() || !found->is_string())
      return InvalidArgument("{}: {} must be a string", path_, name);
    return found->get<std::string>();
  }

  absl::StatusOr<int64_t> Count(const json& object, const char* name) const {
    const auto found = object.find(name);
    if (found == object.end() || !found->is_number_unsigned() ||
        found->get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return InvalidArgument("{}: {} must be a whole number that is not negative", path_, name);
    }
    return found->get<int64_t>();
  }

  const std::string& path_;
  const ModelIdentity& model_;
};

}  // namespace

std::string_view NameOf(ThresholdMethod method) {
  switch (method) {
    case ThresholdMethod::kTeal:
      return "teal";
    case ThresholdMethod::kUniform:
      return "uniform";
    case ThresholdMethod::kCats:
      return "cats";
  }
  TC_CHECK(false);
}

absl::StatusOr<ThresholdMethod> ParseThresholdMethod(std::string_view name) {
  for (const ThresholdMethod method : kMethods)
    if (NameOf(method) == name) return method;
  return InvalidArgument("'{}' is unknown; known are teal, uniform, cats", Printable(std::string(name)));
}

std::string_view NameOf(ThresholdSite site) {
  switch (site) {
    case ThresholdSite::kAttention:
      return "attention";
    case ThresholdSite::kAttentionOutput:
      return "attention_output";
    case ThresholdSite::kFeedForward:
      return "feed_forward";
    case ThresholdSite::kDown:
      return "down";
    case ThresholdSite::kGate:
      return "gate";
  }
  TC_CHECK(false);
}

double ThresholdSet::skipped() const {
  double sum = 0;
  for (const LayerThresholds& layer : layers) sum += layer.skipped;
  return layers.empty() ? 0 : sum / static_cast<double>(layers.size());
}

absl::Status WriteThresholds(const ThresholdSet& thresholds, const std::string& path) {
  ordered_json layers = ordered_json::array();
  for (const LayerThresholds& layer : thresholds.layers) layers.push_back(ToJson(layer));
  const ordered_json document = {{"format", kFormat},
                                 {"version", kVersion},
                                 {"model",
                                  {{"sha256", thresholds.model.sha256},
                                   {"n_layers", thresholds.model.n_layers},
                                   {"d_model", thresholds.model.d_model},
                                   {"d_ff", thresholds.model.d_ff}}},
                                 {"method", NameOf(thresholds.method)},
                                 {"target", thresholds.target},
                                 {"tokens", thresholds.tokens},
                                 {"layers", layers}};
  return ReplaceFile(path, document.dump(1) + "\n");
}

absl::StatusOr<ThresholdSet> ReadThresholds(const std::string& path, const ModelIdentity& model) {
  TC_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path, kMostFileBytes));
  TC_ASSIGN_OR_RETURN(const json document, ParseStrictJson(text, path));
  return ThresholdReader(path, model).Read(document);
}

}  // namespace thermocline
