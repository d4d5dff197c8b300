// CpuDevice: the CPU as a device, and the CPU in an accelerator's place ("host").
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "core/thread_team.h"
#include "model/neuron_table.h"
#include "model/thresholds.h"
#include "scheduler/device.h"
#include "scheduler/kv_pages.h"
#include "scheduler/rope_table.h"

namespace thermocline {

// Sees what happens inside the feed-forward blocks of every dense pass, layer after layer.
class FeedForwardObserver {
 public:
  virtual ~FeedForwardObserver() = default;
  // input: (n_tokens, d_model), what the gate multiplies; gate: (n_tokens, d_ff), before the activation.
  // Valid during the call, which comes on Forward's thread.
  virtual void OnGate(int64_t layer, MatrixView<const float> input, MatrixView<const float> gate) = 0;
};

// Sees what thresholds are for (ThresholdSite), in every dense pass.
class InputObserver {
 public:
  virtual ~InputObserver() = default;
  // values: (n_tokens, width of the site). Valid during the call, which comes on Forward's thread.
  virtual void OnInput(int64_t layer, ThresholdSite site, MatrixView<const float> values) = 0;
};

struct CpuDeviceOptions {
  int64_t context_tokens = 0;  // most positions of a sequence
  int64_t kv_pages = 0;        // of the KV cache
  ElementType kv_type = ElementType::kF16;
  int64_t block_tokens = 0;  // most tokens of a step
  // Whether matrices of types that have panels are packed: faster products with activations of 8 or 16 bits,
  // for a copy in memory.
  bool pack_weights = true;
  // Whether threshold steps are to come, and by which method: what it leaves out is held by columns besides.
  std::optional<ThresholdMethod> thresholds;
  // Whether other weights are borrowed from who loads them, or copied.
  bool borrow_weights = true;
  // The same for a part of a layer's neurons; a copy is packed. A whole layer's are treated as weights.
  bool borrow_neurons = true;
};

class CpuDevice final : public Device {
 public:
  // The processor itself. `config` and what `context` points to must outlive the device.
  static absl::StatusOr<std::unique_ptr<CpuDevice>> Create(const ModelConfig& config,
                                                           const CpuContext& context,
                                                           const CpuDeviceOptions& options);
  // The emulated accelerator: a team of one thread, copies of all it is given, a budget that it keeps.
  static absl::StatusOr<std::unique_ptr<CpuDevice>> CreateEmulated(const ModelConfig& config,
                                                                   const KernelTable& kernels,
                                                                   int64_t budget_bytes,
                                                                   CpuDeviceOptions options);
  // Of activations and partial sums, without caches.
  static int64_t ScratchBytes(const ModelConfig& config, int64_t block_tokens, int threads);

  // The down projection as in the file, borrowed, of a layer whose neurons are all here. With it prompts are
  // multiplied as packed matrices are, where the types have panels.
  void LoadPromptDown(int64_t layer, const FeedForward& ffn);
  // Not owned; nullptr, as at first: nobody looks. The device must hold every neuron.
  void SetFeedForwardObserver(FeedForwardObserver* observer) { observer_ = observer; }
  // The same.
  void SetInputObserver(InputObserver* observer) { input_observer_ = observer; }
  // Of threshold steps; at first nothing is left out.
  void SetThresholds(int64_t layer, const LayerThresholds& thresholds) {
    layers_[static_cast<size_t>(layer)].thresholds = thresholds;
  }

  const std::string& name() const override { return name_; }
  DeviceKind kind() const override { return kind_; }
  int64_t used_bytes() const override { return used_bytes_; }

  absl::Status LoadAttention(int64_t layer, const LayerWeights& weights) override;
  absl::Status LoadNeurons(int64_t layer, const BundleView& bundles, std::vector<uint32_t> neurons) override;
  absl::Status LoadMatrices(int64_t layer, const FeedForward& ffn) override;
  absl::Status LoadPredictor(int64_t layer, const LayerPredictor& predictor,
                             std::span<const std::vector<uint32_t>> tables, const WeightView& gate) override;
  absl::Status LoadHead(const NormWeights& norm, const WeightView& head) override;

