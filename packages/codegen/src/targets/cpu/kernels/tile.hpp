/* The matrix tile that convolution and matrix multiplication share.
 *
 * A tile is ROWS rows of A (output pixels) times PANELS panels of 16 columns of B (output channels). Rows of A are
 * pointers into the input itself: element k of a row is only ever broadcast, so any stride will do. Products are summed
 * in the order of the runs, then k ascending, one accumulator per output element, started at 0: the result depends
 * neither on the tile's shape nor on what else is in it.
 *
 * The accumulators go to memory once and the epilogue reads them there: one compiled copy of the inner loops serves
 * every kernel of an image, whatever its epilogue, for about 2 % of the time of a tile with 100 products per element.
 */
#pragma once
#include "nf.hpp"

namespace nf {

constexpr int panel_width = 16;
constexpr int panel_vectors = panel_width / lanes<F32>;

#if NF_LANES == 16
constexpr int max_panels = 4;
constexpr int tile_rows_of(int panels) { return panels > 2 ? 6 : 8; }
#elif NF_LANES == 8
constexpr int max_panels = 1;
constexpr int tile_rows_of(int) { return 6; }
#else
constexpr int max_panels = 1;
constexpr int tile_rows_of(int) { return 3; }
#endif
constexpr int max_rows = tile_rows_of(1);

/* `count` consecutive products per row (Operands::count): A from `a`, B from `b`, offsets in bytes from row and panel. */
struct Run { NfInt a, b; };

struct Operands {
  const Run* runs;
  NfInt run_count;
  NfInt count;        /* products per run, >= 0 */
  NfInt step;         /* bytes from one element of A to the next within a run */
  NfInt panel_stride; /* bytes from a panel of B to the next */
};

template <int ROWS, int PANELS>
NF_NOINLINE void accumulate(float* __restrict out, const char* const* rows, const char* b, const Operands& op) {
  constexpr int V = PANELS * panel_vectors;
  F32 acc[ROWS][V];
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 16
    for (int j = 0; j < V; ++j) acc[i][j] = F32{};
  const char* row[ROWS];
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; ++i) row[i] = rows[i];
  const NfInt step = op.step, ps = op.panel_stride;
  const Run* const end = op.runs + op.run_count;
  for (const Run* run = op.runs; run != end; ++run) {
    NfInt a = run->a;
    const char* p = b + run->b;
    for (NfInt n = op.count; n > 0; --n) {
      F32 w[V];
#pragma GCC unroll 16
      for (int j = 0; j < V; ++j)
        w[j] = *(const F32Unaligned*)(p + (j / panel_vectors) * ps + (j % panel_vectors) * (NfInt)sizeof(F32));
#pragma GCC unroll 16
      for (int i = 0; i < ROWS; ++i) {
        F32 x = splat<F32>(*(const float*)(row[i] + a));
#pragma GCC unroll 16
        for (int j = 0; j < V; ++j) acc[i][j] = fma(x, w[j], acc[i][j]);
      }
      a += step;
      p += panel_width * sizeof(float);
      asm("" : "+r"(a), "+r"(p)); /* one shared index; otherwise every row pointer is incremented */
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 16
    for (int j = 0; j < V; ++j) *(F32*)(out + (i * V + j) * lanes<F32>) = acc[i][j];
}

/* Runs the tile of `panels` panels. All max_rows pointers are valid; only the first `row_count` results are wanted. */
NF_INLINE void accumulate_tile(int panels, int row_count, float* out, const char* const* rows, const char* b, const Operands& op) {
#if NF_LANES == 16
  switch (panels + (row_count == 1 ? 4 : 0)) {
    case 1: return accumulate<tile_rows_of(1), 1>(out, rows, b, op);
    case 2: return accumulate<tile_rows_of(2), 2>(out, rows, b, op);
    case 3: return accumulate<tile_rows_of(3), 3>(out, rows, b, op);
    case 4: return accumulate<tile_rows_of(4), 4>(out, rows, b, op);
    case 5: return accumulate<1, 1>(out, rows, b, op);
    case 6: return accumulate<1, 2>(out, rows, b, op);
    case 7: return accumulate<1, 3>(out, rows, b, op);
    case 8: return accumulate<1, 4>(out, rows, b, op);
  }
#else
  (void)panels;
  if (row_count == 1) return accumulate<1, 1>(out, rows, b, op);
  accumulate<tile_rows_of(1), 1>(out, rows, b, op);
#endif
}

/* Where an output element stands: convolution (n, oh, ow), matrix product (batch, m, 0). */
struct Pixel { NfInt n, oh, ow; };

/* A finished tile: `rows` rows of accumulators, `pitch` floats apart, for output columns [c, c + width) of `pixels`. */
struct Tile {
  const float* acc;
  NfInt pitch;
  int rows;
  const Pixel* pixels;
  NfInt c, width;
  float* o; /* the output's first element; its strides follow */
  NfInt on, oh, ow, oc;
};

/* Epilogue and store of a tile. This function and `Fill` of conv.hpp are all that is compiled per kernel. */
typedef void (*Finish)(const void* epilogue, const Tile& tile);

template <class Epi> NF_INLINE auto row_of(const Epi& epi, const Pixel& p) {
  if constexpr (requires { epi.row(p.n, p.oh, p.ow); }) return epi.row(p.n, p.oh, p.ow);
  else return epi.row(p.n, p.oh);
}

template <class Epi> NF_NOINLINE void finish_tile(const void* epilogue, const Tile& tile) {
  constexpr int L = lanes<F32>;
  const Epi epi = *(const Epi*)epilogue;
  const Tile t = tile;
  const NfInt full = t.oc == 1 ? t.width & -L : 0;
  for (int i = 0; i < t.rows; ++i) {
    const Pixel& p = t.pixels[i];
    const auto row = row_of(epi, p);
    const float* acc = t.acc + i * t.pitch;
    float* o = t.o + p.n * t.on + p.oh * t.oh + p.ow * t.ow + t.c * t.oc;
    NfInt j = 0;
    for (; j < full; j += L) st(o + j, epi.template apply<F32, All>(ld<F32>(acc + j, All{}), row, t.c + j, All{}), All{});
    for (; j < t.width; j += L) {
      Some m(t.width - j < L ? t.width - j : L);
      F32 v = epi.template apply<F32, Some>(ld<F32>(acc + j, All{}), row, t.c + j, m);
      if (t.oc == 1) st(o + j, v, m);
      else sts(o + j * t.oc, t.oc, v, m);
    }
  }
}

/* The panels of a block are cut into nearly equal tiles: of `panels`, tile t of ceil(panels / max_panels). */
struct Split {
  NfInt tiles, size, rest;
  __attribute__((always_inline)) explicit Split(NfInt panels)
      : tiles((panels + max_panels - 1) / max_panels), size(panels / tiles), rest(panels % tiles) {}
  __attribute__((always_inline)) int operator[](NfInt t) const { return (int)(size + (t < rest)); }
};

/* How a product of `rows` x `depth` x `panels` is cut into work items. */
constexpr NfInt rows_per_item = 24;
NF_INLINE NfInt panels_per_item(NfInt depth, NfInt panels) {
  NfInt p = depth <= 256 ? 16 : depth <= 512 ? 8 : 4; /* at most 256 KiB of B for a depth up to 1024: L2 */
  return p < panels ? p : panels;
}

}  // namespace nf
