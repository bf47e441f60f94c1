/* Depthwise convolution (one filter per channel): lanes are channels, four neighbouring outputs share each weight vector.
 *
 * Weights are "f32.taps": [KH * KW][C]. Input and output have any element strides; channels-last is the fast layout.
 * Per output element products are summed over taps in order (kh, then kw); a tap in the padding adds 0 or nothing.
 *
 *   dims:    N H W C  OH OW  KH KW sh sw  dh dw pt pl  xn xh xw xc  on oh ow oc                       (22 values)
 *   items    = N * OH * ceil(OW / 16)
 *   scratch  = 80 * KH * KW + 20 * roundup(C, 16) + 16 * KH * KW * C + 64                            (bytes)
 *
 * Epilogue and prologue as in conv.hpp.
 */
#pragma once
#include "conv.hpp"

namespace nf {

typedef ConvArgs DepthwiseArgs; /* Cin = Cout = groups */

NF_INLINE DepthwiseArgs depthwise_args(const NfInt* d, const void* x, const void* w, void* o) {
  return {d[0],  d[1],  d[2],  d[3],  d[4],  d[5],  d[3],  d[3],  d[6],  d[7],  d[8],  d[9],
          d[10], d[11], d[12], d[13], d[14], d[15], d[16], d[17], d[18], d[19], d[20], d[21],
          (const float*)x, (const float*)w, (float*)o};
}

constexpr NfInt depthwise_columns_per_item = 16;

constexpr int depthwise_group = 4;
NF_INLINE NfInt min_of(NfInt a, NfInt b) { return a < b ? a : b; }
NF_INLINE NfInt max_of(NfInt a, NfInt b) { return a > b ? a : b; }

/* Sums of the channels [c, c + VECTORS * lanes) of a group of outputs; `offset`: [tap][output], in bytes from x. */
template <int VECTORS, class M>
NF_INLINE void accumulate_taps(float* out, NfInt pitch, const float* x, const float* w, NfInt C, const NfInt* offset, NfInt count, M m) {
  constexpr int L = lanes<F32>;
  F32 acc[depthwise_group][VECTORS];
#pragma GCC unroll 4
  for (int i = 0; i < depthwise_group; ++i)
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; ++v) acc[i][v] = F32{};
  for (NfInt t = 0; t < count; ++t, w += C, offset += depthwise_group) {
    F32 f[VECTORS];
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; ++v) f[v] = ld<F32>(w + v * L, m);
#pragma GCC unroll 4
    for (int i = 0; i < depthwise_group; ++i) {
      const float* p = (const float*)((const char*)x + offset[i]);
#pragma GCC unroll 4
      for (int v = 0; v < VECTORS; ++v) acc[i][v] = fma(ld<F32>(p + v * L, m), f[v], acc[i][v]);
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < depthwise_group; ++i)
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; ++v) st(out + i * pitch + v * L, acc[i][v], All{});
}

NF_NOINLINE void accumulate_group(float* out, NfInt pitch, const float* x, const float* w, NfInt C, const NfInt* offset, NfInt count) {
  constexpr int L = lanes<F32>;
  NfInt c = 0;
  for (; c + 2 * L <= C; c += 2 * L) accumulate_taps<2>(out + c, pitch, x + c, w + c, C, offset, count, All{});
  for (; c + L <= C; c += L) accumulate_taps<1>(out + c, pitch, x + c, w + c, C, offset, count, All{});
  if (c < C) accumulate_taps<1>(out + c, pitch, x + c, w + c, C, offset, count, Some(C - c));
}

