// GpuGraphs: stretches of a step that only the GPU takes part in, captured once and launched as one.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <absl/container/flat_hash_map.h>

#include <cstdint>
#include <vector>

#include "core/status.h"
#include "kernels_cuda/gpu.h"

namespace thermocline {

// What a stretch does, so far as its kernels' launches depend on it.
using GpuStretchKey = std::vector<uint32_t>;

// The first time a stretch runs as it is, which also warms up what it needs; the second time it is captured;
// from then on it is one launch. Past kMostGraphs stretches run as they are.
class GpuGraphs {
 public:
  static constexpr size_t kMostGraphs = 4096;

  // Must outlive it.
  explicit GpuGraphs(Gpu& gpu) : gpu_(gpu) {}

  // enqueue() -> absl::Status puts the stretch's work on gpu.compute(); its launches are a function of the
  // key.
  template <typename Enqueue>
  absl::Status Run(const GpuStretchKey& key, const Enqueue& enqueue) {
    const auto found = stretches_.find(key);
    if (found == stretches_.end()) {
      if (stretches_.size() < kMostGraphs) stretches_.emplace(key, GpuOwned<GpuGraph>());
      return enqueue();
    }
    if (!found->second) {
      TC_RETURN_IF_ERROR(gpu_.BeginCapture(gpu_.compute()));
      const absl::Status enqueued = enqueue();
      absl::StatusOr<GpuOwned<GpuGraph>> graph = gpu_.EndCapture(gpu_.compute());
      TC_RETURN_IF_ERROR(enqueued);
      TC_RETURN_IF_ERROR(graph.status());
      found->second = *std::move(graph);
    }
    return gpu_.Launch(found->second.get(), gpu_.compute());
  }

 private:
  Gpu& gpu_;
  absl::flat_hash_map<GpuStretchKey, GpuOwned<GpuGraph>> stretches_;
};

}  // namespace thermocline
