/* y = softmax(scale q k^T + bias) v for each head, without the scores ever lying in memory (FlashAttention-2, arXiv:2307.08691).
 *
 * A block owns `rows` rows of one head of K and V; a row is a query of one of the `group` query heads that share it, row = i * group
 * + g. Keys come in chunks at absolute positions, ascending, with a running maximum m and sums kept as if m had been there from the
 * start. A row's numbers depend on its own keys only: neither the batch, nor the other rows, nor how warps are laid out changes a bit.
 *
 *   dims:    batch heads group queries keys size value_size past  q0 q1 q2 q3  k0 k1 k2 k3  v0 v1 v2 v3              (20 values)
 *            (heads of K and V; strides in elements of batch, head, position, element; `past` keys precede query 0)
 *   items    = batch * heads * ceil(group * queries / Config::rows)
 *   scratch  = Config::shared_bytes
 *
 * attention.cuh has the operands in 16 bits, products by tensor cores; attention_simt.cuh has float32.
 *
 * Epilogue: `auto row(Index b, Index h, Index i) const`, h a query head, and `store<V>(acc, row, c)`.
 * Mask: what is added to a score: NoMask, or MaskOperand, or printed alike. A row without a single key whose mask is above -infinity is 0.
 */
#pragma once
#include "mma.cuh"
#include "scalars.cuh"

