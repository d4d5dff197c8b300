// GpuDevice: a CUDA GPU as a device: what it holds of the model, its part of a step.
// SPDX-License-Identifier: Apache-2.0
//
// Operators only note what is to be done. When the host must see something (Await), or bring something, what
// was noted until then, a stretch, goes to the GPU as one captured graph; the executor's thread waits for
// copies to the host alone, while the GPU goes on with its neurons.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels_cuda/gpu_kernels.h"
#include "scheduler/device.h"
#include "scheduler/gpu_graphs.h"
#include "scheduler/gpu_memory.h"
#include "scheduler/rope_table.h"

namespace thermocline {

struct GpuDeviceOptions {
  std::string name = "cuda:0";
  int64_t context_tokens = 0;  // most positions of a sequence
  int64_t kv_pages = 0;
  int64_t block_tokens = 0;  // most tokens of a step
  int64_t size_bytes = 0;    // of the device's memory that it takes, all at once
  int table = 1;             // the device's place among the tables of a layer's neurons
};

class GpuDevice final : public Device {
 public:
  // `config` must outlive the device and be supported; the CPU's kernels convert weights while loading.
  static absl::StatusOr<std::unique_ptr<GpuDevice>> Create(const ModelConfig& config,
                                                           const KernelTable& kernels,
                                                           std::unique_ptr<Gpu> gpu,
                                                           const GpuDeviceOptions& options);

  // Unimplemented naming what the model needs and the GPU's kernels lack.
  static absl::Status CheckSupported(const ModelConfig& config);
  // Device memory for activations and the step's description, whatever the device holds.
  static int64_t ScratchBytes(const ModelConfig& config, int64_t context_tokens, int64_t block_tokens);
  // Of a layer's attention without its KV cache, of neurons, of the head, of a predictor.
  static int64_t AttentionBytes(const LayerWeights& weights);
  static int64_t NeuronBytes(const BundleView& bundles, int64_t n_neurons);
  static int64_t MatricesBytes(const FeedForward& ffn);
  static int64_t HeadBytes(const NormWeights& norm, const WeightView& head);
  static int64_t PredictorBytes(const LayerPredictor& predictor, const ModelConfig& config);

  const std::string& name() const override { return options_.name; }
  DeviceKind kind() const override { return DeviceKind::kCuda; }
  int64_t used_bytes() const override { return gpu_->allocated_bytes(); }

  absl::Status LoadAttention(int64_t layer, const LayerWeights& weights) override;
  absl::Status LoadNeurons(int64_t layer, const BundleView& bundles, std::vector<uint32_t> neurons) override;
  absl::Status LoadMatrices(int64_t layer, const FeedForward& ffn) override;
  absl::Status LoadPredictor(int64_t layer, const LayerPredictor& predictor,
                             std::span<const std::vector<uint32_t>> tables, const WeightView& gate) override;
  absl::Status LoadHead(const NormWeights& norm, const WeightView& head) override;

  bool asynchronous() const override { return true; }
  void Await() override;
  void Begin(const DeviceStep& step) override;
  absl::Status status() const override { return error_; }
  NeuronWork TakeWork() override;

  void SetResidual(MatrixView<const float> residual) override;
  void GetResidual(MatrixView<float> residual) override;
  void Attention(int64_t layer, const DeviceStep& step) override;
  void SetInput(MatrixView<const float> input) override;
  void GetInput(MatrixView<float> input) override;
  void Predict(int64_t layer, const DeviceStep& step, std::span<MarkedNeurons> marked) override;
  void Neurons(int64_t layer, const DeviceStep& step, const MarkedNeurons& marked) override;
  void GetPartial(MatrixView<float> partial) override;
  void AddOwnPartial(const DeviceStep& step) override;
  void AddPartial(MatrixView<const float> partial) override;
  void EndBlock(int64_t, const DeviceStep&) override {}  // CheckSupported: nothing becomes of the sum
  void Head(std::span<const int64_t> rows, MatrixView<float> logits) override;

 private:
  struct AttentionWeights {
    const float* attention_norm = nullptr;  // (d_model)
    WeightView query, key, value, output;
    const float* ffn_norm = nullptr;  // (d_model)
    GpuKvPages cache;
  };
  struct Predictor {
    PredictorKind kind = PredictorKind::kSign;
    WeightView w1, w2;
    const float* b1 = nullptr;
    const float* b2 = nullptr;
    MatrixView<const uint64_t> signs;
    float balanced_threshold = 0, fast_threshold = 0;
    struct Masks {
      int64_t begin = 0, count = 0;
    };
    std::vector<Masks> masks;  // (tables), where each table's lie; the device's own at 0
  };
  // A whole layer's block, in place of bundles.
  struct Matrices {
    WeightView gate, up;  // (d_ff, d_model); up of gated blocks
    WeightView down;      // (d_model, d_ff)
  };
  struct Layer {
    std::optional<AttentionWeights> attention;
    std::optional<Matrices> matrices;
    BundleView neurons;             // n_neurons 0: none
    std::vector<uint32_t> numbers;  // the layer's number of each
    std::optional<Predictor> predictor;
  };
  // Arrays of device memory, for block_tokens tokens.
  struct Scratch {
    float *residual, *normed, *input, *update;  // (tokens, d_model)
    float* other;                               // (tokens, d_model), a partial sum from elsewhere
    float *queries, *attended;                  // (tokens, n_heads * d_head)
    float *keys, *values;                       // (tokens, n_kv_heads * d_head)
    float *gate, *up;                           // (tokens, d_ff)
    float* logits;                              // (kLogitRows, n_vocab)
    float *attention, *ffn, *predictor;         // of kernels
    float* tile;                                // (kTileFloats), of dequantised weights
    GpuTokenMask* marks;                        // (d_ff), in the order of the tables
    GpuTokenMask* fired;                        // (d_ff)
    uint64_t* counts;                           // (n_layers, 2): rows of gate and of down that were read
    std::byte* step;                            // what Begin copies
  };
  // Where a step's description lies in its block, in bytes; the pages come last, so that only those in use
  // are copied.
  struct StepLayout {
    int64_t positions = 0, slices = 0, cos = 0, sin = 0, thresholds = 0, pages = 0;
    int64_t size_bytes = 0;
    int64_t most_pages = 0;  // of a slice
  };
  // A copy to the caller's memory.
  struct Wanted {
    const float* from = nullptr;   // device memory, rows packed
    std::byte* staging = nullptr;  // page-locked
    MatrixView<float> to;
  };
  // What an operator put off, so far as its launches depend on it.
  struct Pending {
    enum Kind : uint32_t { kAttention, kPredict, kNeurons, kAddOwn, kAddOther, kHeadNorm, kHead };
    Kind kind = kAttention;
    int64_t layer = 0;
    int64_t from_row = 0, to_row = 0, rows = 0;  // kHeadNorm, kHead
  };

