// Synthetic weights: the planted ones, and noise for all others.
// SPDX-License-Identifier: Apache-2.0
#include "model/synthetic_model.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "model/architecture.h"
#include "model/gguf_config.h"
#include "model/gguf_writer.h"
#include "model/planted_frequencies.h"
#include "model/quantize.h"
#include "model/synthetic_random.h"

namespace thermocline {
namespace {

// Shares of an embedding's power. The subspace's part and the noise are alike, so that a predictor has to
// know the subspace to see anything.
constexpr double kSharedPower = 0.4;
constexpr double kPlantedPower = 0.3;
constexpr double kNoisePower = 0.3;

// Root mean square of what each attention or feed-forward block adds to a residual stream of about 1.
constexpr double kUpdate = 0.003;
// Of values and of the up projections' results: the smallness of the updates is shared between the factors,
// so that no scale is below what F16 holds.
constexpr double kSmall = 0.1;

// Tables of random numbers that belong to no tensor.
enum Stream : uint64_t { kBasis = 1, kDensities, kSpreads, kFrequencies, kTensors = uint64_t{1} << 32 };

// target += the combination of the matrix's rows. A block of columns at a time stays in registers.
void AddCombination(MatrixView<const float> matrix, std::span<const float> coefficients,
                    std::span<float> target) {
  constexpr int64_t kColumns = 32;  // d_model is a multiple
  for (int64_t c = 0; c < matrix.cols; c += kColumns) {
    float sums[kColumns] = {};
    for (int64_t r = 0; r < matrix.rows; ++r) {
      const float* row = matrix.row_data(r) + c;
      const float factor = coefficients[static_cast<size_t>(r)];
      for (int64_t i = 0; i < kColumns; ++i) sums[i] += factor * row[i];
    }
    for (int64_t i = 0; i < kColumns; ++i) target[static_cast<size_t>(c + i)] += sums[i];
  }
}

// Of rows of d_model. Sums in lanes, so that the compiler may use vectors and the order is still fixed.
double Dot(std::span<const float> a, std::span<const float> b) {
  constexpr size_t kLanes = 16;  // d_model is a multiple
  float sums[kLanes] = {};
  for (size_t c = 0; c < a.size(); c += kLanes) {
    for (size_t i = 0; i < kLanes; ++i) sums[i] += a[c + i] * b[c + i];
  }
  double sum = 0;
  for (const float lane : sums) sum += static_cast<double>(lane);
  return sum;
}

void Scale(double factor, std::span<float> row) {
  for (float& value : row) value = static_cast<float>(value * factor);
}

// Normal rows made orthonormal one after the other; twice over, so that rounding leaves nothing behind.
absl::StatusOr<Matrix<float>> OrthonormalRows(int64_t rows, int64_t cols, uint64_t seed) {
  TC_ASSIGN_OR_RETURN(Matrix<float> matrix, Matrix<float>::Create(rows, cols));
  for (int64_t r = 0; r < rows; ++r) {
    const std::span<float> row = matrix.row(r);
    RandomRow random(seed, kBasis, static_cast<uint64_t>(r));
    for (float& value : row) value = random.Normal();
    for (int64_t other = 0; other < 2 * r; ++other) {
      const std::span<const float> earlier = std::as_const(matrix).row(other % r);
      const double along = Dot(row, earlier);
      for (size_t i = 0; i < row.size(); ++i) row[i] -= static_cast<float>(along * earlier[i]);
    }
    Scale(1 / std::sqrt(Dot(row, row)), row);
  }
  return matrix;
}

// Numbers evenly spread over (-1, 1) in random order: their mean is 0.
std::vector<double> Jitter(int64_t count, uint64_t seed, Stream stream) {
  std::vector<double> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = (2 * static_cast<double>(i) + 1) / static_cast<double>(count) - 1;
  RandomRow random(seed, stream, 0);
  for (size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[random.Below(i)]);
  return values;
}

// a, b, .., z, aa, ab, ..
std::string Letters(int64_t number) {
  std::string letters;
  for (++number; number > 0; number = (number - 1) / 26)
    letters.insert(letters.begin(), static_cast<char>('a' + (number - 1) % 26));
  return letters;
}

// A SentencePiece vocabulary that spells any text: bytes, then words of letters with and without a space.
void AddVocabulary(int64_t n_vocab, GgufHeader& header) {
  std::vector<std::string> pieces = {"<unk>", "<s>", "</s>"};
  std::vector<int32_t> types = {2, 3, 3};  // unknown, control, control
  for (int byte = 0; byte < 256; ++byte) pieces.push_back(fmt::format("<0x{:02X}>", byte));
  types.resize(pieces.size(), 6);  // bytes
  pieces.push_back("\u2581");
  for (int64_t word = 0; static_cast<int64_t>(pieces.size()) < n_vocab; ++word) {
    pieces.push_back(Letters(word));
    pieces.push_back("\u2581" + pieces.back());
  }
  pieces.resize(static_cast<size_t>(n_vocab));
  types.resize(pieces.size(), 1);  // normal
  std::vector<float> scores(pieces.size());
  for (size_t i = 0; i < scores.size(); ++i) scores[i] = -static_cast<float>(i);
  header.AddString("tokenizer.ggml.model", "llama")
      .AddStrings("tokenizer.ggml.tokens", pieces)
      .AddFloats("tokenizer.ggml.scores", scores)
      .AddInts("tokenizer.ggml.token_type", types)
      .AddUint("tokenizer.ggml.unknown_token_id", 0)
      .AddUint("tokenizer.ggml.bos_token_id", 1)
      .AddUint("tokenizer.ggml.eos_token_id", 2);
}

void AddConfig(const ModelConfig& config, GgufHeader& header) {
  header.AddString("general.architecture", config.architecture)
      .AddString("general.name", "synthetic, for speed tests")
      .AddUint("llama.block_count", static_cast<uint32_t>(config.n_layers))
      .AddUint("llama.embedding_length", static_cast<uint32_t>(config.d_model))
      .AddUint("llama.feed_forward_length", static_cast<uint32_t>(config.d_ff))
      .AddUint("llama.attention.head_count", static_cast<uint32_t>(config.n_heads))
      .AddUint("llama.attention.head_count_kv", static_cast<uint32_t>(config.n_kv_heads))
      .AddUint("llama.context_length", static_cast<uint32_t>(config.context_length))
      .AddFloat("llama.attention.layer_norm_rms_epsilon", static_cast<float>(config.norm_epsilon))
      .AddString(kGgufActivationKey, NameOf(config.activation))
      .AddFloat(kGgufThresholdKey, config.activation_threshold);
}

absl::Status WriteRows(const ThreadTeam& team, std::span<const int64_t> shape, ElementType type,
                       absl::FunctionRef<void(int64_t row, std::span<float> out)> make,
                       GgufFileWriter& writer) {
  constexpr int64_t kBlockBytes = int64_t{16} << 20;
  const int64_t rows = shape.size() == 1 ? 1 : shape.front(), cols = shape.back();
  TC_ASSIGN_OR_RETURN(const int64_t row_bytes, RowBytes(type, cols));
  const int64_t block_rows = std::clamp<int64_t>(kBlockBytes / row_bytes, 1, rows);
  TC_ASSIGN_OR_RETURN(Matrix<std::byte> block, Matrix<std::byte>::Create(block_rows, row_bytes));
  for (int64_t first = 0; first < rows; first += block_rows) {
    const int64_t count = std::min(block_rows, rows - first);
    team.ParallelFor(count, 16, [&](int64_t begin, int64_t end) {
      std::vector<float> row(static_cast<size_t>(cols));
      for (int64_t r = begin; r < end; ++r) {
        make(first + r, row);
        QuantizeRow(type, row, block.view().row_data(r));
      }
    });
    TC_RETURN_IF_ERROR(writer.Append({block.data(), static_cast<size_t>(count * row_bytes)}));
  }
  return absl::OkStatus();
}

absl::Status Named(std::string_view option, const absl::Status& status) {
  return status.ok() ? status : InvalidArgument("{}: {}", option, MessageOf(status));
}

}  // namespace

struct SyntheticModel::Tensor {
  enum class Kind { kOnes, kNormal, kHead, kEmbedding, kGate };
  std::string name;
  std::vector<int64_t> shape;
  Kind kind = Kind::kNormal;
  double deviation = 0;  // of kNormal
  int64_t layer = 0;     // of kGate
};

absl::StatusOr<SyntheticModel> SyntheticModel::Create(const SyntheticOptions& options) {
  TC_RETURN_IF_ERROR(Named("type", CheckSyntheticType(options)));
  TC_RETURN_IF_ERROR(Named("shape", CheckSyntheticShape(options)));
  TC_RETURN_IF_ERROR(Named("sparsity", CheckSyntheticSparsity(options)));
  TC_RETURN_IF_ERROR(Named("skew", CheckSyntheticSkew(options)));
  TC_RETURN_IF_ERROR(Named("predictability", CheckSyntheticPredictability(options)));
  TC_RETURN_IF_ERROR(Named("rank", CheckSyntheticRank(options)));
  const int64_t rank = options.rank == 0 ? DefaultRank(options.shape) : options.rank;
  TC_ASSIGN_OR_RETURN(Matrix<float> basis, OrthonormalRows(rank + 1, options.shape.d_model, options.seed));
  return SyntheticModel(options, std::move(basis));
}

// Layers differ: by up to a quarter in how many neurons fire (less where nearly all do), and by up to a sixth
// in how unequal these are.
SyntheticModel::SyntheticModel(const SyntheticOptions& options, Matrix<float> basis)
    : options_(options), config_(SyntheticConfig(options.shape)), basis_(std::move(basis)) {
  const double density = 1 - options.sparsity, spread = *SpreadForShare(density, options.skew);
  const std::vector<double> more = Jitter(config_.n_layers, options.seed, kDensities);
  const std::vector<double> unequal = Jitter(config_.n_layers, options.seed, kSpreads);
  for (size_t l = 0; l < more.size(); ++l) {
    densities_.push_back(density + 0.25 * std::min(density, options.sparsity) * more[l]);
    spreads_.push_back(spread * (1 + unequal[l] / 6));
  }
}

std::vector<float> SyntheticModel::Quantiles(int64_t layer) const {
  const auto l = static_cast<size_t>(layer);
  return PlantedQuantiles(densities_[l], spreads_[l], config_.d_ff, options_.seed, kFrequencies + (l << 8));
}

std::vector<SyntheticModel::Tensor> SyntheticModel::Tensors() const {
  using Kind = Tensor::Kind;
  const TensorNames names = GgufTensorNames(config_);
  const int64_t d_model = config_.d_model, d_ff = config_.d_ff;
  const int64_t q_width = config_.n_heads * config_.d_head, kv_width = config_.n_kv_heads * config_.d_head;
  // Rows of this deviation give results of about 1 from an input that the norm made 1.
  const double unit = 1 / std::sqrt(static_cast<double>(d_model));
  // The embedding is the first: its rows are drawn from stream kTensors.
  std::vector<Tensor> tensors = {{names.token_embedding, {config_.n_vocab, d_model}, Kind::kEmbedding}};
  for (int64_t l = 0; l < config_.n_layers; ++l) {
    const TensorNames::Layer name = names.layer(l);
    // About half of the square of a gate that fires is left above the threshold.
    const double firing = static_cast<double>(d_ff) * densities_[static_cast<size_t>(l)] / 2;
    tensors.insert(tensors.end(),
                   {{name.attention_norm, {d_model}, Kind::kOnes},
                    {name.query, {q_width, d_model}, Kind::kNormal, unit},
                    {name.key, {kv_width, d_model}, Kind::kNormal, unit},
                    {name.value, {kv_width, d_model}, Kind::kNormal, unit * kSmall},
                    {name.attention_output,
                     {d_model, q_width},
                     Kind::kNormal,
                     kUpdate / kSmall / std::sqrt(static_cast<double>(q_width))},
                    {name.ffn_norm, {d_model}, Kind::kOnes},
                    {name.gate, {d_ff, d_model}, Kind::kGate, 0, l},
                    {name.up, {d_ff, d_model}, Kind::kNormal, unit * kSmall},
                    {name.down, {d_model, d_ff}, Kind::kNormal, kUpdate / kSmall / std::sqrt(firing)}});
  }
  tensors.push_back({names.output_norm, {d_model}, Kind::kOnes});
  tensors.push_back({names.head, {config_.n_vocab, d_model}, Kind::kHead});
  return tensors;
}

void SyntheticModel::EmbeddingRow(uint64_t stream, int64_t row, std::span<float> out) const {
  const auto width = static_cast<double>(config_.d_model);
  RandomRow random(options_.seed, stream, static_cast<uint64_t>(row));
  std::vector<float> coefficients(static_cast<size_t>(rank()) + 1);
  const auto planted = static_cast<float>(std::sqrt(kPlantedPower * width / static_cast<double>(rank())));
  coefficients[0] = static_cast<float>(std::sqrt(kSharedPower * width));
  for (size_t r = 1; r < coefficients.size(); ++r) coefficients[r] = planted * random.Normal();
  const auto noise = static_cast<float>(std::sqrt(kNoisePower));
  for (float& value : out) value = noise * random.Normal();
  AddCombination(basis_.view(), coefficients, out);
}

// The planted part has the asked share of the gate's variance, noise outside of the subspace the rest; the
// multiple of u puts the mean where the gate reaches the threshold as often as the quantile says.
void SyntheticModel::GateRow(uint64_t stream, int64_t row, float quantile, std::span<float> out) const {
  const auto width = static_cast<double>(config_.d_model);
  RandomRow random(options_.seed, stream, static_cast<uint64_t>(row));
  std::vector<float> coefficients(static_cast<size_t>(rank()) + 1);
  const std::span<float> direction = std::span(coefficients).subspan(1);
  for (float& value : direction) value = random.Normal();
  const double planted_variance = kPlantedPower * width / static_cast<double>(rank()) + kNoisePower;
  Scale(std::sqrt(options_.predictability / planted_variance / Dot(direction, direction)), direction);
  coefficients[0] = static_cast<float>((kPlantedThreshold + quantile) / std::sqrt(kSharedPower * width));
  const double outside = width - static_cast<double>(basis_.rows());
  const auto noise = static_cast<float>(std::sqrt((1 - options_.predictability) / (kNoisePower * outside)));
  for (float& value : out) value = noise * random.Normal();
  for (int64_t r = 0; r < basis_.rows(); ++r)  // noise stays outside of what is planted
    coefficients[static_cast<size_t>(r)] -= static_cast<float>(Dot(out, basis_.row(r)));
  AddCombination(basis_.view(), coefficients, out);
}

// The part of the predecessor's embedding that tokens do not share, so that greedy decoding goes from token
// to token through all pieces of the vocabulary and a measurement sees many. Others never are the likeliest.
void SyntheticModel::HeadRow(int64_t row, std::span<float> out) const {
  if (row < kFirstSyntheticPiece) return std::fill(out.begin(), out.end(), 0.0f);
  const int64_t pieces = config_.n_vocab - kFirstSyntheticPiece;
  // No divisor in common with the number of pieces, so that the steps come to all of them.
  int64_t step = pieces * 5 / 8;
  while (std::gcd(step, pieces) != 1) ++step;
  const int64_t predecessor = (row - kFirstSyntheticPiece + pieces - step % pieces) % pieces;
  EmbeddingRow(kTensors, kFirstSyntheticPiece + predecessor, out);
  const std::span<const float> shared = basis_.row(0);
  const double along = Dot(out, shared);
  for (size_t c = 0; c < out.size(); ++c)
    out[c] -= static_cast<float>(along * static_cast<double>(shared[c]));
  constexpr double kLogit = 10;  // of the successor; those of other pieces are about 0
  Scale(kLogit / (1 - kSharedPower) / static_cast<double>(config_.d_model), out);
}

absl::Status SyntheticModel::Write(const std::string& path, const ThreadTeam& team) const {
  const std::vector<Tensor> tensors = Tensors();
  const auto type_of = [&](const Tensor& tensor) {
    return tensor.kind == Tensor::Kind::kOnes ? ElementType::kF32 : options_.type;
  };
  GgufHeader header;
  AddConfig(config_, header);
  AddVocabulary(config_.n_vocab, header);
  for (const Tensor& tensor : tensors)
    TC_RETURN_IF_ERROR(header.AddTensor(tensor.name, tensor.shape, type_of(tensor)));
  TC_ASSIGN_OR_RETURN(GgufFileWriter writer, GgufFileWriter::Create(path, header));
  for (size_t index = 0; index < tensors.size(); ++index) {
    const Tensor& tensor = tensors[index];
    const uint64_t stream = kTensors + index;
    const std::vector<float> quantiles =
        tensor.kind == Tensor::Kind::kGate ? Quantiles(tensor.layer) : std::vector<float>();
    const auto make = [&](int64_t row, std::span<float> out) {
      switch (tensor.kind) {
        case Tensor::Kind::kEmbedding:
          return EmbeddingRow(stream, row, out);
        case Tensor::Kind::kGate:
          return GateRow(stream, row, quantiles[static_cast<size_t>(row)], out);
        case Tensor::Kind::kOnes:
          return std::fill(out.begin(), out.end(), 1.0f);
        case Tensor::Kind::kHead:
          return HeadRow(row, out);
        case Tensor::Kind::kNormal: {
          RandomRow random(options_.seed, stream, static_cast<uint64_t>(row));
          for (float& value : out) value = static_cast<float>(tensor.deviation) * random.Normal();
        }
      }
    };
    TC_RETURN_IF_ERROR(WriteRows(team, tensor.shape, type_of(tensor), make, writer));
  }
  return writer.Finish();
}

}  // namespace thermocline
