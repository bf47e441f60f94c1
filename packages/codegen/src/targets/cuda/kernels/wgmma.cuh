/* wgmma, Hopper's tensor cores (sm_90a; emulated at 9.0), with both operands in shared memory. Inline PTX.
 *
 * A wgmma of m64nNk16 is issued by a warpgroup (128 threads, 64 rows), runs while the threads go on, and is over when its group is
 * waited for. Until then nobody may read or write its accumulators, nor write the shared memory that it reads. Shared memory is read
 * through a descriptor, in the layout of the 128-byte swizzle, which is TileLayout's with 64 elements to a line: lines of 128 bytes,
 * of which a line's chunk c of 16 bytes lies at place c ^ (line % 8); tiles start at multiples of 1024 bytes.
 *   along k (rows are lines):         8 lines after 8 lines; a step of 16 products is 32 bytes further
 *   along m or n (products are lines): 64 rows, 64 lines (8192 bytes) after 64 rows; a step is 16 lines (2048 bytes) further
 * What other instructions (cp.async too) wrote must pass `fence_async` in the writing thread, and then a barrier.
 *
 * The emulator holds a wgmma back until it is waited for; accumulators are NaN meanwhile, a write to what it reads is a fault, and so
 * is a change of accumulators without wgmma.fence. Not modelled: a missing `fence_async`.
 */
#pragma once
#include "mma.cuh"

#if !defined(NF_SM90A) && !(defined(NF_EMULATE) && NF_ARCH >= 900)
#error "wgmma.cuh is for sm_90a"
#endif

namespace nf {

/* Bytes of a tile's line, of 64 lines, and of the eight lines after which the swizzle repeats. */
constexpr int wgmma_line = 128, wgmma_block = 64 * wgmma_line, wgmma_pattern = 8 * wgmma_line;

/* The instruction: N columns, element type, and which of the operands lie along m or n in shared memory rather than along k. */
template <int COLUMNS, bool BFLOAT16, bool A_ALONG_M, bool B_ALONG_N> struct WgmmaOp {
  static constexpr int n = COLUMNS, accumulators = COLUMNS / 2;
  static constexpr bool bfloat16 = BFLOAT16, a_along_m = A_ALONG_M, b_along_n = B_ALONG_N;
  static_assert(n == 64 || n == 128 || n == 256);
};

/* Fields of a shared memory descriptor: bits 0..13 the address, 16..29 the bytes from 64 rows to the next 64 (along m or n only), 32..45
 * the bytes from eight lines to the next eight, all without their four low bits; 62..63 = 1 is the 128-byte swizzle. `address` is one in
 * the shared window. `step`: which 16 products of the tile's 64. */
NF_DEVICE unsigned long long wgmma_descriptor(unsigned address, int step, bool along_rows) {
  const unsigned start = address + step * (along_rows ? 16 * wgmma_line : 32);
  return (unsigned long long)((start & 0x3ffff) >> 4) | (unsigned long long)(wgmma_block >> 4) << 16 |
         (unsigned long long)(wgmma_pattern >> 4) << 32 | 1ull << 62;
}

#if !defined(NF_EMULATE)

NF_DEVICE unsigned wgmma_address(const void* p) { return shared_address(p); }

/* Accumulators of 64 rows and Op::n columns, and what is done to them; WgmmaShape<n>::c says which thread holds what. They begin
 * undefined: zeros put there before a loop of wgmma would make the compiler serialize them. */
template <class Op> struct WgmmaTile {
  float acc[Op::accumulators];

  NF_DEVICE void clear() {
    NF_UNROLL for (int i = 0; i < Op::accumulators; ++i) acc[i] = 0;
  }
  /* Before the first multiply, and after any other access to acc. */
  NF_DEVICE void fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
  NF_DEVICE void commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
  /* All but the newest PENDING groups are over. acc may be read after wait<0>. */
  template <int PENDING> NF_DEVICE void wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
    if constexpr (PENDING == 0) NF_UNROLL for (int i = 0; i < Op::accumulators; ++i) asm volatile("" : "+f"(acc[i])::"memory");
  }

