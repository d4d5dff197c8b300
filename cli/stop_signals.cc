// StopSignals: SIGINT, SIGTERM and SIGHUP as something that one can wait for.
// SPDX-License-Identifier: Apache-2.0
#include "cli/stop_signals.h"

#include <pthread.h>

namespace thermocline {
namespace {

// As if the signal had never been caught, so that the caller's shell sees how the process ended.
void DieOf(int signal) {
  sigset_t only;
  sigemptyset(&only);
  sigaddset(&only, signal);
  std::signal(signal, SIG_DFL);
  pthread_sigmask(SIG_UNBLOCK, &only, nullptr);
  std::raise(signal);
}

}  // namespace

StopSignals::StopSignals() {
  sigemptyset(&signals_);
  sigaddset(&signals_, SIGINT);
  sigaddset(&signals_, SIGTERM);
  sigaddset(&signals_, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &signals_, &former_mask_);
  watcher_ = std::thread([this] { Watch(); });
}

StopSignals::~StopSignals() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  pthread_kill(watcher_.native_handle(), SIGTERM);  // wakes it from sigwait
  watcher_.join();
  pthread_sigmask(SIG_SETMASK, &former_mask_, nullptr);
}

void StopSignals::Arm() {
  const std::lock_guard lock(mutex_);
  armed_ = true;
}

Wake StopSignals::Wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return stopped_ || reload_; });
  if (stopped_) return Wake::kStop;
  reload_ = false;
  return Wake::kReload;
}

void StopSignals::Stop() {
  const std::lock_guard lock(mutex_);
  stopped_ = true;
  changed_.notify_all();
}

void StopSignals::Watch() {
  while (true) {
    int signal = 0;
    if (sigwait(&signals_, &signal) != 0) continue;
    const std::lock_guard lock(mutex_);
    if (ending_) return;
    if (signal == SIGHUP) {
      reload_ = true;
      changed_.notify_all();
      continue;
    }
    if (!armed_ || stopped_) DieOf(signal);
    stopped_ = true;
    changed_.notify_all();
  }
}

}  // namespace thermocline
