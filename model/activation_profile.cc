// profile.pb: from memory to the file and back, with every check that a file deserves; sums of profiles.
// SPDX-License-Identifier: Apache-2.0
#include "model/activation_profile.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "core/checked.h"
#include "core/mapped_file.h"
#include "core/replace_file.h"
#include "kernels_cpu/activation.h"
#include "model/printable.h"
#include "thermocline/v1/profile.pb.h"

namespace thermocline {
namespace {

constexpr int64_t kMostFileBytes = std::numeric_limits<int32_t>::max();  // what protobuf takes

void ToProto(const NeuronCounts& counts, v1::NeuronCounts& proto) {
  proto.mutable_active()->Add(counts.active.begin(), counts.active.end());
  proto.mutable_magnitude_sum()->Add(counts.magnitude_sum.begin(), counts.magnitude_sum.end());
}

v1::ActivationProfile ToProto(const ActivationProfile& profile) {
  v1::ActivationProfile proto;
  proto.set_model_sha256(profile.model_sha256);
  proto.set_architecture(profile.architecture);
  proto.set_activation(profile.activation);
  proto.set_threshold(profile.threshold);
  proto.set_d_model(profile.d_model);
  proto.set_d_ff(profile.d_ff);
  proto.set_profiled_tokens(profile.profiled_tokens);
  proto.set_held_out_tokens(profile.held_out_tokens);
  for (size_t l = 0; l < profile.layers.size(); ++l) {
    v1::LayerActivations& layer = *proto.add_layers();
    layer.set_layer(static_cast<int32_t>(l));
    ToProto(profile.layers[l].profiled, *layer.mutable_profiled());
    ToProto(profile.layers[l].held_out, *layer.mutable_held_out());
  }
  v1::ModelFootprint& footprint = *proto.mutable_footprint();
  footprint.set_neuron_bytes(profile.footprint.neuron_bytes);
  footprint.set_attention_bytes(profile.footprint.attention_bytes);
  footprint.set_kv_bytes_per_token(profile.footprint.kv_bytes_per_token);
  footprint.set_head_bytes(profile.footprint.head_bytes);
  footprint.set_context_tokens(profile.footprint.context_tokens);
  footprint.set_scratch_bytes(profile.footprint.scratch_bytes);
  footprint.set_reads_every_neuron(profile.footprint.reads_every_neuron);
  v1::GpuFootprint& gpu = *footprint.mutable_gpu();
  gpu.set_neuron_bytes(profile.footprint.gpu.neuron_bytes);
  gpu.set_attention_bytes(profile.footprint.gpu.attention_bytes);
  gpu.set_head_bytes(profile.footprint.gpu.head_bytes);
  gpu.set_scratch_bytes(profile.footprint.gpu.scratch_bytes);
  v1::CorpusPosition& corpus = *proto.mutable_corpus();
  corpus.set_file(profile.corpus.file);
  corpus.set_size_bytes(profile.corpus.size_bytes);
  corpus.set_consumed_bytes(profile.corpus.consumed_bytes);
  corpus.set_windows(profile.corpus.windows);
  corpus.set_consumed_tokens(profile.corpus.consumed_tokens);
  corpus.set_window_tokens(profile.corpus.window_tokens);
  corpus.set_held_out_every(profile.corpus.held_out_every);
  return proto;
}

// Reads and checks one message; every error starts with the path.
class ProfileReader {
 public:
  explicit ProfileReader(const std::string& path) : path_(path) {}

