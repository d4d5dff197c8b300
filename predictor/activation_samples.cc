// Samples of activations in memory or in a file without a name.
// SPDX-License-Identifier: Apache-2.0
#include "predictor/activation_samples.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <utility>

#include "core/checked.h"
#include "core/half.h"
#include "core/random.h"

namespace thermocline {
namespace {

constexpr int kParts = 2;
constexpr uint64_t kAlignment = 64;

// One of [0, bound), the same for the same part and number.
int64_t Draw(SamplePart part, int64_t number, int64_t bound) {
  SplitMix64 random(static_cast<uint64_t>(number) << 1 | static_cast<uint64_t>(part));
  return static_cast<int64_t>(random.Next() % static_cast<uint64_t>(bound));
}

// The place of a part's token with the given number, or nothing when it is not kept. A reservoir: every token
// seen so far has the same chance to be held, and the draw needs nothing but the number.
std::optional<int64_t> PlaceOf(SamplePart part, int64_t number, int64_t capacity) {
  if (number < capacity) return number;
  const int64_t place = Draw(part, number, number + 1);
  if (place < capacity) return place;
  return std::nullopt;
}

// Memory that is read through a mapping and written through Write: anonymous, or a file without a name.
class Store {
 public:
  static absl::StatusOr<Store> InMemory(int64_t size_bytes) {
    Store store;
    return store.Map(size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE)
               ? absl::StatusOr<Store>(std::move(store))
               : ResourceExhausted("cannot allocate {} bytes for activation samples", size_bytes);
  }

  // The file grows as it is written; what lies past its end must not be read.
  static absl::StatusOr<Store> InFolder(const std::string& folder, int64_t size_bytes) {
    Store store;
    store.folder_ = folder;
    std::string path = folder + "/activation-samples.XXXXXX";
    store.descriptor_ = mkostemp(path.data(), O_CLOEXEC);
    if (store.descriptor_ < 0) {
      return FailedPrecondition("{}: no file for activation samples can be made: {}", folder,
                                std::strerror(errno));
    }
    unlink(path.c_str());
    if (!store.Map(size_bytes, PROT_READ, MAP_SHARED)) {
      return ResourceExhausted("{}: cannot map {} bytes of activation samples", folder, size_bytes);
    }
    return store;
  }

  Store() = default;
  Store(Store&& other) noexcept { *this = std::move(other); }
  Store& operator=(Store&& other) noexcept {
    std::swap(memory_, other.memory_);
    std::swap(size_bytes_, other.size_bytes_);
    std::swap(descriptor_, other.descriptor_);
    std::swap(folder_, other.folder_);
    return *this;
  }
  ~Store() {
    if (memory_ != nullptr) munmap(memory_, static_cast<size_t>(size_bytes_));
    if (descriptor_ >= 0) close(descriptor_);
  }

  bool in_file() const { return descriptor_ >= 0; }
  const std::byte* data() const { return memory_; }

  absl::Status Write(int64_t offset, std::span<const std::byte> bytes) {
    if (!in_file()) {
      std::memcpy(memory_ + offset, bytes.data(), bytes.size());
      return absl::OkStatus();
    }
    while (!bytes.empty()) {
      const ssize_t written = pwrite(descriptor_, bytes.data(), bytes.size(), offset);
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) {
        return ResourceExhausted("{}: activation samples cannot be written: {}", folder_,
                                 std::strerror(errno));
      }
      bytes = bytes.subspan(static_cast<size_t>(written));
      offset += written;
    }
    return absl::OkStatus();
  }

 private:
  bool Map(int64_t size_bytes, int protection, int flags) {
    void* memory = mmap(nullptr, static_cast<size_t>(size_bytes), protection, flags, descriptor_, 0);
    if (memory == MAP_FAILED) return false;
    memory_ = static_cast<std::byte*>(memory);
    size_bytes_ = size_bytes;
    return true;
  }

