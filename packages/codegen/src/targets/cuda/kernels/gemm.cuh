/* C = A B: any element strides, up to four batch dimensions (stride 0 broadcasts), every dtype and tile of tile.cuh.
 *
 *   nf::gemm<Config, A major, B major>(nf::gemm_args(d, a, b), prologue, epilogue)
 *
 *   d        B0 B1 B2 B3  M N K  am ak bk bn cm cn  a0 a1 a2 a3  b0 b1 b2 b3  c0 c1 c2 c3              (25 values)
 *            (a0 ... are the batch strides of A, B and C; B0 is the outermost batch dimension; all in elements)
 *   a, b     pointers to the first elements, of Config's storage type
 *   items    = B0 * B1 * B2 * B3 * ceil(M / Config::rows) * ceil(N / Config::columns)                   (blocks)
 *   threads  = Config::threads,  scratch = Config::shared_bytes
 *
 * A major: Major::K where ak = 1 (or nothing is 1), Major::MN where am = 1; B major: Major::K where bk = 1, Major::MN where bn = 1.
 * Either is right for all strides. Tiles are copied 16 bytes at a time where the contiguous stride is 1 and the pointer and the other
 * strides are multiples of 16 bytes, 4 bytes at a time where they are multiples of 4 (float32: always), else by elements.
 *
 * Prologue: NoPro, or `auto row(Index batch, Index m) const` and `template <int V> void load(float (&out)[V], const Row&, Index k) const`,
 *   which gives A[batch, m, k ... k + V - 1]; V is 16 bytes of the storage type where they are in bounds, else 1. A and its strides are not read.
 * Epilogue: `auto row(Index batch, Index m) const`, batch flattened, and
 *   `template <int V> void store(const Acc (&acc)[V], const Row&, Index n) const` for columns n ... n + V - 1, all of them in bounds;
 *   V is Epi::columns, by default 8 (16-bit storage) or 4; at the right edge 1. Acc is int for Int8, else float.
 */
#pragma once
#include "tile.cuh"