  absl::StatusOr<ActivationProfile> Read(const v1::ActivationProfile& proto) const {
    // The last field, always written: without it the end of the file is missing.
    if (!proto.has_corpus()) return InvalidArgument("{}: corpus is missing, the file is cut short", path_);
    ActivationProfile profile;
    profile.model_sha256 = proto.model_sha256();
    profile.architecture = proto.architecture();
    profile.activation = proto.activation();
    profile.threshold = proto.threshold();
    profile.d_model = proto.d_model();
    profile.d_ff = proto.d_ff();
    profile.profiled_tokens = proto.profiled_tokens();
    profile.held_out_tokens = proto.held_out_tokens();
    TC_RETURN_IF_ERROR(CheckHead(profile));
    TC_ASSIGN_OR_RETURN(profile.footprint, Footprint(proto.footprint()));
    TC_ASSIGN_OR_RETURN(profile.corpus, Position(proto.corpus()));
    if (proto.layers().empty()) return InvalidArgument("{}: layers is empty", path_);
    for (int l = 0; l < proto.layers_size(); ++l) {
      const v1::LayerActivations& layer = proto.layers(l);
      if (layer.layer() != l) {
        return InvalidArgument("{}: layers: found number {} where {} belongs", path_, layer.layer(), l);
      }
      LayerActivations& target = profile.layers.emplace_back();
      TC_ASSIGN_OR_RETURN(target.profiled, Counts(layer.profiled(), profile.d_ff, profile.profiled_tokens,
                                                  fmt::format("layer {} profiled", l)));
      TC_ASSIGN_OR_RETURN(target.held_out, Counts(layer.held_out(), profile.d_ff, profile.held_out_tokens,
                                                  fmt::format("layer {} held_out", l)));
    }
    return profile;
  }

 private:
  absl::Status CheckHead(const ActivationProfile& profile) const {
    const auto is_hexadecimal = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
    if (profile.model_sha256.size() != 64 || !std::ranges::all_of(profile.model_sha256, is_hexadecimal)) {
      return InvalidArgument("{}: model_sha256 '{}' is not 64 lower-case hexadecimal digits", path_,
                             Printable(profile.model_sha256));
    }
    if (profile.architecture.empty() || Printable(profile.architecture) != profile.architecture) {
      return InvalidArgument("{}: architecture '{}' is not a name", path_, Printable(profile.architecture));
    }
    const auto activation = ParseActivation(profile.activation);
    if (!activation.ok() || NameOf(*activation) != profile.activation) {
      return InvalidArgument("{}: activation '{}' is unknown", path_, Printable(profile.activation));
    }
    if (!std::isfinite(profile.threshold) || profile.threshold < 0) {
      return InvalidArgument("{}: threshold is {}, it must be finite and not negative", path_,
                             profile.threshold);
    }
    TC_RETURN_IF_ERROR(CheckLeast("d_model", profile.d_model, 1));
    TC_RETURN_IF_ERROR(CheckLeast("d_ff", profile.d_ff, 1));
    TC_RETURN_IF_ERROR(CheckLeast("profiled_tokens", profile.profiled_tokens, 0));
    return CheckLeast("held_out_tokens", profile.held_out_tokens, 0);
  }

  absl::Status CheckLeast(std::string_view field, int64_t value, int64_t least) const {
    if (value >= least) return absl::OkStatus();
    return InvalidArgument("{}: {} is {}, the least is {}", path_, field, value, least);
  }

  absl::StatusOr<ModelFootprint> Footprint(const v1::ModelFootprint& proto) const {
    TC_RETURN_IF_ERROR(CheckLeast("footprint.neuron_bytes", proto.neuron_bytes(), 0));
    TC_RETURN_IF_ERROR(CheckLeast("footprint.attention_bytes", proto.attention_bytes(), 0));
    TC_RETURN_IF_ERROR(CheckLeast("footprint.kv_bytes_per_token", proto.kv_bytes_per_token(), 0));
    TC_RETURN_IF_ERROR(CheckLeast("footprint.head_bytes", proto.head_bytes(), 0));
    TC_RETURN_IF_ERROR(CheckLeast("footprint.context_tokens", proto.context_tokens(), 0));
    TC_RETURN_IF_ERROR(CheckLeast("footprint.scratch_bytes", proto.scratch_bytes(), 0));
    const v1::GpuFootprint& gpu = proto.gpu();
    TC_RETURN_IF_ERROR(CheckLeast("footprint.gpu.neuron_bytes", gpu.neuron_bytes(), 0));
    TC_RETURN_IF_ERROR(CheckLeast("footprint.gpu.attention_bytes", gpu.attention_bytes(), 0));
    TC_RETURN_IF_ERROR(CheckLeast("footprint.gpu.head_bytes", gpu.head_bytes(), 0));
    TC_RETURN_IF_ERROR(CheckLeast("footprint.gpu.scratch_bytes", gpu.scratch_bytes(), 0));
    return ModelFootprint{.neuron_bytes = proto.neuron_bytes(),
                          .attention_bytes = proto.attention_bytes(),
                          .kv_bytes_per_token = proto.kv_bytes_per_token(),
                          .head_bytes = proto.head_bytes(),
                          .context_tokens = proto.context_tokens(),
                          .scratch_bytes = proto.scratch_bytes(),
                          .gpu = {.neuron_bytes = gpu.neuron_bytes(),
                                  .attention_bytes = gpu.attention_bytes(),
                                  .head_bytes = gpu.head_bytes(),
                                  .scratch_bytes = gpu.scratch_bytes()},
                          .reads_every_neuron = proto.reads_every_neuron()};
  }

