/* Attention with float32 operands: attention.cuh's scheme with products by fma, d and keys ascending, and weights in float32.
 *
 * 16 threads share RS rows: a row's maximum and weights stay within half a warp. For the scores a thread takes every 16th key,
 * for the result every 16th unit of 4 columns.
 */
#pragma once
#include "attention.cuh"

namespace nf {

/* DK, DV: sizes of a head padded to multiples of 64. RS: rows of a thread, 8 RS rows of a block. VEC: 4 where elements are contiguous and
 * everything is a multiple of 4 elements, else 1. */
template <int DK, int DV, int RS, int VEC> struct AttentionSimtConfig {
  static_assert(DK % 64 == 0 && DV % 64 == 0 && (VEC == 1 || VEC == 4));
  static constexpr int dk = DK, dv = DV, rs = RS, vec = VEC;
  static constexpr int threads = 128, rows = 8 * RS;
  /* Part of the numbers: the same for every variant and capability. */
  static constexpr int keys = DK > 128 || DV > 128 ? 16 : 32;
  static constexpr int key_pitch = DK + 4, value_pitch = DV + 4, weight_pitch = keys + 4; /* floats */
  static constexpr int tile_bytes = keys * (DK > DV ? key_pitch : value_pitch) * 4;
  static constexpr int ring_at = rows * key_pitch * 4;
  static constexpr int weights_at = ring_at + 2 * tile_bytes;
  static constexpr int shared_bytes = weights_at + rows * weight_pitch * 4;
};

struct AttentionSourceF32 {
  const float* from;
  bool exists;
};

template <int D, int ROWS, int PITCH, int THREADS, int VEC, class Source>
NF_DEVICE void attention_copy_f32(float* tile, Index size, Index step, const Source& source) {
  constexpr int units = D / VEC;
  NF_UNROLL
  for (int u = tid(); u < ROWS * units; u += THREADS) {
    const int row = u / units, d = u % units * VEC;
    const AttentionSourceF32 s = source(row);
    cp_async<4 * VEC>(tile + row * PITCH + d, s.from + d * step, s.exists && d < size ? 4 * VEC : 0);
  }
}

template <class Config, class Mask, class Epi>
NF_DEVICE void attention_simt(const AttentionArgs& a, const AttentionOptions& o, const float* q, const float* k, const float* v,
                              const Mask& mask, const Epi& epi) {
  typedef Config C;
  constexpr int RS = C::rs, KS = C::keys / 16, CT = C::dv / 64;
  const int team = tid() / 16, member = tid() % 16, first_row = team * RS;
  const AttentionBlock at = attention_block(a, o, C::rows, C::keys);
  float* const queries = shared<float>();
  float* const weights = shared<float>(C::weights_at) + first_row * C::weight_pitch;

  const float* const qb = q + at.b * a.q[0] + at.head * a.group * a.q[1];
  const float* const kb = k + at.b * a.k[0] + at.head * a.k[1];
  const float* const vb = v + at.b * a.v[0] + at.head * a.v[1];
  if (at.begin < at.end)
    attention_copy_f32<C::dk, C::rows, C::key_pitch, C::threads, C::vec>(queries, a.size, a.q[3], [&](int row) {
      const Index r = at.first + row, i = r / a.group, g = r - i * a.group;
      return AttentionSourceF32{qb + g * a.q[1] + i * a.q[2], r < at.total};
    });
  /* K is in the first half of the ring, V in the second; the next K is under way while V is read. */
  const auto request = [&](Index chunk, bool is_key) {
    if (chunk < at.end) {
      const Index j = chunk * C::keys, stride = is_key ? a.k[2] : a.v[2];
      const float* const base = is_key ? kb : vb;
      const auto source = [&](int row) { return AttentionSourceF32{base + (j + row) * stride, j + row < at.range.length}; };
      float* const tile = shared<float>(is_key ? C::ring_at : C::ring_at + C::tile_bytes);
      if (is_key) attention_copy_f32<C::dk, C::keys, C::key_pitch, C::threads, C::vec>(tile, a.size, a.k[3], source);
      else attention_copy_f32<C::dv, C::keys, C::value_pitch, C::threads, C::vec>(tile, a.value_size, a.v[3], source);
    }
    cp_async_commit();
  };
  request(at.begin, true);

  Index query[RS], head[RS];
  bool seen[RS];
  typename Mask::Row mask_row[RS];
  float m[RS], sum[RS], y[RS][CT][4] = {};
  NF_UNROLL
  for (int r = 0; r < RS; ++r) {
    Index row = at.first + first_row + r;
    row = row < at.total ? row : at.total - 1;
    query[r] = row / a.group, head[r] = at.head * a.group + row - query[r] * a.group;
    seen[r] = !Mask::active && at.range.low(query[r]) < at.range.high(query[r]);
    mask_row[r] = mask.row(at.b, head[r], query[r]);
    m[r] = attention_hidden, sum[r] = 0;
  }

  for (Index chunk = at.begin; chunk < at.end; ++chunk) {
    const Index j0 = chunk * C::keys;
    cp_async_wait<0>();
    sync();
    request(chunk, false);
    const float* const key = shared<float>(C::ring_at);
    float s[RS][KS] = {};
    for (int d0 = 0; d0 < C::dk; d0 += 16) { /* not unrolled: fragments loaded far ahead would cost registers */
      NF_UNROLL
      for (int d = d0; d < d0 + 16; d += 4) {
        Vec<float, 4> kd[KS];
        NF_UNROLL
        for (int i = 0; i < KS; ++i) kd[i] = ld<float, 4>(key + (member + 16 * i) * C::key_pitch + d);
        NF_UNROLL
        for (int r = 0; r < RS; ++r) {
          const Vec<float, 4> qd = ld<float, 4>(queries + (first_row + r) * C::key_pitch + d);
          NF_UNROLL
          for (int i = 0; i < KS; ++i)
            NF_UNROLL
            for (int e = 0; e < 4; ++e) s[r][i] = fma(qd[e], kd[i][e], s[r][i]);
        }
      }
    }
    const bool whole = at.sees_all(j0, C::keys);
    NF_UNROLL
    for (int r = 0; r < RS; ++r) {
      float top = m[r];
      NF_UNROLL
      for (int i = 0; i < KS; ++i) {
        const Index j = j0 + member + 16 * i;
        if (whole || (j >= at.range.low(query[r]) && j < at.range.high(query[r])))
          s[r][i] = attention_score<false>(s[r][i], o, mask, mask_row[r], j, seen[r]);
        else s[r][i] = attention_hidden;
        top = s[r][i] > top ? s[r][i] : top;
      }
      NF_UNROLL
      for (int x = 1; x < 16; x <<= 1) {
        const float other = shfl_xor(top, x);
        top = other > top ? other : top;
      }
      const float base = top == attention_hidden ? 0 : top, shrink = exp(m[r] - base);
      m[r] = top;
      sum[r] *= shrink;
      NF_UNROLL
      for (int c = 0; c < CT; ++c)
        NF_UNROLL
        for (int e = 0; e < 4; ++e) y[r][c][e] *= shrink;
      NF_UNROLL
      for (int i = 0; i < KS; ++i) weights[r * C::weight_pitch + member + 16 * i] = exp(s[r][i] - base);
    }

    cp_async_wait<0>();
    sync();
    request(chunk + 1, true);
    const float* const value = shared<float>(C::ring_at + C::tile_bytes);
    NF_UNROLL
    for (int j = 0; j < C::keys; j += 4) {
      Vec<float, 4> w[RS];
      NF_UNROLL
      for (int r = 0; r < RS; ++r) w[r] = ld<float, 4>(weights + r * C::weight_pitch + j);
      NF_UNROLL
      for (int e = 0; e < 4; ++e) {
        NF_UNROLL
        for (int r = 0; r < RS; ++r) sum[r] += w[r][e];
        NF_UNROLL
        for (int c = 0; c < CT; ++c) {
          const Vec<float, 4> x = ld<float, 4>(value + (j + e) * C::value_pitch + 64 * c + 4 * member);
          NF_UNROLL
          for (int r = 0; r < RS; ++r)
            NF_UNROLL
            for (int f = 0; f < 4; ++f) y[r][c][f] = fma(w[r][e], x[f], y[r][c][f]);
        }
      }
    }
  }

  NF_UNROLL
  for (int r = 0; r < RS; ++r) {
    if constexpr (Mask::active) seen[r] = (ballot(seen[r]) >> (lane() & 16) & 0xffff) != 0;
    if (at.first + first_row + r >= at.total) continue;
    const auto row = epi.row(at.b, head[r], query[r]);
    const float share = 1 / sum[r];
    NF_UNROLL
    for (int c = 0; c < CT; ++c) {
      const int column = 64 * c + 4 * member;
      float out[4];
      NF_UNROLL
      for (int e = 0; e < 4; ++e) out[e] = seen[r] ? y[r][c][e] * share : 0;
      if (column + 4 <= a.value_size) epi.template store<4>(out, row, column);
      else
        NF_UNROLL
        for (int e = 0; e < 4; ++e) {
          const float one[1] = {out[e]};
          if (column + e < a.value_size) epi.template store<1>(one, row, column + e);
        }
    }
  }
}

}  // namespace nf
