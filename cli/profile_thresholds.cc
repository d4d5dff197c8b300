// The thresholds of a profile directory.
// SPDX-License-Identifier: Apache-2.0
#include "cli/profile_thresholds.h"

#include <algorithm>
#include <filesystem>

#include "cli/progress_bar.h"
#include "profiler/corpus.h"
#include "profiler/threshold_allocation.h"
#include "profiler/threshold_calibration.h"
#include "scheduler/request.h"

namespace thermocline {
namespace {

using nlohmann::ordered_json;

constexpr int64_t kMostSamples = 64;  // their logits are held

// Of a window; what decoding mostly sees, and less attention than long contexts take.
constexpr int64_t kWindowTokens = 1'024;

constexpr ThresholdSite kSites[] = {ThresholdSite::kAttention, ThresholdSite::kAttentionOutput,
                                    ThresholdSite::kFeedForward, ThresholdSite::kDown, ThresholdSite::kGate};

bool HasThresholds(const ProfileDirectory& directory) {
  std::error_code ignored;
  return std::filesystem::exists(directory.thresholds(), ignored);
}

absl::Status Remove(const ProfileDirectory& directory, std::string_view reason) {
  std::error_code error;
  std::filesystem::remove(directory.thresholds(), error);
  if (error) return FailedPrecondition("{}: {}", directory.thresholds(), error.message());
  fmt::print(stderr, "thermocline: {} is removed: {}\n", directory.thresholds(), reason);
  return absl::OkStatus();
}

// Windows of the corpus until there are enough tokens.
absl::Status AddCorpus(const ThresholdRun& run, ThresholdCalibration& calibration, ProgressBar& bar) {
  const Tokenizer& tokenizer = *run.model.checkpoint.tokenizer;
  std::vector<TokenId> opening;  // of every window
  if (tokenizer.adds_bos()) opening.push_back(*tokenizer.bos());
  const int64_t window_tokens = std::min(run.model.runner->context_length(), kWindowTokens);
  TC_ASSIGN_OR_RETURN(const std::unique_ptr<Corpus> corpus,
                      Corpus::Open(run.corpus, tokenizer, window_tokens - std::ssize(opening), {}));
  std::vector<TokenId> window;
  while (calibration.tokens() < run.flags.tokens) {
    if (!run.go_on()) return Cancelled("interrupted: thresholds were not found yet");
    TC_ASSIGN_OR_RETURN(const std::span<const TokenId> text, corpus->NextWindow());
    if (text.empty()) break;
    window = opening;
    window.insert(window.end(), text.begin(), text.end());
    // The first token is an outlier with a BOS and without, and decoding never computes it.
    if (const absl::Status status = calibration.AddText(window, /*uncounted=*/1); !status.ok())
      return absl::Status(status.code(), fmt::format("{}: {}", run.corpus, MessageOf(status)));
    bar.Show(static_cast<double>(calibration.tokens()) / static_cast<double>(run.flags.tokens) / 2,
             fmt::format("thresholds: {} tokens", calibration.tokens()));
  }
  return absl::OkStatus();
}

}  // namespace

void AddThresholdFlags(CLI::App& command, ThresholdFlags& flags) {
  command.add_option(
      "--thresholds", flags.method,
      "find thresholds for --mode threshold: teal (inputs of every product, each as much as it "
      "costs little), uniform (the same share of each), cats (small activated gates), or none");
  command
      .add_option("--threshold-sparsity", flags.sparsity,
                  "share of the layers' weights that thresholds are to leave out; with cats of the neurons")
      ->capture_default_str();
  command
      .add_option("--threshold-tokens", flags.tokens, "of the corpus, from its beginning, to find them with")
      ->capture_default_str();
  command
      .add_option(
          "--threshold-samples", flags.samples,
          "pieces of 512 of these tokens that teal judges by: its time grows with them, its errors shrink")
      ->capture_default_str();
}

absl::Status CheckThresholdFlags(const ThresholdFlags& flags, const std::string& corpus) {
  if (!flags.method.empty() && flags.method != "none") {
    const absl::Status method = ParseThresholdMethod(flags.method).status();
    if (!method.ok()) return FieldError("--thresholds", fmt::format("{}, none", MessageOf(method)));
    if (corpus.empty()) return FieldError("--thresholds", "needs --corpus");
  }
  if (!(flags.sparsity > 0 && flags.sparsity <= kMostShare)) {
    return FieldError("--threshold-sparsity",
                      fmt::format("is {}, allowed are above 0 and at most {}", flags.sparsity, kMostShare));
  }
  if (flags.tokens < 2)
    return FieldError("--threshold-tokens", fmt::format("is {}, at least 2 are needed", flags.tokens));
  if (flags.samples < 1 || flags.samples > kMostSamples) {
    return FieldError("--threshold-samples",
                      fmt::format("is {}, allowed are 1 to {}", flags.samples, kMostSamples));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<ThresholdSet>> FindThresholds(const ThresholdRun& run) {
  const bool has_some = HasThresholds(run.directory);
  if (run.flags.method.empty() || run.flags.method == "none") {
    if (!has_some) return std::nullopt;
    if (run.flags.method == "none") {
      TC_RETURN_IF_ERROR(Remove(run.directory, "no thresholds are asked for"));
      return std::nullopt;
    }
    auto kept = ReadThresholds(run.directory.thresholds(), run.identity);
    if (kept.ok()) return *std::move(kept);
    TC_RETURN_IF_ERROR(Remove(run.directory, MessageOf(kept.status())));
    return std::nullopt;
  }
  TC_ASSIGN_OR_RETURN(
      ThresholdCalibration calibration,
      ThresholdCalibration::Create(*run.model.runner, {.method = *ParseThresholdMethod(run.flags.method),
                                                       .target = run.flags.sparsity,
                                                       .samples = run.flags.samples}));
  ProgressBar bar(/*visible=*/true);
  TC_RETURN_IF_ERROR(AddCorpus(run, calibration, bar));
  const int64_t n_layers = run.identity.n_layers;
  TC_ASSIGN_OR_RETURN(ThresholdSet thresholds, calibration.Find(run.identity, [&](int64_t layer) {
    bar.Show(0.5 + static_cast<double>(layer) / static_cast<double>(n_layers) / 2,
             fmt::format("thresholds: layer {} of {}", layer + 1, n_layers));
    return run.go_on();
  }));
  TC_RETURN_IF_ERROR(WriteThresholds(thresholds, run.directory.thresholds()));
  return thresholds;
}

ordered_json ThresholdsJson(const ThresholdSet& thresholds) {
  ordered_json layers = ordered_json::array();
  for (const LayerThresholds& layer : thresholds.layers) {
    ordered_json object = ordered_json::object();
    for (const ThresholdSite site : kSites) {
      object[std::string(NameOf(site))] = {{"magnitude", layer.at(site).magnitude},
                                           {"share", layer.at(site).share}};
    }
    object["skipped"] = layer.skipped;
    object["error"] = layer.error;
    layers.push_back(std::move(object));
  }
  return {{"method", NameOf(thresholds.method)},
          {"target", thresholds.target},
          {"tokens", thresholds.tokens},
          {"skipped", thresholds.skipped()},
          {"layers", layers}};
}

void PrintThresholds(const ordered_json& json) {
  fmt::print("\nthresholds ({}): {:.1f}% of the layers' weights left out, over {} tokens\n",
             json["method"].get<std::string>(), 100 * json["skipped"].get<double>(),
             json["tokens"].get<int64_t>());
  fmt::print("  {:>5} {:>10} {:>17} {:>13} {:>7} {:>7} {:>9} {:>9}\n", "layer", "attention",
             "attention output", "feed-forward", "down", "gate", "skipped", "error");
  const ordered_json& layers = json["layers"];
  for (size_t l = 0; l < layers.size(); ++l) {
    const auto share = [&](ThresholdSite site) {
      return 100 * layers[l][std::string(NameOf(site))]["share"].get<double>();
    };
    fmt::print("  {:>5} {:>9.1f}% {:>16.1f}% {:>12.1f}% {:>6.1f}% {:>6.1f}% {:>8.1f}% {:>9.2g}\n", l,
               share(ThresholdSite::kAttention), share(ThresholdSite::kAttentionOutput),
               share(ThresholdSite::kFeedForward), share(ThresholdSite::kDown), share(ThresholdSite::kGate),
               100 * layers[l]["skipped"].get<double>(), layers[l]["error"].get<double>());
  }
}

}  // namespace thermocline
