// GpuDevice: what an operator notes, what the host brings and takes, figures. gpu_device_kernels.cc runs it.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <bit>
#include <cstring>

#include "kernels_cpu/sparse_ffn.h"
#include "scheduler/gpu_device.h"
#include "scheduler/gpu_device_limits.h"

namespace thermocline {
namespace {

void CopyRows(MatrixView<const float> from, std::byte* to) {
  const size_t row_bytes = static_cast<size_t>(from.cols) * sizeof(float);
  for (int64_t r = 0; r < from.rows; ++r)
    std::memcpy(to + static_cast<size_t>(r) * row_bytes, from.row_data(r), row_bytes);
}

void CopyRows(const std::byte* from, MatrixView<float> to) {
  const size_t row_bytes = static_cast<size_t>(to.cols) * sizeof(float);
  for (int64_t r = 0; r < to.rows; ++r)
    std::memcpy(to.row_data(r), from + static_cast<size_t>(r) * row_bytes, row_bytes);
}

int64_t FloatBytes(int64_t rows, int64_t cols) { return rows * cols * static_cast<int64_t>(sizeof(float)); }

}  // namespace

// ---- The step's beginning

void GpuDevice::Begin(const DeviceStep& step) {
  if (!absl::IsResourceExhausted(error_) && !error_.ok()) return;  // lost
  error_ = absl::OkStatus();
  step_ = step;
  work_ = {};
  pending_.clear();
  wanted_.clear();
  marks_wanted_ = {};
  publishing_ = other_in_use_ = false;
  predicted_layer_ = -1;
  Note(gpu_->Synchronize(gpu_->compute()));  // nothing is left to do but after an error: staging is free
  if (failed()) return;

  std::byte* const staging = step_staging_.get().data;
  const auto at = [staging]<typename T>(int64_t offset, T) { return reinterpret_cast<T*>(staging + offset); };
  int32_t* const positions = at(layout_.positions, int32_t{});
  int32_t* const slices = at(layout_.slices, int32_t{});
  int32_t* const pages = at(layout_.pages, int32_t{});
  float* const thresholds = at(layout_.thresholds, float{});
  const int64_t pairs = rope_.pairs();
  const MatrixView<float> cos{at(layout_.cos, float{}), step.n_tokens, pairs, pairs};
  const MatrixView<float> sin{at(layout_.sin, float{}), step.n_tokens, pairs, pairs};
  int64_t token = 0, most_positions = 0;
  for (size_t s = 0; s < step.slices.size(); ++s) {
    const SequenceSlice& slice = step.slices[s];
    rope_.Angles(slice.first_position, cos.Rows(token, slice.n_tokens), sin.Rows(token, slice.n_tokens));
    for (int64_t i = 0; i < slice.n_tokens; ++i, ++token) {
      positions[token] = static_cast<int32_t>(slice.first_position + i);
      slices[token] = static_cast<int32_t>(s);
    }
    const int64_t end = slice.first_position + slice.n_tokens;
    std::ranges::copy(slice.pages.first(static_cast<size_t>(PagesFor(end))),
                      pages + static_cast<int64_t>(s) * layout_.most_pages);
    most_positions = std::max(most_positions, end);
  }
  most_positions_ =
      std::min(options_.context_tokens,
               std::max(kGpuLeastPositions,
                        static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(most_positions)))));
  for (size_t l = 0; l < layers_.size() && !step.qualities.empty(); ++l) {
    if (!layers_[l].predictor) continue;
    for (size_t t = 0; t < step.qualities.size(); ++t) {
      thresholds[l * kMostSparseTokens + t] = step.qualities[t] == Quality::kFast
                                                  ? layers_[l].predictor->fast_threshold
                                                  : layers_[l].predictor->balanced_threshold;
    }
  }
  const int64_t used_bytes =
      layout_.pages + std::ssize(step.slices) * layout_.most_pages * static_cast<int64_t>(sizeof(int32_t));
  Note(CopyToDevice(scratch_.step, staging, used_bytes, gpu_->compute()));
  Note(gpu_->Fill(reinterpret_cast<std::byte*>(scratch_.counts), 0,
                  config_.n_layers * 2 * static_cast<int64_t>(sizeof(uint64_t)), gpu_->compute()));
}