  std::byte* memory_ = nullptr;
  int64_t size_bytes_ = 0;
  int descriptor_ = -1;
  std::string folder_;
};

struct Sizes {
  int64_t x_row_bytes = 0;
  int64_t active_row_bytes = 0;
  int64_t part_bytes[kParts] = {};  // of one layer's part
  int64_t active_offset[kParts] = {};
  int64_t total_bytes = 0;
};

absl::StatusOr<Sizes> SizesOf(const SampleOptions& options) {
  constexpr int64_t kMost = int64_t{1} << 30;  // of any one of them, so that products of two do not overflow
  const std::pair<const char*, int64_t> fields[] = {{"n_layers", options.n_layers},
                                                    {"d_model", options.d_model},
                                                    {"d_ff", options.d_ff},
                                                    {"training_tokens", options.training_tokens},
                                                    {"held_out_tokens", options.held_out_tokens}};
  for (const auto& [name, value] : fields) {
    if (value < 1 || value > kMost)
      return InvalidArgument("{} is {}, allowed are 1 to {}", name, value, kMost);
  }
  Sizes sizes;
  sizes.x_row_bytes = options.d_model * static_cast<int64_t>(sizeof(uint16_t));
  sizes.active_row_bytes = BitWords(options.d_ff) * static_cast<int64_t>(sizeof(uint64_t));
  std::optional<uint64_t> layer_bytes = 0;
  for (int part = 0; part < kParts; ++part) {
    const int64_t tokens = part == 0 ? options.training_tokens : options.held_out_tokens;
    const auto x = CheckedAlignUp(static_cast<uint64_t>(tokens * sizes.x_row_bytes), kAlignment);
    const auto active = CheckedAlignUp(static_cast<uint64_t>(tokens * sizes.active_row_bytes), kAlignment);
    sizes.active_offset[part] = static_cast<int64_t>(*x);
    sizes.part_bytes[part] = static_cast<int64_t>(*x + *active);
    layer_bytes = CheckedAdd(*layer_bytes, *x + *active);
  }
  const auto total = CheckedMul(*layer_bytes, static_cast<uint64_t>(options.n_layers));
  if (!total || *total > uint64_t{1} << 46) {
    return InvalidArgument("activation samples of {} + {} tokens of {} layers take too many bytes",
                           options.training_tokens, options.held_out_tokens, options.n_layers);
  }
  sizes.total_bytes = static_cast<int64_t>(*total);
  return sizes;
}

// Bit i: |activate(gate[i])| > threshold.
template <class Activate>
void MarkAbove(std::span<const float> gate, float threshold, const Activate& activate,
               std::span<uint64_t> bits) {
  std::ranges::fill(bits, 0);
  for (size_t i = 0; i < gate.size(); ++i)
    bits[i / 64] |= static_cast<uint64_t>(std::abs(activate(gate[i])) > threshold) << (i % 64);
}

void MarkActive(std::span<const float> gate, const ActivationFunction& activation, float threshold,
                std::span<uint64_t> bits) {
  switch (activation.kind) {
    case Activation::kRelu:
    case Activation::kDRelu:  // the gate decides
      return MarkAbove(
          gate, threshold, [](float x) { return x > 0.0f ? x : 0.0f; }, bits);
    case Activation::kSilu:
      return MarkAbove(
          gate, threshold, [](float x) { return x / (1.0f + std::exp(-x)); }, bits);
    case Activation::kFatRelu:
      return MarkAbove(
          gate, threshold, [least = activation.threshold](float x) { return x >= least ? x : 0.0f; }, bits);
    case Activation::kRelu2:
      return MarkAbove(
          gate, threshold, [](float x) { return x > 0.0f ? x * x : 0.0f; }, bits);
    case Activation::kGelu:
      return MarkAbove(
          gate, threshold, [](float x) { return 0.5f * x * std::erfc(x * -0.70710678f); }, bits);
    case Activation::kGeluTanh:
      return MarkAbove(
          gate, threshold,
          [](float x) { return 0.5f * x * (1.0f + std::tanh(0.79788456f * (x + 0.044715f * x * x * x))); },
          bits);
  }
  TC_CHECK(false);
}

bool AllFinite(std::span<const float> values) {
  float sum = 0;
  for (const float value : values) sum += value * 0.0f;  // NaN as soon as one is not finite
  return sum == 0.0f;
}

}  // namespace

struct ActivationSamples::State {
  SampleOptions options;
  Sizes sizes;
  Store store;
  std::vector<int64_t> appended[kParts];  // per layer
  // A run of rows that lie side by side, on its way to the store.
  std::vector<uint16_t> x_rows;
  std::vector<uint64_t> active_rows;

  int64_t Capacity(SamplePart part) const {
    return part == SamplePart::kTraining ? options.training_tokens : options.held_out_tokens;
  }
  int64_t Offset(SamplePart part, int64_t layer) const {
    return layer * (sizes.part_bytes[0] + sizes.part_bytes[1]) +
           (part == SamplePart::kTraining ? 0 : sizes.part_bytes[0]);
  }
  int64_t ActiveOffset(SamplePart part, int64_t layer) const {
    return Offset(part, layer) + sizes.active_offset[static_cast<int>(part)];
  }

  // Writes the run, which begins at `place`, and empties it.
  absl::Status Flush(SamplePart part, int64_t layer, int64_t place) {
    if (x_rows.empty()) return absl::OkStatus();
    TC_RETURN_IF_ERROR(store.Write(Offset(part, layer) + place * sizes.x_row_bytes,
                                   std::as_bytes(std::span<const uint16_t>(x_rows))));
    TC_RETURN_IF_ERROR(store.Write(ActiveOffset(part, layer) + place * sizes.active_row_bytes,
                                   std::as_bytes(std::span<const uint64_t>(active_rows))));
    x_rows.clear();
    active_rows.clear();
    return absl::OkStatus();
  }
};

