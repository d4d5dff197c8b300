// CompletionServer: the gRPC server over a scheduler, with admin, health, reflection and drain.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/status.h"
#include "model/chat_template.h"
#include "model/plan.h"
#include "model/tokenizer.h"
#include "scheduler/scheduler.h"
#include "server/call_counter.h"
#include "server/credentials.h"
#include "server/metrics.h"
#include "server/request_log.h"
#include "server/tls_files.h"

namespace thermocline {

class RequestTraces;

struct ServedDevice {
  std::string name;  // "cpu", "host"
  DeviceKind kind = DeviceKind::kCpu;
  int64_t used_bytes = 0;
  int64_t budget_bytes = 0;  // 0: none
};

// What GetModel and GetPlacement say, besides what the scheduler and the tokenizer know.
struct ServedModel {
  std::string name;          // of the file or folder
  std::string architecture;  // "llama"
  std::string activation;    // "relu"
  bool gated = true;
  int64_t n_layers = 0;
  int64_t d_model = 0;
  int64_t d_ff = 0;
  int64_t n_heads = 0;
  int64_t n_kv_heads = 0;
  int64_t d_head = 0;
  std::vector<std::string> weight_types;  // most bytes first
  int64_t weight_bytes = 0;
  std::string mode;                   // "predicted"
  std::vector<ServedDevice> devices;  // the CPU first
  std::vector<int64_t> hot_neurons;   // (n_layers)
};

// What the server works with. All outlive it.
struct CompletionServerParts {
  Scheduler& scheduler;
  const Tokenizer& tokenizer;
  const ChatTemplate& chat_template;
  const ServedModel& model;
  ServerMetrics& metrics;
  RequestLog& log;
  const Credentials* credentials = nullptr;  // absent: everybody may call
  RequestTraces* traces = nullptr;           // absent: none may be asked for
};

struct CompletionServerOptions {
  std::string listen = "127.0.0.1:50051";  // HOST:PORT, [IPV6]:PORT; port 0 takes any free one
  int64_t max_message_bytes = 16 << 20;    // of one request; 1 KiB to 1 GiB
  // Pings of clients are tolerated at this interval; a client that pings much more often is disconnected.
  std::chrono::milliseconds min_client_ping_interval{5'000};
  // A silent client is pinged at this interval, and its calls are cancelled when it does not answer.
  std::chrono::milliseconds keepalive_interval{30'000};
  std::chrono::milliseconds keepalive_timeout{10'000};
  // Health and reflection need no key: routers and load balancers ask for the one, and the other says what
  // anybody can read in our protos. With a client_ca they need a certificate as every call does.
  TlsFiles tls;
  // What Shutdown() gives the running completions to finish; 0 to 24 hours.
  std::chrono::milliseconds shutdown_timeout{30'000};

  // A FieldError that names the option, its value and the limit.
  absl::Status Validate() const;
};

// Safe to use from several threads.
class CompletionServer {
 public:
  // Serves as soon as it returns. FailedPrecondition naming the address when it cannot be listened on, or the
  // file that is no good.
  static absl::StatusOr<std::unique_ptr<CompletionServer>> Start(const CompletionServerParts& parts,
                                                                 const CompletionServerOptions& options);
  // Shuts down without waiting for running completions, unless Shutdown() was called.
  ~CompletionServer();

  int port() const;
  // HOST:PORT with the port that was taken.
  std::string address() const;
  CompletionServerStats stats() const;

  // Reads certificate, key and authority again; on an error the old ones stay. Does nothing without TLS.
  absl::Status ReloadTls();

  // From now on health says NOT_SERVING, new calls are refused with UNAVAILABLE, and watches of figures end.
  // Running completions go on.
  void RefuseNewCalls();

  // Drains the server and its scheduler, then stops both for good: health says NOT_SERVING and new calls are
  // refused with UNAVAILABLE at once; running completions may finish within the shutdown timeout, and end
  // with UNAVAILABLE after it. True when none was cut short. Later calls return the same.
  bool Shutdown();

 private:
  struct Impl;
  explicit CompletionServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace thermocline