GpuStepView GpuDevice::StepView() const {
  const auto numbers = [this](int64_t offset) {
    return reinterpret_cast<const int32_t*>(scratch_.step + offset);
  };
  return {
      .n_tokens = step_.n_tokens,
      .positions = numbers(layout_.positions),
      .slices = numbers(layout_.slices),
      .pages = {numbers(layout_.pages), std::ssize(step_.slices), layout_.most_pages, layout_.most_pages}};
}

// ---- What the host brings and takes

absl::Status GpuDevice::CopyToDevice(std::byte* to, const std::byte* from, int64_t bytes, GpuStream stream) {
  work_.link_bytes += bytes;
  return gpu_->CopyToDevice(to, from, bytes, stream);
}

absl::Status GpuDevice::CopyToHost(std::byte* to, const std::byte* from, int64_t bytes, GpuStream stream) {
  work_.link_bytes += bytes;
  return gpu_->CopyToHost(to, from, bytes, stream);
}

absl::Status GpuDevice::CopyIn(MatrixView<const float> from, const GpuOwned<HostBlock>& staging, float* to,
                               GpuStream stream) {
  CopyRows(from, staging.get().data);
  return CopyToDevice(reinterpret_cast<std::byte*>(to), staging.get().data, FloatBytes(from.rows, from.cols),
                      stream);
}

void GpuDevice::Want(const float* from, const GpuOwned<HostBlock>& staging, MatrixView<float> to) {
  wanted_.push_back({from, staging.get().data, to});
}

absl::Status GpuDevice::Publish() {
  Flush();
  TC_RETURN_IF_ERROR(error_);
  const GpuStream transfer = gpu_->transfer();
  TC_RETURN_IF_ERROR(gpu_->Record(computed_.get(), gpu_->compute()));
  TC_RETURN_IF_ERROR(gpu_->Wait(transfer, computed_.get()));
  for (const Wanted& wanted : wanted_) {
    TC_RETURN_IF_ERROR(CopyToHost(wanted.staging, reinterpret_cast<const std::byte*>(wanted.from),
                                  FloatBytes(wanted.to.rows, wanted.to.cols), transfer));
  }
  if (!marks_wanted_.empty()) {
    TC_RETURN_IF_ERROR(CopyToHost(marks_staging_.get().data,
                                  reinterpret_cast<const std::byte*>(scratch_.marks),
                                  config_.d_ff * static_cast<int64_t>(sizeof(GpuTokenMask)), transfer));
  }
  publishing_ = true;
  return gpu_->Record(delivered_.get(), transfer);
}

void GpuDevice::Await() {
  if (failed()) return;
  const bool nothing_wanted = wanted_.empty() && marks_wanted_.empty();
  if (!publishing_ && !nothing_wanted) Note(Publish());
  Flush();
  if (!publishing_ || failed()) return;
  Note(gpu_->Synchronize(delivered_.get()));
  publishing_ = false;
  if (failed()) return;
  for (const Wanted& wanted : wanted_) CopyRows(wanted.staging, wanted.to);
  wanted_.clear();
  if (!marks_wanted_.empty()) DeliverMarks();
  marks_wanted_ = {};
  other_in_use_ = false;
}

void GpuDevice::DeliverMarks() {
  const auto* const masks = reinterpret_cast<const GpuTokenMask*>(marks_staging_.get().data);
  const Predictor& predictor = *layers_[static_cast<size_t>(predicted_layer_)].predictor;
  for (size_t table = 0; table < marks_wanted_.size(); ++table) {
    MarkedNeurons& marked = marks_wanted_[table];
    const auto [begin, n] = predictor.masks[table];
    const GpuTokenMask* const mine = masks + begin;
    marked.count = 0;
    constexpr int64_t kAtOnce = sizeof(uint64_t) / sizeof(GpuTokenMask);
    for (int64_t i = 0; i < n;) {
      uint64_t some = 0;  // most neurons are not marked: several at a time
      if (i + kAtOnce <= n) {
        std::memcpy(&some, mine + i, sizeof(some));
        if (some == 0) {
          i += kAtOnce;
          continue;
        }
      }
      for (const int64_t end = std::min(n, i + kAtOnce); i < end; ++i) {
        if (mine[i] == 0) continue;
        marked.rows[static_cast<size_t>(marked.count)] = static_cast<uint32_t>(i);
        marked.tokens[static_cast<size_t>(marked.count++)] = mine[i];
      }
    }
  }
}

