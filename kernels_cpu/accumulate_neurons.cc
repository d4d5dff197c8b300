// The candidates of a table of neurons: gates, then only what fires.
// SPDX-License-Identifier: Apache-2.0
//
// Candidates are taken in blocks: the gate products of a block, its list of neurons that fire, their up
// products, their down rows. Products and sums are those of mat_mul.cc and accumulate_rows.cc, so the bits
// are those of the dense operators. Each pass is told what the next one reads first, to have it prefetched.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels_cpu/accumulate_neurons.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
// Per-target headers follow it.
#include "kernels_cpu/activations-inl.h"
#include "kernels_cpu/targets-inl.h"

#include <algorithm>
#include <bit>

HWY_BEFORE_NAMESPACE();
namespace thermocline {
namespace HWY_NAMESPACE {
namespace {

using U16Tag = hn::Rebind<uint16_t, F32Tag>;

// Long enough that a thread's range of a usual layer is one block: each block ends with groups that are not
// full.
constexpr int64_t kBlock = 512;
constexpr int64_t kBatchBlock = 128;  // and for batches: products of 16 tokens stay in the first-level cache
constexpr int64_t kGroup = 4;         // rows that DotListed multiplies at a time

template <class T>
HWY_INLINE void CopyTo(std::span<T> target, const T* source) {
  std::memcpy(target.data(), source, target.size() * sizeof(T));
}

// ---- One token

// The neurons of a block that fire: rows of the table and values of the activation, then of the neuron. Room
// for the whole vectors that compression stores.
struct FiredList {
  int64_t count = 0;
  HWY_ALIGN uint32_t rows[kBlock + kLanes];
  HWY_ALIGN float values[kBlock + kLanes];

  std::span<const uint32_t> listed() const { return {rows, static_cast<size_t>(count)}; }
};

// Appends the neurons whose activation is not zero (NaN is not). gates, rows and fired have whole vectors.
struct AppendFired {
  const float* gates;
  const uint32_t* rows;
  int64_t count;
  TokenMask* fired;
  FiredList& list;

