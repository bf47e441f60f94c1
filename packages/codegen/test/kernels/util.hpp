/* What the kernel test and the kernel benchmark share: data, packing, launching, and the epilogues that they use. */
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "conv.hpp"
#include "vmath.hpp"

struct Random {
  uint64_t s = 88172645463325252ull;
  uint64_t next() { return s ^= s << 13, s ^= s >> 7, s ^= s << 17; }
  float uniform() { return (float)((double)(next() >> 11) * 0x1p-52 - 1); }
};

/* Floats in 64-byte aligned memory with `guard` sentinel values behind them. */
struct Array {
  size_t size;
  float* p;
  static constexpr size_t guard = 32;
  explicit Array(size_t n) : size(n), p((float*)aligned_alloc(64, ((n + guard) * 4 + 63) & ~size_t(63))) {
    for (size_t i = 0; i < n + guard; ++i) p[i] = -12345.0f;
  }
  Array(const Array&) = delete;
  ~Array() { free(p); }
  void fill(Random& r) { for (size_t i = 0; i < size; ++i) p[i] = r.uniform(); }
  bool guard_intact() const {
    for (size_t i = size; i < size + guard; ++i) if (p[i] != -12345.0f) return false;
    return true;
  }
};

/* [cout][cin/group][kh][kw] to "f32.panel16" */
inline void pack_panels(float* to, const float* w, NfInt groups, NfInt cout, NfInt cin, NfInt taps) {
  NfInt width = cout / groups, channels = cin / groups, panels = (width + 15) / 16;
  for (NfInt g = 0; g < groups; ++g)
    for (NfInt p = 0; p < panels; ++p)
      for (NfInt t = 0; t < taps; ++t)
        for (NfInt c = 0; c < channels; ++c)
          for (NfInt j = 0; j < 16; ++j) {
            NfInt k = p * 16 + j;
            *to++ = k < width ? w[((g * width + k) * channels + c) * taps + t] : 0;
          }
}

/* Runs items [0, items) as `parts` launches, last part first: the split must not matter. */
template <class K> void launch(NfInt items, int parts, size_t scratch_bytes, const K& kernel) {
  NfInt guard = 64;
  char* scratch = (char*)aligned_alloc(64, (scratch_bytes + guard + 63) & ~size_t(63));
  memset(scratch, 0x7f, scratch_bytes + guard);
  NfError error{};
  for (int i = parts - 1; i >= 0; --i) {
    NfLaunch l{nullptr, nullptr, items * i / parts, items * (i + 1) / parts, i, parts, scratch, &error};
    kernel(&l);
  }
  for (NfInt i = 0; i < guard; ++i)
    if (scratch[scratch_bytes + i] != 0x7f) { printf("FAIL: scratch overrun\n"); exit(1); }
  free(scratch);
}

inline NfInt ceil_to(NfInt a, NfInt b) { return (a + b - 1) / b; }
inline NfInt block_of(NfInt depth, NfInt panels) { return std::min<NfInt>(panels, depth <= 256 ? 16 : depth <= 512 ? 8 : 4); }

struct Grid { NfInt items, scratch; };
/* The formulas of conv.hpp, spelled on their own. */
inline Grid conv_grid(const nf::ConvArgs& a) {
  NfInt depth = a.KH * a.KW * a.Cin / a.groups, panels = ceil_to(a.Cout / a.groups, 16), block = block_of(depth, panels);
  return {a.groups * ceil_to(panels, block) * ceil_to(a.N * a.OH * a.OW, 24), 48 * a.KH * a.KW + 32 * ((depth + 15) / 16 * 16) + 64};
}

/* acc + bias[c] */
struct BiasEpi {
  const float* bias;
  struct Row {};
  Row row(NfInt, NfInt, NfInt = 0) const { return {}; }
  template <class V, class M> __attribute__((always_inline)) V apply(V acc, const Row&, NfInt c, M m) const { return acc + nf::ld<V>(bias + c, m); }
};

/* hardswish(acc + bias[c]) + residual[n, oh, ow, c] */
struct SwishResidualEpi {
  const float *bias, *residual;
  NfInt rn, rh, rw;
  struct Row { const float* r; };
  Row row(NfInt n, NfInt oh, NfInt ow) const { return {residual + n * rn + oh * rh + ow * rw}; }
  template <class V, class M> __attribute__((always_inline)) V apply(V acc, const Row& row, NfInt c, M m) const {
    V y = acc + nf::ld<V>(bias + c, m);
    V gate = nf::min(nf::max(y + nf::splat<V>(3), nf::splat<V>(0)), nf::splat<V>(6));
    return y * gate * nf::splat<V>(1.0f / 6) + nf::ld<V>(row.r + c, m);
  }
};

/* hardswish(acc + bias[c]) */
struct SwishEpi {
  const float* bias;
  struct Row {};
  Row row(NfInt, NfInt, NfInt = 0) const { return {}; }
  template <class V, class M> __attribute__((always_inline)) V apply(V acc, const Row&, NfInt c, M m) const {
    V y = acc + nf::ld<V>(bias + c, m);
    V gate = nf::min(nf::max(y + nf::splat<V>(3), nf::splat<V>(0)), nf::splat<V>(6));
    return y * gate * nf::splat<V>(1.0f / 6);
  }
};

/* x[n, ih, iw, c] * scale[c] + 0.5 */
struct ScalePro {
  const float *x, *scale;
  NfInt xn, xh, xw;
  struct Row { const float* p; };
  Row row(NfInt n, NfInt ih, NfInt iw) const { return {x + n * xn + ih * xh + iw * xw}; }
  template <class V, class M> __attribute__((always_inline)) V load(const Row& row, NfInt c, M m) const {
    return nf::fma(nf::ld<V>(row.p + c, m), nf::ld<V>(scale + c, m), nf::splat<V>(0.5f));
  }
};
