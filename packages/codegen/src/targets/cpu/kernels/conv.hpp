/* Convolution as an implicit matrix product: Conv of any kernel, stride, dilation, padding and groups, 1x1 Conv, and
 * Gemm or MatMul by a constant (H = 1, KH = KW = 1, W = rows, Cin = depth).
 *
 * Input x[n, ih, iw, c] and output o[n, oh, ow, c] have any element strides; channels-last is the fast layout.
 * Weights are "f32.panel16": [groups][ceil(Cout / groups / 16)][KH * KW][Cin / groups][16], zero padded, 64-byte aligned.
 * Per output element products are summed over taps (kh, then kw), then channels ascending; a tap in the padding adds 0.
 *
 *   dims:    N H W Cin  OH OW Cout groups  KH KW sh sw  dh dw pt pl  xn xh xw xc  on oh ow oc        (24 values)
 *   depth    = KH * KW * Cin / groups
 *   panels   = ceil(Cout / groups / 16)
 *   block    = min(panels, depth <= 256 ? 16 : depth <= 512 ? 8 : 4)
 *   items    = groups * ceil(panels / block) * ceil(N * OH * OW / 24)
 *   scratch  = 48 * KH * KW + 32 * roundup(depth, 16) + 64                                            (bytes)
 *
 * Epilogue: `auto row(NfInt n, NfInt oh, NfInt ow) const` once per output pixel (or more often), and
 *   `template <class V, class M> V apply(V acc, const Row&, NfInt c, M) const` for channels c, c + 1, ... of it.
 * Prologue: NoPro, or `auto row(NfInt n, NfInt ih, NfInt iw) const` and
 *   `template <class V, class M> V load(const Row&, NfInt c, M) const`, which gives x[n, ih, iw, c ...] (inside the image).
 */
#pragma once
#include "tile.hpp"