namespace nf {

struct GemmArgs {
  Index batch[4], M, N, K, am, ak, bk, bn, a_batch[4], b_batch[4];
  const void* a;
  const void* b;
};

NF_DEVICE GemmArgs gemm_args(const NfInt* d, const void* a, const void* b) {
  GemmArgs g{{}, (Index)d[4], (Index)d[5], (Index)d[6], (Index)d[7], (Index)d[8], (Index)d[9], (Index)d[10], {}, {}, a, b};
  NF_UNROLL for (int i = 0; i < 4; ++i) {
    g.batch[i] = (Index)d[i];
    g.a_batch[i] = (Index)d[13 + i];
    g.b_batch[i] = (Index)d[17 + i];
  }
  return g;
}

NF_DEVICE Index clamp_index(Index x, Index most) { return x < 0 ? 0 : x < most ? x : most; }

/* A chunk of ELEMENTS, of which the first `valid` come from memory `stride` apart and the others are 0. */
template <class T, int ELEMENTS> NF_DEVICE Vec<T, ELEMENTS> gather_chunk(const T* from, Index stride, Index valid) {
  Vec<T, ELEMENTS> v;
  NF_UNROLL for (int e = 0; e < ELEMENTS; ++e) v[e] = e < valid ? from[e * stride] : T(0);
  return v;
}

/* Without asynchronous copies chunks wait in registers (16 of a chunk's bytes one by one at the edges would take too many). */
template <class T> constexpr bool stages_in_registers = NF_ARCH < 800 && sizeof(T) > 1;

/* A thread's chunks, LINES lines apart, to the tile. */
template <class Layout, int LINES, class T, int PER, int TURNS> NF_DEVICE void put_chunks(char* tile, const Vec<T, PER> (&values)[TURNS]) {
  NF_UNROLL for (int i = 0; i < TURNS; ++i)
    st<T, PER>((T*)(tile + Layout::chunk(tid() / Layout::chunks + i * LINES, tid() % Layout::chunks)), values[i]);
}

/* Element strides of a product, one after the other. */
struct Linear {
  Index stride;
  NF_DEVICE Index operator()(Index k) const { return k * stride; }
};

/* An operand in memory: rows `row_stride` apart, and products where `place` says. `base` is the tile's first row. A thread copies one
 * chunk (of the same place in its line) per turn. */
template <class E, int ROWS, int BK, Major MAJOR, int THREADS, class Place = Linear> struct MatrixLoader {
  using T = typename E::Storage;
  static constexpr Major major = shared_major<E, MAJOR>;
  using Layout = TileLayout<E, ROWS, BK, major>;
  static constexpr int per = Layout::per_chunk, lines = THREADS / Layout::chunks, turns = Layout::lines / lines;
  static_assert(lines * Layout::chunks == THREADS && turns * lines == Layout::lines);
  const T* base;
  Index row_stride;
  Place place;
  Index line = tid() / Layout::chunks, first = tid() % Layout::chunks * per; /* of the thread's first chunk; along k they grow */
  Index rows, K;
  Index step; /* from one element of a chunk to the next */
  int width;  /* bytes that may be copied at once */
  static constexpr bool staged = stages_in_registers<T> && ROWS <= 128; /* a wider tile's accumulators leave no room */
  Vec<T, per> values[staged ? turns : 1];

  NF_DEVICE MatrixLoader(const T* base, Index row_stride, Index k_stride, Index rows, Index K, Place place)
      : base(base), row_stride(row_stride), place(place), rows(rows), K(K), step(major == Major::K ? k_stride : row_stride) {
    const Index other = major == Major::K ? row_stride : k_stride;
    const unsigned long long at = (unsigned long long)base | (unsigned long long)((long long)other * (long long)sizeof(T));
    width = sizeof(T) == 4 ? 4 : (int)sizeof(T);
    if (step == 1 && at % 4 == 0) width = at % 16 == 0 ? 16 : 4;
  }

  NF_DEVICE void fetch(char* tile) {
    const int l = tid() / Layout::chunks, c = tid() % Layout::chunks;
    const Index row = major == Major::K ? line : first, k = major == Major::K ? first : line;
    const Index valid = clamp_index(major == Major::K ? K - k : rows - row, per), left = major == Major::K ? rows - line : K - line;
    if (width == 16) {
      const Index from = row * row_stride + (linear ? place(k) : 0), jump = major == Major::K ? lines * row_stride : place(lines);
      NF_UNROLL for (int i = 0; i < turns; ++i) {
        const bool inside = i * lines < left;
        const T* p = base + from + (linear ? i * jump : inside ? place(k + i * lines) : 0);
        if constexpr (staged) values[i] = inside && valid == per ? ld<T, per>(p) : gather_chunk<T, per>(p, 1, inside ? valid : 0);
        else cp_async<16>(tile + Layout::chunk(l + i * lines, c), p, inside ? (int)valid * (int)sizeof(T) : 0);
      }
    } else {
      NF_ROLLED for (int i = 0; i < turns; ++i) {
        const Index n = i * lines < left ? valid : 0;
        const T* p = base;
        if (n) p += (row + (major == Major::K ? i * lines : 0)) * row_stride + place(k + (major == Major::K ? 0 : i * lines));
        char* const to = tile + Layout::chunk(l + i * lines, c);
        if (width == 4) copy_words(to, p, n);
        else st<T, per>((T*)to, gather_chunk<T, per>(p, step, n));
      }
    }
    (major == Major::K ? first : line) += BK;
  }
  NF_DEVICE void store(char* tile) {
    if constexpr (staged)
      if (width == 16) put_chunks<Layout, lines>(tile, values);
  }

 private:
  static constexpr bool linear = __is_same(Place, Linear);
  static_assert(linear || major == Major::MN);
  NF_DEVICE void copy_words(char* to, const T* from, Index valid) const {
    constexpr int each = 4 / sizeof(T); /* elements */
    NF_UNROLL for (int w = 0; w < 4; ++w) {
      const int n = (int)clamp_index(valid - w * each, each);
      cp_async<4>(to + w * 4, from + (n ? w * each * step : 0), n * (int)sizeof(T));
    }
  }
};

/* An operand that is computed: `row_of(m)` makes the prologue's row. Values wait in registers while products run. */
template <class E, int ROWS, int BK, int THREADS, class Pro, class RowOf> struct PrologueLoader {
  using T = typename E::Storage;
  using Layout = TileLayout<E, ROWS, BK, Major::K>;
  static constexpr int per = Layout::per_chunk, lines = THREADS / Layout::chunks, turns = Layout::lines / lines;
  static_assert(lines * Layout::chunks == THREADS && turns * lines == Layout::lines);
  const Pro& pro;
  const RowOf& row_of;
  Index rows, K, k0 = 0;
  Vec<T, per> values[turns];

  NF_DEVICE PrologueLoader(const Pro& pro, const RowOf& row_of, Index rows, Index K) : pro(pro), row_of(row_of), rows(rows), K(K) {}

  NF_DEVICE void fetch(char*) {
    NF_UNROLL for (int i = 0; i < turns; ++i) {
      const Index m = tid() / Layout::chunks + i * lines, k = k0 + tid() % Layout::chunks * per;
      values[i] = Vec<T, per>{};
      if (m >= rows) continue;
      const auto row = row_of(m);
      if (k + per <= K) {
        float x[per];
        pro.template load<per>(x, row, k);
        NF_UNROLL for (int e = 0; e < per; ++e) values[i][e] = E::encode(x[e]);
      } else {
        NF_UNROLL for (int e = 0; e < per; ++e) {
          float x[1] = {0};
          if (k + e < K) pro.template load<1>(x, row, k + e);
          values[i][e] = E::encode(x[0]);
        }
      }
    }
    k0 += BK;
  }
  NF_DEVICE void store(char* tile) {
    put_chunks<Layout, lines>(tile, values);
  }
};

template <class C, Major A, Major B, class Pro, class Epi> NF_DEVICE void gemm(const GemmArgs& g, const Pro& pro, const Epi& epi) {
  using E = typename C::Element;
  using T = typename C::Storage;
  const Index tiles_m = ceil_div_index(g.M, C::rows), tiles_n = ceil_div_index(g.N, C::columns);
  const Index batch = (Index)(block() / ((long long)tiles_m * tiles_n));
  const TilePlace place = place_tile((Index)(block() % ((long long)tiles_m * tiles_n)), tiles_m, tiles_n);
  const Index m0 = place.m * C::rows, n0 = place.n * C::columns;
  const T* a = (const T*)g.a + (long long)m0 * g.am;
  const T* b = (const T*)g.b + (long long)n0 * g.bn;
  Index rest = batch;
  NF_UNROLL for (int i = 3; i >= 0; --i) {
    const Index at = rest % g.batch[i];
    rest /= g.batch[i];
    a += (long long)at * g.a_batch[i], b += (long long)at * g.b_batch[i];
  }
  MatrixLoader<E, C::columns, C::depth, B, C::threads> right(b, g.bn, g.bk, g.N - n0, g.K, Linear{g.bk});
  const auto row = [&](Index m) { return epi.row(batch, m0 + m); };
  if constexpr (__is_same(Pro, NoPro)) {
    WarpTile<C, A, B> tile;
    MatrixLoader<E, C::rows, C::depth, A, C::threads> left(a, g.am, g.ak, g.M - m0, g.K, Linear{g.ak});
    multiply_tile<C>(tile, left, right, g.K);
    store_tile<C>(tile, g.M - m0, g.N - n0, n0, row, epi);
  } else {
    WarpTile<C, Major::K, B> tile;
    const auto row_of = [&](Index m) { return pro.row(batch, m0 + m); };
    PrologueLoader<E, C::rows, C::depth, C::threads, Pro, decltype(row_of)> left(pro, row_of, g.M - m0, g.K);
    multiply_tile<C>(tile, left, right, g.K);
    store_tile<C>(tile, g.M - m0, g.N - n0, n0, row, epi);
  }
}

}  // namespace nf
