/* Depthwise convolution (one filter per channel), 1-D or 2-D, channels-last: a thread makes PIXELS neighbouring outputs of a row
 * for V neighbouring channels.
 *
 *   nf::depthwise<E, V, PIXELS, KW, SW, DW, THREADS>(nf::depthwise_args(d, x, w), prologue, epilogue)
 *
 *   d        N H W C  OH OW  KH KW sh sw  dh dw pt pl  xn xh xw xc                                   (18 values)
 *   x        the input, of E's storage type, any element strides; w "taps8": [KH * KW][C rounded up to 8], zero padded
 *   items    = ceil(N * OH * ceil(OW / PIXELS) * C / V / THREADS)                                     (blocks)
 *   threads  = THREADS (128 by default),  scratch = 0
 *
 *   E        Float32, Float16 or Bfloat16 (tile.cuh)
 *   V        channels of an access, at most 16 bytes. For V > 1: xc is 1; C, xn, xh, xw and the address of x are multiples of V
 *            elements, and w is 16-byte aligned
 *   PIXELS   outputs of a thread: 4 for SW = 1 and V * KW (4 V for KW = 0) <= 24, else 2: at most 128 registers
 *   KW       the kernel's width if that is at most 7: a row of the input is then loaded once for all its taps. 0: that of d, four
 *            taps at a time
 *   SW, DW   sw and dw. SW = 0: those of d, whatever they are, and each tap loads its inputs
 *
 * Sums are float32, products in the order of the taps (kh, then kw), by fma, from 0. A tap in the padding adds 0 or nothing.
 *
 * Prologue: NoPro, or `auto row(Index n, Index h, Index w) const` and
 *   `template <int V> void load(float (&out)[V], const Row&, Index c) const`, which gives x[n, h, w, c ...] inside the image; x and
 *   its strides are not read.
 * Epilogue: `auto row(Index n, Index oh, Index ow) const` and
 *   `template <int V> void store(const float (&acc)[V], const Row&, Index c) const`.
 */
#pragma once
#include "tile.cuh"

