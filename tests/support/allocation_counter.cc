// An operator new that counts. All of its forms go together: AddressSanitizer pairs news with deletes.
// SPDX-License-Identifier: Apache-2.0
#include "tests/support/allocation_counter.h"

#include <cstdlib>
#include <new>

namespace {
thread_local int64_t allocations = 0;
}  // namespace

void* operator new(std::size_t size, const std::nothrow_t& /*tag*/) noexcept {
  ++allocations;
  return std::malloc(size > 0 ? size : 1);
}
void* operator new(std::size_t size) {
  if (void* memory = operator new(size, std::nothrow)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t /*size*/) noexcept { std::free(memory); }

namespace thermocline {

int64_t AllocationsOfThisThread() { return allocations; }

}  // namespace thermocline
