/* Convolution as an implicit matrix product: rows are output pixels, products run over (kh, kw, channel), columns are output
 * channels of a group. Any kernel, stride, dilation, padding and groups; a 1-D convolution has H = OH = KH = sh = dh = 1 and pt = 0.
 *
 *   nf::conv<Config, B major>(nf::conv_args(d, x, w), prologue, epilogue)
 *   nf::conv_transpose<Config>(nf::conv_args(d, x, w), prologue, epilogue)
 *
 *   d        N H W Cin  OH OW Cout groups  KH KW sh sw  dh dw pt pl  xn xh xw xc  on oh ow oc  wk wn wg    (27 values)
 *   x, w     pointers to the first elements, of Config's storage type
 *   conv:            items = groups * ceil(N * OH * OW / Config::rows) * ceil(Cout / groups / Config::columns)
 *   conv_transpose:  items = sh * sw * groups * ceil(N * ceil(OH / sh) * ceil(OW / sw) / Config::rows)
 *                            * ceil(Cout / groups / Config::columns)
 *   threads  = Config::threads,  scratch = Config::shared_bytes
 *
 * Weights are [groups][k][n], k = (kh * KW + kw) * Cin / groups + c, n an output channel of the group; wk, wn and wg are their strides in
 * elements. The layout to use has rows padded with zeros or anything to a multiple of 8 elements (B major MN: wn = 1,
 * wk = roundup(Cout / groups, 8), wg = KH * KW * Cin / groups * wk); for Int8 [groups][n][k] with rows padded to a multiple of 16 (B major K:
 * wk = 1, wn = roundup(KH * KW * Cin / groups, 16), wg = Cout / groups * wn). For conv_transpose the same k and n, B major MN.
 *
 * x[n, ih, iw, c] has any element strides. Channels are copied 16 bytes at a time where xc = 1, Cin / groups and the other strides are
 * multiples of 16 bytes, else by elements. Per output element products are summed over taps (kh, then kw), then channels ascending; a tap in
 * the padding multiplies 0. The strides of the output are the epilogue's business.
 *
 * Prologue: NoPro, or `auto row(Index n, Index ih, Index iw) const` and `template <int V> void load(float (&out)[V], const Row&, Index c) const`,
 *   which gives x[n, ih, iw, c ... c + V - 1] (inside the image).
 * Epilogue: `auto row(Index n, Index oh, Index ow) const` and `template <int V> void store(const Acc (&acc)[V], const Row&, Index c) const`
 *   for output channels c ... c + V - 1 (of all groups), as in gemm.cuh.
 *
 * conv_transpose works by phases: the outputs of equal (oh mod sh, ow mod sw) are one convolution of stride 1 with those taps for which
 * oh + pt - kh * dh is a multiple of sh, and likewise for ow. Nothing is scattered, no zero is multiplied. pt and pl are the pads at the
 * beginning, H, W, Cin the input's sizes.
 */
#pragma once
#include "gemm.cuh"

