// The run of a conversion.
// SPDX-License-Identifier: Apache-2.0
#include "model/conversion.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <filesystem>
#include <limits>
#include <memory>
#include <optional>
#include <utility>

#include "core/mapped_file.h"
#include "model/chat_template_source.h"
#include "model/conversion_metadata.h"
#include "model/conversion_plan.h"
#include "model/conversion_rows.h"
#include "model/conversion_state.h"
#include "model/conversion_verify.h"
#include "model/gguf_config.h"
#include "model/gguf_file.h"
#include "model/quantize_search.h"
#include "model/tokenizer_parts.h"

namespace thermocline {
namespace {

constexpr double kWritingShare = 0.8;  // of the work; the rest is reading it back

using Progress = absl::FunctionRef<absl::Status(const ConversionProgress&)>;

absl::Status CheckPaths(const ConversionOptions& options) {
  std::error_code ignored;
  if (!std::filesystem::exists(options.out, ignored)) return absl::OkStatus();
  if (std::filesystem::equivalent(options.source, options.out, ignored))
    return InvalidArgument("{}: is the source itself", options.out);
  if (std::filesystem::is_directory(options.out, ignored))
    return InvalidArgument("{}: is a folder, expected the GGUF file to write", options.out);
  if (options.force) return absl::OkStatus();
  return FailedPrecondition("{}: is there already (--force overwrites it)", options.out);
}

// "/models/llama/" and "/models/llama.gguf" are llama.
std::string NameOfSource(const std::string& source) {
  std::filesystem::path path = std::filesystem::absolute(source).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  return path.extension() == ".gguf" ? path.stem().string() : path.filename().string();
}

// The tokenizer that the file's keys give must spell a text as the folder's does.
absl::Status CheckTokenizer(const GgufHeader& header, const Tokenizer& expected, const std::string& source) {
  constexpr std::string_view kTexts[] = {
      "The quick brown fox jumps over 13 lazy dogs, doesn't it?\nIt's 1,234.5 km away.",
      "int main(void) { return 0; }  // na\u00efve caf\u00e9 \u2014 \u4f60\u597d \U0001f600"};
  const std::string bytes = header.Bytes();
  TC_ASSIGN_OR_RETURN(const GgufFile gguf, GgufFile::Parse(std::as_bytes(std::span(bytes)), source));
  TC_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> written, CreateTokenizer(gguf.metadata));
  for (const std::string_view text : kTexts) {
    const auto theirs = expected.Encode(text, {});
    if (!theirs.ok()) continue;  // a vocabulary that cannot spell it
    const auto ours = written->Encode(text, {});
    if (ours.ok() && *ours == *theirs) continue;
    return Unimplemented("{}: its tokenizer gives other tokens under GGUF's keys", source);
  }
  return absl::OkStatus();
}

// What AddFolderTokenizer refuses can be left out.
absl::Status WithAdvice(const absl::Status& status) {
  if (status.ok()) return status;
  return {status.code(), fmt::format("{} (--without-tokenizer omits it)", MessageOf(status))};
}

absl::Status AddFolderTokenizer(const std::string& folder, int64_t n_vocab, GgufHeader& header) {
  TC_ASSIGN_OR_RETURN(FolderTokenizer tokenizer, ReadFolderTokenizer(folder, /*scores_first=*/true));
  if (std::ssize(tokenizer.parts.vocabulary.texts) > n_vocab) {
    return InvalidArgument("{}: the tokenizer has {} tokens, the limit is the model's vocab_size of {}",
                           folder, tokenizer.parts.vocabulary.texts.size(), n_vocab);
  }
  GgufHeader alone;
  TC_RETURN_IF_ERROR(AddTokenizerKeys(tokenizer, n_vocab, alone));
  TC_RETURN_IF_ERROR(AddTokenizerKeys(tokenizer, n_vocab, header));
  TC_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> expected, CreateFromParts(std::move(tokenizer.parts)));
  TC_RETURN_IF_ERROR(CheckTokenizer(alone, *expected, folder));
  TC_ASSIGN_OR_RETURN(const std::string chat_template, ChatTemplateSourceOfFolder(folder));
  if (!chat_template.empty()) header.AddString("tokenizer.chat_template", chat_template);
  return absl::OkStatus();
}

