// Activation counting: runs a model over a corpus and counts which neurons fire.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/status.h"
#include "model/activation_profile.h"
#include "model/tokenizer.h"
#include "predictor/activation_samples.h"
#include "scheduler/transformer.h"

namespace thermocline {

// Counts what passes a transformer's feed-forward blocks. The sums do not depend on the number of threads nor
// on how tokens are cut into steps.
class ActivationCounter final : public FeedForwardObserver {
 public:
  // A neuron is active when the magnitude of its activation is above `threshold`, finite and not negative.
  ActivationCounter(const ModelConfig& config, const CpuContext& context, double threshold);

  void OnGate(int64_t layer, MatrixView<const float> input, MatrixView<const float> gate) override;

  // Leading tokens of the passes to come that are not counted.
  void SkipTokens(int64_t count) { skipped_tokens_ = count; }
  const std::vector<NeuronCounts>& layers() const { return layers_; }  // index is the layer's number
  void Clear();

 private:
  const CpuContext context_;
  const ActivationFunction activation_;
  const float threshold_;
  int64_t skipped_tokens_ = 0;
  std::vector<NeuronCounts> layers_;
};

struct CountingOptions {
  int64_t window_tokens = 0;    // 2 to the transformer's context, which 0 stands for
  int64_t held_out_every = 10;  // at least 2; 0 holds none out
  int64_t max_tokens = 0;  // of this run, all ranks together; the window that reaches it is the last. 0: all
  // Of several processes that share a corpus: rank r counts the windows with number % ranks == r.
  int64_t rank = 0;
  int64_t ranks = 1;
  // Gets every counted token too, where it is set; not owned. Held-out windows are its held-out part. Where
  // none are held out, or other ranks count those, it is every held_out_every-th (else every tenth) window of
  // this rank.
  ActivationSamples* samples = nullptr;
};

struct CountingProgress {
  int64_t tokens = 0;          // counted so far, in this run
  int64_t consumed_bytes = 0;  // of the corpus
  int64_t corpus_bytes = 0;
};

// Counts until the corpus ends or `go_on`, asked after every counted window, says no; either way `profile`
// holds all windows counted so far and its corpus position says where to go on. After an error too: what was
// counted before stays. The corpus: UTF-8 text, or JSONL with a string field "text" a line when the file ends
// in .jsonl.
//
// Windows (corpus.h) are contexts of their own. Where the model wants a BOS each opens with one, which takes
// a token of the window but is not counted: decoding never computes it, and its neurons are always the same.
// Window 1 and every held_out_every-th after it, counted from 0, are held out: a corpus of one window holds
// none.
//
// `profile` comes from EmptyProfile, or has counts to add to. Where its corpus names a file counting goes on
// there, with the counts of one run to the last bit; the corpus must then have the same name and size, and
// the options the same windows and held-out share (FailedPrecondition naming both sides). InvalidArgument
// naming file and place for other encodings and malformed lines, for a corpus without tokens, for options out
// of range, and when the model's output is not finite.
absl::Status CountActivations(Transformer& transformer, const Tokenizer& tokenizer, const std::string& corpus,
                              const CountingOptions& options, ActivationProfile& profile,
                              const std::function<bool(const CountingProgress&)>& go_on);

}  // namespace thermocline
