// The table of each instruction set and the choice among them.
// SPDX-License-Identifier: Apache-2.0
#include "kernels_cpu/kernel_table.h"

#include "kernels_cpu/extended_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels_cpu/kernel_table.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
// Per-target headers follow it.
#include "kernels_cpu/targets-inl.h"

HWY_BEFORE_NAMESPACE();
namespace thermocline {
namespace HWY_NAMESPACE {
namespace {

#if HWY_TARGET == HWY_AVX3
constexpr std::string_view kIsa = "avx512";
#elif HWY_TARGET == HWY_AVX2
constexpr std::string_view kIsa = "avx2";
#elif HWY_TARGET == HWY_SSE4
constexpr std::string_view kIsa = "sse4";
#elif HWY_TARGET == HWY_NEON
constexpr std::string_view kIsa = "neon";
#else
constexpr std::string_view kIsa = "scalar";
#endif

}  // namespace

KernelTable MakeTable() {
  return {.isa = kIsa,
          .dequantize = Dequantize,
          .mat_mul = MatMul,
          .mat_mul_packed = MatMulPacked,
          .mat_mul_packed_int16 = MatMulPackedInt16,
          .mat_mul_columns = MatMulColumns,
          .mat_mul_float_columns = MatMulFloatColumns,
          .mat_mul_rows = MatMulRows,
          .quantize_activations = QuantizeActivations,
          .quantize_int16 = QuantizeInt16,
          .accumulate_rows = AccumulateRows,
          .accumulate_neurons = AccumulateNeurons,
          .rms_norm = RmsNorm,
          .layer_norm = LayerNorm,
          .soft_cap = SoftCap,
          .rope = Rope,
          .gated_activation = GatedActivation,
          .activate = Activate,
          .count_active = CountActive,
          .select_active = SelectActive,
          .select_columns = SelectColumns,
          .pack_signs = PackSigns,
          .sign_agreement = SignAgreement,
          .add = Add,
          .attention = Attention};
}

}  // namespace HWY_NAMESPACE
}  // namespace thermocline
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace thermocline {
namespace {

HWY_EXPORT(MakeTable);

// Entry of Highway's dispatch table for one target: the choice that a processor with only that target makes.
KernelTable TableOf(int64_t target) {
#if (HWY_TARGETS & (HWY_TARGETS - 1)) == 0  // one target: a table of one entry
  static_cast<void>(target);
  return HWY_DISPATCH_TABLE(MakeTable)[0]();
#else
  hwy::ChosenTarget choice;
  choice.Update(target);
  return HWY_DISPATCH_TABLE(MakeTable)[choice.GetIndex()]();
#endif
}

// The tables of instruction sets that extend the given one, best first: the same but for some kernels.
void AppendExtensions([[maybe_unused]] const KernelTable& table,
                      [[maybe_unused]] std::vector<KernelTable>& list) {
  [[maybe_unused]] const auto append = [&](std::string_view isa,
                                           decltype(KernelTable::mat_mul_packed) mat_mul_packed,
                                           decltype(KernelTable::mat_mul_columns) mat_mul_columns) {
    list.push_back(table);
    list.back().isa = isa;
    list.back().mat_mul_packed = mat_mul_packed;
    list.back().mat_mul_columns = mat_mul_columns;
  };
#if defined(__x86_64__)
  if (table.isa != "avx512") return;
  const auto append_vnni = [&](std::string_view isa, decltype(KernelTable::mat_mul_packed) mat_mul_packed) {
    append(isa, mat_mul_packed, MatMulColumnsVnni);
    list.back().mat_mul_packed_int16 = MatMulPackedInt16Vnni;
  };
  if (HasAmx()) append_vnni("avx512_amx", MatMulPackedAmx);
  if (HasVnni()) append_vnni("avx512_vnni", MatMulPackedVnni);
#elif defined(__aarch64__)
  if (table.isa == "neon" && HasDotProd()) append("neon_dotprod", MatMulPackedDotProd, MatMulColumnsDotProd);
#endif
}

// Best first: Highway gives better targets lower bits. The baseline runs everywhere, whether or not Highway
// lists it.
const std::vector<KernelTable>& Tables() {
  static const std::vector<KernelTable>* const tables = [] {
    auto* list = new std::vector<KernelTable>;
    const int64_t runnable = (hwy::SupportedTargets() | HWY_STATIC_TARGET) & HWY_TARGETS;
    for (int64_t left = runnable; left != 0; left &= left - 1) {
      const KernelTable table = TableOf(left & -left);
      AppendExtensions(table, *list);
      list->push_back(table);
    }
    return list;
  }();
  return *tables;
}

}  // namespace

const KernelTable& BestKernels() { return Tables().front(); }

std::vector<std::string_view> AvailableIsas() {
  std::vector<std::string_view> names;
  for (const KernelTable& table : Tables()) names.push_back(table.isa);
  return names;
}

absl::StatusOr<const KernelTable*> KernelsFor(std::string_view isa) {
  for (const KernelTable& table : Tables())
    if (table.isa == isa) return &table;
  return InvalidArgument("instruction set '{}' is not available here; available are {}", isa,
                         fmt::join(AvailableIsas(), ", "));
}

}  // namespace thermocline
#endif  // HWY_ONCE