  /* acc = A B for 16 products, added to acc if `accumulate`. */
  NF_DEVICE void multiply(unsigned long long a, unsigned long long b, bool accumulate) {
#define NF_ACC_4(i) "+f"(acc[i]), "+f"(acc[i + 1]), "+f"(acc[i + 2]), "+f"(acc[i + 3])
#define NF_ACC_16(i) NF_ACC_4(i), NF_ACC_4(i + 4), NF_ACC_4(i + 8), NF_ACC_4(i + 12)
#define NF_ACC_32(i) NF_ACC_16(i), NF_ACC_16(i + 16)
#define NF_ACC_64(i) NF_ACC_32(i), NF_ACC_32(i + 32)
#define NF_ACC_128(i) NF_ACC_64(i), NF_ACC_64(i + 64)
#define NF_OUT_32 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define NF_OUT_64 NF_OUT_32 ", " \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define NF_OUT_128 NF_OUT_64 ", " \
  "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, " \
  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, " \
  "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
  "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define NF_WGMMA(N, R, TYPE, A, B, P, D)                                                                                       \
  asm volatile("{ .reg .pred p; setp.ne.b32 p, " P ", 0; wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE " {" NF_OUT_##R \
               "}, " A ", " B ", p, 1, 1, " D "; }"                                                                        \
               : NF_ACC_##R(0) : "l"(a), "l"(b), "r"((int)accumulate), "n"((int)Op::a_along_m), "n"((int)Op::b_along_n) : "memory")
#define NF_WGMMA_TYPES(N, R, A, B, P, D)                          \
  if constexpr (Op::n == N) {                                  \
    if constexpr (Op::bfloat16) NF_WGMMA(N, R, "bf16", A, B, P, D); \
    else NF_WGMMA(N, R, "f16", A, B, P, D);                       \
  }
    NF_WGMMA_TYPES(64, 32, "%32", "%33", "%34", "%35, %36")
    NF_WGMMA_TYPES(128, 64, "%64", "%65", "%66", "%67, %68")
    NF_WGMMA_TYPES(256, 128, "%128", "%129", "%130", "%131, %132")
#undef NF_ACC_4
#undef NF_ACC_16
#undef NF_ACC_32
#undef NF_ACC_64
#undef NF_ACC_128
#undef NF_OUT_32
#undef NF_OUT_64
#undef NF_OUT_128
#undef NF_WGMMA
#undef NF_WGMMA_TYPES
  }
};

NF_DEVICE void fence_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

#else

/* Addresses of the shared window are offsets into the block's shared memory. */
NF_DEVICE unsigned wgmma_address(const void* p) { return (unsigned)((const unsigned char*)p - self()->shared); }

/* Element (row, k) of the operand that a descriptor gives: the canonical layouts of the 128-byte swizzle, whose pattern follows the
 * address: bits 7..9 change bits 4..6. */
constexpr unsigned wgmma_element(unsigned long long descriptor, bool along_rows, int row, int k) {
  const unsigned start = (unsigned)(descriptor & 0x3fff) << 4, leading = (unsigned)(descriptor >> 16 & 0x3fff) << 4,
                 stride = (unsigned)(descriptor >> 32 & 0x3fff) << 4;
  const unsigned at = along_rows ? start + row / 64 * leading + row % 64 * 2 + k / 8 * stride + k % 8 * wgmma_line
                                 : start + row / 8 * stride + row % 8 * wgmma_line + k * 2;
  return at ^ (at >> 7 & 7) << 4;
}

template <class Op> struct WgmmaTile {
  float acc[Op::accumulators];

  WgmmaTile() { poison(); }
  WgmmaTile(const WgmmaTile&) = delete;

  NF_DEVICE void clear() {
    for (int i = 0; i < Op::accumulators; ++i) acc[i] = 0;
  }
  NF_DEVICE void fence(NF_SITE) {
    sync_warp(~0u, NF_HERE);
    if (!pending) copy(sums, acc);
    fenced = true;
  }
  NF_DEVICE void multiply(unsigned long long a, unsigned long long b, bool accumulate, NF_SITE) {
    sync_warp(~0u, NF_HERE);
    if (!fenced) trap("wgmma without wgmma.fence", acc, 0, NF_HERE);
    for (int i = 0; i < Op::accumulators; ++i)
      if (bits<unsigned>(acc[i]) != (pending ? ~0u : bits<unsigned>(sums[i]))) trap("accumulators of wgmma changed without wgmma.fence", acc, i, NF_HERE);
    poison();
    ++pending;
    Operation operation{this, self()->shared, self()->sharedBytes, a, b, accumulate, tid() % 128, 0, emulator(), NF_HERE};
    operation.operands = digest(operation);
    emulator()->defer_group(0, apply, &operation, sizeof operation, NF_HERE);
  }
  NF_DEVICE void commit() { emulator()->defer_commit(0); }
  template <int PENDING> NF_DEVICE void wait(NF_SITE) {
    emulator()->defer_wait(0, PENDING);
    sync_warp(~0u, NF_HERE); /* as the device: over for the whole warp */
  }

 private:
  struct Operation {
    WgmmaTile* tile;
    const unsigned char* shared;
    NfInt shared_bytes;
    unsigned long long a, b;
    bool accumulate;
    int thread;
    unsigned operands; /* digest of what is read, when the operation was issued */
    const NfEmulator* emulator;
    const char* function;
    int line;
  };
  float sums[Op::accumulators]; /* what acc will hold */
  int pending = 0;
  bool fenced = false;

  void poison() {
    for (int i = 0; i < Op::accumulators; ++i) acc[i] = bits<float>(~0u);
  }
  static void copy(float* to, const float* from) {
    for (int i = 0; i < Op::accumulators; ++i) to[i] = from[i];
  }
  static unsigned short element(const Operation& o, unsigned long long descriptor, bool along_rows, int row, int k) {
    const unsigned at = wgmma_element(descriptor, along_rows, row, k);
    if (at + 2 > o.shared_bytes) o.emulator->fault("wgmma reads outside of shared memory: offset", nullptr, at, o.function, o.line);
    return *(const unsigned short*)(o.shared + at);
  }
  /* The threads of a warp share the reading: four cover a row of A, eight those of B's columns that their quad's place needs. */
  static unsigned digest(const Operation& o) {
    const int quad = o.thread % 4, group = o.thread % 32 / 4, row = o.thread / 32 * 16 + group;
    unsigned sum = 0;
    for (int k = quad; k < 16; k += 4)
      for (int half = 0; half < 2; ++half) sum = sum * 31 + element(o, o.a, Op::a_along_m, row + half * 8, k);
    for (int n = quad * 2; n < Op::n; n += 8)
      for (int k = group; k < 16; k += 8)
        for (int odd = 0; odd < 2; ++odd) sum = sum * 31 + element(o, o.b, Op::b_along_n, n + odd, k);
    return sum;
  }
  static float number(unsigned short x) {
    if constexpr (Op::bfloat16) return bits<float>((unsigned)x << 16);
    else return (float)bits<_Float16>(x);
  }
  static void apply(const void* payload) {
    const Operation& o = *(const Operation*)payload;
    WgmmaTile& tile = *o.tile;
    if (digest(o) != o.operands)
      o.emulator->fault("shared memory was written while wgmma could read it", nullptr, 0, o.function, o.line);
    const int row = WgmmaShape<Op::n>::c(o.thread, 0).row, column = WgmmaShape<Op::n>::c(o.thread, 0).column;
    float a[16][2];
    for (int k = 0; k < 16; ++k)
      for (int half = 0; half < 2; ++half) a[k][half] = number(element(o, o.a, Op::a_along_m, row + half * 8, k));
    for (int block = 0; block < Op::n / 8; ++block) {
      float* sum = tile.sums + block * 4;
      if (!o.accumulate) sum[0] = sum[1] = sum[2] = sum[3] = 0;
      for (int k = 0; k < 16; ++k)
        for (int odd = 0; odd < 2; ++odd) {
          const float b = number(element(o, o.b, Op::b_along_n, block * 8 + column + odd, k));
          sum[odd] = __builtin_fmaf(a[k][0], b, sum[odd]);
          sum[odd + 2] = __builtin_fmaf(a[k][1], b, sum[odd + 2]);
        }
    }
    if (--tile.pending == 0) copy(tile.acc, tile.sums);
  }
};

NF_DEVICE void fence_async() {}

#endif

}  // namespace nf
