// What the processor has beyond Highway's targets.
// SPDX-License-Identifier: Apache-2.0
#include "kernels_cpu/extended_targets.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace thermocline {

#if defined(__x86_64__)
bool HasVnni() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vnni");
}

bool HasAmx() {
  constexpr unsigned kFeatureLeaf = 7, kTileBit = 1u << 24, kInt8Bit = 1u << 25;  // of edx
  constexpr long kRequestPermission = 0x1023, kTileData = 18;                     // arch_prctl(2)
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (!HasVnni() || __get_cpuid_count(kFeatureLeaf, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
  if ((edx & kTileBit) == 0 || (edx & kInt8Bit) == 0) return false;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#elif defined(__aarch64__)
bool HasDotProd() { return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0; }
#endif

}  // namespace thermocline
