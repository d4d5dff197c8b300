// What every test program runs with under a sanitizer, without any environment variable.
// SPDX-License-Identifier: Apache-2.0

// Absurd sizes are asked for on purpose, and malloc's answer is part of the test.
extern "C" const char* __asan_default_options() { return "allocator_may_return_null=1"; }

// Calls into the C library from libraries that are not instrumented are not looked at.
extern "C" const char* __tsan_default_options() {
  return "allocator_may_return_null=1:ignore_noninstrumented_modules=1:suppressions=" THERMOCLINE_SOURCE_DIR
         "/tests/support/tsan.supp";
}
