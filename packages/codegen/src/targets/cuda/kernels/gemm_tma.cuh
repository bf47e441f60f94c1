/* C = A B by wgmma with tensor copies (sm_90a): one warpgroup copies, the others multiply, and mbarriers pass the stages between them.
 *
 *   nf::gemm_tma<Config, A major, B major>(nf::gemm_args(d, nullptr, nullptr), a_map, b_map, epilogue)
 *
 *   d, epilogue, numbering of blocks: gemm.cuh's.    threads = Config::threads,  scratch = Config::shared_bytes
 *   a_map    tensor map (tma.cuh) of A: dims {K, M, batches}, boxes of Config::rows lines; for Major::MN dims {M, K, batches}, 64 lines
 *   b_map    of B: dims {K, N, batches}, boxes of Config::columns lines; for Major::MN dims {N, K, batches}, 64 lines
 *   The last stride of a map, in elements, is its operand's smallest batch stride that is not 0 (anything where there is none);
 *   the other batch strides are multiples of it.
 *   So operands need their contiguous stride to be 1, and base and other strides to be multiples of 16 bytes.
 *
 * Stage s of the ring is full when its bytes have come, empty when every multiplying warp's wgmma is done with it. Sums take their
 * products in the order of gemm_sm90a.cuh and have its bits.
 */
#pragma once
#include "gemm.cuh"
#include "gemm_sm90a.cuh"
#include "tma.cuh"

namespace nf {

template <class E, int BM, int BN, int STAGES> struct TmaConfig : WgmmaConfig<E, BM, BN, STAGES> {
  using Base = WgmmaConfig<E, BM, BN, STAGES>;
  static constexpr int threads = Base::threads + 128, barriers = Base::shared_bytes, shared_bytes = barriers + 16 * STAGES;
};

/* name             storage   BM  BN stages   threads  shared bytes
 * tma_f16_128x256   fp16     128 256   4       384      196672
 * tma_f16_128x128   fp16     128 128   6       384      196704
 * tma_f16_64x128    fp16      64 128   4       256       98368
 * tma_bf16_...      as tma_f16_... */
using tma_f16_128x256 = TmaConfig<Float16, 128, 256, 4>;
using tma_f16_128x128 = TmaConfig<Float16, 128, 128, 6>;
using tma_f16_64x128 = TmaConfig<Float16, 64, 128, 4>;
using tma_bf16_128x256 = TmaConfig<Bfloat16, 128, 256, 4>;
using tma_bf16_128x128 = TmaConfig<Bfloat16, 128, 128, 6>;
using tma_bf16_64x128 = TmaConfig<Bfloat16, 64, 128, 4>;

/* Starts the copies of an operand's ROWS rows and 64 products. */
template <int ROWS, Major MAJOR> NF_DEVICE void tma_load_tile(char* tile, const void* map, Index row, Index k, Index batch, void* full) {
  if constexpr (MAJOR == Major::K) tma_load(tile, map, (int)k, (int)row, (int)batch, full);
  else
    NF_UNROLL for (int i = 0; i < ROWS / 64; ++i) tma_load(tile + i * wgmma_block, map, (int)row + i * 64, (int)k, (int)batch, full);
}

/* The number of a batch in an operand's map, whose batches are the smallest of `strides` apart. */
NF_DEVICE Index tma_batch(const Index (&batch)[4], const Index (&strides)[4], Index number) {
  Index unit = 0, offset = 0;
  NF_UNROLL for (int i = 3; i >= 0; --i) {
    if (strides[i] && (!unit || strides[i] < unit)) unit = strides[i];
    offset += number % batch[i] * strides[i];
    number /= batch[i];
  }
  return unit ? offset / unit : 0;
}

template <class C, Major A, Major B, class Epi>
NF_DEVICE void gemm_tma(const GemmArgs& g, const void* a_map, const void* b_map, const Epi& epi) {
  constexpr int S = C::stages, multipliers = C::rows / 16; /* warps */
  const Index tiles_m = ceil_div_index(g.M, C::rows), tiles_n = ceil_div_index(g.N, C::columns);
  const Index batch = (Index)(block() / ((long long)tiles_m * tiles_n));
  const TilePlace place = place_tile((Index)(block() % ((long long)tiles_m * tiles_n)), tiles_m, tiles_n);
  const Index m0 = place.m * C::rows, n0 = place.n * C::columns, count = ceil_div_index(g.K, C::depth);
  char* const ring = shared<char>();
  long long* const full = shared<long long>(C::barriers);
  long long* const empty = full + S;
  if (tid() == 0) {
    NF_UNROLL for (int s = 0; s < S; ++s) mbarrier_init(full + s, 1), mbarrier_init(empty + s, multipliers);
    fence_mbarrier_init();
  }
  sync();
  int stage = 0, parity = 0;
  const auto next = [&] {
    stage = stage + 1 == S ? 0 : stage + 1;
    parity ^= stage == 0;
  };
  if (warp() >= multipliers) {
    if constexpr (C::rows == 128) give_registers<40>();
    if (tid() == multipliers * 32) {
      tma_acquire(a_map), tma_acquire(b_map);
      const Index a_batch = tma_batch(g.batch, g.a_batch, batch), b_batch = tma_batch(g.batch, g.b_batch, batch);
      NF_ROLLED for (Index s = 0; s < count; ++s, next()) {
        mbarrier_wait(empty + stage, parity ^ 1);
        mbarrier_arrive_expect(full + stage, C::stage_bytes);
        char* const to = ring + stage * C::stage_bytes;
        tma_load_tile<C::rows, A>(to, a_map, m0, s * C::depth, a_batch, full + stage);
        tma_load_tile<C::columns, B>(to + C::a_bytes, b_map, n0, s * C::depth, b_batch, full + stage);
      }
    }
  } else {
    if constexpr (C::rows == 128) take_registers<232>(); /* what the others gave; 65536 in all */
    WarpTile<C, A, B> tile;
    int before = 0;
    NF_ROLLED for (Index s = 0; s < count; ++s, next()) {
      mbarrier_wait(full + stage, parity);
      tile.multiply(ring + stage * C::stage_bytes, ring + stage * C::stage_bytes + C::a_bytes, s == 0);
      tile.sums.template wait<1>();
      if (s && lane() == 0) mbarrier_arrive(empty + before);
      before = stage;
    }
    tile.sums.template wait<0>();
    if (count == 0) tile.sums.clear();
    sync_named(1, multipliers * 32); /* the last stage may still be read */
    store_slabs<C>(tile, g.M - m0, g.N - n0, n0, [&](Index m) { return epi.row(batch, m0 + m); }, epi);
  }
}

}  // namespace nf
