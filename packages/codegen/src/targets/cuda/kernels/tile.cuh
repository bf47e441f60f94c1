/* The matrix tile that gemm.cuh and conv.cuh share: a block multiplies BM rows of A by BN columns of B, both brought to
 * shared memory BK products at a time by loaders, and hands rows of accumulators to the epilogue.
 *
 * Shared memory is a ring of STAGES stages, each one tile of A and one of B. A step waits for the stage it reads, then
 * starts the copies of the stage that everyone has just left: one barrier per step. Fragments are double buffered in
 * registers, so the first ones of a stage are read while the last products of the stage before run.
 *
 * Every accumulator starts at 0 and takes its products with k ascending: one by one (Simt: fma in float32), or in steps
 * of the tensor core (32 bytes of k). The result depends neither on the tile's shape nor on what else is in it.
 *
 * A loader has
 *   `void fetch(char* tile)`  starts bringing the next BK products (zeros outside of the operand)
 *   `void store(char* tile)`  puts down what fetch kept in registers
 */
#pragma once
#include "mma.cuh"
#include "scalars.cuh"

/* Before a loop that stays one: its body is long, or runs seldom. */
#if defined(NF_EMULATE)
#define NF_ROLLED
#else
#define NF_ROLLED _Pragma("unroll 1")
#endif

