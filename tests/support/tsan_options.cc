// Makes a test program that uses gRPC run under ThreadSanitizer without any environment variable.
// SPDX-License-Identifier: Apache-2.0

// Calls into the C library from libraries that are not instrumented are not looked at.
extern "C" const char* __tsan_default_options() {
  return "ignore_noninstrumented_modules=1:suppressions=" THERMOCLINE_SOURCE_DIR "/tests/support/tsan.supp";
}