  bool asynchronous() const override { return false; }
  void Await() override {}
  void Begin(const DeviceStep& step) override;
  absl::Status status() const override { return absl::OkStatus(); }
  void SetResidual(MatrixView<const float> residual) override;
  void GetResidual(MatrixView<float> residual) override;
  void Attention(int64_t layer, const DeviceStep& step) override;
  void SetInput(MatrixView<const float> input) override;
  void GetInput(MatrixView<float> input) override;
  void Predict(int64_t layer, const DeviceStep& step, std::span<MarkedNeurons> marked) override;
  void Neurons(int64_t layer, const DeviceStep& step, const MarkedNeurons& marked) override;
  NeuronWork TakeWork() override { return work_; }
  void GetPartial(MatrixView<float> partial) override;
  void AddOwnPartial(const DeviceStep& step) override;
  void AddPartial(MatrixView<const float> partial) override;
  void EndBlock(int64_t layer, const DeviceStep& step) override;
  void Head(std::span<const int64_t> rows, MatrixView<float> logits) override;

 private:
  // A matrix, and where threshold steps may read less of it than all its columns.
  struct Projection {
    HeldMatrix held;
    ColumnMatrix columns;
  };
  // One of up to kMostHeldProducts with the same input.
  struct ProjectionOf {
    const Projection* w = nullptr;
    MatrixView<float> y;
  };
  struct AttentionWeights {
    LayerWeights weights;          // norms and biases
    Projection query, key, value;  // (heads * d_head, d_model)
    Projection output;             // (d_model, n_heads * d_head)
    KvPages cache;
  };
  struct Matrices {
    Projection gate, up;           // (d_ff, d_model)
    Projection down;               // (d_model, d_ff)
    WeightView up_rows;            // up as in the file, without data but where gates are left out
    std::vector<float> gate_bias;  // (d_ff)
    NormWeights sub_norm;          // (d_ff)
  };
  struct Layer {
    std::optional<AttentionWeights> attention;
    NeuronTable neurons;
    WeightView prompt_down;  // beside neurons: (d_model, d_ff); without data where prompts use the bundles'
    Matrices matrices;       // in place of neurons
    LayerThresholds thresholds;
    std::optional<NeuronPredictor> predictor;
  };
  // Activations of one block of tokens.
  struct Scratch {
    Matrix<float> residual;                     // (n_tokens, d_model)
    Matrix<float> normed;                       // (n_tokens, d_model)
    Matrix<float> input;                        // (n_tokens, d_model), of the feed-forward block
    Matrix<float> update;                       // (n_tokens, d_model), what a block adds to the residual
    Matrix<float> block;                        // (n_tokens, d_model), its sum, where EndBlock adds it
    Matrix<float> queries;                      // (n_tokens, n_heads * d_head)
    Matrix<float> keys;                         // (n_tokens, n_kv_heads * d_head)
    Matrix<float> values;                       // (n_tokens, n_kv_heads * d_head)
    Matrix<float> attended;                     // (n_tokens, n_heads * d_head)
    Matrix<float> attention;                    // (threads, AttentionScratchSize)
    Matrix<float> gate;                         // (n_tokens, d_ff)
    Matrix<float> up;                           // (n_tokens, d_ff)
    Matrix<float> partials;                     // (1, FfnPartialsSize)
    Matrix<float> cos, sin;                     // (n_tokens, rotated pairs)
    Matrix<float> window_cos, window_sin;       // the same of layers with a sliding window
    Matrix<float> sparse;                       // (1, SparseFfnScratchSize)
    std::vector<AttentionToken> tokens;         // (n_tokens), of the step
    std::vector<AttentionToken> window_tokens;  // the same behind the sliding window
    std::vector<TokenMask> fired;               // (d_ff)
    std::vector<uint32_t> rows;  // (widest input), marked rows of a borrowed table, columns of an input
    NeuronPredictor::Scratch predictor;  // taken with the first predictor
    int64_t predictor_hidden = -1;       // that it has room for
  };

