// Causal grouped-query attention of one token: scores, stable softmax, weighted sum of values.
// SPDX-License-Identifier: Apache-2.0
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels_cpu/attention.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
// Per-target headers follow it.
#include "hwy/contrib/math/math-inl.h"
#include "kernels_cpu/activations-inl.h"
#include "kernels_cpu/targets-inl.h"
#include "kernels_cpu/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace thermocline {
namespace HWY_NAMESPACE {
namespace {

constexpr int kGroupPositions = 4;  // as many as SumLanes4 sums

// scores[0..kPositions) = query . key of consecutive positions.
template <int kPositions>
HWY_INLINE void ScorePositions(const float* HWY_RESTRICT query, const float* HWY_RESTRICT keys,
                               int64_t d_head, float* scores) {
  F32 sum[kGroupPositions];
  for (F32& s : sum) s = hn::Zero(F32Tag());
  int64_t c = 0;
  for (; c + kLanes <= d_head; c += kLanes) {
    const F32 q = hn::LoadU(F32Tag(), query + c);
    THERMOCLINE_UNROLL(4)
    for (int p = 0; p < kPositions; ++p)
      sum[p] = hn::MulAdd(q, hn::LoadU(F32Tag(), keys + p * d_head + c), sum[p]);
  }
  if (const int64_t left = d_head - c; left > 0) {
    const F32 q = LoadPartial(query + c, left);
    for (int p = 0; p < kPositions; ++p)
      sum[p] = hn::MulAdd(q, LoadPartial(keys + p * d_head + c, left), sum[p]);
  }
  float sums[kGroupPositions];
  SumLanes4(sum[0], sum[1], sum[2], sum[3], sums);
  for (int p = 0; p < kPositions; ++p) scores[p] = sums[p];
}

float Maximum(const float* values, int64_t count) {
  F32 maximum = hn::Set(F32Tag(), values[0]);
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) maximum = hn::Max(maximum, hn::LoadU(F32Tag(), values + i));
  HWY_ALIGN float lanes[kLanes];
  hn::Store(maximum, F32Tag(), lanes);
  float result = lanes[0];
  for (int64_t lane = 1; lane < kLanes; ++lane) result = HWY_MAX(result, lanes[lane]);
  for (; i < count; ++i) result = HWY_MAX(result, values[i]);
  return result;
}

// scores[i] = exp((scores[i] - maximum) * scale); returns their sum. scale > 0.
float Exponentials(float* scores, int64_t count, float maximum, float scale) {
  const F32Tag f32;
  const F32 peak = hn::Set(f32, maximum), factor = hn::Set(f32, scale);
  F32 sum = hn::Zero(f32);
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const F32 value = hn::Exp(f32, hn::Mul(hn::Sub(hn::LoadU(f32, scores + i), peak), factor));
    hn::StoreU(value, f32, scores + i);
    sum = hn::Add(sum, value);
  }
  if (const int64_t left = count - i; left > 0) {
    F32 value = hn::Exp(f32, hn::Mul(hn::Sub(LoadPartial(scores + i, left), peak), factor));
    StorePartial(value, scores + i, left);
    value = LoadPartial(scores + i, left);  // again, for zeros in the unused lanes
    sum = hn::Add(sum, value);
  }
  return SumLanes(sum);
}

// scores[i] = cap * tanh(scores[i] * scale / cap).
void CapScores(float* scores, int64_t count, float scale, float cap) {
  const F32Tag f32;
  const F32 outer = hn::Set(f32, cap), inner = hn::Set(f32, scale / cap);
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    hn::StoreU(hn::Mul(outer, TanhOf(hn::Mul(hn::LoadU(f32, scores + i), inner))), f32, scores + i);
  if (const int64_t left = count - i; left > 0)
    StorePartial(hn::Mul(outer, TanhOf(hn::Mul(LoadPartial(scores + i, left), inner))), scores + i, left);
}

// One head's cache as a token sees it: positions [begin, end).
struct HeadPages {
  const float* cache;  // of the KV head
  const int32_t* pages;
  int64_t page_tokens, page_stride, value_offset, d_head, begin, end;

  // Calls work(first position, positions, their keys) for each page in turn.
  template <typename Work>
  HWY_INLINE void ForEachPage(const Work& work) const {
    for (int64_t p = begin; p < end;) {
      const int64_t page = p / page_tokens, place = p % page_tokens;
      const int64_t n = HWY_MIN(page_tokens - place, end - p);
      work(p, n, cache + pages[page] * page_stride + place * d_head);
      p += n;
    }
  }
};