namespace nf {

/* The score of a key that a row does not see. */
constexpr float attention_hidden = -__builtin_inff();

struct AttentionArgs {
  Index batch, heads, group, queries, keys, size, value_size, past, q[4], k[4], v[4];
};

NF_DEVICE AttentionArgs attention_args(const NfInt* d) {
  return {(Index)d[0], (Index)d[1], (Index)d[2], (Index)d[3], (Index)d[4], (Index)d[5], (Index)d[6], (Index)d[7],
          {(Index)d[8], (Index)d[9], (Index)d[10], (Index)d[11]}, {(Index)d[12], (Index)d[13], (Index)d[14], (Index)d[15]},
          {(Index)d[16], (Index)d[17], (Index)d[18], (Index)d[19]}};
}

/* Attributes of the node; printed as constants, what is off costs nothing. */
struct AttentionOptions {
  float scale;
  float softcap = 0;                 /* 0: none */
  bool causal = false;
  int left = -1, right = -1;         /* window around the query's own position; -1: open */
  const long long* lengths = nullptr; /* valid keys of each batch; then lengths[b] - queries keys precede query 0 */
  int lengths_step = 0;              /* 0: one length for all batches */
};

struct NoMask {
  static constexpr bool active = false;
  typedef int Row;
  NF_DEVICE Row row(Index, Index, Index) const { return 0; }
  NF_DEVICE float at(Row, Index) const { return 0; }
};

/* A mask in memory. Decode: `typedef ... Storage` and `static float decode(Storage)`, for bool 0 or -infinity. `own` keys have one;
 * the rest are hidden. */
template <class Decode> struct MaskOperand {
  static constexpr bool active = true;
  typedef const typename Decode::Storage* Row;
  Row mask;
  Index strides[4]; /* batch, query head, query, key; 0 broadcasts */
  Index own;
  NF_DEVICE Row row(Index b, Index h, Index i) const { return mask + b * strides[0] + h * strides[1] + i * strides[2]; }
  NF_DEVICE float at(Row row, Index j) const { return j < own ? Decode::decode(row[j * strides[3]]) : attention_hidden; }
};
struct MaskFloat16 {
  typedef unsigned short Storage;
  static NF_DEVICE float decode(Storage x) { return decode_float16(x); }
};
struct MaskBFloat16 {
  typedef unsigned short Storage;
  static NF_DEVICE float decode(Storage x) { return decode_bfloat16(x); }
};
struct MaskFloat32 {
  typedef float Storage;
  static NF_DEVICE float decode(Storage x) { return x; }
};
struct MaskBool {
  typedef unsigned char Storage;
  static NF_DEVICE float decode(Storage x) { return x ? 0 : attention_hidden; }
};

/* ---- which keys a row sees, and which rows a block has */

constexpr Index attention_open = 1 << 30;

struct KeyRange {
  Index length, offset, behind, ahead;
  NF_DEVICE Index low(Index i) const {
    const Index j = i + offset - behind;
    return j < 0 ? 0 : j;
  }
  NF_DEVICE Index high(Index i) const {
    const Index j = i + offset + ahead + 1;
    return j < length ? j : length;
  }
};

NF_DEVICE KeyRange key_range(const AttentionArgs& a, const AttentionOptions& o, Index b) {
  KeyRange r{a.keys, a.past, o.left < 0 ? attention_open : o.left, o.right < 0 ? attention_open : o.right};
  if (o.causal) r.ahead = 0;
  if (o.lengths) {
    const long long n = o.lengths[b * o.lengths_step];
    r.offset = (Index)(n - a.queries);
    r.length = n < 0 ? 0 : n < a.keys ? (Index)n : a.keys;
  }
  return r;
}

struct AttentionBlock {
  Index b, head, first, total; /* rows [first, first + Config::rows) of `total` */
  KeyRange range;
  Index i0, i1;                /* first and last query of the block; the last may lie behind the end */
  Index begin, end;            /* chunks of keys that any row sees */
  NF_DEVICE bool sees_all(Index j, int keys) const { return j >= range.low(i1) && j + keys <= range.high(i0); }
};

NF_DEVICE AttentionBlock attention_block(const AttentionArgs& a, const AttentionOptions& o, int rows, int keys) {
  AttentionBlock at;
  at.total = a.group * a.queries;
  const Index tiles = (at.total + rows - 1) / rows, item = (Index)block(), pair = item / tiles;
  /* Under a causal mask the last rows have most to do: they start first. */
  at.first = (tiles - 1 - (item - pair * tiles)) * rows;
  at.b = pair / a.heads, at.head = pair - at.b * a.heads;
  at.range = key_range(a, o, at.b);
  at.i0 = at.first / a.group, at.i1 = (at.first + rows - 1) / a.group;
  const Index low = at.range.low(at.i0), high = at.range.high(at.i1);
  at.begin = low / keys;
  at.end = high > low ? (high + keys - 1) / keys : at.begin;
  return at;
}

/* A score with its mask; BINARY: as a power of two, 2^result is e^(score + mask). */
template <bool BINARY, class Mask>
NF_DEVICE float attention_score(float dot, const AttentionOptions& o, const Mask& mask, typename Mask::Row row, Index j, bool& seen) {
  constexpr float log2e = BINARY ? 1.44269504f : 1;
  if (o.softcap == 0 && !Mask::active) return dot * (o.scale * log2e);
  float y = dot * o.scale;
  if (o.softcap != 0) y = o.softcap * tanh(y / o.softcap);
  if constexpr (Mask::active) {
    const float bias = mask.at(row, j);
    seen = seen || !(bias == attention_hidden);
    y += bias;
  }
  return y * log2e;
}

/* ---- tensor cores */

struct AttentionFloat16 {
  static constexpr unsigned ones = 0x3c003c00;
  static NF_DEVICE unsigned short encode(float x) { return encode_float16(x); }
  static NF_DEVICE void mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) { mma_f16(d, a, b); }
};
#if NF_ARCH >= 800
struct AttentionBFloat16 {
  static constexpr unsigned ones = 0x3f803f80;
  static NF_DEVICE unsigned short encode(float x) { return encode_bfloat16(x); }
  static NF_DEVICE void mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) { mma_bf16(d, a, b); }
};
#endif

/* DK, DV: sizes of a head padded to multiples of 32. WM warps stand along the rows, 16 each; WN warps share these rows: each takes a
 * part of the chunk's keys for the scores and a part of the columns for the result. RING chunks of K or V are in shared memory.
 * VEC: 8 where elements are contiguous and everything is a multiple of 8 elements, else 1. */
template <class Element_, int DK, int DV, int WM, int WN, int RING, int VEC> struct AttentionConfig {
  typedef Element_ Element;
  static_assert(DK % 32 == 0 && DV % 32 == 0 && RING >= 2 && (VEC == 1 || VEC == 8));
  static constexpr int dk = DK, dv = DV, wm = WM, wn = WN, ring = RING, vec = VEC;
  static constexpr int threads = 32 * WM * WN, rows = 16 * WM;
  /* Part of the numbers: the same for every variant and capability. */
  static constexpr int keys = DK > 128 || DV > 128 ? 32 : 64;
  static constexpr int key_tiles = keys / 8 / WN, column_tiles = DV / 8 / WN;
  static_assert(key_tiles * 8 * WN == keys && column_tiles * 8 * WN == DV);
  static constexpr int tile_bytes = keys * (DK > DV ? DK : DV) * 2;
  static constexpr int ring_at = rows * DK * 2;
  static constexpr int weights_at = ring_at + RING * tile_bytes;
  static constexpr int maxima_at = weights_at + (WN > 1 ? rows * keys * 2 : 0);
  static constexpr int shared_bytes = maxima_at + (WN > 1 ? rows * WN * 4 : 0);
};

