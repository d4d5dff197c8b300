// StopSignals: SIGINT and SIGTERM as something that one can wait for.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <csignal>
#include <mutex>
#include <thread>

namespace thermocline {

// Blocks both signals, so that a thread of its own gets them. To be made before any other thread, which would
// otherwise get them too.
class StopSignals {
 public:
  StopSignals();
  // Gives the signals their former meaning.
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  // Until then a signal ends the process at once, as it does without this class.
  void Arm();
  // Returns at the first signal after Arm(). The next one ends the process at once.
  void Wait();

 private:
  void Watch();

  sigset_t signals_;
  sigset_t former_mask_;
  std::mutex mutex_;
  std::condition_variable stopped_changed_;
  bool armed_ = false;    // guarded by mutex_, as all below
  bool stopped_ = false;  // the first signal came
  bool ending_ = false;   // the destructor runs
  std::thread watcher_;
};

}  // namespace thermocline