void GpuDevice::SetResidual(MatrixView<const float> residual) {
  if (failed()) return;
  Flush();
  Note(CopyIn(residual, residual_staging_, scratch_.residual, gpu_->compute()));
}

void GpuDevice::GetResidual(MatrixView<float> residual) {
  if (!failed()) Want(scratch_.residual, residual_staging_, residual);
}

void GpuDevice::SetInput(MatrixView<const float> input) {
  if (failed()) return;
  Flush();
  Note(CopyIn(input, input_staging_, scratch_.input, gpu_->compute()));
}

void GpuDevice::GetInput(MatrixView<float> input) {
  if (!failed()) Want(scratch_.input, input_staging_, input);
}

void GpuDevice::GetPartial(MatrixView<float> partial) {
  if (!failed()) Want(scratch_.update, partial_staging_, partial);
}

void GpuDevice::AddPartial(MatrixView<const float> partial) {
  if (failed()) return;
  if (other_in_use_) {  // a third device's
    Flush();
    Note(gpu_->Synchronize(gpu_->compute()));
  }
  other_in_use_ = true;
  // On the transfer stream, so that it need not wait for this device's neurons.
  Note(CopyIn(partial, other_staging_, scratch_.other, gpu_->transfer()));
  Note(gpu_->Record(brought_.get(), gpu_->transfer()));
  Note(gpu_->Wait(gpu_->compute(), brought_.get()));
  pending_.push_back({.kind = Pending::kAddOther});
}

// ---- Operators

void GpuDevice::Attention(int64_t layer, const DeviceStep&) {
  if (!failed()) pending_.push_back({.kind = Pending::kAttention, .layer = layer});
}

void GpuDevice::Predict(int64_t layer, const DeviceStep&, std::span<MarkedNeurons> marked) {
  for (MarkedNeurons& table : marked) table.count = 0;
  if (failed()) return;
  pending_.push_back({.kind = Pending::kPredict, .layer = layer});
  marks_wanted_ = marked;
  predicted_layer_ = layer;
}

void GpuDevice::Neurons(int64_t layer, const DeviceStep& step, const MarkedNeurons& marked) {
  if (failed()) return;
  const Layer& weights = layers_[static_cast<size_t>(layer)];
  const BundleView& neurons = weights.neurons;
  if (step.mode == NeuronMode::kPredicted && predicted_layer_ != layer) Note(SendMarks(layer, marked));
  // What others wait for goes first.
  if (!wanted_.empty() || !marks_wanted_.empty()) Note(Publish());
  pending_.push_back({.kind = Pending::kNeurons, .layer = layer});
  if (weights.matrices) {
    work_.marked += config_.d_ff;
    work_.bytes += weights.matrices->gate.size_bytes() + weights.matrices->up.size_bytes() +
                   weights.matrices->down.size_bytes();
  } else if (step.mode == NeuronMode::kDense) {
    work_.marked += neurons.n_neurons;
    work_.bytes += neurons.gate().size_bytes() + neurons.down().size_bytes() +
                   (neurons.gated ? neurons.up().size_bytes() : 0);
  }
  if (step.audit) Note(CountMarkedActive(layer, marked));
  if (step.activity != nullptr) {
    Note(FetchFired(layer));
    if (!failed()) TellFired(layer, *step.activity);
  }
}

absl::Status GpuDevice::SendMarks(int64_t layer, const MarkedNeurons& marked) {
  Flush();  // an earlier layer's neurons may read the masks
  auto* const masks = reinterpret_cast<GpuTokenMask*>(marks_staging_.get().data);
  const int64_t n = layers_[static_cast<size_t>(layer)].neurons.n_neurons;
  std::fill_n(masks, n, GpuTokenMask{0});
  const NeuronSelection selection = marked.selection();
  for (size_t i = 0; i < selection.rows.size(); ++i) masks[selection.rows[i]] = selection.tokens[i];
  return CopyToDevice(reinterpret_cast<std::byte*>(scratch_.marks), marks_staging_.get().data,
                      n * static_cast<int64_t>(sizeof(GpuTokenMask)), gpu_->compute());
}

void GpuDevice::AddOwnPartial(const DeviceStep&) {
  if (!failed()) pending_.push_back({.kind = Pending::kAddOwn});
}