/* Rows of D 16-bit elements in units of 16 bytes, permuted so that 8 consecutive rows of one unit lie in different banks. Where `base` is
 * a multiple of 8 and `unit` a constant, few sums depend on the lane: the rest is in the instructions. */
template <int D> NF_DEVICE int attention_offset(int row, int unit, int base = 0) {
  constexpr int low = D % 64 == 0 ? 7 : 3;
  return row * (2 * D) + 16 * (base + (unit & ~low)) + 16 * ((unit & low) ^ (D % 64 == 0 ? row & 7 : row >> 1 & 3));
}

/* A row of an operand; nothing is read of one that does not exist. */
struct AttentionSource {
  const unsigned short* from;
  bool exists;
};

/* Rows of an operand, zero beyond `size` and where a row does not exist. */
template <int D, int ROWS, int THREADS, int VEC, class Source>
NF_DEVICE void attention_copy(char* tile, Index size, Index step, const Source& source) {
  constexpr int units = D / 8;
  NF_UNROLL
  for (int u = tid(); u < ROWS * units; u += THREADS) {
    const int row = u / units, unit = u % units;
    const AttentionSource s = source(row);
    char* to = tile + attention_offset<D>(row, unit);
    if constexpr (VEC == 8) {
      cp_async<16>(to, s.from + unit * 8, s.exists && unit * 8 < size ? 16 : 0);
    } else {
      Vec<unsigned short, 8> x;
      NF_UNROLL
      for (int e = 0; e < 8; ++e) {
        const int d = unit * 8 + e;
        x[e] = s.exists && d < size ? s.from[d * step] : 0;
      }
      st<unsigned short, 8>((unsigned short*)to, x);
    }
  }
}

