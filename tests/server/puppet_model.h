// What a server over the puppets says of its model.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "server/completion_server.h"

namespace thermocline::testing {

inline ServedModel PuppetModel() {
  return {.name = "puppet.gguf",
          .architecture = "llama",
          .activation = "relu",
          .gated = true,
          .n_layers = 2,
          .d_model = 64,
          .d_ff = 256,
          .n_heads = 4,
          .n_kv_heads = 2,
          .d_head = 16,
          .weight_types = {"Q4_0", "F32"},
          .weight_bytes = 123456,
          .mode = "predicted",
          .devices = {{.name = "cpu", .used_bytes = 1000},
                      {.name = "host", .kind = DeviceKind::kHost, .used_bytes = 300, .budget_bytes = 400}},
          .hot_neurons = {100, 56}};
}

}  // namespace thermocline::testing
