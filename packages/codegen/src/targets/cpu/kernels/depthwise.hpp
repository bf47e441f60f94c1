/* Depthwise convolution (one filter per channel): lanes are channels, four neighbouring outputs share each weight vector.
 *
 * Weights are "f32.taps": [KH * KW][C]. Input and output have any element strides; channels-last is the fast layout.
 * Per output element products are summed over taps in order (kh, then kw); a tap in the padding adds nothing.
 *
 *   dims:    N H W C  OH OW  KH KW sh sw  dh dw pt pl  xn xh xw xc  on oh ow oc                       (22 values)
 *   items    = N * OH * ceil(OW / 16)
 *   scratch  = 32 * KH * KW + 16 * roundup(C, 16) + 4 * KH * KW * C + 64                              (bytes)
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

/* The taps that an output reads: `lines` times `count` consecutive taps, `pitch` apart, the first being `first`. */
struct TapRange { NfInt first, lines, count, pitch; };

/* Sums of COUNT neighbouring outputs over all channels, `out_pitch` apart; `offset` of each tap and `next` output in x. */
template <int COUNT>
NF_NOINLINE void accumulate_taps(float* out, NfInt out_pitch, const float* x, NfInt next, const float* w, NfInt C, const NfInt* offset, const TapRange& range) {
  constexpr int L = lanes<F32>;
  const TapRange r = range;
  for (NfInt c = 0; c < C; c += L) {
    const bool whole = c + L <= C;
    const Some m(whole ? L : C - c);
    F32 acc[COUNT];
#pragma GCC unroll 4
    for (int i = 0; i < COUNT; ++i) acc[i] = F32{};
    for (NfInt line = 0, t = r.first; line < r.lines; ++line, t += r.pitch) {
      const float* f = w + t * C + c;
      const NfInt* at = offset + t;
      const NfInt* const end = at + r.count;
      if (whole) {
        for (; at != end; ++at, f += C) {
          const F32 k = ld<F32>(f, All{});
          const float* v = x + *at + c;
#pragma GCC unroll 4
          for (int i = 0; i < COUNT; ++i) acc[i] = fma(ld<F32>(v + i * next, All{}), k, acc[i]);
        }
      } else {
        for (; at != end; ++at, f += C) {
          const F32 k = ld<F32>(f, m);
          const float* v = x + *at + c;
#pragma GCC unroll 4
          for (int i = 0; i < COUNT; ++i) acc[i] = fma(ld<F32>(v + i * next, m), k, acc[i]);
        }
      }
    }
#pragma GCC unroll 4
    for (int i = 0; i < COUNT; ++i) st(out + i * out_pitch + c, acc[i], All{});
  }
}

/* The taps [first, end) of `count` that fall into [0, size) when tap 0 falls on `at`. */
NF_INLINE void inside_taps(NfInt at, NfInt dilation, NfInt count, NfInt size, NfInt& first, NfInt& end) {
  first = at < 0 ? ceil_div(-at, dilation) : 0;
  end = ceil_div(size - at, dilation);
  if (end > count) end = count;
  if (end < first) end = first;
}

NF_NOINLINE int depthwise_launch(const NfLaunch* launch, const DepthwiseArgs& args, const Hooks& hooks) {
  const DepthwiseArgs a = args;
  const NfInt segments = ceil_div(a.OW, depthwise_columns_per_item), count = a.KH * a.KW, C = a.Cin, pitch = (C + 15) & -16;
  const bool in_place = !hooks.prologue && a.xc == 1;
  float* acc = (float*)launch->scratch;
  Tap* taps = (Tap*)(acc + 4 * pitch);
  NfInt* offset = (NfInt*)(taps + count);
  NfInt* packed = offset + count;
  float* pack = (float*)(((unsigned long long)(packed + count) + 63) & -64ll);
  for (NfInt y = 0, t = 0; y < a.KH; ++y)
    for (NfInt x = 0; x < a.KW; ++x, ++t) {
      taps[t] = {(int)(y * a.dh - a.pt), (int)(x * a.dw - a.pl), t};
      offset[t] = taps[t].y * a.xh + taps[t].x * a.xw, packed[t] = t * C;
    }
  const Taps all{taps, count, 0, 0, 0, 0, true};
  Pixel pixel[4];
  Tile tile{acc, pitch, 0, pixel, 0, C, a.o, a.on, a.oh, a.ow, a.oc};
  for (NfInt item = launch->begin; item < launch->end; ++item) {
    Pixel p{item / segments / a.OH, item / segments % a.OH, item % segments * depthwise_columns_per_item};
    const NfInt end = p.ow + depthwise_columns_per_item < a.OW ? p.ow + depthwise_columns_per_item : a.OW;
    const NfInt next = a.sw * a.xw;
    NfInt y0, y1, x0, x1;
    inside_taps(p.oh * a.sh - a.pt, a.dh, a.KH, a.H, y0, y1);
    for (; p.ow < end; p.ow += tile.rows) {
      const NfInt at = p.ow * a.sw - a.pl;
      const float* x = a.x + p.n * a.xn + p.oh * a.sh * a.xh + p.ow * a.sw * a.xw;
      tile.rows = 1;
      if (!in_place) {
        hooks.fill(hooks.prologue, pack, a, all, p, 0, C);
        accumulate_taps<1>(acc, pitch, pack, 0, a.w, C, packed, {0, 1, count, 0});
      } else if (p.ow + 4 <= end && at >= 0 && at + 3 * a.sw + (a.KW - 1) * a.dw < a.W) {
        tile.rows = 4;
        accumulate_taps<4>(acc, pitch, x, next, a.w, C, offset, {y0 * a.KW, 1, (y1 - y0) * a.KW, 0});
      } else {
        inside_taps(at, a.dw, a.KW, a.W, x0, x1);
        accumulate_taps<1>(acc, pitch, x, next, a.w, C, offset, {y0 * a.KW + x0, y1 - y0, x1 - x0, a.KW});
      }
      for (int i = 0; i < tile.rows; ++i) pixel[i] = {p.n, p.oh, p.ow + i};
      hooks.finish(hooks.epilogue, tile);
    }
  }
  return 0;
}

template <class Pro, class Epi> NF_INLINE int depthwise(const NfLaunch* launch, const DepthwiseArgs& a, const Pro& pro, const Epi& epi) {
  return depthwise_launch(launch, a, hooks_of(pro, epi));
}

}  // namespace nf
