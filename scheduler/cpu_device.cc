// CpuDevice: memory, loading, and the operators.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/cpu_device.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "kernels_cpu/parallel_rows.h"

namespace thermocline {
namespace {

constexpr int64_t kFloatBytes = sizeof(float);
constexpr int64_t kStoredTokens = 8;  // keys and values that a thread stores at least

MatrixView<float> Rows(Matrix<float>& matrix, int64_t n_tokens) { return matrix.view().Rows(0, n_tokens); }

void Copy(MatrixView<const float> from, MatrixView<float> to) {
  for (int64_t t = 0; t < from.rows; ++t) std::ranges::copy(from.row(t), to.row_data(t));
}

void Clear(MatrixView<float> matrix) {
  for (int64_t t = 0; t < matrix.rows; ++t) std::ranges::fill(matrix.row(t), 0.0f);
}

// Of a layer's products.
int64_t WidestInput(const ModelConfig& config) {
  return std::max({config.d_model, config.n_heads * config.d_head, config.d_ff});
}

double AttentionScale(const ModelConfig& config) {
  if (config.attention_scale > 0) return config.attention_scale;
  return 1.0 / std::sqrt(static_cast<double>(config.d_head));
}

// Tells which candidates of a call fired; number_of: the layer's number of candidate i.
template <typename NumberOf>
void TellFired(int64_t layer, std::span<const TokenMask> fired, const NumberOf& number_of,
               NeuronActivity& activity) {
  for (size_t i = 0; i < fired.size(); ++i)
    if (fired[i] != 0) activity.Fire(layer, number_of(i));
}

}  // namespace

CpuDevice::CpuDevice(const ModelConfig& config, const CpuContext& context, const CpuDeviceOptions& options)
    : config_(config),
      context_(context),
      options_(options),
      rope_(config),
      window_rope_(RopeTable::OfWindow(config)) {
  layers_.resize(static_cast<size_t>(config.n_layers));
}

absl::StatusOr<std::unique_ptr<CpuDevice>> CpuDevice::Create(const ModelConfig& config,
                                                             const CpuContext& context,
                                                             const CpuDeviceOptions& options) {
  std::unique_ptr<CpuDevice> device(new CpuDevice(config, context, options));
  TC_RETURN_IF_ERROR(device->Allocate());
  return device;
}

absl::StatusOr<std::unique_ptr<CpuDevice>> CpuDevice::CreateEmulated(const ModelConfig& config,
                                                                     const KernelTable& kernels,
                                                                     int64_t budget_bytes,
                                                                     CpuDeviceOptions options) {
  TC_ASSIGN_OR_RETURN(std::unique_ptr<ThreadTeam> alone, ThreadTeam::Create(1));
  options.borrow_weights = options.borrow_neurons = false;
  std::unique_ptr<CpuDevice> device(
      new CpuDevice(config, {.team = alone.get(), .kernels = &kernels}, options));
  device->own_team_ = std::move(alone);
  device->name_ = "host";
  device->kind_ = DeviceKind::kHost;
  device->budget_bytes_ = budget_bytes;
  TC_RETURN_IF_ERROR(device->Allocate());
  return device;
}

// ---- Memory

int64_t CpuDevice::ScratchBytes(const ModelConfig& config, int64_t block_tokens, int threads) {
  const int64_t q_width = config.n_heads * config.d_head, kv_width = config.n_kv_heads * config.d_head;
  const int64_t per_token =
      5 * config.d_model + 2 * q_width + 2 * kv_width + 2 * config.d_ff + 2 * config.rope_dimensions;
  const int64_t sparse = SparseFfnScratchSize(config.d_ff, config.d_model, kMostSparseTokens);
  // A predictor's: hidden layer (at most d_ff) and scores in floats, sign and mark bits.
  const int64_t predictor = kMostSparseTokens * (2 * config.d_ff * kFloatBytes +
                                                 (BitWords(config.d_model) + BitWords(config.d_ff)) *
                                                     static_cast<int64_t>(sizeof(uint64_t)));
  return (block_tokens * per_token + threads * AttentionScratchSize(config.d_head) +
          FfnPartialsSize(config.d_model) + sparse) *
             kFloatBytes +
         predictor + config.d_ff * static_cast<int64_t>(sizeof(TokenMask)) +
         WidestInput(config) * static_cast<int64_t>(sizeof(uint32_t));
}

absl::Status CpuDevice::Allocate() {
  TC_RETURN_IF_ERROR(
      Account("scratch", ScratchBytes(config_, options_.block_tokens, context_.team->threads())));
  const int64_t tokens = options_.block_tokens;
  const int64_t q_width = config_.n_heads * config_.d_head;
  const int64_t kv_width = config_.n_kv_heads * config_.d_head;
  const auto allocate = [](Matrix<float>& matrix, int64_t rows, int64_t cols) -> absl::Status {
    TC_ASSIGN_OR_RETURN(matrix, Matrix<float>::Create(rows, cols));
    return absl::OkStatus();
  };
  TC_RETURN_IF_ERROR(allocate(scratch_.residual, tokens, config_.d_model));
  TC_RETURN_IF_ERROR(allocate(scratch_.normed, tokens, config_.d_model));
  TC_RETURN_IF_ERROR(allocate(scratch_.input, tokens, config_.d_model));
  TC_RETURN_IF_ERROR(allocate(scratch_.update, tokens, config_.d_model));
  TC_RETURN_IF_ERROR(allocate(scratch_.block, tokens, config_.d_model));
  TC_RETURN_IF_ERROR(allocate(scratch_.queries, tokens, q_width));
  TC_RETURN_IF_ERROR(allocate(scratch_.keys, tokens, kv_width));
  TC_RETURN_IF_ERROR(allocate(scratch_.values, tokens, kv_width));
  TC_RETURN_IF_ERROR(allocate(scratch_.attended, tokens, q_width));
  TC_RETURN_IF_ERROR(
      allocate(scratch_.attention, context_.team->threads(), AttentionScratchSize(config_.d_head)));
  TC_RETURN_IF_ERROR(allocate(scratch_.gate, tokens, config_.d_ff));
  TC_RETURN_IF_ERROR(allocate(scratch_.up, tokens, config_.d_ff));
  TC_RETURN_IF_ERROR(allocate(scratch_.partials, 1, FfnPartialsSize(config_.d_model)));
  TC_RETURN_IF_ERROR(allocate(scratch_.cos, tokens, rope_.pairs()));
  TC_RETURN_IF_ERROR(allocate(scratch_.sin, tokens, rope_.pairs()));
  TC_RETURN_IF_ERROR(allocate(scratch_.window_cos, tokens, rope_.pairs()));
  TC_RETURN_IF_ERROR(allocate(scratch_.window_sin, tokens, rope_.pairs()));
  TC_RETURN_IF_ERROR(
      allocate(scratch_.sparse, 1, SparseFfnScratchSize(config_.d_ff, config_.d_model, kMostSparseTokens)));
  scratch_.tokens.resize(static_cast<size_t>(tokens));
  scratch_.window_tokens.resize(static_cast<size_t>(tokens));
  scratch_.fired.resize(static_cast<size_t>(config_.d_ff));
  scratch_.rows.resize(static_cast<size_t>(WidestInput(config_)));
  return absl::OkStatus();
}

absl::Status CpuDevice::Account(std::string_view what, int64_t bytes) {
  if (budget_bytes_ > 0 && bytes > budget_bytes_ - used_bytes_) {
    return ResourceExhausted("{}: {} needs {} bytes, {} of the budget of {} are taken", name_, what, bytes,
                             used_bytes_, budget_bytes_);
  }
  used_bytes_ += bytes;
  return absl::OkStatus();
}

absl::StatusOr<HeldMatrix> CpuDevice::Hold(const WeightView& weights) {
  HeldMatrix held{.rows = weights};
  if (options_.pack_weights && HasPanels(weights.type, weights.cols)) {
    TC_ASSIGN_OR_RETURN(held.packed, PackedMatrix::Create(context_, weights));
    held.rows.data = nullptr;
    return held;
  }
  if (options_.borrow_weights) return held;
  TC_ASSIGN_OR_RETURN(held.rows.row_stride_bytes, RowBytes(weights.type, weights.cols));
  const int64_t row_bytes = held.rows.row_stride_bytes;
  TC_ASSIGN_OR_RETURN(AlignedBuffer copy, AlignedBuffer::CreateToFill(weights.rows * row_bytes));
  held.rows.data = copy.data();
  for (int64_t r = 0; r < weights.rows; ++r)
    std::memcpy(copy.data() + r * row_bytes, weights.row_data(r), static_cast<size_t>(row_bytes));
  copies_.push_back(std::move(copy));
  return held;
}

absl::StatusOr<CpuDevice::Projection> CpuDevice::Hold(const WeightView& weights, ThresholdSite site) {
  Projection projection;
  TC_ASSIGN_OR_RETURN(projection.held, Hold(weights));
  const bool by_columns =
      options_.thresholds && (*options_.thresholds != ThresholdMethod::kCats || site == ThresholdSite::kDown);
  if (!by_columns || !HasColumns(weights.type)) return projection;
  TC_ASSIGN_OR_RETURN(projection.columns, ColumnMatrix::Create(*context_.team, weights));
  used_bytes_ += projection.columns.view().size_bytes();
  return projection;
}

// ---- Loading

absl::Status CpuDevice::LoadAttention(int64_t layer, const LayerWeights& weights) {
  const int64_t cache_bytes = KvPages::SizeBytes(config_, options_.kv_type, options_.kv_pages);
  TC_RETURN_IF_ERROR(Account(fmt::format("layer {}'s attention and KV cache", layer),
                             weights.attention_bytes() + cache_bytes));
  AttentionWeights& attention = layers_[static_cast<size_t>(layer)].attention.emplace();
  LayerWeights& held = attention.weights;
  held.attention_norm = weights.attention_norm;
  held.query_bias = weights.query_bias;
  held.key_bias = weights.key_bias;
  held.value_bias = weights.value_bias;
  held.query_norm = weights.query_norm;
  held.key_norm = weights.key_norm;
  held.attention_sub_norm = weights.attention_sub_norm;
  held.output_bias = weights.output_bias;
  held.post_attention_norm = weights.post_attention_norm;
  held.ffn_norm = weights.ffn_norm;
  held.down_bias = weights.down_bias;
  held.post_ffn_norm = weights.post_ffn_norm;
  TC_ASSIGN_OR_RETURN(attention.query, Hold(weights.query, ThresholdSite::kAttention));
  TC_ASSIGN_OR_RETURN(attention.key, Hold(weights.key, ThresholdSite::kAttention));
  TC_ASSIGN_OR_RETURN(attention.value, Hold(weights.value, ThresholdSite::kAttention));
  TC_ASSIGN_OR_RETURN(attention.output, Hold(weights.attention_output, ThresholdSite::kAttentionOutput));
  TC_ASSIGN_OR_RETURN(attention.cache, KvPages::Create(config_, options_.kv_type, options_.kv_pages));
  return absl::OkStatus();
}

absl::Status CpuDevice::LoadNeurons(int64_t layer, const BundleView& bundles, std::vector<uint32_t> neurons) {
  TC_RETURN_IF_ERROR(Account(fmt::format("{} neurons of layer {}", neurons.size(), layer),
                             static_cast<int64_t>(neurons.size()) * bundles.stride_bytes));
  NeuronTable& table = layers_[static_cast<size_t>(layer)].neurons;
  const bool whole = static_cast<int64_t>(neurons.size()) == bundles.n_neurons;
  if (options_.borrow_neurons || (options_.borrow_weights && whole)) {
    table = BorrowNeurons(bundles, std::move(neurons));
  } else {
    TC_ASSIGN_OR_RETURN(table, PackNeurons(context_, bundles, std::move(neurons)));
  }
  return absl::OkStatus();
}

absl::Status CpuDevice::LoadMatrices(int64_t layer, const FeedForward& ffn) {
  TC_RETURN_IF_ERROR(Account(fmt::format("the feed-forward block of layer {}", layer), ffn.size_bytes()));
  Matrices& matrices = layers_[static_cast<size_t>(layer)].matrices;
  TC_ASSIGN_OR_RETURN(matrices.gate, Hold(ffn.gate, ThresholdSite::kFeedForward));
  if (config_.gated) {
    TC_ASSIGN_OR_RETURN(matrices.up, Hold(ffn.up, ThresholdSite::kFeedForward));
    if (options_.thresholds == ThresholdMethod::kCats) matrices.up_rows = ffn.up;
  }
  TC_ASSIGN_OR_RETURN(matrices.down, Hold(ffn.down, ThresholdSite::kDown));
  matrices.gate_bias = ffn.gate_bias;
  matrices.sub_norm = ffn.sub_norm;
  return absl::OkStatus();
}

void CpuDevice::LoadPromptDown(int64_t layer, const FeedForward& ffn) {
  const BundleView& bundles = ffn.bundles;
  // Panels of 16 bits take too long to make.
  const auto packs_fast = [](const WeightView& w) {
    return HasPanels(w.type, w.cols) && !TakesInt16(w.type);
  };
  if (options_.pack_weights && packs_fast(bundles.gate()) && (!bundles.gated || packs_fast(bundles.up())) &&
      packs_fast(ffn.down))
    layers_[static_cast<size_t>(layer)].prompt_down = ffn.down;
}

absl::Status CpuDevice::LoadPredictor(int64_t layer, const LayerPredictor& predictor,
                                      std::span<const std::vector<uint32_t>> tables, const WeightView& gate) {
  TC_RETURN_IF_ERROR(Account(fmt::format("layer {}'s predictor", layer),
                             predictor.SizeBytes(config_.d_model, config_.d_ff)));
  if (predictor.hidden > scratch_.predictor_hidden) {
    TC_ASSIGN_OR_RETURN(scratch_.predictor,
                        NeuronPredictor::Scratch::Create(config_.d_model, config_.d_ff, predictor.hidden));
    scratch_.predictor_hidden = predictor.hidden;
  }
  TC_ASSIGN_OR_RETURN(NeuronPredictor loaded, NeuronPredictor::Create(context_, predictor, tables, gate));
  layers_[static_cast<size_t>(layer)].predictor = std::move(loaded);
  return absl::OkStatus();
}

absl::Status CpuDevice::LoadHead(const NormWeights& norm, const WeightView& head) {
  TC_RETURN_IF_ERROR(Account("the head", norm.size_bytes() + head.size_bytes()));
  head_norm_ = norm;
  TC_ASSIGN_OR_RETURN(head_, Hold(head));
  return absl::OkStatus();
}

// ---- Operators

void CpuDevice::Begin(const DeviceStep& step) {
  work_ = {};
  const bool rotates = config_.positions == PositionKind::kRotary;
  const int64_t window = config_.window.tokens;
  int64_t t = 0;
  for (const SequenceSlice& slice : step.slices) {
    const auto rows = [&](Matrix<float>& matrix) { return matrix.view().Rows(t, slice.n_tokens); };
    if (rotates) rope_.Angles(slice.first_position, rows(scratch_.cos), rows(scratch_.sin));
    if (rotates && window > 0)
      window_rope_.Angles(slice.first_position, rows(scratch_.window_cos), rows(scratch_.window_sin));
    for (int64_t i = 0; i < slice.n_tokens; ++i, ++t) {
      const int64_t n_positions = slice.first_position + i + 1;
      scratch_.tokens[static_cast<size_t>(t)] = {slice.pages.data(), n_positions};
      scratch_.window_tokens[static_cast<size_t>(t)] = {slice.pages.data(), n_positions,
                                                        std::max<int64_t>(0, n_positions - window)};
    }
  }
}

void CpuDevice::CountLink(int64_t rows, int64_t cols) {
  if (kind_ != DeviceKind::kCpu) work_.link_bytes += rows * cols * static_cast<int64_t>(sizeof(float));
}

void CpuDevice::SetResidual(MatrixView<const float> residual) {
  CountLink(residual.rows, residual.cols);
  Copy(residual, Rows(scratch_.residual, residual.rows));
}

void CpuDevice::GetResidual(MatrixView<float> residual) {
  CountLink(residual.rows, residual.cols);
  Copy(Rows(scratch_.residual, residual.rows), residual);
}

void CpuDevice::Norm(const NormWeights& norm, MatrixView<const float> x, MatrixView<float> out) const {
  const auto epsilon = static_cast<float>(config_.norm_epsilon);
  if (config_.norm == NormKind::kRms) {
    RmsNorm(context_, x, norm.weight, epsilon, out);
  } else {
    LayerNorm(context_, x, norm.weight, norm.bias, epsilon, out);
  }
}

void CpuDevice::NormHeads(const NormWeights& norm, MatrixView<float> x) const {
  if (norm.empty()) return;
  const int64_t d_head = config_.d_head;
  const MatrixView<float> heads{x.data, x.rows * (x.cols / d_head), d_head, d_head};
  RmsNorm(context_, heads, norm.weight, static_cast<float>(config_.norm_epsilon), heads);
}

int64_t CpuDevice::LeaveOut(int64_t layer, ThresholdSite site, const DeviceStep& step,
                            MatrixView<float> values) {
  if (step.mode == NeuronMode::kDense && input_observer_ != nullptr)
    input_observer_->OnInput(layer, site, values);
  if (step.mode != NeuronMode::kThreshold) return values.cols;
  const float least = layers_[static_cast<size_t>(layer)].thresholds.magnitude(site);
  return SelectColumns(context_, values, least, scratch_.rows);
}

bool CpuDevice::LeavesGatesOut(int64_t layer, const DeviceStep& step) const {
  return step.mode == NeuronMode::kThreshold &&
         layers_[static_cast<size_t>(layer)].thresholds.magnitude(ThresholdSite::kGate) > 0;
}

bool CpuDevice::LooksAtGates(int64_t layer, const DeviceStep& step) const {
  return LeavesGatesOut(layer, step) || (step.mode == NeuronMode::kDense && input_observer_ != nullptr);
}

int64_t CpuDevice::LeaveOutGates(int64_t layer, const DeviceStep& step, MatrixView<float> gate,
                                 MatrixView<float> activated) {
  const bool leaves_out = LeavesGatesOut(layer, step);
  if (!LooksAtGates(layer, step)) return gate.cols;
  Activate(context_, config_.activation_function(), gate, activated);
  const int64_t kept = LeaveOut(layer, ThresholdSite::kGate, step, activated);
  if (!leaves_out) return kept;
  // The activation of 0 is 0, whichever it is.
  for (int64_t t = 0; t < gate.rows; ++t) {
    for (int64_t i = 0; i < gate.cols; ++i)
      if (activated.row_data(t)[i] == 0) gate.row_data(t)[i] = 0;
  }
  return kept;
}

int64_t CpuDevice::Products(const DeviceStep& step, std::span<const ProjectionOf> projections,
                            int64_t n_columns, MatrixView<const float> x) const {
  std::array<HeldProduct, kMostHeldProducts> whole;
  size_t n_whole = 0;
  int64_t bytes = 0;
  for (const auto& [projection, y] : projections) {
    if (step.mode == NeuronMode::kThreshold && !projection->columns.empty()) {
      MatMulColumns(context_, projection->columns.view(), x, y);
      bytes += ColumnBytes(projection->columns.view(), n_columns);
    } else {
      whole[n_whole++] = {&projection->held, y};
      bytes += projection->held.rows.size_bytes();
    }
  }
  if (n_whole > 0) MatMul(context_, std::span(whole).first(n_whole), x);
  return bytes;
}

int64_t CpuDevice::Product(const DeviceStep& step, const Projection& w, int64_t n_columns,
                           MatrixView<const float> x, MatrixView<float> y) const {
  const ProjectionOf product{&w, y};
  return Products(step, {&product, 1}, n_columns, x);
}

void CpuDevice::QueriesKeysValues(int64_t layer, const AttentionWeights& attention, const DeviceStep& step,
                                  MatrixView<float> normed) {
  const LayerWeights& weights = attention.weights;
  const auto q = Rows(scratch_.queries, normed.rows), k = Rows(scratch_.keys, normed.rows);
  const auto v = Rows(scratch_.values, normed.rows);
  const int64_t columns = LeaveOut(layer, ThresholdSite::kAttention, step, normed);
  const ProjectionOf products[] = {{&attention.query, q}, {&attention.key, k}, {&attention.value, v}};
  for (const ProjectionOf& product : products)
    work_.attention_bytes_left_out += product.w->held.rows.size_bytes();
  work_.attention_bytes_left_out -= Products(step, products, columns, normed);
  AddBias(context_, weights.query_bias, q);
  AddBias(context_, weights.key_bias, k);
  AddBias(context_, weights.value_bias, v);
  NormHeads(weights.query_norm, q);
  NormHeads(weights.key_norm, k);
  if (config_.positions != PositionKind::kRotary) return;
  const bool windowed = config_.window.On(layer), half = config_.rope_pairing == RopePairing::kHalf;
  const auto cos = Rows(windowed ? scratch_.window_cos : scratch_.cos, normed.rows);
  const auto sin = Rows(windowed ? scratch_.window_sin : scratch_.sin, normed.rows);
  Rope(context_, cos, sin, config_.d_head, half, q);
  Rope(context_, cos, sin, config_.d_head, half, k);
}

void CpuDevice::StoreKeysValues(const DeviceStep& step, KvPages& cache) {
  // Cut by tokens: slices are one long prompt or many of a token each.
  context_.team->ParallelFor(step.n_tokens, kStoredTokens, [&](int64_t begin, int64_t end) {
    int64_t first = 0;
    for (const SequenceSlice& slice : step.slices) {
      const int64_t from = std::max(begin, first), to = std::min(end, first + slice.n_tokens);
      if (from < to) {
        cache.Store(slice.pages, slice.first_position + from - first,
                    scratch_.keys.view().Rows(from, to - from), scratch_.values.view().Rows(from, to - from));
      }
      first += slice.n_tokens;
    }
  });
}

void CpuDevice::Attend(int64_t layer, const KvPages& cache, int64_t n_tokens) {
  const std::span<const AttentionToken> tokens =
      config_.window.On(layer) ? scratch_.window_tokens : scratch_.tokens;
  thermocline::Attention(context_,
                         {.queries = Rows(scratch_.queries, n_tokens),
                          .output = Rows(scratch_.attended, n_tokens),
                          .tokens = tokens.first(static_cast<size_t>(n_tokens)),
                          .cache = cache.data(),
                          .layout = cache.layout(),
                          .n_heads = config_.n_heads,
                          .scale = static_cast<float>(AttentionScale(config_)),
                          .soft_cap = static_cast<float>(config_.attention_soft_cap)},
                         scratch_.attention.view());
}

void CpuDevice::AddToResidual(const NormWeights& norm, MatrixView<float> update) {
  if (!norm.empty()) Norm(norm, update, update);
  Scale(context_, static_cast<float>(config_.residual_scale), update);
  AddRows(context_, update, Rows(scratch_.residual, update.rows));
}

void CpuDevice::Attention(int64_t layer, const DeviceStep& step) {
  const int64_t n_tokens = step.n_tokens;
  AttentionWeights& attention = *layers_[static_cast<size_t>(layer)].attention;
  const LayerWeights& weights = attention.weights;
  const auto x = Rows(scratch_.residual, n_tokens), normed = Rows(scratch_.normed, n_tokens);
  const auto input = Rows(scratch_.input, n_tokens), update = Rows(scratch_.update, n_tokens);
  const auto attended = Rows(scratch_.attended, n_tokens);

  Norm(weights.attention_norm, x, normed);
  if (config_.shared_norm) Copy(normed, input);
  QueriesKeysValues(layer, attention, step, normed);
  StoreKeysValues(step, attention.cache);
  Attend(layer, attention.cache, n_tokens);
  if (!weights.attention_sub_norm.empty()) Norm(weights.attention_sub_norm, attended, attended);
  const int64_t columns = LeaveOut(layer, ThresholdSite::kAttentionOutput, step, attended);
  work_.attention_bytes_left_out +=
      attention.output.held.rows.size_bytes() - Product(step, attention.output, columns, attended, update);
  AddBias(context_, weights.output_bias, update);

  if (config_.parallel_blocks && !config_.shared_norm) Norm(weights.ffn_norm, x, input);
  AddToResidual(weights.post_attention_norm, update);
  if (!config_.parallel_blocks) Norm(weights.ffn_norm, x, input);
  // The block's sum starts with its bias.
  const auto block = finishes_blocks() ? Rows(scratch_.block, n_tokens) : x;
  if (finishes_blocks()) Clear(block);
  AddBias(context_, weights.down_bias, block);
}

void CpuDevice::SetInput(MatrixView<const float> input) {
  CountLink(input.rows, input.cols);
  Copy(input, Rows(scratch_.input, input.rows));
}

void CpuDevice::GetInput(MatrixView<float> input) {
  CountLink(input.rows, input.cols);
  Copy(Rows(scratch_.input, input.rows), input);
}

void CpuDevice::Predict(int64_t layer, const DeviceStep& step, std::span<MarkedNeurons> marked) {
  layers_[static_cast<size_t>(layer)].predictor->Predict(context_, Rows(scratch_.input, step.n_tokens),
                                                         step.qualities, scratch_.predictor, marked);
}

void CpuDevice::Neurons(int64_t layer, const DeviceStep& step, const MarkedNeurons& marked) {
  const Layer& weights = layers_[static_cast<size_t>(layer)];
  const NeuronTable& table = weights.neurons;
  const bool every = step.mode == NeuronMode::kDense || step.mode == NeuronMode::kThreshold;
  if (every && (table.empty() || table.packed())) {
    work_ += EveryNeuron(layer, step);
  } else if (step.mode == NeuronMode::kPredicted) {
    NeuronSelection entries = marked.selection();
    if (!table.packed()) {
      const auto rows = std::span(scratch_.rows).first(entries.rows.size());
      for (size_t i = 0; i < rows.size(); ++i) rows[i] = table.rows[entries.rows[i]];
      entries.rows = rows;
    }
    work_ += SparseNeurons(table, entries, 0, step.n_tokens);
    if (step.activity != nullptr) {
      const std::span<const uint32_t> marked_entries = marked.selection().rows;
      TellFired(
          layer, std::span(scratch_.fired).first(marked_entries.size()),
          [&](size_t i) { return table.neurons[marked_entries[i]]; }, *step.activity);
    }
  } else {
    for (int64_t token = 0; token < step.n_tokens; token += kMostSparseTokens) {
      const int64_t count = std::min(kMostSparseTokens, step.n_tokens - token);
      work_ += SparseNeurons(table, {table.rows, {}}, token, count);
      if (step.activity != nullptr) {
        TellFired(
            layer, std::span(scratch_.fired).first(table.neurons.size()),
            [&](size_t i) { return table.neurons[i]; }, *step.activity);
      }
    }
    if (step.audit) {
      for (const uint32_t entry : marked.selection().rows)
        work_.marked_active += scratch_.fired[entry] != 0 ? 1 : 0;
    }
  }
}

NeuronWork CpuDevice::EveryNeuron(int64_t index, const DeviceStep& step) {
  const Layer& layer = layers_[static_cast<size_t>(index)];
  const int64_t n_tokens = step.n_tokens;
  const bool bundled = !layer.neurons.empty();
  const BundleView& bundles = layer.neurons.bundles;
  const Projection bundled_gate{.held = {.rows = bundles.gate()}}, bundled_up{.held = {.rows = bundles.up()}};
  const Projection& gate_weights = bundled ? bundled_gate : layer.matrices.gate;
  const Projection& up_weights = bundled ? bundled_up : layer.matrices.up;
  const int64_t n_neurons = gate_weights.held.rows.rows;
  const auto input = Rows(scratch_.input, n_tokens), update = Rows(scratch_.update, n_tokens);
  const auto gate = Rows(scratch_.gate, n_tokens).Columns(0, n_neurons);
  const auto up = Rows(scratch_.up, n_tokens).Columns(0, n_neurons);
  const std::span<const float> bias = bundled && bundles.gate_bias != nullptr
                                          ? std::span(bundles.gate_bias, static_cast<size_t>(n_neurons))
                                          : std::span<const float>(layer.matrices.gate_bias);

  const bool packing = step.prompt && layer.prompt_down.data != nullptr;
  const auto pack_and_multiply = [&](const WeightView& rows, MatrixView<const float> x, MatrixView<float> y) {
    MatMulPacking(context_, rows, x, y);
    return rows.size_bytes();
  };
  NeuronWork work{.marked = n_neurons};
  const int64_t columns = LeaveOut(index, ThresholdSite::kFeedForward, step, input);
  // Whether up need not wait for what becomes of the gates.
  const bool together = config_.gated && !bundled && !LooksAtGates(index, step);
  if (together) {
    const ProjectionOf products[] = {{&gate_weights, gate}, {&up_weights, up}};
    work.bytes += Products(step, products, columns, input);
  } else {
    work.bytes += packing ? pack_and_multiply(gate_weights.held.rows, input, gate)
                          : Product(step, gate_weights, columns, input, gate);
  }
  AddBias(context_, bias, gate);
  if (observer_ != nullptr && step.mode == NeuronMode::kDense) observer_->OnGate(index, input, gate);
  const int64_t kept = LeaveOutGates(index, step, gate, up);
  if (config_.gated) {
    if (!together) {
      work.bytes += packing ? pack_and_multiply(up_weights.held.rows, input, up)
                            : Up(step, layer, up_weights, columns, kept, up);
    }
    GatedActivation(context_, config_.activation_function(), gate, up, gate);
  } else {
    Activate(context_, config_.activation_function(), gate, gate);
  }
  if (!layer.matrices.sub_norm.empty()) Norm(layer.matrices.sub_norm, gate, gate);
  const int64_t hidden = LeaveOut(index, ThresholdSite::kDown, step, gate);
  if (packing) {
    work.bytes += pack_and_multiply(layer.prompt_down, gate, update);
  } else if (bundled) {
    // One token reads every row: dense means that every neuron is computed. Prompts skip what no token needs.
    const ZeroRows zero_rows = n_tokens == 1 ? ZeroRows::kRead : ZeroRows::kSkip;
    NeuronMajorDown(context_, bundles.down(), gate, scratch_.partials.row(0), update, zero_rows);
    work.bytes += bundles.down().size_bytes();
  } else {
    work.bytes += Product(step, layer.matrices.down, hidden, gate, update);
  }
  if (step.mode != NeuronMode::kThreshold) return work;
  work.active = hidden;
  if (step.activity != nullptr) {
    for (const uint32_t neuron : std::span(scratch_.rows).first(static_cast<size_t>(hidden)))
      step.activity->Fire(index, neuron);
  }
  return work;
}

int64_t CpuDevice::Up(const DeviceStep& step, const Layer& layer, const Projection& weights, int64_t columns,
                      int64_t rows, MatrixView<float> up) {
  const auto input = Rows(scratch_.input, step.n_tokens);
  const WeightView& by_rows = layer.matrices.up_rows;
  if (step.mode != NeuronMode::kThreshold || by_rows.data == nullptr || rows == up.cols)
    return Product(step, weights, columns, input, up);
  MatMulRows(context_, by_rows, input, std::span(scratch_.rows).first(static_cast<size_t>(rows)), up);
  return by_rows.Rows(0, rows).size_bytes();
}

NeuronWork CpuDevice::SparseNeurons(const NeuronTable& table, NeuronSelection candidates, int64_t first_token,
                                    int64_t n_tokens) {
  const auto fired = std::span(scratch_.fired).first(candidates.rows.size());
  const NeuronReads reads = SparseFeedForward(context_,
                                              {.bundles = table.bundles,
                                               .activation = config_.activation_function(),
                                               .x = scratch_.input.view().Rows(first_token, n_tokens),
                                               .candidates = candidates,
                                               .y = scratch_.update.view().Rows(first_token, n_tokens),
                                               .fired = fired},
                                              scratch_.sparse.row(0));
  return {.marked = reads.gate_rows, .active = reads.down_rows, .bytes = reads.Bytes(table.bundles)};
}

void CpuDevice::GetPartial(MatrixView<float> partial) {
  CountLink(partial.rows, partial.cols);
  Copy(Rows(scratch_.update, partial.rows), partial);
}

void CpuDevice::AddToBlock(MatrixView<const float> partial) {
  AddRows(context_, partial, Rows(finishes_blocks() ? scratch_.block : scratch_.residual, partial.rows));
}

void CpuDevice::AddOwnPartial(const DeviceStep& step) { AddToBlock(Rows(scratch_.update, step.n_tokens)); }

void CpuDevice::AddPartial(MatrixView<const float> partial) {
  CountLink(partial.rows, partial.cols);
  AddToBlock(partial);
}

void CpuDevice::EndBlock(int64_t layer, const DeviceStep& step) {
  if (!finishes_blocks()) return;
  AddToResidual(layers_[static_cast<size_t>(layer)].attention->weights.post_ffn_norm,
                Rows(scratch_.block, step.n_tokens));
}

void CpuDevice::Head(std::span<const int64_t> rows, MatrixView<float> logits) {
  CountLink(logits.rows, logits.cols);
  const auto normed = Rows(scratch_.normed, logits.rows);
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto to = static_cast<int64_t>(i);
    Norm(head_norm_, scratch_.residual.view().Rows(rows[i], 1), normed.Rows(to, 1));
  }
  const HeldProduct product{&head_, logits};
  MatMul(context_, {&product, 1}, normed);
  Scale(context_, static_cast<float>(config_.logit_scale), logits);
  SoftCap(context_, static_cast<float>(config_.logit_soft_cap), logits);
}

}  // namespace thermocline
