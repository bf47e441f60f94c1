/* Hopper's mbarriers and tensor copies (sm_90 and later; emulated at 9.0). Inline PTX.
 *
 * An mbarrier is 8 bytes of shared memory. Its phase is complete when all arrivals that `mbarrier_init` names have come, and all bytes
 * that arrivals announced; then the next one begins. `mbarrier_wait(b, p)` waits for the end of a phase of parity p: the first phase has
 * parity 0, and waiting for parity 1 at the beginning returns at once.
 *
 * `tma_load` copies a box of a matrix to shared memory, by one thread for the whole block, in wgmma's layout: the matrix's dimensions are
 * (along the line, lines, batch); a box is 64 elements of 16 bits by as many lines as the map says, each line 128 bytes, with the 128-byte
 * swizzle. What lies outside of the matrix is zero, and counts as bytes of the box too. The map is 128 bytes of device memory, 64-byte
 * aligned, written by the host before the launch: cuTensorMapEncodeTiled(FLOAT16 or BFLOAT16, rank 3, base, dims, strides in bytes,
 * box {64, lines, 1}, element strides 1, INTERLEAVE_NONE, SWIZZLE_128B, L2_256B, OOB_FILL_NONE). Emulated, it is EmulatedTensorMap. The base
 * and the strides are multiples of 16 bytes.
 *
 * The emulator copies when a thread waits for the barrier, and until then the destination is NaN.
 */
#pragma once
#include "mma.cuh"

#if NF_ARCH < 900
#error "tma.cuh is for compute capability 9.0 and later"
#endif

namespace nf {

constexpr int tma_line = 128; /* bytes of a line of a box */

#if !defined(NF_EMULATE)

NF_DEVICE void mbarrier_init(void* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}
/* By the thread that made the barriers, before the block's barrier behind which others use them. */
NF_DEVICE void fence_mbarrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
NF_DEVICE void mbarrier_arrive(void* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}
/* Arrives and announces the bytes of the copies that this thread starts next. */
NF_DEVICE void mbarrier_arrive_expect(void* barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes) : "memory");
}
NF_DEVICE void mbarrier_wait(void* barrier, int parity) {
  const unsigned at = shared_address(barrier);
  unsigned done;
  do asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
                  : "=r"(done) : "r"(at), "r"(parity) : "memory");
  while (!done);
}

/* Makes a map that the host has written visible to the copies of this thread. */
NF_DEVICE void tma_acquire(const void* map) {
  asm volatile("fence.proxy.tensormap::generic.acquire.gpu [%0], 128;" ::"l"(map) : "memory");
}
/* Element (x, y, z) of the matrix is the box's first: x along the line. */
NF_DEVICE void tma_load(void* to, const void* map, int x, int y, int z, void* barrier) {
  asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4}], [%5];"
               ::"r"(shared_address(to)), "l"(map), "r"(x), "r"(y), "r"(z), "r"(shared_address(barrier)) : "memory");
}

/* A warpgroup takes or gives back registers, so that it has COUNT a thread. */
template <int COUNT> NF_DEVICE void take_registers() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT)); }
template <int COUNT> NF_DEVICE void give_registers() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT)); }

#else

struct EmulatedTensorMap {
  const unsigned short* base;
  NfInt dims[3];    /* elements */
  NfInt strides[2]; /* bytes from a line to the next, from a batch to the next */
  NfInt lines;      /* of a box */
  NfInt reserved[9];
};
static_assert(sizeof(EmulatedTensorMap) == 128);

NF_DEVICE void mbarrier_init(void* barrier, int arrivals, NF_SITE) { emulator()->mbarrier_init(barrier, arrivals, NF_HERE); }
NF_DEVICE void fence_mbarrier_init() {}
NF_DEVICE void mbarrier_arrive(void* barrier, NF_SITE) { emulator()->mbarrier_arrive(barrier, 1, 0, NF_HERE); }
NF_DEVICE void mbarrier_arrive_expect(void* barrier, int bytes, NF_SITE) { emulator()->mbarrier_arrive(barrier, 1, bytes, NF_HERE); }
NF_DEVICE void mbarrier_wait(void* barrier, int parity, NF_SITE) { emulator()->mbarrier_wait(barrier, parity, NF_HERE); }

struct EmulatedBox {
  unsigned char* to;
  EmulatedTensorMap map;
  NfInt x, y, z;
  unsigned pattern; /* which line of the eight of the swizzle's pattern is the box's first */

  static void copy(const void* payload) {
    const EmulatedBox& box = *(const EmulatedBox*)payload;
    const auto inside = [](NfInt at, NfInt size) { return at >= 0 && at < size; };
    for (NfInt line = 0; line < box.map.lines; ++line)
      for (NfInt e = 0; e < 64; ++e) {
        const NfInt x = box.x + e, y = box.y + line;
        const bool in = inside(x, box.map.dims[0]) && inside(y, box.map.dims[1]) && inside(box.z, box.map.dims[2]);
        const unsigned char* from = (const unsigned char*)(box.map.base + x) + y * box.map.strides[0] + box.z * box.map.strides[1];
        const NfInt chunk = e / 8 ^ ((line + box.pattern) & 7);
        *(unsigned short*)(box.to + line * tma_line + chunk * 16 + e % 8 * 2) = in ? *(const unsigned short*)from : 0;
      }
  }
};
NF_DEVICE void tma_acquire(const void* map, NF_SITE) { check_aligned<64>(map, NF_HERE); }
NF_DEVICE void tma_load(void* to, const void* map, int x, int y, int z, void* barrier, NF_SITE) {
  check_aligned<64>(map, NF_HERE);
  check_aligned<128>(to, NF_HERE);
  EmulatedBox box{(unsigned char*)to, *(const EmulatedTensorMap*)map, x, y, z, 0};
  check_aligned<16>(box.map.base, NF_HERE);
  if (box.map.strides[0] % 16 || box.map.strides[1] % 16 || box.map.lines < 1 || box.map.lines > 256)
    trap("a tensor map with strides that are no multiples of 16 bytes, or boxes of more than 256 lines", map, 0, NF_HERE);
  const NfInt offset = box.to - self()->shared, bytes = box.map.lines * tma_line;
  if (offset < 0 || offset + bytes > self()->sharedBytes) trap("a tensor copy to outside of shared memory", to, bytes, NF_HERE);
  box.pattern = (unsigned)(offset / tma_line % 8);
  for (NfInt i = 0; i < bytes; ++i) box.to[i] = 0xff;
  emulator()->defer(barrier, bytes, EmulatedBox::copy, &box, sizeof box, NF_HERE);
}
template <int COUNT> NF_DEVICE void take_registers() {}
template <int COUNT> NF_DEVICE void give_registers() {}

#endif

}  // namespace nf
