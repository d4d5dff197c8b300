// What `thermocline bench` measures: prefill, and decoding in several modes in turn.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "core/samples.h"
#include "core/status.h"
#include "profiler/bandwidth.h"
#include "scheduler/transformer.h"

namespace thermocline {

struct BenchOptions {
  std::vector<NeuronMode> modes;         // that the runner has; kDense is one of them
  Quality quality = Quality::kBalanced;  // of kPredicted
  std::vector<TokenId> prompt;
  int64_t decode_tokens = 64;
  int repetitions = 5;  // counted, after one warm-up
};

struct ModeFigures {
  NeuronMode mode = NeuronMode::kDense;
  Samples decode_tokens_per_second;  // of each repetition
  Samples gb_per_second;             // of each repetition: bytes_per_token times its tokens a second
  Samples share_of_peak;             // of each repetition: of the reads measured just before and after it
  Samples speedup;                   // of each repetition, against dense in the same one
  double inter_token_ms_p50 = 0;     // over the tokens of all repetitions
  double inter_token_ms_p99 = 0;
  Samples inter_token_ms_p50_each;  // of each repetition
  Samples inter_token_ms_p99_each;  // the same
  int64_t bytes_per_token = 0;      // as the operators count them: weights, keys and values
  int64_t neuron_bytes_per_token =
      0;  // of them, of feed-forward blocks and predictors; of the rest only kThreshold leaves something out
  double speedup_bound = 0;  // dense's bytes_per_token / this mode's
  double marked_share = 0;   // of the neurons, whose gate was computed
  double active_share = 0;   // of the neurons; 0 for kDense, which does not look
  // Zero without accelerators.
  Samples overlap_ratio;     // of each repetition
  Samples hand_over_micros;  // the same, mean over its hand-overs
  double hand_overs_per_token = 0;
};

struct BenchFigures {
  // Prefill is dense whatever the mode.
  Samples prefill_tokens_per_second;
  Samples prefill_gflop_per_second;  // of PrefillOperations
  Samples first_token_ms;
  std::vector<ModeFigures> modes;  // as in the options
  Samples read_gb_per_second;      // the peak, measured before and after every decoding
};

// Floating-point operations that a prompt of so many tokens needs: two for each weight of the matrices and
// token, those of attention over what each token sees, and the head's for the last token. Norms, activations
// and rotations, below a hundredth of it, are not counted.
double PrefillOperations(const ModelConfig& config, int64_t n_tokens);

// A repetition is one prefill, then every mode's decoding from there, so that noise of the machine meets all
// modes alike; the modes take turns in going first, and between them the memory's reads are measured. Every
// mode decodes the same tokens: the prompt's greedy continuation by the dense model. Positions up to prompt
// and decode_tokens are to be within the runner's context.
absl::StatusOr<BenchFigures> MeasureModes(Transformer& runner, const ReadBandwidthProbe& reads,
                                          const BenchOptions& options);

}  // namespace thermocline