namespace nf {

/* A template's prologue where nothing is fused before it. */
struct NoPro {};

/* Elements of an operand, in memory and in shared memory. */
struct Float32 {
  using Storage = float;
  static NF_DEVICE float decode(float x) { return x; }
  static NF_DEVICE float encode(float x) { return x; }
};
struct Float16 {
  using Storage = unsigned short;
  static NF_DEVICE float decode(unsigned short x) { return decode_float16(x); }
  static NF_DEVICE unsigned short encode(float x) { return encode_float16(x); }
};
struct Bfloat16 {
  using Storage = unsigned short;
  static NF_DEVICE float decode(unsigned short x) { return decode_bfloat16(x); }
  static NF_DEVICE unsigned short encode(float x) { return encode_bfloat16(x); }
};
struct Int8 {
  using Storage = signed char;
  static NF_DEVICE signed char encode(float x) { return (signed char)(int)x; } /* prologues give whole numbers in range */
};

/* How products are summed. `step`: products per fragment. */
template <class E> struct TensorCore {
  using Element = E;
  using Acc = float;
  static constexpr int step = 32 / sizeof(typename E::Storage);
};
template <> struct TensorCore<Int8> {
  using Element = Int8;
  using Acc = int;
  static constexpr int step = 32;
};
template <class E> struct Simt {
  using Element = E;
  using Acc = float;
  static constexpr int step = 2;
};

/* The axis along which an operand's elements follow each other: the summed one (A row-major, B transposed), or its rows
 * (A transposed, B row-major). It picks the layout in shared memory; strides are free all the same. */
enum class Major { K, MN };

NF_DEVICE constexpr Index ceil_div_index(Index a, Index b) { return (a + b - 1) / b; }

/* A tile's shape. WARPS_M x WARPS_N warps share it; `threads` is the block size, `shared_bytes` its dynamic shared memory. */
template <class M, int BM, int BN, int BK, int WARPS_M, int WARPS_N, int STAGES> struct TileConfig {
  using Math = M;
  using Element = typename M::Element;
  using Storage = typename Element::Storage;
  using Acc = typename M::Acc;
  static constexpr int rows = BM, columns = BN, depth = BK, warps_n = WARPS_N, threads = 32 * WARPS_M * WARPS_N;
  static constexpr int stages = NF_ARCH < 800 ? 2 : STAGES; /* copies are not asynchronous before 8.0 */
  static constexpr int warp_rows = BM / WARPS_M, warp_columns = BN / WARPS_N;
  static constexpr int a_bytes = BM * BK * (int)sizeof(Storage), stage_bytes = (BM + BN) * BK * (int)sizeof(Storage);
  static constexpr int slab_pitch = warp_columns + 8, slab_bytes = 16 * slab_pitch * 4; /* per warp, for the epilogue */
  static constexpr int ring_bytes = stages * stage_bytes, slabs_bytes = WARPS_M * WARPS_N * slab_bytes;
  static constexpr int shared_bytes = ring_bytes > slabs_bytes ? ring_bytes : slabs_bytes;
  static constexpr int steps = BK / M::step;
  static_assert(steps >= 2 && steps % 2 == 0, "fragments are double buffered, and a step ends behind its first fragment");
  static_assert(warp_rows % 16 == 0 && warp_columns % 16 == 0 && STAGES >= 2);
};

/* name             = math, storage   BM  BN  BK warps stages    threads  shared bytes (7.5: two stages)  from capability
 * f16_128x256      = tensor fp16    128 256  32  2x4  4           256     98304                          8.0, gemm only
 * f16_128x128      = tensor fp16    128 128  32  2x4  3           256     49152  (32768)                 7.5
 * f16_128x64       = tensor fp16    128  64  32  2x2  4           128     49152  (24576)                 7.5
 * f16_64x64        = tensor fp16     64  64  64  2x2  3           128     49152  (32768)                 7.5
 * f16_32x64        = tensor fp16     32  64  64  1x4  4           128     49152  (24576)                 7.5
 * f16_16x64        = tensor fp16     16  64  64  1x4  4           128     40960  (20480)                 7.5
 * f16_16x32        = tensor fp16     16  32 128  1x2  4            64     49152  (24576)                 7.5
 * bf16_...         = as f16_...                                                                          8.0
 * tf32_128x128     = tensor fp32    128 128  16  2x4  3           256     49152                          8.0
 * tf32_128x64      = tensor fp32    128  64  16  2x2  4           128     49152                          8.0
 * tf32_64x64       = tensor fp32     64  64  32  2x2  3           128     49152                          8.0
 * tf32_16x64       = tensor fp32     16  64  32  1x4  4           128     40960                          8.0
 * s8_128x128       = tensor int8    128 128  64  2x4  3           256     49152  (32768)                 7.5
 * s8_64x64         = tensor int8     64  64 128  2x2  3           128     49152  (32768)                 7.5
 * s8_16x64         = tensor int8     16  64 128  1x4  4           128     40960  (20480)                 7.5
 * f32_128x128      = simt fp32      128 128  16  4x2  3           256     49152  (36864)                 7.5
 * f32_128x64       = simt fp32      128  64  16  4x1  3           128     36864  (24576)                 7.5
 * f32_64x64        = simt fp32       64  64  16  2x2  3           128     24576  (16384)                 7.5
 * f32_16x64        = simt fp32       16  64  32  1x2  4            64     40960  (20480)                 7.5
 * simt_f16_64x64   = simt fp16       64  64  32  2x2  3           128     24576  (16384)                 7.5
 * simt_f16_16x64   = simt fp16       16  64  32  1x2  4            64     20480  (10240)                 7.5
 * simt_bf16_...    = as simt_f16_...                                                                     7.5 */
using f16_128x256 = TileConfig<TensorCore<Float16>, 128, 256, 32, 2, 4, 4>;
using f16_128x128 = TileConfig<TensorCore<Float16>, 128, 128, 32, 2, 4, 3>;
using f16_128x64 = TileConfig<TensorCore<Float16>, 128, 64, 32, 2, 2, 4>;
using f16_64x64 = TileConfig<TensorCore<Float16>, 64, 64, 64, 2, 2, 3>;
using f16_32x64 = TileConfig<TensorCore<Float16>, 32, 64, 64, 1, 4, 4>;
using f16_16x64 = TileConfig<TensorCore<Float16>, 16, 64, 64, 1, 4, 4>;
using f16_16x32 = TileConfig<TensorCore<Float16>, 16, 32, 128, 1, 2, 4>;
using bf16_128x256 = TileConfig<TensorCore<Bfloat16>, 128, 256, 32, 2, 4, 4>;
using bf16_128x128 = TileConfig<TensorCore<Bfloat16>, 128, 128, 32, 2, 4, 3>;
using bf16_128x64 = TileConfig<TensorCore<Bfloat16>, 128, 64, 32, 2, 2, 4>;
using bf16_64x64 = TileConfig<TensorCore<Bfloat16>, 64, 64, 64, 2, 2, 3>;
using bf16_32x64 = TileConfig<TensorCore<Bfloat16>, 32, 64, 64, 1, 4, 4>;
using bf16_16x64 = TileConfig<TensorCore<Bfloat16>, 16, 64, 64, 1, 4, 4>;
using bf16_16x32 = TileConfig<TensorCore<Bfloat16>, 16, 32, 128, 1, 2, 4>;
using tf32_128x128 = TileConfig<TensorCore<Float32>, 128, 128, 16, 2, 4, 3>;
using tf32_128x64 = TileConfig<TensorCore<Float32>, 128, 64, 16, 2, 2, 4>;
using tf32_64x64 = TileConfig<TensorCore<Float32>, 64, 64, 32, 2, 2, 3>;
using tf32_16x64 = TileConfig<TensorCore<Float32>, 16, 64, 32, 1, 4, 4>;
using s8_128x128 = TileConfig<TensorCore<Int8>, 128, 128, 64, 2, 4, 3>;
using s8_64x64 = TileConfig<TensorCore<Int8>, 64, 64, 128, 2, 2, 3>;
using s8_16x64 = TileConfig<TensorCore<Int8>, 16, 64, 128, 1, 4, 4>;
using f32_128x128 = TileConfig<Simt<Float32>, 128, 128, 16, 4, 2, 3>;
using f32_128x64 = TileConfig<Simt<Float32>, 128, 64, 16, 4, 1, 3>;
using f32_64x64 = TileConfig<Simt<Float32>, 64, 64, 16, 2, 2, 3>;
using f32_16x64 = TileConfig<Simt<Float32>, 16, 64, 32, 1, 2, 4>;
using simt_f16_64x64 = TileConfig<Simt<Float16>, 64, 64, 32, 2, 2, 3>;
using simt_f16_16x64 = TileConfig<Simt<Float16>, 16, 64, 32, 1, 2, 4>;
using simt_bf16_64x64 = TileConfig<Simt<Bfloat16>, 64, 64, 32, 2, 2, 3>;
using simt_bf16_16x64 = TileConfig<Simt<Bfloat16>, 16, 64, 32, 1, 2, 4>;

/* One operand's tile in shared memory: lines of 16-byte chunks, a line being a row (Major::K) or a product (Major::MN).
 * Chunks are permuted within a line so that the eight chunks which an ldmatrix (or four lines' pairs of chunks, which the
 * tf32 fragments of Major::MN) read lie in different banks. With BK = 64 and 16 bits it is what wgmma reads: lines of 128 bytes, to
 * which longer ones are cut, one block of 64 lines after the other. */
template <class E, int ROWS, int BK, Major MAJOR> struct TileLayout {
  using T = typename E::Storage;
  static constexpr int per_chunk = 16 / sizeof(T);
  static constexpr int lines = MAJOR == Major::K ? ROWS : BK, chunks = (MAJOR == Major::K ? BK : ROWS) / per_chunk;
  static constexpr bool pairs = MAJOR == Major::MN && sizeof(T) == 4;
  static constexpr bool blocks = MAJOR == Major::MN && BK == 64 && chunks > 8;
  static_assert(chunks >= 2 && (chunks & (chunks - 1)) == 0);
  static NF_DEVICE int chunk(int line, int chunk) {
    if constexpr (blocks) return (chunk / 8 * lines + line) * 128 + (chunk % 8 ^ line % 8) * 16;
    const int row = chunks < 8 ? line / (8 / (chunks < 8 ? chunks : 8)) : line; /* lines of 128 bytes */
    const int mask = chunks < 8 ? chunks - 1 : 7;
    return (line * chunks + (chunk ^ ((pairs ? 2 * row : row) & mask))) * 16;
  }
  static NF_DEVICE int element(int line, int at) {
    return chunk(line, at / per_chunk) + at % per_chunk * (int)sizeof(T);
  }
};

/* Bytes have no transposing fragment loads: they lie along k whatever the operand's order is. */
template <class E, Major MAJOR> constexpr Major shared_major = sizeof(typename E::Storage) == 1 ? Major::K : MAJOR;

/* What one warp computes of a block's tile: `load` reads the fragments of a step, `multiply` adds their products, `put`
 * writes 16 rows of accumulators to the warp's slab. */
template <class C, Major A, Major B, class Math = typename C::Math> struct WarpTile;

template <class C, Major A, Major B, class E> struct WarpTile<C, A, B, TensorCore<E>> {
  using ALayout = TileLayout<E, C::rows, C::depth, shared_major<E, A>>;
  using BLayout = TileLayout<E, C::columns, C::depth, shared_major<E, B>>;
  using T = typename E::Storage;
  static constexpr int MI = C::warp_rows / 16, NI = C::warp_columns / 8;
  const int row0 = warp() / C::warps_n * C::warp_rows, column0 = warp() % C::warps_n * C::warp_columns;
  typename C::Acc acc[MI][NI][4] = {};
  unsigned a[2][MI][4], b[2][NI][2];

  NF_DEVICE void load(int buffer, int step, const char* at, const char* bt) {
    const int l = lane();
    NF_UNROLL for (int i = 0; i < MI; ++i) {
      const int row = row0 + i * 16;
      if constexpr (shared_major<E, A> == Major::K)
        ldmatrix_x4(a[buffer][i], at + ALayout::chunk(row + l % 16, step * 2 + l / 16));
      else if constexpr (sizeof(T) == 2)
        ldmatrix_x4_trans(a[buffer][i], at + ALayout::chunk(step * 16 + l / 16 * 8 + l % 8, row / 8 + l / 8 % 2));
      else {
        NF_UNROLL for (int r = 0; r < 4; ++r)
          a[buffer][i][r] = word(at + ALayout::element(step * 8 + l % 4 + r / 2 * 4, row + l / 4 + r % 2 * 8));
      }
    }
    NF_UNROLL for (int j = 0; j < NI; j += 2) {
      const int column = column0 + j * 8;
      unsigned r[4];
      if constexpr (shared_major<E, B> == Major::K)
        ldmatrix_x4(r, bt + BLayout::chunk(column + l / 16 * 8 + l % 8, step * 2 + l / 8 % 2));
      else if constexpr (sizeof(T) == 2)
        ldmatrix_x4_trans(r, bt + BLayout::chunk(step * 16 + l % 16, column / 8 + l / 16));
      else {
        NF_UNROLL for (int i = 0; i < 4; ++i)
          r[i] = word(bt + BLayout::element(step * 8 + l % 4 + i % 2 * 4, column + l / 4 + i / 2 * 8));
      }
      NF_UNROLL for (int i = 0; i < 4; ++i) b[buffer][j + i / 2][i % 2] = r[i];
    }
    if constexpr (sizeof(T) == 4) {
      NF_UNROLL for (int i = 0; i < MI; ++i)
        NF_UNROLL for (int r = 0; r < 4; ++r) a[buffer][i][r] = to_tf32(bits<float>(a[buffer][i][r]));
      NF_UNROLL for (int j = 0; j < NI; ++j)
        NF_UNROLL for (int r = 0; r < 2; ++r) b[buffer][j][r] = to_tf32(bits<float>(b[buffer][j][r]));
    }
  }
  NF_DEVICE void multiply(int buffer) {
    NF_UNROLL for (int i = 0; i < MI; ++i)
      NF_UNROLL for (int j = 0; j < NI; ++j) {
        if constexpr (__is_same(E, Float16)) mma_f16(acc[i][j], a[buffer][i], b[buffer][j]);
        else if constexpr (__is_same(E, Bfloat16)) mma_bf16(acc[i][j], a[buffer][i], b[buffer][j]);
        else if constexpr (__is_same(E, Float32)) mma_tf32(acc[i][j], a[buffer][i], b[buffer][j]);
        else mma_s8(acc[i][j], a[buffer][i], b[buffer][j]);
      }
  }
  NF_DEVICE void put(int slab, typename C::Acc* out) const {
    const int row = lane() / 4, column = lane() % 4 * 2;
    NF_UNROLL for (int j = 0; j < NI; ++j)
      NF_UNROLL for (int half = 0; half < 2; ++half)
        st<typename C::Acc, 2>(out + (row + half * 8) * C::slab_pitch + j * 8 + column, {{acc[slab][j][half * 2], acc[slab][j][half * 2 + 1]}});
  }

 private:
  static NF_DEVICE unsigned word(const char* at) { return *(const unsigned*)at; }
};

/* 4 x 8 lanes. A thread's rows and columns are in fours for Major::MN (16-byte reads along the line), else apart by the number of lanes
 * (neighbouring lanes read neighbouring lines). */
template <class C, Major A, Major B, class E> struct WarpTile<C, A, B, Simt<E>> {
  using ALayout = TileLayout<E, C::rows, C::depth, A>;
  using BLayout = TileLayout<E, C::columns, C::depth, B>;
  using T = typename E::Storage;
  static constexpr int MI = C::warp_rows / 4, NI = C::warp_columns / 8;
  static_assert(NI % 4 == 0);
  const int row0 = warp() / C::warps_n * C::warp_rows, column0 = warp() % C::warps_n * C::warp_columns;
  float acc[MI][NI] = {};
  float a[2][2][MI], b[2][2][NI]; /* [buffer][product][row] */

  template <Major MAJOR> static NF_DEVICE int place(int i, int lane, int lanes) {
    return MAJOR == Major::K ? i * lanes + lane : i / 4 * 4 * lanes + lane * 4 + i % 4;
  }
  template <Major MAJOR, class Layout, int COUNT>
  static NF_DEVICE void gather(float (&out)[2][COUNT], const char* tile, int step, int first, int lane, int lanes) {
    if constexpr (MAJOR == Major::K) {
      NF_UNROLL for (int i = 0; i < COUNT; ++i) {
        const Vec<T, 2> v = ld<T, 2>((const T*)(tile + Layout::element(first + place<MAJOR>(i, lane, lanes), step * 2)));
        NF_UNROLL for (int k = 0; k < 2; ++k) out[k][i] = E::decode(v[k]);
      }
    } else {
      NF_UNROLL for (int k = 0; k < 2; ++k)
        NF_UNROLL for (int i = 0; i < COUNT; i += 4) {
          const Vec<T, 4> v = ld<T, 4>((const T*)(tile + Layout::element(step * 2 + k, first + place<MAJOR>(i, lane, lanes))));
          NF_UNROLL for (int j = 0; j < 4; ++j) out[k][i + j] = E::decode(v[j]);
        }
    }
  }
  NF_DEVICE void load(int buffer, int step, const char* at, const char* bt) {
    gather<A, ALayout>(a[buffer], at, step, row0, lane() / 8, 4);
    gather<B, BLayout>(b[buffer], bt, step, column0, lane() % 8, 8);
  }
  NF_DEVICE void multiply(int buffer) {
    NF_UNROLL for (int k = 0; k < 2; ++k)
      NF_UNROLL for (int i = 0; i < MI; ++i)
        NF_UNROLL for (int j = 0; j < NI; ++j) acc[i][j] = fma(a[buffer][k][i], b[buffer][k][j], acc[i][j]);
  }
  NF_DEVICE void put(int slab, float* out) const {
    NF_UNROLL for (int i = 0; i < 4; ++i)
      NF_UNROLL for (int j = 0; j < NI; ++j)
        out[place<A>(i, lane() / 8, 4) * C::slab_pitch + place<B>(j, lane() % 8, 8)] = acc[slab * 4 + i][j];
  }
};

/* Sums the products [0, K) of the block's tile. While s < 0 the ring fills; then step s multiplies stage s and fetches stage s + STAGES - 1. */
template <class C, class Tile, class ALoader, class BLoader> NF_DEVICE void multiply_tile(Tile& tile, ALoader& a, BLoader& b, Index K) {
  constexpr int S = C::stages;
  char* const ring = shared<char>();
  const Index count = ceil_div_index(K, C::depth);
  const auto after = [](int stage) { return stage + 1 == S ? 0 : stage + 1; };
  int stage = 0;
  NF_ROLLED for (Index s = 1 - S; s < count; ++s) {
    const bool fetch = s + S - 1 < count;
    char* const to = ring + stage * C::stage_bytes;
    if (fetch) a.fetch(to), b.fetch(to + C::a_bytes);
    cp_async_commit();
    stage = after(stage); /* that of step s */
    if (s >= 0) {
      const char* const from = ring + stage * C::stage_bytes;
      NF_UNROLL for (int step = 0; step < C::steps - 1; ++step) {
        tile.load((step + 1) % 2, step + 1, from, from + C::a_bytes);
        tile.multiply(step % 2);
      }
    }
    if (fetch) a.store(to), b.store(to + C::a_bytes);
    if (s >= -1 && s + 1 < count) {
      cp_async_wait<S - 2>();
      sync(); /* the next stage is there; and everyone holds this one's last fragments: it may be overwritten */
      const char* const next = ring + after(stage) * C::stage_bytes;
      tile.load(0, 0, next, next + C::a_bytes);
    }
    if (s >= 0) tile.multiply(1);
  }
}

/* Columns of one call of an epilogue: `Epi::columns` where it says so, else 8 for 16-bit operands and 4 for others. */
template <class Epi, class E> NF_DEVICE constexpr int store_columns() {
  if constexpr (requires { Epi::columns; }) return Epi::columns;
  else return sizeof(typename E::Storage) == 2 ? 8 : 4;
}

/* Hands the tile to the epilogue: `rows` and `columns` are what is left of the result from the tile's first element on, `row_of` makes
 * the epilogue's row from a row of the tile, `column` is the number of the tile's first column. A warp turns 16 rows of
 * accumulators at a time through its slab of the ring, which nobody reads any more, so that neighbouring lanes store neighbouring columns. */
template <class C, class Tile, class RowOf, class Epi>
NF_DEVICE void store_slabs(const Tile& tile, Index rows, Index columns, Index column, const RowOf& row_of, const Epi& epi) {
  using Acc = typename C::Acc;
  constexpr int V = store_columns<Epi, typename C::Element>(), per_row = C::warp_columns / V;
  Acc* const slab = (Acc*)(shared<char>() + warp() * C::slab_bytes);
  NF_ROLLED for (int s = 0; s < C::warp_rows / 16; ++s) { /* one copy of the epilogue, whose code may be long */
    if (s) sync_warp();
    NF_UNROLL for (int t = 0; t < C::warp_rows / 16; ++t)
      if (t == s) tile.put(t, slab);
    sync_warp();
    NF_ROLLED for (int i = lane(); i < 16 * per_row; i += 32) {
      const int r = i / per_row, c = i % per_row * V;
      const Index m = tile.row0 + s * 16 + r, n = tile.column0 + c;
      if (m >= rows) continue;
      const Acc* from = slab + r * C::slab_pitch + c;
      const auto row = row_of(m);
      if (n + V <= columns) {
        Acc acc[V];
        if constexpr (V % 4 == 0) {
          NF_UNROLL for (int v = 0; v < V; v += 4) {
            const Vec<Acc, 4> four = ld<Acc, 4>(from + v);
            NF_UNROLL for (int j = 0; j < 4; ++j) acc[v + j] = four[j];
          }
        } else
          NF_UNROLL for (int v = 0; v < V; ++v) acc[v] = from[v];
        epi.template store<V>(acc, row, column + n);
      } else
        NF_ROLLED for (Index j = n; j < columns; ++j) {
          const Acc acc[1] = {from[j - n]};
          epi.template store<1>(acc, row, column + j);
        }
    }
  }
}

/* store_slabs by the whole block. */
template <class C, class Tile, class RowOf, class Epi>
NF_DEVICE void store_tile(const Tile& tile, Index rows, Index columns, Index column, const RowOf& row_of, const Epi& epi) {
  sync(); /* the last stage may still be read */
  store_slabs<C>(tile, rows, columns, column, row_of, epi);
}

/* The tile of block `b` of a matrix of tiles_m x tiles_n: eight rows of tiles together, so that blocks which run at the
 * same time share rows and columns in the L2 cache. */
struct TilePlace { Index m, n; };
NF_DEVICE TilePlace place_tile(Index b, Index tiles_m, Index tiles_n) {
  constexpr Index group = 8;
  const Index band = b / (group * tiles_n), first = band * group, rest = b % (group * tiles_n);
  const Index height = tiles_m - first < group ? tiles_m - first : group;
  return {first + rest % height, rest / height};
}

}  // namespace nf