class Conversion {
 public:
  Conversion(const ConversionOptions& options, const CpuContext& context, Progress progress)
      : options_(options), context_(context), progress_(progress) {}

  absl::StatusOr<ConversionReport> Run() {
    TC_RETURN_IF_ERROR(CheckPaths(options_));
    TC_ASSIGN_OR_RETURN(
        Checkpoint source,
        Checkpoint::Open(options_.source, {.activation = options_.activation, .load_tokenizer = false}));
    source_ = std::make_unique<Checkpoint>(std::move(source));
    plan_ = PlanConversion(*source_, options_.type);
    TC_RETURN_IF_ERROR(MakeHeader());
    Note();
    TC_ASSIGN_OR_RETURN(GgufFileWriter writer, Begin());
    for (; state_.tensors < plan_.tensors.size(); ++state_.tensors) {
      TC_RETURN_IF_ERROR(RecordProgress(writer));
      TC_RETURN_IF_ERROR(WriteTensor(plan_.tensors[state_.tensors], writer));
    }
    TC_RETURN_IF_ERROR(WriteDivisors(writer));
    const auto verifying = [&](double share) {
      return progress_({kWritingShare + share * (1 - kWritingShare), "verifying"});
    };
    TC_RETURN_IF_ERROR(
        VerifyConversion(writer.partial_path(), *source_, plan_, context_, verifying, report_));
    TC_RETURN_IF_ERROR(writer.Finish());
    std::error_code ignored;  // a state without its part is ignored by the next conversion
    std::filesystem::remove(ConversionStatePath(options_.out), ignored);
    report_.file_bytes = static_cast<int64_t>(std::filesystem::file_size(options_.out, ignored));
    return std::move(report_);
  }

 private:
  absl::Status MakeHeader() {
    report_.architecture = FindArchitecture(plan_.config.architecture, "")->gguf;
    report_.tensors = std::ssize(plan_.tensors);
    if (source_->format == "gguf") {
      TC_ASSIGN_OR_RETURN(const GgufFile gguf, GgufFile::Open(options_.source));
      CopyKeys(gguf.metadata, GgufFileType(options_.type), options_.activation, header_);
    } else {
      AddGeneralKeys(plan_.config, NameOfSource(options_.source), GgufFileType(options_.type), header_);
      AddConfigKeys(plan_.config, header_);
      if (options_.tokenizer) {
        TC_RETURN_IF_ERROR(WithAdvice(AddFolderTokenizer(options_.source, plan_.config.n_vocab, header_)));
      } else {
        AddNoTokenizer(header_);
      }
    }
    TC_RETURN_IF_ERROR(CheckKeys());
    for (const PlannedTensor& tensor : plan_.tensors)
      TC_RETURN_IF_ERROR(header_.AddTensor(tensor.target, tensor.shape, tensor.type));
    const auto divisors = std::ssize(plan_.config.rope_scaling.frequency_divisors);
    if (divisors > 0)
      return header_.AddTensor("rope_freqs.weight", std::vector<int64_t>{divisors}, ElementType::kF32);
    return absl::OkStatus();
  }

  // What a reader will make of the keys, before hours are spent on the tensors.
  absl::Status CheckKeys() const {
    const std::string bytes = header_.Bytes();
    TC_ASSIGN_OR_RETURN(GgufFile gguf, GgufFile::Parse(std::as_bytes(std::span(bytes)), options_.out));
    for (const PlannedTensor& tensor : plan_.tensors) {
      TC_RETURN_IF_ERROR(gguf.tensors.Add({tensor.target, options_.out, tensor.type, tensor.shape, {}}));
    }
    const std::vector<float>& divisors = plan_.config.rope_scaling.frequency_divisors;
    if (!divisors.empty()) {
      TC_RETURN_IF_ERROR(gguf.tensors.Add({"rope_freqs.weight",
                                           options_.out,
                                           ElementType::kF32,
                                           {std::ssize(divisors)},
                                           std::as_bytes(std::span(divisors))}));
    }
    TC_ASSIGN_OR_RETURN(const ModelConfig found, ConfigFromGguf(gguf));
    return CheckSameModel(plan_.config, found, options_.source);
  }