  template <class Function>
  HWY_INLINE void operator()(const Function& activate) const {
    const F32Tag f32;
    const U32Tag u32;
    const I32Tag i32;
    for (int64_t i = 0; i < count; i += kLanes) {
      const F32 value = activate(hn::Load(f32, gates + i));
      const auto fires =
          hn::And(Fires(value), hn::FirstN(f32, static_cast<size_t>(HWY_MIN(kLanes, count - i))));
      hn::StoreU(hn::Compress(value, fires), f32, list.values + list.count);
      hn::StoreU(hn::Compress(hn::Load(u32, rows + i), hn::RebindMask(u32, fires)), u32,
                 list.rows + list.count);
      list.count += static_cast<int64_t>(hn::CountTrue(f32, fires));
      const I32 token = hn::IfThenElseZero(hn::RebindMask(i32, fires), hn::Set(i32, 1));
      hn::StoreU(hn::DemoteTo(U16Tag(), token), U16Tag(), fired + i);
    }
  }
};

// What an up product counts for: with dReLU only what is positive.
HWY_INLINE float UpFactor(ActivationFunction activation, float up) {
  return activation.kind == Activation::kDRelu && up < 0.0f ? 0.0f : up;
}

// values *= the up products; neurons whose value is zero leave the list.
void MultiplyByUp(ActivationFunction activation, const float* up, FiredList& list) {
  int64_t kept = 0;
  for (int64_t i = 0; i < list.count; ++i) {
    const float value = list.values[i] * UpFactor(activation, up[i]);
    list.rows[kept] = list.rows[i];
    list.values[kept] = value;
    kept += value != 0.0f;
  }
  list.count = kept;
}

void AddBias(const float* bias, std::span<const uint32_t> rows, float* products) {
  if (bias == nullptr) return;
  for (size_t i = 0; i < rows.size(); ++i) products[i] += bias[rows[i]];
}

NeuronReads BlockOneToken(const SparseFfnArgs& args, std::span<const uint32_t> candidates,
                          std::span<const uint32_t> next_candidates, std::span<TokenMask> fired_out) {
  const BundleView& bundles = args.bundles;
  const float* x = args.x.data;
  const auto count = static_cast<int64_t>(candidates.size());
  HWY_ALIGN uint32_t rows[kBlock] = {};  // whole vectors of them are read
  HWY_ALIGN float products[kBlock] = {};
  HWY_ALIGN TokenMask fired[kBlock];
  std::memcpy(rows, candidates.data(), candidates.size_bytes());
  FiredList list;

  const WeightView after_gate = bundles.gated ? bundles.up() : bundles.down();
  // All but the last vector's worth of gates first: what fires among them is read next.
  constexpr int64_t kStep = HWY_MAX(kGroup, kLanes);
  const int64_t head = count == 0 ? 0 : (count - 1) / kStep * kStep;
  const RowList first{bundles.gate(), candidates.first(static_cast<size_t>(head))};
  const RowList last{bundles.gate(), candidates.subspan(static_cast<size_t>(head))};
  DotListed(first, last, x, products);
  AddBias(bundles.gate_bias, first.rows, products);
  WithActivation(args.activation, AppendFired{products, rows, head, fired, list});
  DotListed(last, {after_gate, list.listed()}, x, products + head);
  AddBias(bundles.gate_bias, last.rows, products + head);
  WithActivation(args.activation,
                 AppendFired{products + head, rows + head, count - head, fired + head, list});
  CopyTo(fired_out, fired);
  NeuronReads reads{.gate_rows = count};

  if (bundles.gated) {
    reads.up_rows = list.count;
    DotListed({bundles.up(), list.listed()}, {bundles.down(), list.listed()}, x, products);
    MultiplyByUp(args.activation, products, list);
  }
  reads.down_rows = list.count;
  AddListed({bundles.down(), list.listed()}, {bundles.gate(), next_candidates}, list.values, args.y.data);
  return reads;
}

// ---- A batch

// Products of a block, (n_tokens, kBatchBlock).
struct BlockProducts {
  HWY_ALIGN float values[kMostSparseTokens * kBatchBlock] = {};  // never more than some are written

  MatrixView<float> view(int64_t tokens) { return {values, tokens, kBatchBlock, kBatchBlock}; }
};

// gates = activation(gates), and the tokens for which each neuron fires, among those that need it.
struct FireBatch {
  MatrixView<float> gates;
  int64_t count;
  const TokenMask* needed;
  TokenMask* fired;