void GpuDevice::Head(std::span<const int64_t> rows, MatrixView<float> logits) {
  const auto n = static_cast<int64_t>(rows.size());
  for (int64_t first = 0; first < n && !failed(); first += kGpuLogitRows) {
    if (first > 0) Await();
    const int64_t count = std::min(kGpuLogitRows, n - first);
    for (int64_t i = 0; i < count;) {  // neighbouring rows at once
      int64_t run = 1;
      const auto row = [&](int64_t r) { return rows[static_cast<size_t>(first + r)]; };
      while (i + run < count && row(i + run) == row(i) + run) ++run;
      pending_.push_back({.kind = Pending::kHeadNorm, .from_row = row(i), .to_row = i, .rows = run});
      i += run;
    }
    pending_.push_back({.kind = Pending::kHead, .rows = count});
    Want(scratch_.logits, logits_staging_, logits.Rows(first, count));
  }
}

// ---- Figures

absl::Status GpuDevice::FetchFired(int64_t layer) {
  Flush();
  TC_RETURN_IF_ERROR(error_);
  const int64_t n = layers_[static_cast<size_t>(layer)].neurons.n_neurons;
  TC_RETURN_IF_ERROR(CopyToHost(fired_staging_.get().data, reinterpret_cast<const std::byte*>(scratch_.fired),
                                n * static_cast<int64_t>(sizeof(GpuTokenMask)), gpu_->compute()));
  return gpu_->Synchronize(gpu_->compute());
}

absl::Status GpuDevice::CountMarkedActive(int64_t layer, const MarkedNeurons& marked) {
  TC_RETURN_IF_ERROR(FetchFired(layer));
  const int64_t n = layers_[static_cast<size_t>(layer)].neurons.n_neurons;
  const auto* const fired = reinterpret_cast<const GpuTokenMask*>(fired_staging_.get().data);
  if (predicted_layer_ != layer) {
    for (const uint32_t row : marked.selection().rows) work_.marked_active += fired[row] != 0 ? 1 : 0;
    return absl::OkStatus();
  }
  // Predicted here: the masks are on their way to the host, where others need them too.
  TC_RETURN_IF_ERROR(gpu_->Synchronize(delivered_.get()));
  const auto* const mine = reinterpret_cast<const GpuTokenMask*>(marks_staging_.get().data);
  for (int64_t i = 0; i < n; ++i) work_.marked_active += (mine[i] & fired[i]) != 0 ? 1 : 0;
  return absl::OkStatus();
}

void GpuDevice::TellFired(int64_t layer, NeuronActivity& activity) const {
  const std::vector<uint32_t>& numbers = layers_[static_cast<size_t>(layer)].numbers;
  const auto* const fired = reinterpret_cast<const GpuTokenMask*>(fired_staging_.get().data);
  for (size_t i = 0; i < numbers.size(); ++i)
    if (fired[i] != 0) activity.Fire(layer, numbers[i]);
}

absl::Status GpuDevice::ReadCounts() {
  TC_RETURN_IF_ERROR(error_);
  TC_RETURN_IF_ERROR(
      CopyToHost(counts_staging_.get().data, reinterpret_cast<const std::byte*>(scratch_.counts),
                 config_.n_layers * 2 * static_cast<int64_t>(sizeof(uint64_t)), gpu_->compute()));
  TC_RETURN_IF_ERROR(gpu_->Synchronize(gpu_->compute()));
  const auto* const counts = reinterpret_cast<const uint64_t*>(counts_staging_.get().data);
  for (size_t l = 0; l < layers_.size(); ++l) {
    NeuronReads reads{.gate_rows = static_cast<int64_t>(counts[2 * l]),
                      .down_rows = static_cast<int64_t>(counts[2 * l + 1])};
    reads.up_rows = reads.down_rows;
    if (reads.gate_rows == 0) continue;
    work_.marked += reads.gate_rows;
    work_.active += reads.down_rows;
    work_.bytes += reads.Bytes(layers_[l].neurons);
  }
  return absl::OkStatus();
}

NeuronWork GpuDevice::TakeWork() {
  Flush();
  if (step_.mode != NeuronMode::kDense) Note(ReadCounts());
  return work_;
}

}  // namespace thermocline