  void Note() {
    const ModelConfig& config = plan_.config;
    const Architecture architecture = *FindArchitecture(config.architecture, "");
    if (architecture.gguf == "opt" || architecture.gguf == "thermocline-bitnet") {
      report_.notes.push_back(
          fmt::format("llama.cpp does not know the architecture {}: the file is for Thermocline alone",
                      architecture.gguf));
    } else if (config.activation != architecture.activation) {
      report_.notes.push_back(
          fmt::format("llama.cpp would compute {} where this model has {}: only Thermocline reads {}",
                      NameOf(architecture.activation), NameOf(config.activation), kGgufActivationKey));
    }
    if (config.window.tokens > 0 && !architecture.gguf.starts_with("gemma"))
      report_.notes.emplace_back("llama.cpp leaves the sliding windows of this architecture out");
    if (!options_.tokenizer && source_->format != "gguf")
      report_.notes.emplace_back("the file has no tokenizer");
    for (const ElementType type : source_->tensors.TypesByBytes()) {
      if (!InfoOf(type).quantized()) continue;
      report_.notes.push_back(fmt::format("the source holds {}: what that lost stays lost", NameOf(type)));
      break;
    }
  }

  // A writer behind what an interrupted conversion left, or at the start.
  absl::StatusOr<GgufFileWriter> Begin() {
    const std::string header = header_.Bytes();
    state_ = {SourceFingerprint(*source_), Sha256Hex(std::as_bytes(std::span(header))), 0};
    const std::string partial = options_.out + ".partial";
    TC_ASSIGN_OR_RETURN(const std::optional<ConversionState> left, ReadConversionState(options_.out));
    std::error_code absent;
    uint64_t there_bytes = std::filesystem::file_size(partial, absent);
    if (absent) there_bytes = 0;
    if (left && !absent) {
      if (left->SameWork(state_)) {
        state_.tensors = std::min(left->tensors, plan_.tensors.size());
      } else if (!options_.force) {
        return FailedPrecondition(
            "{}: was begun from another source or with other options (--force begins anew)", partial);
      }
    }
    report_.resumed_tensors = static_cast<int64_t>(state_.tensors);
    TC_RETURN_IF_ERROR(CheckSpace(header.size() + header_.data_bytes(), there_bytes));
    return GgufFileWriter::Resume(options_.out, header_, state_.tensors);
  }

  absl::Status CheckSpace(uint64_t needed_bytes, uint64_t there_bytes) const {
    const std::filesystem::path folder = std::filesystem::absolute(options_.out).parent_path();
    std::error_code error;
    const std::filesystem::space_info space = std::filesystem::space(folder, error);
    if (error) return FailedPrecondition("{}: {}", folder.string(), error.message());
    const uint64_t most = space.available + there_bytes;
    if (most >= needed_bytes) return absl::OkStatus();
    return FailedPrecondition("{}: the file needs {} bytes, the limit is the {} that the disk has left",
                              options_.out, needed_bytes, most);
  }

  // Forces what is written to the disk and says how far it is, once enough was written.
  absl::Status RecordProgress(GgufFileWriter& writer) {
    if (recorded_tensors_ && unrecorded_bytes_ < options_.checkpoint_bytes) return absl::OkStatus();
    TC_RETURN_IF_ERROR(writer.Sync());
    TC_RETURN_IF_ERROR(WriteConversionState(options_.out, state_));
    recorded_tensors_ = true;
    unrecorded_bytes_ = 0;
    return absl::OkStatus();
  }