  absl::StatusOr<CorpusPosition> Position(const v1::CorpusPosition& proto) const {
    TC_RETURN_IF_ERROR(CheckLeast("corpus.size_bytes", proto.size_bytes(), 0));
    TC_RETURN_IF_ERROR(CheckLeast("corpus.consumed_bytes", proto.consumed_bytes(), 0));
    TC_RETURN_IF_ERROR(CheckLeast("corpus.windows", proto.windows(), 0));
    TC_RETURN_IF_ERROR(CheckLeast("corpus.consumed_tokens", proto.consumed_tokens(), 0));
    TC_RETURN_IF_ERROR(CheckLeast("corpus.window_tokens", proto.window_tokens(), 0));
    TC_RETURN_IF_ERROR(CheckLeast("corpus.held_out_every", proto.held_out_every(), 0));
    if (proto.consumed_bytes() > proto.size_bytes()) {
      return InvalidArgument("{}: corpus.consumed_bytes is {}, the limit is corpus.size_bytes of {}", path_,
                             proto.consumed_bytes(), proto.size_bytes());
    }
    return CorpusPosition{.file = proto.file(),
                          .size_bytes = proto.size_bytes(),
                          .consumed_bytes = proto.consumed_bytes(),
                          .consumed_tokens = proto.consumed_tokens(),
                          .windows = proto.windows(),
                          .window_tokens = proto.window_tokens(),
                          .held_out_every = proto.held_out_every()};
  }

  absl::StatusOr<NeuronCounts> Counts(const v1::NeuronCounts& proto, int64_t d_ff, int64_t tokens,
                                      const std::string& where) const {
    if (proto.active_size() != d_ff || proto.magnitude_sum_size() != d_ff) {
      return InvalidArgument("{}: {} has {} counts and {} magnitudes, d_ff is {}", path_, where,
                             proto.active_size(), proto.magnitude_sum_size(), d_ff);
    }
    for (int i = 0; i < proto.active_size(); ++i) {
      const double magnitude = proto.magnitude_sum(i);
      if (proto.active(i) > static_cast<uint64_t>(tokens)) {
        return InvalidArgument("{}: {} neuron {} was active {} times, the limit is the {} tokens", path_,
                               where, i, proto.active(i), tokens);
      }
      if (!std::isfinite(magnitude) || magnitude < 0 || (magnitude > 0 && proto.active(i) == 0)) {
        return InvalidArgument(
            "{}: {} neuron {} has a magnitude of {} over {} tokens; it must be finite, "
            "not negative and 0 without tokens",
            path_, where, i, magnitude, proto.active(i));
      }
    }
    return NeuronCounts{.active = {proto.active().begin(), proto.active().end()},
                        .magnitude_sum = {proto.magnitude_sum().begin(), proto.magnitude_sum().end()}};
  }