  template <class Function>
  HWY_INLINE void operator()(const Function& activate) const {
    const F32Tag f32;
    const I32Tag i32;
    for (int64_t i = 0; i < count; i += kLanes) {
      I32 mask = hn::Zero(i32);
      for (int64_t t = 0; t < gates.rows; ++t) {
        float* at = gates.row_data(t) + i;
        const F32 value = activate(hn::Load(f32, at));
        hn::Store(value, f32, at);
        const auto fires = hn::RebindMask(i32, Fires(value));
        mask = hn::Or(mask, hn::IfThenElseZero(fires, hn::Set(i32, 1 << t)));
      }
      const auto need = hn::BitCast(i32, hn::PromoteTo(U32Tag(), hn::LoadU(U16Tag(), needed + i)));
      hn::StoreU(hn::DemoteTo(U16Tag(), hn::And(mask, need)), U16Tag(), fired + i);
    }
  }
};

// hidden(t, j) = activations(t, places[j]) * up(t, j) for the tokens of fired[j], else 0. `up` holds the
// result; ungated: there is none.
void MultiplyBatch(ActivationFunction function, MatrixView<const float> activations,
                   std::span<const int32_t> places, const TokenMask* fired, bool gated,
                   MatrixView<float> up) {
  for (int64_t t = 0; t < up.rows; ++t) {
    const float* activation = activations.row_data(t);
    float* hidden = up.row_data(t);
    for (size_t j = 0; j < places.size(); ++j) {
      const float factor = gated ? UpFactor(function, hidden[j]) : 1.0f;
      const float value = activation[places[j]] * factor;
      hidden[j] = ((fired[j] >> t) & 1) != 0 ? value : 0.0f;
    }
  }
}

NeuronReads BlockBatch(const SparseFfnArgs& args, std::span<const uint32_t> candidates,
                       std::span<const TokenMask> tokens, std::span<TokenMask> fired_out) {
  const BundleView& bundles = args.bundles;
  const int64_t n_tokens = args.x.rows;
  const auto count = static_cast<int64_t>(candidates.size());
  HWY_ALIGN TokenMask needed[kBatchBlock] = {};
  HWY_ALIGN TokenMask fired[kBatchBlock] = {};
  if (tokens.empty()) {
    std::fill_n(needed, count, static_cast<TokenMask>((uint32_t{1} << n_tokens) - 1));
  } else {
    std::ranges::copy(tokens, needed);
  }
  BlockProducts gates, ups;
  DotListedBatch({bundles.gate(), candidates}, {needed, candidates.size()}, args.x, gates.view(n_tokens));
  for (int64_t t = 0; t < n_tokens; ++t)
    AddBias(bundles.gate_bias, candidates, gates.view(n_tokens).row_data(t));
  WithActivation(args.activation, FireBatch{gates.view(n_tokens), count, needed, fired});
  CopyTo(fired_out, fired);

  uint32_t rows[kBatchBlock];
  int32_t places[kBatchBlock];
  int64_t listed = 0;
  for (int64_t i = 0; i < count; ++i) {  // fired becomes the list's, in place
    rows[listed] = candidates[static_cast<size_t>(i)];
    places[listed] = static_cast<int32_t>(i);
    fired[listed] = fired[i];
    listed += fired[i] != 0;
  }
  const std::span<const uint32_t> list(rows, static_cast<size_t>(listed));
  NeuronReads reads{.gate_rows = count};
  if (bundles.gated) {
    reads.up_rows = listed;
    DotListedBatch({bundles.up(), list}, {fired, list.size()}, args.x, ups.view(n_tokens));
  }
  MultiplyBatch(args.activation, gates.view(n_tokens), {places, list.size()}, fired, bundles.gated,
                ups.view(n_tokens));
  reads.down_rows = AddListedBatch({bundles.down(), list}, ups.view(n_tokens), args.y);
  return reads;
}

}  // namespace

NeuronReads AccumulateNeurons(const SparseFfnArgs& args, std::span<const uint32_t> next_rows) {
  const NeuronSelection& candidates = args.candidates;
  HWY_DASSERT(args.x.rows <= kMostSparseTokens && args.y.rows == args.x.rows);
  HWY_DASSERT(args.fired.size() == candidates.rows.size());
  const bool one_token = args.x.rows == 1;
  const size_t block = one_token ? kBlock : kBatchBlock;
  NeuronReads reads;
  for (size_t begin = 0; begin < candidates.rows.size(); begin += block) {
    const size_t count = HWY_MIN(block, candidates.rows.size() - begin);
    const std::span<const uint32_t> rows = candidates.rows.subspan(begin, count);
    const std::span<TokenMask> fired = args.fired.subspan(begin, count);
    if (one_token) {
      const size_t end = begin + count;
      const std::span<const uint32_t> next =
          end < candidates.rows.size() ? candidates.rows.subspan(end) : next_rows;
      reads += BlockOneToken(args, rows, next, fired);
    } else {
      const bool all = candidates.tokens.empty();
      reads +=
          BlockBatch(args, rows, all ? candidates.tokens : candidates.tokens.subspan(begin, count), fired);
    }
  }
  return reads;
}

}  // namespace HWY_NAMESPACE
}  // namespace thermocline
HWY_AFTER_NAMESPACE();
