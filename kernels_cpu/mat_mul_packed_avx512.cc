// Products of panels and columns with AVX-512's integer dot products (VNNI), of panels with AMX's tiles.
// SPDX-License-Identifier: Apache-2.0
//
// Highway's targets have no step between AVX-512 as of Skylake and one that asks for more than this, so the
// file names its instructions itself. Nothing here runs before extended_targets.h has said that they exist.
#include "kernels_cpu/extended_targets.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/element_type.h"

// g++ 12 takes the deliberately undefined operands inside its own intrinsics for mistakes.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,amx-tile,amx-int8")
#define THERMOCLINE_TILES avx512_tiles
#include "kernels_cpu/packed_vnni-inl.h"
// Over those operations.
#include "kernels_cpu/column_tiles-inl.h"
#include "kernels_cpu/packed_tiles-inl.h"
#define THERMOCLINE_TILE_CONFIG(memory) _tile_loadconfig(memory)
#define THERMOCLINE_TILE_RELEASE() _tile_release()
#define THERMOCLINE_TILE_ZERO(tile) _tile_zero(tile)
#define THERMOCLINE_TILE_LOAD(tile, base, stride) _tile_loadd(tile, base, stride)
#define THERMOCLINE_TILE_STORE(tile, base, stride) _tile_stored(tile, base, stride)
#define THERMOCLINE_TILE_DOT(sum, a, b) _tile_dpbssd(sum, a, b)
#include "kernels_cpu/packed_amx-inl.h"

namespace thermocline {

void MatMulPackedVnni(const PackedView& w, const QuantizedActivations& x, MatrixView<float> y) {
  avx512_tiles::MatMulPanels<avx512_tiles::Ops>(w, x, y);
}

void MatMulPackedInt16Vnni(const PackedView& w, const Int16Activations& x, MatrixView<float> y) {
  avx512_tiles::MatMulInt16Panels<avx512_tiles::Ops>(w, x, y);
}

void MatMulColumnsVnni(const ColumnView& w, int64_t begin, int64_t end, const ListedActivations& x,
                       MatrixView<float> sums) {
  avx512_tiles::MatMulListed<avx512_tiles::Ops>(w, begin, end, x, sums);
}

void MatMulPackedAmx(const PackedView& w, const QuantizedActivations& x, MatrixView<float> y) {
  static thread_local std::vector<uint8_t> room;
  room.resize(std::max(room.size(), static_cast<size_t>(w.cols * kPanelRows)));
  avx512_tiles::MatMulTiled(w, x, room.data(), y);
}

}  // namespace thermocline
#pragma GCC pop_options
#endif
