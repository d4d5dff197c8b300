// OpenBLAS's product, on one thread, where the library is installed.
// SPDX-License-Identifier: Apache-2.0
//
// It is loaded at run time, since it reads from the environment which kernels to use as it is loaded.
#include <dlfcn.h>
#include <fmt/format.h>

#include <cstdlib>

#include "tests/bench/ladder/problem.h"

namespace thermocline::ladder {
namespace {

// As in the CBLAS interface, with 32-bit sizes.
constexpr int kRowMajor = 101, kNoTranspose = 111;
using Sgemm = void (*)(int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha,
                       const float* a, int a_stride, const float* b, int b_stride, float beta, float* c,
                       int c_stride);

struct OpenBlas {
  Sgemm sgemm = nullptr;
  std::string description;
};

template <typename Function>
Function Symbol(void* library, const char* name) {
  return reinterpret_cast<Function>(dlsym(library, name));
}

// Those of the same instruction set, whatever the environment asks for: others would be no peer.
const char* KernelsFor(std::string_view isa) {
  if (isa == "avx512") return "SkylakeX";
  if (isa == "avx2") return "Haswell";
  if (isa == "sse4") return "Nehalem";
  return nullptr;  // Arm: as it detects
}

// The first call decides for which instruction set.
const OpenBlas& Load(std::string_view isa) {
  static const OpenBlas library = [isa] {
    OpenBlas loaded;
    if (const char* kernels = KernelsFor(isa)) setenv("OPENBLAS_CORETYPE", kernels, /*overwrite=*/1);
    void* handle = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) return loaded;
    loaded.sgemm = Symbol<Sgemm>(handle, "cblas_sgemm");
    const auto set_threads = Symbol<void (*)(int)>(handle, "openblas_set_num_threads");
    const auto config = Symbol<char* (*)()>(handle, "openblas_get_config");
    const auto core = Symbol<char* (*)()>(handle, "openblas_get_corename");
    if (set_threads != nullptr) set_threads(1);
    if (config != nullptr && core != nullptr)
      loaded.description = fmt::format("{}; kernels for {}", config(), core());
    return loaded;
  }();
  return library;
}

void Multiply(const MatMulArgs& args) {
  const auto size = [](int64_t value) { return static_cast<int>(value); };
  const auto stride = [](int64_t value) { return static_cast<int>(value > 0 ? value : 1); };
  Load("").sgemm(kRowMajor, kNoTranspose, kNoTranspose, size(args.c.rows), size(args.c.cols),
                 size(args.a.cols), 1.0f, args.a.data, stride(args.a.stride), args.b.data,
                 stride(args.b.stride), 0.0f, args.c.data, stride(args.c.stride));
}

}  // namespace

std::vector<MatMulRung> OpenBlasRungs(std::string_view isa) {
  if (Load(isa).sgemm == nullptr) return {};
  return {{"OpenBLAS", 1 << 20, nullptr, Multiply}};
}

std::string DescribeOpenBlas(std::string_view isa) { return Load(isa).description; }

}  // namespace thermocline::ladder