namespace nf {

struct DepthwiseArgs {
  Index N, H, W, C, OH, OW, KH, KW, sh, sw, dh, dw, pt, pl, xn, xh, xw, xc;
  const void* x;
  const void* w;
};

NF_DEVICE DepthwiseArgs depthwise_args(const NfInt* d, const void* x, const void* w) {
  return {(Index)d[0], (Index)d[1],  (Index)d[2],  (Index)d[3],  (Index)d[4],  (Index)d[5],  (Index)d[6],  (Index)d[7],  (Index)d[8], (Index)d[9],
          (Index)d[10], (Index)d[11], (Index)d[12], (Index)d[13], (Index)d[14], (Index)d[15], (Index)d[16], (Index)d[17], x,           w};
}

/* Where a thread stands: image n, output row oh, outputs ow ..., channels c ... */
struct DepthwisePlace {
  Index n, oh, ow, c;
};

template <class E, int V> NF_DEVICE void depthwise_decode(float (&out)[V], const Vec<typename E::Storage, V>& x) {
  NF_UNROLL
  for (int v = 0; v < V; ++v) out[v] = E::decode(x[v]);
}

/* V channels of row `ih` of the input, zeros outside of the image: from memory, or from a prologue. */
template <class E, int V, class Pro> struct DepthwiseRow {
  typedef typename E::Storage T;
  static constexpr bool computed = requires(const Pro& pro) { pro.row(Index(), Index(), Index()); };
  const DepthwiseArgs& a;
  const Pro& pro;
  const DepthwisePlace& p;
  const Index ih;
  const T* from = (const T*)a.x + (p.n * a.xn + ih * a.xh + p.c * a.xc);

  NF_DEVICE Vec<T, V> raw(Index iw) const {
    Vec<T, V> x{};
    if (iw >= 0 && iw < a.W) x = ld<T, V>(from + iw * a.xw);
    return x;
  }
  NF_DEVICE void compute(float (&out)[V], Index iw) const {
    NF_UNROLL
    for (int v = 0; v < V; ++v) out[v] = 0;
    if (iw >= 0 && iw < a.W) pro.template load<V>(out, pro.row(p.n, ih, iw), p.c);
  }
  NF_DEVICE void load(float (&out)[V], Index iw) const {
    if constexpr (computed) compute(out, iw);
    else depthwise_decode<E>(out, raw(iw));
  }
};

template <int V> NF_DEVICE void depthwise_add(float (&acc)[V], const float (&x)[V], const float (&w)[V]) {
  NF_UNROLL
  for (int v = 0; v < V; ++v) acc[v] = fma(x[v], w[v], acc[v]);
}

/* `taps` taps of a kernel row, the first of which reads column `iw` for the first output. Inputs are loaded before they are used,
 * so that all loads are under way at once; columns ascend, so each output sees its taps in order. */
template <class E, int V, int PIXELS, int TAPS, int SW, int DW, class Pro>
NF_DEVICE void depthwise_taps(float (&acc)[PIXELS][V], const DepthwiseRow<E, V, Pro>& row, const typename E::Storage* w, Index pitch, int taps, Index iw) {
  typedef typename E::Storage T;
  constexpr int columns = (PIXELS - 1) * SW + (TAPS - 1) * DW + 1;
  Vec<T, V> packed[TAPS], x[columns];
  NF_UNROLL
  for (int t = 0; t < TAPS; ++t)
    if (t < taps) packed[t] = ld<T, V>(w + t * pitch);
  if constexpr (!row.computed) {
    NF_UNROLL
    for (int column = 0; column < columns; ++column) x[column] = row.raw(iw + column);
  }
  float f[TAPS][V];
  NF_UNROLL
  for (int t = 0; t < TAPS; ++t) depthwise_decode<E>(f[t], packed[t]);
  NF_UNROLL
  for (int column = 0; column < columns; ++column) {
    float value[V];
    if constexpr (row.computed) row.compute(value, iw + column);
    else depthwise_decode<E>(value, x[column]);
    NF_UNROLL
    for (int t = 0; t < TAPS; ++t) {
      const int at = column - t * DW;
      if (at >= 0 && at % SW == 0 && at / SW < PIXELS && t < taps) depthwise_add(acc[at / SW], value, f[t]);
    }
  }
}

template <class E, int V, int PIXELS, int KW, int SW, int DW, class Pro>
NF_DEVICE void depthwise_sums(float (&acc)[PIXELS][V], const DepthwiseArgs& a, const Pro& pro, const DepthwisePlace& p) {
  typedef typename E::Storage T;
  const Index pitch = (a.C + 7) & -8, width = KW ? KW : a.KW;
  for (Index kh = 0; kh < a.KH; ++kh) {
    const Index ih = p.oh * a.sh + kh * a.dh - a.pt, iw = p.ow * a.sw - a.pl;
    if (ih < 0 || ih >= a.H) continue;
    const DepthwiseRow<E, V, Pro> row{a, pro, p, ih};
    const T* w = (const T*)a.w + (kh * width * pitch + p.c);
    if constexpr (SW != 0) {
      constexpr int taps = KW ? KW : 4;
      for (Index kw = 0; kw < width; kw += taps)
        depthwise_taps<E, V, PIXELS, taps, SW, DW>(acc, row, w + kw * pitch, pitch, KW || width - kw > taps ? taps : (int)(width - kw), iw + kw * DW);
    } else {
      for (Index kw = 0; kw < width; ++kw) {
        float f[V], x[V];
        depthwise_decode<E>(f, ld<T, V>(w + kw * pitch));
        NF_UNROLL
        for (int i = 0; i < PIXELS; ++i) {
          row.load(x, iw + i * a.sw + kw * a.dw);
          depthwise_add(acc[i], x, f);
        }
      }
    }
  }
}

template <class E, int V, int PIXELS, int KW, int SW, int DW, int THREADS = 128, class Pro, class Epi>
NF_DEVICE void depthwise(const DepthwiseArgs& a, const Pro& pro, const Epi& epi) {
  const Index groups = a.C / V, strips = (a.OW + PIXELS - 1) / PIXELS;
  Index rest = (Index)block() * THREADS + tid();
  DepthwisePlace p;
  p.c = rest % groups * V, rest /= groups;
  p.ow = rest % strips * PIXELS, rest /= strips;
  p.oh = rest % a.OH, p.n = rest / a.OH;
  if (p.n >= a.N) return;
  float acc[PIXELS][V] = {};
  depthwise_sums<E, V, PIXELS, KW, SW, DW>(acc, a, pro, p);
  NF_UNROLL
  for (int i = 0; i < PIXELS; ++i)
    if (p.ow + i < a.OW) epi.template store<V>(acc[i], epi.row(p.n, p.oh, p.ow + i), p.c);
}

}  // namespace nf
