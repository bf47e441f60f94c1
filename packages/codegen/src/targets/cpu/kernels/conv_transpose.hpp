/* ConvTranspose by phases: the outputs (oh, ow) of equal (oh mod sh, ow mod sw) are one convolution of stride 1 with those
 * taps for which (oh + pt - kh * dh) is a multiple of sh, and likewise for ow. Nothing is scattered, no zero is multiplied.
 *
 * dims as in conv.hpp; H, W, Cin are the input's, OH, OW, Cout the output's, pt and pl the pads at the beginning.
 * Weights are "f32.panel16" as in conv.hpp: [groups][ceil(Cout / groups / 16)][KH * KW][Cin / groups][16]. `block`,
 * `depth` and `panels` as in conv.hpp.
 *
 *   items    = sh * sw * groups * ceil(panels / block) * ceil(N * ceil(OH / sh) * ceil(OW / sw) / 24)
 *   scratch  as in conv.hpp
 */
#pragma once
#include "conv.hpp"

namespace nf {

/* An epilogue seen from a phase: pixels of the phase become pixels of the output. */
struct Phase {
  Finish finish;
  const void* epilogue;
  NfInt sh, sw, ph, pw;
};
NF_NOINLINE void finish_phase(const void* phase, const Tile& tile) {
  const Phase& f = *(const Phase*)phase;
  Pixel pixel[max_rows];
  for (int i = 0; i < tile.rows; ++i) {
    const Pixel& p = tile.pixels[i];
    pixel[i] = {p.n, p.oh * f.sh + f.ph, p.ow * f.sw + f.pw};
  }
  Tile t = tile;
  t.pixels = pixel;
  f.finish(f.epilogue, t);
}

NF_NOINLINE int conv_transpose_launch(const NfLaunch* launch, const ConvArgs& a, const Hooks& hooks) {
  const NfInt panels = ceil_div(a.Cout / a.groups, panel_width), block = panels_per_item(a.KH * a.KW * (a.Cin / a.groups), panels);
  const NfInt columns = a.groups * ceil_div(panels, block);
  const NfInt per_phase = columns * ceil_div(a.N * ceil_div(a.OH, a.sh) * ceil_div(a.OW, a.sw), rows_per_item);
  for (NfInt begin = launch->begin, next; begin < launch->end; begin = next) {
    const NfInt phase = begin / per_phase, ph = phase / a.sw, pw = phase % a.sw;
    next = (phase + 1) * per_phase < launch->end ? (phase + 1) * per_phase : launch->end;
    Tap* taps = (Tap*)launch->scratch;
    Taps t{taps, 0, 0, 0, 0, 0, false};
    for (NfInt y = 0; y < a.KH; ++y)
      for (NfInt x = 0; x < a.KW; ++x) {
        NfInt dy = ph + a.pt - y * a.dh, dx = pw + a.pl - x * a.dw;
        if (dy % a.sh || dx % a.sw) continue;
        Tap tap{(int)(dy / a.sh), (int)(dx / a.sw), y * a.KW + x};
        if (t.count == 0) t.ymin = t.ymax = tap.y, t.xmin = t.xmax = tap.x;
        if (tap.y < t.ymin) t.ymin = tap.y;
        if (tap.y > t.ymax) t.ymax = tap.y;
        if (tap.x < t.xmin) t.xmin = tap.x;
        if (tap.x > t.xmax) t.xmax = tap.x;
        taps[t.count++] = tap;
      }
    ConvArgs p = a;
    p.OH = ceil_div(a.OH - ph, a.sh), p.OW = ceil_div(a.OW - pw, a.sw);
    p.sh = p.sw = 1;
    const Phase f{hooks.finish, hooks.epilogue, a.sh, a.sw, ph, pw};
    const NfInt items = columns * ceil_div(p.N * p.OH * p.OW, rows_per_item), last = next - phase * per_phase;
    conv_items(p, t, begin - phase * per_phase, last < items ? last : items, (char*)(taps + t.count), {hooks.fill, hooks.prologue, finish_phase, &f});
  }
  return 0;
}

template <class Pro, class Epi> NF_INLINE int conv_transpose(const NfLaunch* launch, const ConvArgs& a, const Pro& pro, const Epi& epi) {
  return conv_transpose_launch(launch, a, hooks_of(pro, epi));
}

}  // namespace nf
