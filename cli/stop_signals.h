// StopSignals: SIGINT, SIGTERM and SIGHUP as something that one can wait for.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <csignal>
#include <mutex>
#include <thread>

namespace thermocline {

enum class Wake {
  kStop,    // SIGINT, SIGTERM or Stop()
  kReload,  // SIGHUP: files may have changed
};

// Blocks the signals, so that a thread of its own gets them. To be made before any other thread, which would
// otherwise get them too.
class StopSignals {
 public:
  StopSignals();
  // Gives the signals their former meaning.
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  // Until then SIGINT and SIGTERM end the process at once, as they do without this class.
  void Arm();
  // Returns at the first signal after Arm(), or for a SIGHUP that came before. What comes after kStop was
  // returned ends the process at once; SIGHUP no longer counts.
  Wake Wait();
  // As if a signal had come, from any thread.
  void Stop();

 private:
  void Watch();

  sigset_t signals_;
  sigset_t former_mask_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool armed_ = false;    // guarded by mutex_, as all below
  bool stopped_ = false;  // the first signal came
  bool reload_ = false;   // SIGHUP came and nobody was told yet
  bool ending_ = false;   // the destructor runs
  std::thread watcher_;
};

}  // namespace thermocline
