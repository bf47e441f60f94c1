/* Tiles of tile.cuh that are multiplied by wgmma (sm_90a): configurations for nf::gemm, nf::conv and nf::conv_transpose.
 *
 * Every warpgroup multiplies 64 rows of the tile by all its columns. Per step of 64 products: wait for the copies of the stage and
 * for the wgmma before the last, one barrier, start this step's wgmma, and, while it and the one before run, start the copies of the
 * stage that the one before that has read. So the tensor cores always have a step queued, and S - 2 stages are on their way.
 *
 * Accumulators take their products with k ascending in steps of 16, whatever the tile: all configurations of this file give the same
 * bits. They differ from mma.sync's on the device (not emulated), so a weight format uses one family for all M.
 */
#pragma once
#include "tile.cuh"
#include "wgmma.cuh"

namespace nf {

template <class E> struct Wgmma; /* how products are summed */

/* A tile's shape, with TileConfig's members. */
template <class E, int BM, int BN, int STAGES> struct WgmmaConfig {
  using Math = Wgmma<E>;
  using Element = E;
  using Storage = typename E::Storage;
  using Acc = float;
  static constexpr int rows = BM, columns = BN, depth = 64, threads = 2 * BM, stages = STAGES;
  static constexpr int warp_rows = 16, warp_columns = BN;
  static constexpr int a_bytes = BM * wgmma_line, stage_bytes = (BM + BN) * wgmma_line;
  static constexpr int slab_pitch = BN + 8, slab_bytes = 16 * slab_pitch * 4;
  static constexpr int ring_bytes = stages * stage_bytes, slabs_bytes = BM / 16 * slab_bytes;
  static constexpr int shared_bytes = ring_bytes > slabs_bytes ? ring_bytes : slabs_bytes;
  static_assert(BM % 64 == 0 && sizeof(Storage) == 2 && STAGES >= 3);
};

/* name               storage   BM  BN stages   threads  shared bytes
 * wgmma_f16_128x256   fp16     128 256   4       256      196608
 * wgmma_f16_128x128   fp16     128 128   6       256      196608
 * wgmma_f16_64x128    fp16      64 128   4       128       98304
 * wgmma_f16_64x64     fp16      64  64   6       128       98304
 * wgmma_bf16_...      as wgmma_f16_... */
using wgmma_f16_128x256 = WgmmaConfig<Float16, 128, 256, 4>;
using wgmma_f16_128x128 = WgmmaConfig<Float16, 128, 128, 6>;
using wgmma_f16_64x128 = WgmmaConfig<Float16, 64, 128, 4>;
using wgmma_f16_64x64 = WgmmaConfig<Float16, 64, 64, 6>;
using wgmma_bf16_128x256 = WgmmaConfig<Bfloat16, 128, 256, 4>;
using wgmma_bf16_128x128 = WgmmaConfig<Bfloat16, 128, 128, 6>;
using wgmma_bf16_64x128 = WgmmaConfig<Bfloat16, 64, 128, 4>;
using wgmma_bf16_64x64 = WgmmaConfig<Bfloat16, 64, 64, 6>;

/* A warp's rows of its warpgroup's part of the tile. */
template <class C, Major A, Major B, class E> struct WarpTile<C, A, B, Wgmma<E>> {
  using Op = WgmmaOp<C::columns, __is_same(E, Bfloat16), A == Major::MN, B == Major::MN>;
  const int row0 = warp() * 16, column0 = 0;
  WgmmaTile<Op> sums;

  /* Starts the 64 products of a stage, the first one or one of those behind it. */
  NF_DEVICE void multiply(const char* at, const char* bt, bool first) {
    const unsigned a = wgmma_address(at) + (unsigned)(warp() / 4 * wgmma_block), b = wgmma_address(bt);
    sums.fence();
    NF_UNROLL for (int step = 0; step < 4; ++step)
      sums.multiply(wgmma_descriptor(a, step, Op::a_along_m), wgmma_descriptor(b, step, Op::b_along_n), step > 0 || !first);
    sums.commit();
  }
  NF_DEVICE void put(int, float* out) const {
    NF_UNROLL for (int i = 0; i < Op::accumulators; i += 2) {
      const Cell cell = WgmmaShape<C::columns>::c(lane(), i); /* lane, not thread: rows of the warp's slab */
      st<float, 2>(out + cell.row * C::slab_pitch + cell.column, {{sums.acc[i], sums.acc[i + 1]}});
    }
  }
};

/* tile.cuh's multiply_tile for these configurations. While s < 0 the ring fills; then step s multiplies stage s and fetches stage s + STAGES - 2. */
template <class C, class Tile, class ALoader, class BLoader>
  requires(__is_same(typename C::Math, Wgmma<typename C::Element>))
NF_DEVICE void multiply_tile(Tile& tile, ALoader& a, BLoader& b, Index K) {
  constexpr int S = C::stages;
  char* const ring = shared<char>();
  const Index count = ceil_div_index(K, C::depth);
  int read = 0, write = 0;
  NF_ROLLED for (Index s = 2 - S; s < count; ++s) {
    if (s >= 0) {
      cp_async_wait<S - 3>();
      tile.sums.template wait<1>();
      fence_async();
      sync(); /* stage `read` is there, and nobody's wgmma reads stage `write` any more */
      const char* const from = ring + read * C::stage_bytes;
      tile.multiply(from, from + C::a_bytes, s == 0);
      read = read + 1 == S ? 0 : read + 1;
    }
    if (s + S - 2 < count) {
      char* const to = ring + write * C::stage_bytes;
      a.fetch(to), b.fetch(to + C::a_bytes);
      a.store(to), b.store(to + C::a_bytes);
      write = write + 1 == S ? 0 : write + 1;
    }
    cp_async_commit();
  }
  tile.sums.template wait<0>();
  if (count == 0) tile.sums.clear();
}

}  // namespace nf