  const std::string& path_;
};

template <typename T>
absl::Status CheckSame(std::string_view what, const T& a, const T& b) {
  if (a == b) return absl::OkStatus();
  return FailedPrecondition("the profiles differ in {}: {} and {}", what, a, b);
}

absl::Status AddTokens(int64_t more, int64_t& tokens) {
  if (!__builtin_add_overflow(tokens, more, &tokens)) return absl::OkStatus();
  return OutOfRange("the tokens of both profiles together are more than {}",
                    std::numeric_limits<int64_t>::max());
}

// Both of the same size.
absl::Status AddCounts(const NeuronCounts& more, NeuronCounts& counts) {
  for (size_t i = 0; i < counts.active.size(); ++i) {
    const std::optional<uint64_t> active = CheckedAdd(counts.active[i], more.active[i]);
    const double magnitude = counts.magnitude_sum[i] + more.magnitude_sum[i];
    if (!active || !std::isfinite(magnitude)) {
      return OutOfRange("neuron {}: the sums of both profiles do not fit", i);
    }
    counts.active[i] = *active;
    counts.magnitude_sum[i] = magnitude;
  }
  return absl::OkStatus();
}

}  // namespace

void ActivationProfile::Resize(int64_t n_layers, int64_t d_ff_per_layer) {
  const auto neurons = static_cast<size_t>(d_ff_per_layer);
  const NeuronCounts none{.active = std::vector<uint64_t>(neurons),
                          .magnitude_sum = std::vector<double>(neurons)};
  d_ff = d_ff_per_layer;
  layers.assign(static_cast<size_t>(n_layers), {.profiled = none, .held_out = none});
}

ActivationProfile EmptyProfile(const ModelConfig& config, std::string model_sha256, double threshold) {
  ActivationProfile profile;
  profile.model_sha256 = std::move(model_sha256);
  profile.architecture = config.architecture;
  profile.activation = NameOf(config.activation);
  profile.threshold = threshold;
  profile.d_model = config.d_model;
  profile.Resize(config.n_layers, config.d_ff);
  return profile;
}

absl::Status WriteProfile(const ActivationProfile& profile, const std::string& path) {
  std::string bytes;
  if (!ToProto(profile).SerializeToString(&bytes)) {
    return ResourceExhausted("{}: the profile takes more than {} bytes", path, kMostFileBytes);
  }
  return ReplaceFile(path, bytes);
}

absl::StatusOr<ActivationProfile> ReadProfile(const std::string& path) {
  TC_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  const auto size = static_cast<int64_t>(file.bytes().size());
  if (size > kMostFileBytes) {
    return InvalidArgument("{}: {} bytes, the limit of a profile is {}", path, size, kMostFileBytes);
  }
  v1::ActivationProfile proto;
  if (!proto.ParseFromArray(file.bytes().data(), static_cast<int>(size))) {
    return InvalidArgument("{}: not an activation profile, or cut short", path);
  }
  return ProfileReader(path).Read(proto);
}

absl::Status CheckBelongs(const ActivationProfile& profile, const ModelIdentity& model,
                          const std::string& path) {
  if (profile.model_sha256 != model.sha256) {
    return FailedPrecondition("{}: made for the model with SHA-256 {}, this one has {}", path,
                              profile.model_sha256, model.sha256);
  }
  const auto n_layers = static_cast<int64_t>(profile.layers.size());
  if (n_layers != model.n_layers || profile.d_model != model.d_model || profile.d_ff != model.d_ff) {
    return FailedPrecondition("{}: made for {} layers, d_model {}, d_ff {}; this model has {}, {}, {}", path,
                              n_layers, profile.d_model, profile.d_ff, model.n_layers, model.d_model,
                              model.d_ff);
  }
  return absl::OkStatus();
}

absl::StatusOr<ActivationProfile> MergeProfiles(const ActivationProfile& a, const ActivationProfile& b) {
  TC_RETURN_IF_ERROR(CheckSame("model_sha256", a.model_sha256, b.model_sha256));
  TC_RETURN_IF_ERROR(CheckSame("architecture", a.architecture, b.architecture));
  TC_RETURN_IF_ERROR(CheckSame("activation", a.activation, b.activation));
  TC_RETURN_IF_ERROR(CheckSame("threshold", a.threshold, b.threshold));
  TC_RETURN_IF_ERROR(CheckSame("n_layers", a.layers.size(), b.layers.size()));
  TC_RETURN_IF_ERROR(CheckSame("d_model", a.d_model, b.d_model));
  TC_RETURN_IF_ERROR(CheckSame("d_ff", a.d_ff, b.d_ff));
  ActivationProfile merged = a;
  merged.corpus = {};
  TC_RETURN_IF_ERROR(AddTokens(b.profiled_tokens, merged.profiled_tokens));
  TC_RETURN_IF_ERROR(AddTokens(b.held_out_tokens, merged.held_out_tokens));
  for (size_t l = 0; l < merged.layers.size(); ++l) {
    TC_RETURN_IF_ERROR(AddCounts(b.layers[l].profiled, merged.layers[l].profiled));
    TC_RETURN_IF_ERROR(AddCounts(b.layers[l].held_out, merged.layers[l].held_out));
  }
  return merged;
}

}  // namespace thermocline