namespace nf {

struct ConvArgs {
  NfInt N, H, W, Cin, OH, OW, Cout, groups, KH, KW, sh, sw, dh, dw, pt, pl;
  NfInt xn, xh, xw, xc, on, oh, ow, oc;
  const float* x;
  const float* w;
  float* o;
};

NF_INLINE ConvArgs conv_args(const NfInt* d, const void* x, const void* w, void* o) {
  return {d[0],  d[1],  d[2],  d[3],  d[4],  d[5],  d[6],  d[7],  d[8],  d[9],  d[10], d[11],
          d[12], d[13], d[14], d[15], d[16], d[17], d[18], d[19], d[20], d[21], d[22], d[23],
          (const float*)x, (const float*)w, (float*)o};
}

/* x is read as it is. */
struct NoPro {};

/* The taps of a convolution: tap t of output (oh, ow) reads input (oh * sh + y, ow * sw + x) with weight row w. */
struct Tap { int y, x; NfInt w; };

/* One convolution as the tile loop sees it; a transposed convolution is several of these. */
struct Taps {
  const Tap* taps;
  NfInt count;
  int ymin, ymax, xmin, xmax;
  bool dense; /* weight rows are 0 .. count-1 in order */
};

NF_INLINE Pixel pixel_of(NfInt index, NfInt OH, NfInt OW) {
  NfInt line = index / OW;
  return {line / OH, line % OH, index % OW};
}

/* Copies the elements that `taps` read for one output pixel to `out`: [tap][channel], channels [c0, c0 + channels). */
typedef void (*Fill)(const void* prologue, float* out, const ConvArgs& a, const Taps& t, const Pixel& p, NfInt c0, NfInt channels);

template <class Pro>
NF_NOINLINE void fill_pixel(const void* prologue, float* out, const ConvArgs& a, const Taps& t, const Pixel& p, NfInt c0, NfInt channels) {
  constexpr int L = lanes<F32>;
  for (NfInt k = 0; k < t.count; ++k, out += channels) {
    NfInt ih = p.oh * a.sh + t.taps[k].y, iw = p.ow * a.sw + t.taps[k].x, c = 0;
    if (ih < 0 || ih >= a.H || iw < 0 || iw >= a.W) {
      for (; c + L <= channels; c += L) st(out + c, F32{}, All{});
      for (; c < channels; ++c) out[c] = 0;
    } else if constexpr (__is_same(Pro, NoPro)) {
      const float* x = a.x + p.n * a.xn + ih * a.xh + iw * a.xw + c0 * a.xc;
      const NfInt step = a.xc;
      if (step == 1)
        for (; c + L <= channels; c += L) st(out + c, ld<F32>(x + c, All{}), All{});
      for (; c < channels; ++c) out[c] = x[c * step];
    } else {
      const Pro pro = *(const Pro*)prologue;
      const auto row = pro.row(p.n, ih, iw);
      for (; c + L <= channels; c += L) st(out + c, pro.template load<F32, All>(row, c0 + c, All{}), All{});
      if (c < channels) {
        Some m(channels - c);
        st(out + c, pro.template load<F32, Some>(row, c0 + c, m), m);
      }
    }
  }
}

/* A kernel's prologue and epilogue with their types erased: the loops around them exist once per image. */
struct Hooks {
  Fill fill;
  const void* prologue; /* null: x is read as it is */
  Finish finish;
  const void* epilogue;
};
template <class Pro, class Epi> NF_INLINE Hooks hooks_of(const Pro& pro, const Epi& epi) {
  return {fill_pixel<Pro>, __is_same(Pro, NoPro) ? nullptr : &pro, finish_tile<Epi>, &epi};
}

/* Work items [begin, end) of the convolution with the given taps; `scratch` as in the header comment, less the taps. */
NF_NOINLINE void conv_items(const ConvArgs& args, const Taps& taps, NfInt begin, NfInt end, char* scratch, const Hooks& hooks) {
  const ConvArgs a = args;
  const Taps t = taps;
  const NfInt channels = a.Cin / a.groups, width = a.Cout / a.groups, depth = t.count * channels;
  const NfInt panels = ceil_div(width, panel_width), weight_rows = a.KH * a.KW * channels;
  const NfInt block = panels_per_item(weight_rows, panels), blocks = ceil_div(panels, block);
  const NfInt pixels = a.N * a.OH * a.OW, chunks = ceil_div(pixels, rows_per_item);
  const NfInt panel_bytes = weight_rows * panel_width * 4, pack_stride = (depth + 15) & -16;
  Run* direct = (Run*)scratch;
  Run* packed = direct + t.count;
  float* pack = (float*)(((unsigned long long)(packed + t.count) + 63) & -64ll);
  for (NfInt k = 0; k < t.count; ++k) {
    NfInt b = t.taps[k].w * channels * panel_width * 4;
    direct[k] = {(t.taps[k].y * a.xh + t.taps[k].x * a.xw) * 4, b};
    packed[k] = {k * channels * 4, b};
  }
  /* Taps whose elements follow each other in x and in w are one run: a kernel row of a channels-last input. */
  auto follows = [&](NfInt k) { return direct[k].a == direct[k - 1].a + channels * a.xc * 4 && direct[k].b == direct[k - 1].b + channels * panel_width * 4; };
  NfInt merged = 1;
  while (merged < t.count && follows(merged)) ++merged;
  if (merged > 1) {
    for (NfInt k = 1; k < t.count; ++k)
      if (follows(k) != (k % merged != 0) || t.count % merged) merged = 1;
    for (NfInt k = 0; k < t.count / merged; ++k) direct[k] = direct[k * merged];
  }
  const Operands in_place{direct, t.count / merged, channels * merged, a.xc * 4, panel_bytes};
  Operands copied{packed, t.count, channels, 4, panel_bytes};
  if (t.dense && t.count) copied.run_count = 1, copied.count = depth;
  alignas(64) float acc[max_rows * max_panels * panel_width];
  Pixel pixel[max_rows];
  const char* row[max_rows];
  Tile tile{acc, 0, 0, pixel, 0, 0, a.o, a.on, a.oh, a.ow, a.oc};

  for (NfInt item = begin; item < end; ++item) {
    const NfInt chunk = item % chunks, pb = item / chunks % blocks, g = item / chunks / blocks;
    const NfInt first = pb * block, here = first + block < panels ? block : panels - first;
    const char* b = (const char*)a.w + (g * panels + first) * panel_bytes;
    const float* x = a.x + g * channels * a.xc;
    const Split split(here);
    const int rows = tile_rows_of(split[0]);
    NfInt m = chunk * rows_per_item, m_end = m + rows_per_item < pixels ? m + rows_per_item : pixels;
    Pixel p = pixel_of(m, a.OH, a.OW);
    for (; m < m_end; m += rows) {
      const int valid = m + rows < m_end ? rows : (int)(m_end - m);
      bool inside = !hooks.prologue;
      for (int i = 0; i < valid;) { /* pixels of one output row together */
        const int n = valid - i < a.OW - p.ow ? valid - i : (int)(a.OW - p.ow);
        const NfInt ih = p.oh * a.sh, iw = p.ow * a.sw;
        inside &= (ih + t.ymin >= 0) & (ih + t.ymax < a.H) & (iw + t.xmin >= 0) & (iw + (n - 1) * a.sw + t.xmax < a.W);
        const char* from = (const char*)(x + p.n * a.xn + ih * a.xh + iw * a.xw);
        for (const int stop = i + n; i < stop; ++i, ++p.ow, from += a.sw * a.xw * 4) pixel[i] = p, row[i] = from;
        if (p.ow == a.OW) p.ow = 0, ++p.oh;
        if (p.oh == a.OH) p.oh = 0, ++p.n;
      }
      if (!inside)
        for (int i = 0; i < valid; ++i) {
          float* to = pack + i * pack_stride;
          hooks.fill(hooks.prologue, to, a, t, pixel[i], g * channels, channels);
          row[i] = (const char*)to;
        }
      for (int i = valid; i < max_rows; ++i) row[i] = row[valid - 1];
      NfInt panel = 0;
      for (NfInt s = 0; s < split.tiles; ++s) {
        const int np = split[s];
        accumulate_tile(np, valid, acc, row, b + panel * panel_bytes, inside ? in_place : copied);
        const NfInt c = (first + panel) * panel_width;
        tile.pitch = np * panel_width, tile.rows = valid;
        tile.c = g * width + c, tile.width = width - c < tile.pitch ? width - c : tile.pitch;
        hooks.finish(hooks.epilogue, tile);
        panel += np;
      }
    }
  }
}

NF_NOINLINE int conv_launch(const NfLaunch* launch, const ConvArgs& a, const Hooks& hooks) {
  Tap* taps = (Tap*)launch->scratch;
  Taps t{taps, a.KH * a.KW, (int)-a.pt, (int)((a.KH - 1) * a.dh - a.pt), (int)-a.pl, (int)((a.KW - 1) * a.dw - a.pl), true};
  for (NfInt y = 0, k = 0; y < a.KH; ++y)
    for (NfInt x = 0; x < a.KW; ++x, ++k) taps[k] = {(int)(y * a.dh - a.pt), (int)(x * a.dw - a.pl), k};
  conv_items(a, t, launch->begin, launch->end, (char*)(taps + t.count), hooks);
  return 0;
}

template <class Pro, class Epi> NF_INLINE int conv(const NfLaunch* launch, const ConvArgs& a, const Pro& pro, const Epi& epi) {
  return conv_launch(launch, a, hooks_of(pro, epi));
}

}  // namespace nf