  absl::Status WriteTensor(const PlannedTensor& tensor, GgufFileWriter& writer) {
    constexpr int64_t kSlabBytes = int64_t{16} << 20;
    TC_ASSIGN_OR_RETURN(const SourceRows source,
                        SourceRows::Open(*source_, plan_.config, tensor, *context_.kernels));
    const int64_t rows = tensor.rows();
    TC_ASSIGN_OR_RETURN(const int64_t row_bytes, RowBytes(tensor.type, tensor.cols()));
    const int64_t slab_rows = std::clamp<int64_t>(kSlabBytes / row_bytes, 1, rows);
    TC_ASSIGN_OR_RETURN(Matrix<std::byte> slab, Matrix<std::byte>::Create(slab_rows, row_bytes));
    for (int64_t first = 0; first < rows; first += slab_rows) {
      const int64_t count = std::min(slab_rows, rows - first);
      TC_RETURN_IF_ERROR(progress_({ShareWritten(), tensor.target}));
      TC_RETURN_IF_ERROR(EncodeRows(tensor, source, first, slab.view().Rows(0, count)));
      TC_RETURN_IF_ERROR(writer.Append({slab.data(), static_cast<size_t>(count * row_bytes)}));
      unrecorded_bytes_ += count * row_bytes;
      written_bytes_ += static_cast<double>(count * row_bytes);
      for (const auto& file : source_->tensors.files()) file->Release();
    }
    return absl::OkStatus();
  }

  // Rows from `first` on into the slab's.
  absl::Status EncodeRows(const PlannedTensor& tensor, const SourceRows& source, int64_t first,
                          MatrixView<std::byte> slab) const {
    const bool any_float = tensor.type == ElementType::kF32 || tensor.type == ElementType::kBF16;
    const float most = any_float ? std::numeric_limits<float>::max() : kMostHalf;
    constexpr int64_t kNone = INT64_MAX;
    std::atomic<int64_t> bad_row = kNone;  // the first that the type cannot hold
    context_.team->ParallelFor(slab.rows, 4, [&](int64_t begin, int64_t end) {
      std::vector<float> row(static_cast<size_t>(tensor.cols()));
      for (int64_t r = begin; r < end; ++r) {
        if (const std::byte* bytes = source.Bytes(first + r)) {
          std::copy_n(bytes, slab.cols, slab.row_data(r));
          continue;
        }
        source.Read(first + r, row);
        const auto fits = [most](float value) { return std::abs(value) <= most; };  // false for NaN
        if (std::ranges::all_of(row, fits)) {
          QuantizeRowClosely(tensor.type, row, slab.row_data(r));
          continue;
        }
        int64_t known = bad_row.load();
        while (r < known && !bad_row.compare_exchange_weak(known, r)) {
        }
      }
    });
    if (bad_row == kNone) return absl::OkStatus();
    return InvalidArgument(
        "{}: tensor '{}', row {} holds a value that is no number or above {}, the limit of {}",
        options_.source, tensor.source, first + bad_row, most, NameOf(tensor.type));
  }

  absl::Status WriteDivisors(GgufFileWriter& writer) const {
    return writer.Append(std::as_bytes(std::span(plan_.config.rope_scaling.frequency_divisors)));
  }

  double ShareWritten() {
    if (written_bytes_ == 0) {  // of what an interrupted conversion wrote
      for (size_t i = 0; i < state_.tensors; ++i) {
        const PlannedTensor& tensor = plan_.tensors[i];
        written_bytes_ += static_cast<double>(tensor.rows() * *RowBytes(tensor.type, tensor.cols()));
      }
    }
    return kWritingShare * written_bytes_ / static_cast<double>(header_.data_bytes());
  }

  const ConversionOptions& options_;
  const CpuContext& context_;
  Progress progress_;
  std::unique_ptr<Checkpoint> source_;
  ConversionPlan plan_;
  GgufHeader header_;
  ConversionState state_;
  ConversionReport report_;
  bool recorded_tensors_ = false;
  int64_t unrecorded_bytes_ = 0;
  double written_bytes_ = 0;
};

}  // namespace

double ConversionReport::OfType::relative_error() const {
  return weight_squares > 0 ? std::sqrt(error_squares / weight_squares) : 0.0;
}

double ConversionReport::bits_per_weight() const {
  int64_t weights = 0, bytes = 0;
  for (const auto& [name, type] : types) {
    weights += type.weights;
    bytes += type.bytes;
  }
  return weights > 0 ? 8 * static_cast<double>(bytes) / static_cast<double>(weights) : 0.0;
}

absl::StatusOr<ConversionReport> Convert(
    const ConversionOptions& options, const CpuContext& context,
    absl::FunctionRef<absl::Status(const ConversionProgress&)> progress) {
  return Conversion(options, context, progress).Run();
}

}  // namespace thermocline