NF_NOINLINE int depthwise_launch(const NfLaunch* launch, const DepthwiseArgs& args, const Hooks& hooks) {
  constexpr int G = depthwise_group;
  const DepthwiseArgs a = args;
  const NfInt segments = ceil_div(a.OW, depthwise_columns_per_item), count = a.KH * a.KW, C = a.Cin, pitch = (C + 15) & -16;
  const bool in_place = !hooks.prologue && a.xc == 1;
  float* acc = (float*)launch->scratch;
  float* zero = acc + G * pitch; /* what a tap in the padding reads */
  Tap* taps = (Tap*)(zero + pitch);
  NfInt* inner = (NfInt*)(taps + count); /* offsets in bytes, from the input of the group's first output */
  NfInt* edge = inner + G * count;       /* the same for a group with padding */
  float* pack = (float*)(((unsigned long long)(edge + G * count) + 63) & -64ll);
  for (NfInt i = 0; i < pitch; ++i) zero[i] = 0;
  for (NfInt y = 0, t = 0; y < a.KH; ++y)
    for (NfInt x = 0; x < a.KW; ++x, ++t) {
      taps[t] = {(int)(y * a.dh - a.pt), (int)(x * a.dw - a.pl), t};
      for (int i = 0; i < G; ++i)
        inner[t * G + i] = 4 * (in_place ? taps[t].y * a.xh + (taps[t].x + i * a.sw) * a.xw : (i * count + t) * C);
    }
  const Taps all{taps, count, 0, 0, 0, 0, true};
  Pixel pixel[G];
  Tile tile{acc, pitch, 0, pixel, 0, C, a.o, a.on, a.oh, a.ow, a.oc};
  for (NfInt item = launch->begin; item < launch->end; ++item) {
    Pixel p{item / segments / a.OH, item / segments % a.OH, item % segments * depthwise_columns_per_item};
    const NfInt end = p.ow + depthwise_columns_per_item < a.OW ? p.ow + depthwise_columns_per_item : a.OW;
    const NfInt ih = p.oh * a.sh - a.pt;
    const NfInt y0 = ih < 0 ? min_of(ceil_div(-ih, a.dh), a.KH) : 0, y1 = max_of(y0, min_of(ceil_div(a.H - ih, a.dh), a.KH));
    for (; p.ow < end; p.ow += G) {
      const NfInt iw = p.ow * a.sw - a.pl;
      const float* x = a.x + p.n * a.xn + p.oh * a.sh * a.xh + p.ow * a.sw * a.xw;
      tile.rows = p.ow + G < end ? G : (int)(end - p.ow);
      for (int i = 0; i < G; ++i) pixel[i] = {p.n, p.oh, p.ow + i};
      if (!in_place) {
        for (int i = 0; i < tile.rows; ++i) hooks.fill(hooks.prologue, pack + i * count * C, a, all, pixel[i], 0, C);
        accumulate_group(acc, pitch, pack, a.w, C, inner, count);
      } else if (iw >= 0 && iw + (G - 1) * a.sw + (a.KW - 1) * a.dw < a.W) {
        accumulate_group(acc, pitch, x, a.w + y0 * a.KW * C, C, inner + y0 * a.KW * G, (y1 - y0) * a.KW);
      } else {
        /* Outputs beyond the row's end are computed from what is there, or zeros, and not stored. */
        typedef long long Group __attribute__((vector_size(8 * G), aligned(8)));
        const Group nothing = Group{} + (NfInt)((unsigned long long)zero - (unsigned long long)x);
        for (NfInt k = 0; k < a.KW; ++k) {
          const Group column = Group{0, 1, 2, 3} * a.sw + (iw + k * a.dw);
          const Group inside = (column >= 0) & (column < a.W);
          for (NfInt t = y0 * a.KW + k; t < y1 * a.KW; t += a.KW)
            *(Group*)(edge + t * G) = (*(const Group*)(inner + t * G) & inside) | (nothing & ~inside);
        }
        accumulate_group(acc, pitch, x, a.w + y0 * a.KW * C, C, edge + y0 * a.KW * G, (y1 - y0) * a.KW);
      }
      hooks.finish(hooks.epilogue, tile);
    }
  }
  return 0;
}

template <class Pro, class Epi> NF_INLINE int depthwise(const NfLaunch* launch, const DepthwiseArgs& a, const Pro& pro, const Epi& epi) {
  return depthwise_launch(launch, a, hooks_of(pro, epi));
}

}  // namespace nf