template <class Config, class Mask, class Epi>
NF_DEVICE void attention(const AttentionArgs& a, const AttentionOptions& o, const void* q, const void* k, const void* v, const Mask& mask,
                         const Epi& epi) {
  typedef Config C;
  typedef typename C::Element E;
  constexpr int NT = C::key_tiles, CT = C::column_tiles;
  const int l = lane(), wm = warp() / C::wn, wn = warp() % C::wn, quad = l & 3;
  const AttentionBlock at = attention_block(a, o, C::rows, C::keys);
  char* const queries = shared<char>();
  char* const weights = shared<char>(C::weights_at);
  float* const maxima = shared<float>(C::maxima_at);

  const unsigned short* const qb = (const unsigned short*)q + at.b * a.q[0] + at.head * a.group * a.q[1];
  const unsigned short* const kb = (const unsigned short*)k + at.b * a.k[0] + at.head * a.k[1];
  const unsigned short* const vb = (const unsigned short*)v + at.b * a.v[0] + at.head * a.v[1];
  /* K and V alternate in the ring: tile 2 n is K of the block's n-th chunk, tile 2 n + 1 its V. */
  const Index tiles = 2 * (at.end - at.begin);
  const auto tile_at = [&](Index t) { return shared<char>(C::ring_at) + (int)(t % C::ring) * C::tile_bytes; };
  const auto request = [&](Index t) {
    if (t < tiles) {
      const Index j = (at.begin + t / 2) * C::keys;
      const bool is_key = t % 2 == 0;
      const unsigned short* const base = is_key ? kb : vb;
      const Index stride = is_key ? a.k[2] : a.v[2];
      const auto source = [&](int row) { return AttentionSource{base + (j + row) * stride, j + row < at.range.length}; };
      if (is_key) attention_copy<C::dk, C::keys, C::threads, C::vec>(tile_at(t), a.size, a.k[3], source);
      else attention_copy<C::dv, C::keys, C::threads, C::vec>(tile_at(t), a.value_size, a.v[3], source);
    }
    cp_async_commit();
  };
  /* Waits for tile t, for everyone; then the buffer of tile t - 1 is free. */
  const auto next = [&](Index t) {
    cp_async_wait<C::ring - 2>();
    sync();
    request(t + C::ring - 1);
    return tile_at(t);
  };
  if (tiles > 0)
    attention_copy<C::dk, C::rows, C::threads, C::vec>(queries, a.size, a.q[3], [&](int row) {
      const Index r = at.first + row, i = r / a.group, g = r - i * a.group;
      return AttentionSource{qb + g * a.q[1] + i * a.q[2], r < at.total};
    });
  for (int t = 0; t < C::ring - 1; ++t) request(t);

  /* This thread's two rows. */
  Index query[2], head[2];
  bool seen[2];
  typename Mask::Row mask_row[2];
  NF_UNROLL
  for (int h = 0; h < 2; ++h) {
    Index r = at.first + wm * 16 + h * 8 + l / 4;
    r = r < at.total ? r : at.total - 1;
    query[h] = r / a.group, head[h] = at.head * a.group + r - query[h] * a.group;
    seen[h] = !Mask::active && at.range.low(query[h]) < at.range.high(query[h]);
    mask_row[h] = mask.row(at.b, head[h], query[h]);
  }
  float m[2] = {attention_hidden, attention_hidden};
  float y[CT][4] = {}, sum[4] = {}; /* columns of the result; the sum of weights is one more column, of ones */
  const unsigned ones[2] = {E::ones, E::ones};

  for (Index n = 0; n < tiles / 2; ++n) {
    const Index j0 = (at.begin + n) * C::keys;
    const char* const key = next(2 * n);
    float s[NT][4] = {};
    /* Large heads are not unrolled whole: fragments loaded far ahead would cost registers. */
    constexpr int stretch = C::dk <= 128 ? C::dk : C::dk % 64 == 0 ? 64 : 32;
    for (int d0 = 0; d0 < C::dk; d0 += stretch) {
      NF_UNROLL
      for (int d = d0; d < d0 + stretch; d += 32) {
        unsigned qa[2][4], kf[NT][4];
        NF_UNROLL
        for (int h = 0; h < 2; ++h)
          ldmatrix_x4(qa[h], queries + attention_offset<C::dk>(wm * 16 + (l & 15), d / 8 + 2 * h + (l >> 4)));
        NF_UNROLL
        for (int i = 0; i < NT; ++i)
          ldmatrix_x4(kf[i], key + attention_offset<C::dk>((wn * NT + i) * 8 + (l & 7), d / 8 + (l >> 3)));
        NF_UNROLL
        for (int h = 0; h < 2; ++h)
          NF_UNROLL
          for (int i = 0; i < NT; ++i) {
            const unsigned b[2] = {kf[i][2 * h], kf[i][2 * h + 1]};
            E::mma(s[i], qa[h], b);
          }
      }
    }

    const bool whole = at.sees_all(j0, C::keys);
    float greatest[2] = {attention_hidden, attention_hidden};
    NF_UNROLL
    for (int i = 0; i < NT; ++i)
      NF_UNROLL
      for (int e = 0; e < 4; ++e) {
        const Index j = j0 + (wn * NT + i) * 8 + 2 * quad + (e & 1), own = query[e >> 1];
        if (whole || (j >= at.range.low(own) && j < at.range.high(own)))
          s[i][e] = attention_score<true>(s[i][e], o, mask, mask_row[e >> 1], j, seen[e >> 1]);
        else s[i][e] = attention_hidden;
        greatest[e >> 1] = s[i][e] > greatest[e >> 1] ? s[i][e] : greatest[e >> 1];
      }
    NF_UNROLL
    for (int h = 0; h < 2; ++h) {
      NF_UNROLL
      for (int x = 1; x < 4; x <<= 1) {
        const float other = shfl_xor(greatest[h], x);
        greatest[h] = other > greatest[h] ? other : greatest[h];
      }
    }
    if constexpr (C::wn > 1) {
      if (quad == 0)
        NF_UNROLL
        for (int h = 0; h < 2; ++h) maxima[(wm * 16 + h * 8 + l / 4) * C::wn + wn] = greatest[h];
      sync();
      NF_UNROLL
      for (int h = 0; h < 2; ++h)
        NF_UNROLL
        for (int w = 0; w < C::wn; ++w) {
          const float other = maxima[(wm * 16 + h * 8 + l / 4) * C::wn + w];
          greatest[h] = other > greatest[h] ? other : greatest[h];
        }
    }
    NF_UNROLL
    for (int h = 0; h < 2; ++h) {
      const float top = greatest[h] > m[h] ? greatest[h] : m[h];
      greatest[h] = top == attention_hidden ? 0 : top;
      const float shrink = ex2(m[h] - greatest[h]);
      m[h] = top;
      NF_UNROLL
      for (int e = 2 * h; e < 2 * h + 2; ++e) {
        sum[e] *= shrink;
        NF_UNROLL
        for (int c = 0; c < CT; ++c) y[c][e] *= shrink;
      }
    }
    /* Weights as rows of A: the accumulators of two neighbouring tiles of keys are the registers of one step of 16. */
    unsigned p[NT][2];
    NF_UNROLL
    for (int i = 0; i < NT; ++i)
      NF_UNROLL
      for (int h = 0; h < 2; ++h)
        p[i][h] = E::encode(ex2(s[i][2 * h] - greatest[h])) | (unsigned)E::encode(ex2(s[i][2 * h + 1] - greatest[h])) << 16;
    if constexpr (C::wn > 1)
      NF_UNROLL
      for (int i = 0; i < NT; ++i)
        NF_UNROLL
        for (int h = 0; h < 2; ++h)
          *(unsigned*)(weights + attention_offset<C::keys>(wm * 16 + h * 8 + l / 4, wn * NT + i) + 4 * quad) = p[i][h];

    const char* const value = next(2 * n + 1);
    NF_UNROLL
    for (int j = 0; j < C::keys; j += 32) {
      unsigned pa[2][4];
      NF_UNROLL
      for (int h = 0; h < 2; ++h) {
        if constexpr (C::wn > 1)
          ldmatrix_x4(pa[h], weights + attention_offset<C::keys>(wm * 16 + (l & 15), j / 8 + 2 * h + (l >> 4)));
        else
          NF_UNROLL
          for (int e = 0; e < 4; ++e) pa[h][e] = p[j / 8 + 2 * h + (e >> 1)][e & 1];
        E::mma(sum, pa[h], ones);
      }
      constexpr int G = CT % 4 == 0 ? 4 : CT % 3 == 0 ? 3 : CT % 2 == 0 ? 2 : 1;
      NF_UNROLL
      for (int c0 = 0; c0 < CT; c0 += G) {
        unsigned vf[G][4];
        NF_UNROLL
        for (int c = 0; c < G; ++c) ldmatrix_x4_trans(vf[c], value + attention_offset<C::dv>(j + l, CT % 8 == 0 ? c0 + c : wn * CT + c0 + c, CT % 8 == 0 ? wn * CT : 0));
        NF_UNROLL
        for (int h = 0; h < 2; ++h)
          NF_UNROLL
          for (int c = 0; c < G; ++c) {
            const unsigned b[2] = {vf[c][2 * h], vf[c][2 * h + 1]};
            E::mma(y[c0 + c], pa[h], b);
          }
      }
    }
  }

  if constexpr (Mask::active) {
    NF_UNROLL
    for (int h = 0; h < 2; ++h) seen[h] = (ballot(seen[h]) >> (l & ~3) & 15) != 0;
    if constexpr (C::wn > 1) {
      if (quad == 0)
        NF_UNROLL
        for (int h = 0; h < 2; ++h) maxima[(wm * 16 + h * 8 + l / 4) * C::wn + wn] = seen[h];
      sync();
      NF_UNROLL
      for (int h = 0; h < 2; ++h)
        NF_UNROLL
        for (int w = 0; w < C::wn; ++w) seen[h] = seen[h] || maxima[(wm * 16 + h * 8 + l / 4) * C::wn + w] != 0;
    }
  }
  NF_UNROLL
  for (int h = 0; h < 2; ++h) {
    if (at.first + wm * 16 + h * 8 + l / 4 >= at.total) continue;
    const auto row = epi.row(at.b, head[h], query[h]);
    const float share = 1 / sum[2 * h];
    NF_UNROLL
    for (int c = 0; c < CT; ++c) {
      const int column = (wn * CT + c) * 8 + 2 * quad;
      const float out[2] = {seen[h] ? y[c][2 * h] * share : 0, seen[h] ? y[c][2 * h + 1] * share : 0};
      if (column + 2 <= a.value_size) epi.template store<2>(out, row, column);
      else if (column < a.value_size) {
        const float one[1] = {out[0]};
        epi.template store<1>(one, row, column);
      }
    }
  }
}

}  // namespace nf