namespace nf {

struct ConvArgs {
  Index N, H, W, Cin, OH, OW, Cout, groups, KH, KW, sh, sw, dh, dw, pt, pl, xn, xh, xw, xc, wk, wn, wg;
  const void* x;
  const void* w;
};

NF_DEVICE ConvArgs conv_args(const NfInt* d, const void* x, const void* w) {
  return {(Index)d[0],  (Index)d[1],  (Index)d[2],  (Index)d[3],  (Index)d[4],  (Index)d[5],  (Index)d[6],  (Index)d[7],
          (Index)d[8],  (Index)d[9],  (Index)d[10], (Index)d[11], (Index)d[12], (Index)d[13], (Index)d[14], (Index)d[15],
          (Index)d[16], (Index)d[17], (Index)d[18], (Index)d[19], (Index)d[24], (Index)d[25], (Index)d[26], x, w};
}

/* The convolution of a block: pixel (n, oh, ow) of a grid of OH x OW reads at tap (i, j) the input at
 * (oh * sh + i * dh + y0, ow * sw + j * dw + x0), where it is inside the image. */
struct Window {
  Index OH, OW, taps_h, taps_w, sh, sw, dh, dw, y0, x0;
};

struct PixelPlace { Index n, h, w; };
NF_DEVICE PixelPlace pixel_place(Index index, Index OH, Index OW) {
  const Index line = index / OW;
  return {line / OH, line % OH, index % OW};
}

/* Rows of A from the image. A thread brings one chunk (the same products) of each of its pixels per turn. */
template <class E, int ROWS, int BK, int THREADS, class Pro> struct ImageLoader {
  using T = typename E::Storage;
  using Layout = TileLayout<E, ROWS, BK, Major::K>;
  static constexpr int per = Layout::per_chunk, lines = THREADS / Layout::chunks, turns = Layout::lines / lines;
  static constexpr bool computed = !__is_same(Pro, NoPro), staged = computed || stages_in_registers<T>;
  static_assert(lines * Layout::chunks == THREADS && turns * lines == Layout::lines);
  const ConvArgs& a;
  const Window& w;
  const Pro& pro;
  const T* x;
  Index channel0, channels;
  Index y[turns], z[turns], n[turns]; /* of each pixel: where its window begins in the image; which image (computed) or which element */
  Index i = 0, j = 0, c = 0;          /* tap and channel of the chunk's first product */
  bool wide;                          /* a chunk lies in one tap and is copied or computed as a whole */
  Vec<T, per> values[staged ? turns : 1];

  NF_DEVICE ImageLoader(const ConvArgs& a, const Window& w, const Pro& pro, Index group, Index first, Index pixels)
      : a(a), w(w), pro(pro), x((const T*)a.x), channel0(group * (a.Cin / a.groups)), channels(a.Cin / a.groups) {
    wide = channels % per == 0;
    if constexpr (!computed) {
      x += (long long)channel0 * a.xc;
      const auto whole = [](Index stride) { return stride % per == 0; };
      wide &= a.xc == 1 && whole(a.xn) && whole(a.xh) && whole(a.xw) && (unsigned long long)x % 16 == 0;
    }
    NF_UNROLL for (int t = 0; t < turns; ++t) {
      const Index index = first + tid() / Layout::chunks + t * lines;
      const PixelPlace p = pixel_place(index, w.OH, w.OW);
      y[t] = p.h * w.sh + w.y0, z[t] = p.w * w.sw + w.x0;
      n[t] = computed ? p.n : p.n * a.xn + y[t] * a.xh + z[t] * a.xw;
      if (index >= pixels) y[t] = -(1 << 29); /* no pixel: its windows are far outside */
    }
    advance(i, j, c, tid() % Layout::chunks * per);
  }

  NF_DEVICE void fetch(char* tile) {
    const int line = tid() / Layout::chunks, column = tid() % Layout::chunks;
    if (wide) {
      const Index tap = place(i, j, c);
      NF_UNROLL for (int t = 0; t < turns; ++t) {
        const Index ih = y[t] + i * w.dh, iw = z[t] + j * w.dw;
        const bool in = inside(i, ih, iw);
        if constexpr (!computed) {
          const T* p = x + (in ? n[t] + tap : 0);
          if constexpr (staged) values[t] = in ? ld<T, per>(p) : Vec<T, per>{};
          else cp_async<16>(tile + Layout::chunk(line + t * lines, column), p, in ? 16 : 0);
        } else {
          values[t] = Vec<T, per>{};
          if (!in) continue;
          float v[per];
          pro.template load<per>(v, pro.row(n[t], ih, iw), channel0 + c);
          NF_UNROLL for (int e = 0; e < per; ++e) values[t][e] = E::encode(v[e]);
        }
      }
    } else {
      Index ei = i, ej = j, ec = c;
      NF_ROLLED for (int e = 0; e < per; ++e) {
        const Index tap = place(ei, ej, ec);
        NF_UNROLL for (int t = 0; t < turns; ++t) {
          const Index ih = y[t] + ei * w.dh, iw = z[t] + ej * w.dw;
          const bool in = inside(ei, ih, iw);
          T* const to = (T*)(tile + Layout::chunk(line + t * lines, column)) + e;
          const T* p = x + (in && !computed ? n[t] + tap : 0);
          if constexpr (computed) {
            float v[1] = {0};
            if (in) pro.template load<1>(v, pro.row(n[t], ih, iw), channel0 + ec);
            *to = E::encode(v[0]);
          } else if constexpr (sizeof(T) == 4) cp_async<4>(to, p, in ? 4 : 0);
          else *to = in ? *p : T(0);
        }
        advance(ei, ej, ec, 1);
      }
    }
    advance(i, j, c, BK);
  }
  NF_DEVICE void store(char* tile) {
    if constexpr (staged)
      if (wide) put_chunks<Layout, lines>(tile, values);
  }

 private:
  NF_DEVICE void advance(Index& i, Index& j, Index& c, Index by) const {
    c += by;
    while (c >= channels) {
      c -= channels;
      if (++j >= w.taps_w) j = 0, ++i;
    }
  }
  /* From the window's first element. */
  NF_DEVICE Index place(Index i, Index j, Index c) const { return i * w.dh * a.xh + j * w.dw * a.xw + c * a.xc; }
  NF_DEVICE bool inside(Index tap, Index ih, Index iw) const {
    return tap < w.taps_h && ih >= 0 && ih < a.H && iw >= 0 && iw < a.W;
  }
};

/* Products of some of the taps: tap (i, j) of the window has its weights at first + i * down + j * right. */
struct TapPlaces {
  Index channels, taps_w, first, down, right, k_stride;
  NF_DEVICE Index operator()(Index k) const {
    const Index tap = k / channels;
    return first + tap / taps_w * down + tap % taps_w * right + k % channels * k_stride;
  }
};

/* Which of `taps` taps reach the outputs congruent to `phase`: begin, begin + step, ...; the i-th reads the input at output / stride + at - i * back. */
struct TapRange { Index begin, step, count, at, back; };
NF_DEVICE TapRange taps_of_phase(Index phase, Index pad, Index taps, Index stride, Index dilation) {
  Index begin = 0, step = 1;
  while (begin < taps && (phase + pad - begin * dilation) % stride != 0) ++begin;
  while (step * dilation % stride != 0) ++step;
  return {begin, step, begin < taps ? (taps - begin + step - 1) / step : 0, (phase + pad - begin * dilation) / stride, step * dilation / stride};
}

/* One block: the tile `place` of the `pixels` x Cout / groups results of `group`. `output` gives a pixel's place in the output. */
template <class C, Major B, class Places, class Output, class Pro, class Epi>
NF_DEVICE void conv_tile(const ConvArgs& a, const Window& w, Index group, TilePlace place, Index pixels, Places places, const Output& output,
                         const Pro& pro, const Epi& epi) {
  using E = typename C::Element;
  const Index width = a.Cout / a.groups, K = w.taps_h * w.taps_w * (a.Cin / a.groups), m0 = place.m * C::rows, n0 = place.n * C::columns;
  const typename E::Storage* weights = (const typename E::Storage*)a.w + (long long)group * a.wg + (long long)n0 * a.wn;
  WarpTile<C, Major::K, B> tile;
  ImageLoader<E, C::rows, C::depth, C::threads, Pro> left(a, w, pro, group, m0, pixels);
  MatrixLoader<E, C::columns, C::depth, B, C::threads, Places> right(weights, a.wn, a.wk, width - n0, K, places);
  multiply_tile<C>(tile, left, right, K);
  const auto row = [&](Index m) {
    const PixelPlace p = output(pixel_place(m0 + m, w.OH, w.OW));
    return epi.row(p.n, p.h, p.w);
  };
  store_tile<C>(tile, pixels - m0, width - n0, group * width + n0, row, epi);
}

template <class C, Major B, class Pro, class Epi> NF_DEVICE void conv(const ConvArgs& a, const Pro& pro, const Epi& epi) {
  const Index pixels = a.N * a.OH * a.OW, tiles_m = ceil_div_index(pixels, C::rows), tiles_n = ceil_div_index(a.Cout / a.groups, C::columns);
  const Index item = (Index)block(), group = item / (tiles_m * tiles_n);
  const Window w{a.OH, a.OW, a.KH, a.KW, a.sh, a.sw, a.dh, a.dw, -a.pt, -a.pl};
  const auto output = [](PixelPlace p) { return p; };
  conv_tile<C, B>(a, w, group, place_tile(item % (tiles_m * tiles_n), tiles_m, tiles_n), pixels, Linear{a.wk}, output, pro, epi);
}

template <class C, class Pro, class Epi> NF_DEVICE void conv_transpose(const ConvArgs& a, const Pro& pro, const Epi& epi) {
  const Index width = a.Cout / a.groups, channels = a.Cin / a.groups, tiles_n = ceil_div_index(width, C::columns);
  const Index tiles_m = ceil_div_index(a.N * ceil_div_index(a.OH, a.sh) * ceil_div_index(a.OW, a.sw), C::rows); /* of the largest phase */
  const Index item = (Index)block(), tiles = tiles_m * tiles_n, group = item / tiles % a.groups, phase = item / tiles / a.groups;
  const Index ph = phase / a.sw, pw = phase % a.sw;
  const TapRange v = taps_of_phase(ph, a.pt, a.KH, a.sh, a.dh), h = taps_of_phase(pw, a.pl, a.KW, a.sw, a.dw);
  const Window w{ceil_div_index(a.OH - ph, a.sh), ceil_div_index(a.OW - pw, a.sw), v.count, h.count, 1, 1, -v.back, -h.back, v.at, h.at};
  const TilePlace place = place_tile(item % tiles, tiles_m, tiles_n);
  const Index pixels = a.N * w.OH * w.OW;
  if (place.m * C::rows >= pixels) return;
  const Index tap = channels * a.wk;
  const TapPlaces places{channels, h.count, (v.begin * a.KW + h.begin) * tap, v.step * a.KW * tap, h.step * tap, a.wk};
  const auto output = [&](PixelPlace p) { return PixelPlace{p.n, p.h * a.sh + ph, p.w * a.sw + pw}; };
  conv_tile<C, Major::MN>(a, w, group, place, pixels, places, output, pro, epi);
}

}  // namespace nf