  CpuDevice(const ModelConfig& config, const CpuContext& context, const CpuDeviceOptions& options);
  absl::Status Allocate();
  // Takes the bytes out of the budget; ResourceExhausted naming what, need and budget.
  absl::Status Account(std::string_view what, int64_t bytes);
  absl::StatusOr<HeldMatrix> Hold(const WeightView& weights);
  // The same with columns, where the method of thresholds leaves out inputs of the site.
  absl::StatusOr<Projection> Hold(const WeightView& weights, ThresholdSite site);

  // out = norm(x) of all rows, of the configuration's kind.
  void Norm(const NormWeights& norm, MatrixView<const float> x, MatrixView<float> out) const;
  // RMSNorm of every head of every row of x in place: (n_tokens, heads * d_head).
  void NormHeads(const NormWeights& norm, MatrixView<float> x) const;
  // normed is theirs: threshold steps leave some of it out.
  void QueriesKeysValues(int64_t layer, const AttentionWeights& attention, const DeviceStep& step,
                         MatrixView<float> normed);
  void StoreKeysValues(const DeviceStep& step, KvPages& cache);
  void Attend(int64_t layer, const KvPages& cache, int64_t n_tokens);
  // Whether what a block adds is normed or scaled first.
  bool finishes_blocks() const { return config_.post_norms || config_.residual_scale != 1; }
  // residual += residual_scale * norm(update), with the norm where there is one. `update` is written over.
  void AddToResidual(const NormWeights& norm, MatrixView<float> update);
  // To the sum of the feed-forward block.
  void AddToBlock(MatrixView<const float> partial);

  // Activations that would cross the link if an emulated accelerator were a real one.
  void CountLink(int64_t rows, int64_t cols);
  // In threshold steps makes zeros of what is below the layer's threshold, lists the columns that are left
  // for some token (scratch_.rows) and returns how many; dense steps keep all and show the values to who
  // looks.
  int64_t LeaveOut(int64_t layer, ThresholdSite site, const DeviceStep& step, MatrixView<float> values);
  // The same of gates before the activation, by its magnitude. activated: scratch of the same shape.
  int64_t LeaveOutGates(int64_t layer, const DeviceStep& step, MatrixView<float> gate,
                        MatrixView<float> activated);
  // Whether a step leaves gates out, and whether something is to see them before up is multiplied.
  bool LeavesGatesOut(int64_t layer, const DeviceStep& step) const;
  bool LooksAtGates(int64_t layer, const DeviceStep& step) const;
  // y = w . x of each, of which threshold steps read the columns where x is not 0, so many. Returns the bytes
  // read.
  int64_t Products(const DeviceStep& step, std::span<const ProjectionOf> projections, int64_t n_columns,
                   MatrixView<const float> x) const;
  int64_t Product(const DeviceStep& step, const Projection& w, int64_t n_columns, MatrixView<const float> x,
                  MatrixView<float> y) const;
  // The same of the feed-forward block's input, up. Where gates were left out it reads the rows listed.
  int64_t Up(const DeviceStep& step, const Layer& layer, const Projection& weights, int64_t columns,
             int64_t rows, MatrixView<float> up);
  // Every neuron, in dense and threshold steps.
  NeuronWork EveryNeuron(int64_t layer, const DeviceStep& step);
  NeuronWork SparseNeurons(const NeuronTable& table, NeuronSelection candidates, int64_t first_token,
                           int64_t n_tokens);

  const ModelConfig& config_;
  CpuContext context_;
  const CpuDeviceOptions options_;
  const RopeTable rope_, window_rope_;
  std::string name_ = "cpu";
  DeviceKind kind_ = DeviceKind::kCpu;
  int64_t budget_bytes_ = 0;  // 0: none
  int64_t used_bytes_ = 0;
  std::unique_ptr<ThreadTeam> own_team_;  // of the emulated accelerator
  std::vector<AlignedBuffer> copies_;
  std::vector<Layer> layers_;
  NormWeights head_norm_;  // (d_model)
  HeldMatrix head_;        // (n_vocab, d_model)
  FeedForwardObserver* observer_ = nullptr;
  InputObserver* input_observer_ = nullptr;
  Scratch scratch_;
  NeuronWork work_;  // of the step
};

}  // namespace thermocline
