// Conversion of a model to a GGUF file: streamed tensor by tensor, resumable, verified.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <absl/functional/function_ref.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"
#include "kernels_cpu/parallel.h"
#include "model/config.h"

namespace thermocline {

struct ConversionOptions {
  std::string source;                            // GGUF file or Hugging Face folder
  std::string out;                               // GGUF file
  ElementType type = ElementType::kQ8_0;         // of matrices (MatrixType); one of kConversionTypes
  std::optional<Activation> activation = {};     // instead of what the source says
  bool tokenizer = true;                         // false: the file has none
  bool force = false;                            // overwrites OUT, and a part that belongs to other work
  int64_t checkpoint_bytes = int64_t{64} << 20;  // least that is written between two records of progress
};

struct ConversionProgress {
  double share = 0;       // of all the work, 0 to 1
  std::string_view what;  // a tensor's name, or that it is being verified
};

struct ConversionReport {
  struct OfType {
    int64_t tensors = 0;
    int64_t weights = 0;
    int64_t bytes = 0;
    double error_squares = 0;   // of what was written less the source
    double weight_squares = 0;  // of the source

    double relative_error() const;  // root of their ratio
  };
  std::string architecture;  // GGUF's
  int64_t file_bytes = 0;
  int64_t tensors = 0;
  int64_t resumed_tensors = 0;  // that an interrupted conversion had written
  std::map<std::string, OfType> types;
  std::vector<std::string> notes;  // lines for people: what llama.cpp does not know, what was requantised

  double bits_per_weight() const;
};

// Writes OUT.partial, records every now and then how far it is, reads all of it back, compares every row with
// the source within its type's bound, and renames it to OUT. What an interrupted conversion of the same
// source and options left is gone on with. `progress` is called between slabs of rows; its error ends the
// conversion, which can be resumed.
//
// Memory: a slab of rows, 16 MiB, and what the page cache keeps of the source. FailedPrecondition where OUT
// is there, OUT.partial belongs to other work or the disk is too small; InvalidArgument naming tensor and row
// for values that the type cannot hold; Unimplemented for what GGUF cannot say.
absl::StatusOr<ConversionReport> Convert(const ConversionOptions& options, const CpuContext& context,
                                         absl::FunctionRef<absl::Status(const ConversionProgress&)> progress);

}  // namespace thermocline