  GpuDevice(const ModelConfig& config, const KernelTable& kernels, std::unique_ptr<Gpu> gpu,
            const GpuDeviceOptions& options);
  // Calls visit(name, bytes, member) for every array of Scratch.
  template <typename Visit>
  static absl::Status ForEachScratch(const ModelConfig& config, int64_t context_tokens, int64_t block_tokens,
                                     const Visit& visit);
  static StepLayout LayOutStep(const ModelConfig& config, int64_t context_tokens, int64_t block_tokens);
  absl::Status Allocate();
  // Copies in device memory.
  absl::StatusOr<const float*> HoldArray(std::string_view what, std::span<const float> array);
  absl::StatusOr<WeightView> HoldMatrix(std::string_view what, const WeightView& weights,
                                        std::span<const uint32_t> rows = {});

  MatrixView<float> Rows(float* data, int64_t cols) const { return {data, step_.n_tokens, cols, cols}; }
  GpuStepView StepView() const;

  // Keeps the step's first error. Operators do nothing once there is one.
  void Note(const absl::Status& status) { error_.Update(status); }
  bool failed() const { return !error_.ok(); }
  void Flush();  // what is pending goes to the compute stream
  absl::Status Enqueue(const Pending& pending);
  absl::Status EnqueueAttention(int64_t layer);
  absl::Status EnqueuePredict(int64_t layer);
  absl::Status EnqueueNeurons(int64_t layer);
  absl::Status EnqueueDense(const BundleView& neurons);
  absl::Status EnqueueMatrices(const Matrices& matrices);
  // y = x * transpose(w), of any number of tokens.
  absl::Status MatMul(const WeightView& w, MatrixView<const float> x, MatrixView<float> y);
  // Calls work(F32 rows of a tile, its first row) -> absl::Status for tiles of the weights.
  template <typename Work>
  absl::Status ForEachTile(const WeightView& w, const Work& work);

  // What a step copies goes through these, which count it.
  absl::Status CopyToDevice(std::byte* to, const std::byte* from, int64_t bytes, GpuStream stream);
  absl::Status CopyToHost(std::byte* to, const std::byte* from, int64_t bytes, GpuStream stream);
  void Want(const float* from, const GpuOwned<HostBlock>& staging, MatrixView<float> to);
  // Starts the copies that are wanted, behind what the compute stream has to do so far.
  absl::Status Publish();
  absl::Status CopyIn(MatrixView<const float> from, const GpuOwned<HostBlock>& staging, float* to,
                      GpuStream stream);
  absl::Status SendMarks(int64_t layer, const MarkedNeurons& marked);
  void DeliverMarks();
  // Brings what fired to fired_staging_.
  absl::Status FetchFired(int64_t layer);
  absl::Status CountMarkedActive(int64_t layer, const MarkedNeurons& marked);
  void TellFired(int64_t layer, NeuronActivity& activity) const;
  absl::Status ReadCounts();

  const ModelConfig& config_;
  const KernelTable& kernels_;
  const std::unique_ptr<Gpu> gpu_;
  const GpuDeviceOptions options_;
  const RopeTable rope_;
  const StepLayout layout_;
  GpuArena arena_;
  std::optional<GpuUpload> upload_;
  Scratch scratch_{};
  std::vector<Layer> layers_;
  const float* head_norm_ = nullptr;  // (d_model)
  WeightView head_;                   // (n_vocab, d_model)

  // Page-locked staging.
  GpuOwned<HostBlock> step_staging_;
  GpuOwned<HostBlock> residual_staging_, input_staging_, partial_staging_,
      other_staging_;                   // (tokens, d_model)
  GpuOwned<HostBlock> logits_staging_;  // (kLogitRows, n_vocab)
  GpuOwned<HostBlock> marks_staging_;   // (d_ff)
  GpuOwned<HostBlock> fired_staging_;   // (d_ff)
  GpuOwned<HostBlock> counts_staging_;  // (n_layers, 2)

  GpuOwned<GpuEvent> computed_, brought_, delivered_;
  GpuGraphs graphs_;
  GpuStretchKey key_;

  // Of the step.
  absl::Status error_;
  NeuronWork work_;
  DeviceStep step_;
  int64_t most_positions_ = 0;  // that a token sees, rounded up so that graphs serve many steps
  std::vector<Pending> pending_;
  std::vector<Wanted> wanted_;
  std::span<MarkedNeurons> marks_wanted_;
  bool publishing_ = false;       // copies to the host are on their way
  bool other_in_use_ = false;     // scratch_.other may still be read
  int64_t predicted_layer_ = -1;  // whose masks scratch_.marks holds
};

}  // namespace thermocline