ActivationSamples::ActivationSamples(std::unique_ptr<State> state) : state_(std::move(state)) {}
ActivationSamples::ActivationSamples(ActivationSamples&&) noexcept = default;
ActivationSamples& ActivationSamples::operator=(ActivationSamples&&) noexcept = default;
ActivationSamples::~ActivationSamples() = default;

absl::StatusOr<ActivationSamples> ActivationSamples::Create(const SampleOptions& options) {
  auto state = std::make_unique<State>();
  TC_ASSIGN_OR_RETURN(state->sizes, SizesOf(options));
  const int64_t bytes = state->sizes.total_bytes;
  if (bytes <= options.memory_limit_bytes) {
    TC_ASSIGN_OR_RETURN(state->store, Store::InMemory(bytes));
  } else if (!options.spool_folder.empty()) {
    TC_ASSIGN_OR_RETURN(state->store, Store::InFolder(options.spool_folder, bytes));
  } else {
    return InvalidArgument(
        "activation samples may take {} bytes, the limit in memory is {}, and no spool folder is named",
        bytes, options.memory_limit_bytes);
  }
  state->options = options;
  for (std::vector<int64_t>& appended : state->appended)
    appended.resize(static_cast<size_t>(options.n_layers));
  return ActivationSamples(std::move(state));
}

absl::Status ActivationSamples::Append(SamplePart part, int64_t layer, MatrixView<const float> x,
                                       MatrixView<const uint64_t> active) {
  State& state = *state_;
  TC_CHECK(layer >= 0 && layer < n_layers() && x.cols == d_model() && active.rows == x.rows &&
           active.cols == BitWords(d_ff()));
  int64_t& number = state.appended[static_cast<int>(part)][static_cast<size_t>(layer)];
  int64_t begin = 0;  // place of the run
  int64_t end = 0;
  for (int64_t t = 0; t < x.rows; ++t, ++number) {
    if (!AllFinite(x.row(t))) {
      return InvalidArgument("layer {}, token {}: the feed-forward input is not finite", layer, number);
    }
    const std::optional<int64_t> place = PlaceOf(part, number, state.Capacity(part));
    if (!place) continue;
    if (*place != end) {
      TC_RETURN_IF_ERROR(state.Flush(part, layer, begin));
      begin = *place;
    }
    end = *place + 1;
    for (const float value : x.row(t)) state.x_rows.push_back(FloatToBFloat16(value));
    state.active_rows.insert(state.active_rows.end(), active.row(t).begin(), active.row(t).end());
  }
  return state.Flush(part, layer, begin);
}

absl::Status ActivationSamples::Append(SamplePart part, int64_t layer, MatrixView<const float> x,
                                       MatrixView<const float> gate, const ActivationFunction& activation,
                                       float threshold) {
  TC_CHECK(gate.rows == x.rows && gate.cols == d_ff());
  TC_ASSIGN_OR_RETURN(Matrix<uint64_t> active, Matrix<uint64_t>::Create(x.rows, BitWords(d_ff())));
  for (int64_t t = 0; t < x.rows; ++t) {
    if (std::ranges::any_of(gate.row(t), [](float value) { return std::isnan(value); })) {
      return InvalidArgument("layer {}: a gate of the feed-forward block is not a number", layer);
    }
    MarkActive(gate.row(t), activation, threshold, active.row(t));
  }
  return Append(part, layer, x, active.view());
}

LayerSamples ActivationSamples::Layer(SamplePart part, int64_t layer) const {
  const State& state = *state_;
  const int64_t tokens =
      std::min(state.appended[static_cast<int>(part)][static_cast<size_t>(layer)], state.Capacity(part));
  const std::byte* x = state.store.data() + state.Offset(part, layer);
  const std::byte* active = state.store.data() + state.ActiveOffset(part, layer);
  const int64_t words = BitWords(d_ff());
  return {.x = {reinterpret_cast<const uint16_t*>(x), tokens, d_model(), d_model()},
          .active = {reinterpret_cast<const uint64_t*>(active), tokens, words, words}};
}

int64_t ActivationSamples::tokens(SamplePart part) const {
  return std::min(std::ranges::min(state_->appended[static_cast<int>(part)]), state_->Capacity(part));
}
int64_t ActivationSamples::n_layers() const { return state_->options.n_layers; }
int64_t ActivationSamples::d_model() const { return state_->options.d_model; }
int64_t ActivationSamples::d_ff() const { return state_->options.d_ff; }
bool ActivationSamples::spooled() const { return state_->store.in_file(); }

}  // namespace thermocline
