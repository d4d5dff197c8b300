// ActivationCounter: runs a model over a corpus and counts which neurons fire.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "core/status.h"
#include "model/activation_profile.h"
#include "model/tokenizer.h"
#include "scheduler/transformer.h"

namespace thermocline {

struct CountingOptions {
  int64_t window_tokens = 0;    // each window is its own context; 0: the transformer's
  int64_t held_out_every = 10;  // every n-th window is held out; 0 holds none out
  int64_t max_tokens = 0;       // stop after that many; 0: the whole corpus
};

struct CountingProgress {
  int64_t tokens = 0;          // counted so far, in this run
  int64_t consumed_bytes = 0;  // of the corpus
  int64_t corpus_bytes = 0;
};

// Counts until the corpus ends or `go_on`, asked after every window, says no; either way `profile` holds all
// windows counted so far and its corpus position says where to go on. The corpus: UTF-8 text, or JSONL with a
// string field "text" a line when the file ends in .jsonl; read as a stream. InvalidArgument naming file and
// place for other encodings and malformed lines, and for an empty corpus.
absl::Status CountActivations(Transformer& transformer, const Tokenizer& tokenizer, const std::string& corpus,
                              const CountingOptions& options, ActivationProfile& profile,
                              const std::function<bool(const CountingProgress&)>& go_on);

}  // namespace thermocline
