/* C = A B where B is not a constant: every operand has any element strides and up to four batch dimensions (stride 0
 * broadcasts). A work item packs the panels of B that it needs into scratch and keeps them while the following items use
 * the same ones. Per output element products are summed with k ascending, as by conv.hpp with constant weights.
 *
 *   dims:    B0 B1 B2 B3  M N K  am ak bk bn cm cn  a0 a1 a2 a3  b0 b1 b2 b3  c0 c1 c2 c3              (25 values)
 *            (a0 ... are the batch strides of A, B and C; B0 is the outermost batch dimension)
 *   panels   = ceil(N / 16)
 *   block    = min(panels, K <= 256 ? 16 : K <= 512 ? 8 : 4)
 *   items    = B0 * B1 * B2 * B3 * ceil(panels / block) * ceil(M / 96)
 *   scratch  = 64 * K * block                                                                          (bytes)
 *
 * Epilogue: `auto row(NfInt batch, NfInt m) const`, batch flattened, and
 *   `template <class V, class M> V apply(V acc, const Row&, NfInt n, M) const` for columns n, n + 1, ...
 */
#pragma once
#include "tile.hpp"

namespace nf {

struct GemmArgs {
  NfInt batch[4], M, N, K, am, ak, bk, bn, cm, cn, a_batch[4], b_batch[4], c_batch[4];
  const float* a;
  const float* b;
  float* c;
};

NF_INLINE GemmArgs gemm_args(const NfInt* d, const void* a, const void* b, void* c) {
  return {{d[0], d[1], d[2], d[3]}, d[4], d[5], d[6], d[7], d[8], d[9], d[10], d[11], d[12],
          {d[13], d[14], d[15], d[16]}, {d[17], d[18], d[19], d[20]}, {d[21], d[22], d[23], d[24]},
          (const float*)a, (const float*)b, (float*)c};
}

constexpr NfInt gemm_rows_per_item = 96;

/* Columns [n, n + 16) of B as one panel [K][16], zero padded. */
NF_NOINLINE void pack_panel(float* out, const float* b, NfInt K, NfInt bk, NfInt bn, NfInt columns) {
  constexpr int L = lanes<F32>;
  if (columns > panel_width) columns = panel_width;
  if (bn == 1) {
    for (int j = 0; j < panel_width; j += L) {
      NfInt n = columns - j < 0 ? 0 : columns - j < L ? columns - j : L;
      if (n == L) for (NfInt k = 0; k < K; ++k) st(out + k * panel_width + j, ld<F32>(b + k * bk + j, All{}), All{});
      else {
        Some m(n);
        for (NfInt k = 0; k < K; ++k) st(out + k * panel_width + j, ld<F32>(b + k * bk + j, m), All{});
      }
    }
    return;
  }
  if (columns == panel_width) {
    for (NfInt k = 0; k < K; ++k)
      for (int j = 0; j < panel_width; j += L) st(out + k * panel_width + j, lds<F32>(b + k * bk + j * bn, bn, All{}), All{});
    return;
  }
  for (NfInt k = 0; k < K; ++k)
    for (int j = 0; j < panel_width; ++j) out[k * panel_width + j] = j < columns ? b[k * bk + j * bn] : 0;
}

NF_NOINLINE int gemm_launch(const NfLaunch* launch, const GemmArgs& args, Finish finish, const void* epilogue) {
  const GemmArgs g = args;
  const NfInt panels = ceil_div(g.N, panel_width), block = panels_per_item(g.K, panels), blocks = ceil_div(panels, block);
  const NfInt chunks = ceil_div(g.M, gemm_rows_per_item), panel_floats = g.K * panel_width;
  float* packed = (float*)launch->scratch;
  const Run run{0, 0};
  const Operands op{&run, 1, g.K, g.ak * 4, panel_floats * 4};
  const float* packed_from = nullptr; /* first element of B that `packed` holds, and how many panels */
  NfInt packed_count = 0;
  alignas(64) float acc[max_rows * max_panels * panel_width];
  Pixel pixel[max_rows];
  const char* row[max_rows];
  Tile tile{acc, 0, 0, pixel, 0, 0, nullptr, 0, g.cm, 0, g.cn};
  for (NfInt item = launch->begin; item < launch->end; ++item) {
    const NfInt chunk = item % chunks, pb = item / chunks % blocks, batch = item / chunks / blocks;
    const float *a = g.a, *b = g.b;
    float* c = g.c;
    for (NfInt i = 3, rest = batch; i >= 0; --i) {
      NfInt at = rest % g.batch[i];
      rest /= g.batch[i];
      a += at * g.a_batch[i], b += at * g.b_batch[i], c += at * g.c_batch[i];
    }
    const NfInt first = pb * block, here = first + block < panels ? block : panels - first;
    b += first * panel_width * g.bn;
    if (b != packed_from || here != packed_count)
      for (NfInt p = 0; p < here; ++p)
        pack_panel(packed + p * panel_floats, b + p * panel_width * g.bn, g.K, g.bk, g.bn, g.N - (first + p) * panel_width);
    packed_from = b, packed_count = here;
    const Split split(here);
    const int rows = tile_rows_of(split[0]);
    NfInt m = chunk * gemm_rows_per_item;
    const NfInt m_end = m + gemm_rows_per_item < g.M ? m + gemm_rows_per_item : g.M;
    for (; m < m_end; m += rows) {
      const int valid = m + rows < m_end ? rows : (int)(m_end - m);
      for (int i = 0; i < max_rows; ++i) {
        const NfInt at = m + (i < valid ? i : valid - 1);
        pixel[i] = {batch, at, 0}, row[i] = (const char*)(a + at * g.am);
      }
      NfInt panel = 0;
      for (NfInt s = 0; s < split.tiles; ++s) {
        const int np = split[s];
        accumulate_tile(np, valid, acc, row, (const char*)(packed + panel * panel_floats), op);
        tile.pitch = np * panel_width, tile.rows = valid, tile.o = c;
        tile.c = (first + panel) * panel_width, tile.width = g.N - tile.c < tile.pitch ? g.N - tile.c : tile.pitch;
        finish(epilogue, tile);
        panel += np;
      }
    }
  }
  return 0;
}

template <class Epi> NF_INLINE int gemm(const NfLaunch* launch, const GemmArgs& g, const Epi& epi) {
  return gemm_launch(launch, g, finish_tile<Epi>, &epi);
}

}  // namespace nf