// output[c..] = factor * sum_p weights[p] * value_p[c..] for kVectors vectors.
template <int kVectors>
HWY_INLINE void WeighValues(const float* HWY_RESTRICT weights, const HeadPages& head, int64_t c, F32 factor,
                            float* HWY_RESTRICT output) {
  F32 sum[kVectors];
  for (F32& s : sum) s = hn::Zero(F32Tag());
  head.ForEachPage([&](int64_t first, int64_t n, const float* HWY_RESTRICT keys) HWY_ATTR {
    const float* HWY_RESTRICT values = keys + head.value_offset + c;
    for (int64_t p = 0; p < n; ++p) {
      const F32 weight = hn::Set(F32Tag(), weights[first + p]);
      THERMOCLINE_UNROLL(8)
      for (int k = 0; k < kVectors; ++k)
        sum[k] = hn::MulAdd(weight, hn::LoadU(F32Tag(), values + p * head.d_head + k * kLanes), sum[k]);
    }
  });
  for (int k = 0; k < kVectors; ++k) hn::StoreU(hn::Mul(sum[k], factor), F32Tag(), output + c + k * kLanes);
}

void WeighValuesTail(const float* weights, const HeadPages& head, int64_t c, F32 factor, float* output) {
  const int64_t left = head.d_head - c;
  F32 sum = hn::Zero(F32Tag());
  head.ForEachPage([&](int64_t first, int64_t n, const float* keys) HWY_ATTR {
    const float* values = keys + head.value_offset + c;
    for (int64_t p = 0; p < n; ++p)
      sum =
          hn::MulAdd(hn::Set(F32Tag(), weights[first + p]), LoadPartial(values + p * head.d_head, left), sum);
  });
  StorePartial(hn::Mul(sum, factor), output + c, left);
}

void AttendHead(const float* query, const HeadPages& head, float scale, float soft_cap, float* scores,
                float* output) {
  const int64_t d_head = head.d_head;
  head.ForEachPage([&](int64_t first, int64_t n, const float* keys) HWY_ATTR {
    int64_t p = 0;
    for (; p + kGroupPositions <= n; p += kGroupPositions)
      ScorePositions<kGroupPositions>(query, keys + p * d_head, d_head, scores + first + p);
    for (; p < n; ++p) ScorePositions<1>(query, keys + p * d_head, d_head, scores + first + p);
  });

  float* const seen = scores + head.begin;
  const int64_t count = head.end - head.begin;
  if (soft_cap > 0) {
    CapScores(seen, count, scale, soft_cap);
    scale = 1;
  }
  const float sum = Exponentials(seen, count, Maximum(seen, count), scale);
  const F32 factor = hn::Set(F32Tag(), 1.0f / sum);

  constexpr int kWide = 8;
  int64_t c = 0;
  for (; c + kWide * kLanes <= d_head; c += kWide * kLanes)
    WeighValues<kWide>(scores, head, c, factor, output);
  for (; c + 4 * kLanes <= d_head; c += 4 * kLanes) WeighValues<4>(scores, head, c, factor, output);
  for (; c + kLanes <= d_head; c += kLanes) WeighValues<1>(scores, head, c, factor, output);
  if (c < d_head) WeighValuesTail(scores, head, c, factor, output);
}

}  // namespace

void Attention(const AttentionArgs& args, int64_t token, int64_t head_begin, int64_t head_end,
               std::span<float> scores) {
  const int64_t heads_per_kv_head = args.n_heads / args.n_kv_heads;
  const AttentionToken& seen = args.tokens[static_cast<size_t>(token)];
  HWY_DASSERT(args.n_heads % args.n_kv_heads == 0 && args.page_tokens % kGroupPositions == 0 &&
              static_cast<int64_t>(scores.size()) >= seen.n_positions);
  for (int64_t head = head_begin; head < head_end; ++head) {
    const HeadPages pages{.cache = args.cache + head / heads_per_kv_head * args.head_stride,
                          .pages = seen.pages,
                          .page_tokens = args.page_tokens,
                          .page_stride = args.page_stride,
                          .value_offset = args.value_offset,
                          .d_head = args.d_head,
                          .begin = seen.first_position,
                          .end = seen.n_positions};
    AttendHead(args.queries.row_data(token) + head * args.d_head, pages, args.scale, args.soft_cap,
               scores.data(), args.output.row_data(token) + head * args.d_head);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace thermocline
HWY_AFTER_NAMESPACE();
