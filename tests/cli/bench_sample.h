// A made-up result of `thermocline bench`, as its JSON.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>

namespace thermocline {

// Of a model whose hash is "aa11", 512 tokens of prompt and 64 decoded, modes dense at 10 tokens/s and exact
// at 18, with a crossover of three rows.
inline nlohmann::ordered_json SampleResult() {
  return nlohmann::ordered_json::parse(R"({
    "schema": 1, "version": "0.1.0",
    "build": {"version": "0.1.0", "revision": "abc", "compiler": "GNU 12", "type": "Release", "flags": "-O3"},
    "hardware": {"cpu": "Some CPU", "usable_cpus": 2, "isa": "avx2", "threads": 2, "memory_bytes": 8589934592,
                 "read_gb_per_second": 40.0},
    "model": {"file": "relu-7b.gguf", "sha256": "aa11", "type": "Q4_0", "bytes": 4000000000},
    "profile": {"sha256": null, "predictors_sha256": null},
    "prompt_tokens": 512, "decode_tokens": 64,
    "modes": {
      "dense": {
        "decode_tokens_per_second": {"median": 10.0, "min": 9.0, "max": 11.0, "samples": [9.0, 10.0, 11.0]},
        "prefill_tokens_per_second": {"median": 120.0, "min": 110.0, "max": 130.0, "samples": [110.0, 120.0, 130.0]},
        "prefill_gflop_per_second": {"median": 1600.0, "min": 1500.0, "max": 1700.0, "samples": [1500.0, 1600.0, 1700.0]},
        "time_to_first_token_ms": {"median": 4266.0, "min": 3900.0, "max": 4600.0, "samples": [4600.0, 4266.0, 3900.0]},
        "inter_token_ms": {"p50": 100.0, "p99": 120.0}, "bytes_per_token": 3800000000,
        "neuron_bytes_per_token": 2600000000, "gb_per_second": 38.0, "share_of_peak": 0.95, "speedup": 1.0,
        "speedup_bound": 1.0, "share_of_bound": 1.0},
      "exact": {
        "decode_tokens_per_second": {"median": 18.0, "min": 17.0, "max": 19.0, "samples": [17.0, 18.0, 19.0]},
        "prefill_tokens_per_second": {"median": 120.0, "min": 110.0, "max": 130.0, "samples": [110.0, 120.0, 130.0]},
        "prefill_gflop_per_second": {"median": 1600.0, "min": 1500.0, "max": 1700.0, "samples": [1500.0, 1600.0, 1700.0]},
        "time_to_first_token_ms": {"median": 4266.0, "min": 3900.0, "max": 4600.0, "samples": [4600.0, 4266.0, 3900.0]},
        "inter_token_ms": {"p50": 55.0, "p99": 70.0}, "bytes_per_token": 1900000000,
        "neuron_bytes_per_token": 700000000, "gb_per_second": 34.2, "share_of_peak": 0.855, "speedup": 1.8,
        "speedup_bound": 2.0, "share_of_bound": 0.9}},
    "emulated": false,
    "crossover": {"d_model": 4096, "d_ff": 11008, "gated": true, "gate_type": "Q4_0", "down_type": "Q8_0",
      "sparse_wins_from": 0.5, "rows": [
        {"sparsity": 0.0, "neurons": 11008, "dense_us": {"median": 3000.0}, "sparse_us": {"median": 3100.0},
         "speedup": {"median": 0.97, "min": 0.9, "max": 1.02, "samples": [0.97]}, "speedup_bound": 1.0},
        {"sparsity": 0.5, "neurons": 5504, "dense_us": {"median": 3000.0}, "sparse_us": {"median": 1600.0},
         "speedup": {"median": 1.87, "min": 1.8, "max": 1.9, "samples": [1.87]}, "speedup_bound": 2.0},
        {"sparsity": 0.99, "neurons": 110, "dense_us": {"median": 3000.0}, "sparse_us": {"median": 50.0},
         "speedup": {"median": 60.0, "min": 55.0, "max": 65.0, "samples": [60.0]}, "speedup_bound": 100.0}]}})");
}

}  // namespace thermocline
