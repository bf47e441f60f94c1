/* What a kernel may ask of the machine: threads, shared memory, barriers, warp collectives, vector and asynchronous copies, atomics.
 *
 * One source text, two machines. Compiled by nvcc, these are CUDA's own; compiled by a C++ compiler with NF_EMULATE, they are
 * calls of the emulator (emulator.h), which runs each thread as a fiber. Kernels use nothing below this file. They stand inside
 * namespace nf: some of these names are CUDA's as well, at global scope, so that a using-directive would be ambiguous.
 *
 * NF_ARCH is the compute capability times 10 (750, 800, ... 1200); NF_SM90A is defined for sm_90a. Inline PTX stands here and, for the
 * tensor cores and Hopper's copies, in mma.cuh, wgmma.cuh and tma.cuh, nowhere else.
 */
#pragma once
#include "abi.h"

#if defined(NF_EMULATE)
#include "emulator.h"
#define NF_DEVICE inline __attribute__((always_inline))
#define NF_UNROLL
/* Where a call stands, for the text of a fault: every emulated function that can fault ends its parameters with it. */
#define NF_SITE const char* nf_function = __builtin_FUNCTION(), int nf_line = __builtin_LINE()
#define NF_HERE nf_function, nf_line
#else
#define NF_DEVICE __device__ __forceinline__
#define NF_UNROLL _Pragma("unroll")
#endif

namespace nf {

#ifdef NF_WIDE_INDEX
typedef long long Index;
#else
typedef int Index; /* the generator proves that sizes fit */
#endif

/* ---- kernels
 *
 * NF_KERNEL(name, THREADS, MINBLOCKS, B, D) { body } is a kernel of blocks of THREADS threads (a multiple of 32), B buffers and D
 * integers, of which MINBLOCKS blocks shall fit on a multiprocessor. In the body L has the members buffers, dims and error. */

#if defined(NF_EMULATE)

#define NF_KERNEL(name, THREADS, MINBLOCKS, B, D)                                           \
  static_assert((THREADS) % 32 == 0 && (THREADS) <= 1024);                                  \
  static void name##_body(const NfLaunch* L);                                               \
  extern "C" __attribute__((visibility("default"))) int name(const NfLaunch* L);            \
  extern "C" __attribute__((visibility("default"))) int name(const NfLaunch* L) {           \
    return L->emulator->run(L, THREADS, name##_body);                                       \
  }                                                                                         \
  static void name##_body([[maybe_unused]] const NfLaunch* L)

#else

/* A kernel's one parameter; the host writes these bytes. */
template <int B, int D> struct Args {
  void* buffers[B];
  NfInt dims[D > 0 ? D : 1];
  NfError* error;
};

#define NF_KERNEL(name, THREADS, MINBLOCKS, B, D)                                                                 \
  static_assert((THREADS) % 32 == 0 && (THREADS) <= 1024);                                                        \
  static __device__ __forceinline__ void name##_body(const nf::Args<B, D>* L);                                    \
  extern "C" __global__ void __launch_bounds__(THREADS, MINBLOCKS) name(const __grid_constant__ nf::Args<B, D> args) { \
    name##_body(&args);                                                                                           \
  }                                                                                                               \
  static __device__ __forceinline__ void name##_body([[maybe_unused]] const nf::Args<B, D>* L)

#endif

/* ---- values */

template <class To, class From> NF_DEVICE To bits(From x) {
  static_assert(sizeof(To) == sizeof(From));
  return __builtin_bit_cast(To, x);
}

/* N neighbours in memory, up to 16 bytes, read and written in one access: addresses are multiples of its size. */
template <class T, int N> struct alignas(sizeof(T) * N) Vec {
  static_assert(sizeof(T) * N <= 16 && (N & (N - 1)) == 0);
  T v[N];
  NF_DEVICE T& operator[](int i) { return v[i]; }
  NF_DEVICE const T& operator[](int i) const { return v[i]; }
};

#if defined(NF_EMULATE)

/* ==== the emulated machine ==== */

NF_DEVICE const NfThread* self() { return nf_thread_of(__builtin_frame_address(0)); }
NF_DEVICE const NfEmulator* emulator() { return self()->emulator; }

NF_DEVICE int tid() { return self()->thread; }
NF_DEVICE int threads() { return self()->threads; }
NF_DEVICE int lane() { return self()->thread & 31; }
NF_DEVICE int warp() { return self()->thread >> 5; }
NF_DEVICE long long block() { return self()->block; }
NF_DEVICE long long blocks() { return self()->blocks; }

/* Ends the launch with an error of the emulator. */
[[noreturn]] inline __attribute__((noinline, cold)) void trap(const char* what, const void* address, long long value, NF_SITE) {
  emulator()->fault(what, address, value, NF_HERE);
  __builtin_trap();
}
template <int BYTES> NF_DEVICE void check_aligned(const void* p, NF_SITE) {
  if ((unsigned long long)p % BYTES) [[unlikely]]
    trap("misaligned access", p, BYTES, NF_HERE);
}

template <class T> NF_DEVICE T* shared(int byteOffset = 0, NF_SITE) {
  unsigned char* p = self()->shared + byteOffset;
  check_aligned<alignof(T)>(p, NF_HERE);
  return (T*)p;
}

/* ---- barriers */

NF_DEVICE void sync(NF_SITE) {
  const NfThread* t = self();
  t->emulator->barrier(0, t->threads, 1, NF_HERE);
}
NF_DEVICE void sync_named(int id, int count, NF_SITE) { emulator()->barrier(id, count, 1, NF_HERE); }
NF_DEVICE void arrive_named(int id, int count, NF_SITE) { emulator()->barrier(id, count, 0, NF_HERE); }
NF_DEVICE void sync_warp(unsigned mask = ~0u, NF_SITE) { emulator()->exchange(mask, nullptr, nullptr, NF_HERE); }

/* ---- warp collectives: the last lane to arrive computes for all, see NfCombine */

/* `combine` sees lane i's `own` as *(Own*)participants[i]. */
template <class Own> NF_DEVICE void collective(Own& own, NfCombine combine, unsigned mask = ~0u, NF_SITE) {
  emulator()->exchange(mask, &own, combine, NF_HERE);
}
template <class Own> NF_DEVICE void collective_group(Own& own, NfCombine combine, NF_SITE) {
  emulator()->exchange_group(&own, combine, NF_HERE);
}

template <class T> struct Shuffled {
  T in, out;
  int source; /* a lane; its own where the shuffle leaves the warp */
};
template <class T> void combine_shuffle(void* const* participants, unsigned mask) {
  for (int i = 0; i < 32; ++i) {
    if (!(mask >> i & 1)) continue;
    Shuffled<T>* own = (Shuffled<T>*)participants[i];
    if (!participants[own->source]) trap("a shuffle reads a lane that does not take part: lane", nullptr, own->source, "shfl", 0);
    own->out = ((const Shuffled<T>*)participants[own->source])->in;
  }
}
template <class T> NF_DEVICE T shuffle_from(T v, int source, unsigned mask, NF_SITE) {
  Shuffled<T> own{v, v, source};
  collective(own, combine_shuffle<T>, mask, NF_HERE);
  return own.out;
}
template <class T> NF_DEVICE T shfl(T v, int source, unsigned mask = ~0u, NF_SITE) {
  return shuffle_from(v, source & 31, mask, NF_HERE);
}
template <class T> NF_DEVICE T shfl_xor(T v, int distance, unsigned mask = ~0u, NF_SITE) {
  const int source = lane() ^ distance;
  return shuffle_from(v, source < 32 ? source : lane(), mask, NF_HERE);
}
template <class T> NF_DEVICE T shfl_up(T v, int distance, unsigned mask = ~0u, NF_SITE) {
  const int source = lane() - distance;
  return shuffle_from(v, source >= 0 ? source : lane(), mask, NF_HERE);
}
template <class T> NF_DEVICE T shfl_down(T v, int distance, unsigned mask = ~0u, NF_SITE) {
  const int source = lane() + distance;
  return shuffle_from(v, source < 32 ? source : lane(), mask, NF_HERE);
}

struct Vote {
  bool in;
  unsigned out;
};
inline void combine_vote(void* const* participants, unsigned mask) {
  unsigned votes = 0;
  for (int i = 0; i < 32; ++i)
    if (mask >> i & 1) votes |= (unsigned)((const Vote*)participants[i])->in << i;
  for (int i = 0; i < 32; ++i)
    if (mask >> i & 1) ((Vote*)participants[i])->out = votes;
}
NF_DEVICE unsigned ballot(bool predicate, unsigned mask = ~0u, NF_SITE) {
  Vote own{predicate, 0};
  collective(own, combine_vote, mask, NF_HERE);
  return own.out;
}
inline void combine_all(void* const* participants, unsigned mask) {
  bool every = true;
  for (int i = 0; i < 32; ++i)
    if (mask >> i & 1) every &= ((const Vote*)participants[i])->in;
  for (int i = 0; i < 32; ++i)
    if (mask >> i & 1) ((Vote*)participants[i])->out = every;
}
NF_DEVICE bool any(bool predicate, unsigned mask = ~0u, NF_SITE) { return ballot(predicate, mask, NF_HERE) != 0; }
NF_DEVICE bool all(bool predicate, unsigned mask = ~0u, NF_SITE) {
  Vote own{predicate, 0};
  collective(own, combine_all, mask, NF_HERE);
  return own.out != 0;
}

/* ---- memory */

template <class T, int N> NF_DEVICE Vec<T, N> ld(const T* p, NF_SITE) {
  check_aligned<sizeof(T) * N>(p, NF_HERE);
  Vec<T, N> r;
  __builtin_memcpy(&r, p, sizeof r);
  return r;
}
template <class T, int N> NF_DEVICE void st(T* p, Vec<T, N> v, NF_SITE) {
  check_aligned<sizeof(T) * N>(p, NF_HERE);
  __builtin_memcpy(p, &v, sizeof v);
}

template <int BYTES> NF_DEVICE void cp_async(void* to, const void* from, int validBytes, NF_SITE) {
  static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16);
  check_aligned<BYTES>(to, NF_HERE);
  check_aligned<BYTES>(from, NF_HERE);
  if ((unsigned)validBytes > BYTES) trap("an asynchronous copy of more bytes than it has:", from, validBytes, NF_HERE);
#if NF_ARCH >= 800
  emulator()->copy_async(to, from, BYTES, validBytes, NF_HERE);
#else
  for (int i = 0; i < BYTES; ++i) ((unsigned char*)to)[i] = i < validBytes ? ((const unsigned char*)from)[i] : 0;
#endif
}
NF_DEVICE void cp_async_commit() { emulator()->copy_commit(); }
template <int PENDING_GROUPS> NF_DEVICE void cp_async_wait() { emulator()->copy_wait(PENDING_GROUPS); }

NF_DEVICE void fence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
/* In a loop that waits for another thread's store. */
NF_DEVICE void spin(NF_SITE) { emulator()->yield(NF_HERE); }

template <class T> NF_DEVICE T atomic_cas(T* p, T compare, T value, NF_SITE) {
  check_aligned<sizeof(T)>(p, NF_HERE);
  __atomic_compare_exchange(p, &compare, &value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  return compare;
}

/* ---- arithmetic */

NF_DEVICE float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
NF_DEVICE double fma(double a, double b, double c) { return __builtin_fma(a, b, c); }
/* 2^x to 1e-7 or so; below 2^-126 zero, as the device's instruction. */
NF_DEVICE float ex2(float x) {
  if (!(x > -126.0f)) return x != x ? x : 0.0f;
  if (x >= 128.0f) return __builtin_inff();
  const float big = 12582912.0f, n = (x + big) - big, r = x - n;
  float p = 1.535336188319500e-4f; /* minimax of 2^r on [-1/2, 1/2] (Cephes exp2f) */
  p = fma(p, r, 1.339887440266574e-3f);
  p = fma(p, r, 9.618437357674640e-3f);
  p = fma(p, r, 5.550332471162809e-2f);
  p = fma(p, r, 2.402264791363012e-1f);
  p = fma(p, r, 6.931472028550421e-1f);
  p = fma(p, r, 1.0f);
  const int e = (int)n, half = e / 2;
  return p * bits<float>((unsigned)(127 + half) << 23) * bits<float>((unsigned)(127 + e - half) << 23);
}
NF_DEVICE float rcp(float x) { return 1.0f / x; }
NF_DEVICE float rsqrt(float x) { return 1.0f / __builtin_sqrtf(x); }

#else

/* ==== the device ==== */

NF_DEVICE int tid() { return (int)threadIdx.x; }
NF_DEVICE int threads() { return (int)blockDim.x; }
NF_DEVICE int lane() { return (int)threadIdx.x & 31; }
NF_DEVICE int warp() { return (int)threadIdx.x >> 5; }
NF_DEVICE long long block() { return blockIdx.x; }
NF_DEVICE long long blocks() { return gridDim.x; }

extern __shared__ __align__(1024) unsigned char dynamic_shared[];
template <class T> NF_DEVICE T* shared(int byteOffset = 0) { return reinterpret_cast<T*>(dynamic_shared + byteOffset); }

/* ---- barriers */

NF_DEVICE void sync() { __syncthreads(); }
NF_DEVICE void sync_named(int id, int count) { asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(count) : "memory"); }
NF_DEVICE void arrive_named(int id, int count) { asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(count) : "memory"); }
NF_DEVICE void sync_warp(unsigned mask = ~0u) { __syncwarp(mask); }

/* ---- warp collectives */

template <class T> NF_DEVICE T shfl(T v, int source, unsigned mask = ~0u) { return __shfl_sync(mask, v, source); }
template <class T> NF_DEVICE T shfl_xor(T v, int distance, unsigned mask = ~0u) { return __shfl_xor_sync(mask, v, distance); }
template <class T> NF_DEVICE T shfl_up(T v, int distance, unsigned mask = ~0u) { return __shfl_up_sync(mask, v, distance); }
template <class T> NF_DEVICE T shfl_down(T v, int distance, unsigned mask = ~0u) { return __shfl_down_sync(mask, v, distance); }
NF_DEVICE unsigned ballot(bool predicate, unsigned mask = ~0u) { return __ballot_sync(mask, predicate); }
NF_DEVICE bool any(bool predicate, unsigned mask = ~0u) { return __any_sync(mask, predicate); }
NF_DEVICE bool all(bool predicate, unsigned mask = ~0u) { return __all_sync(mask, predicate); }

/* ---- memory */

template <int BYTES> struct Word;
template <> struct Word<1> { typedef unsigned char Type; };
template <> struct Word<2> { typedef unsigned short Type; };
template <> struct Word<4> { typedef unsigned Type; };
template <> struct Word<8> { typedef uint2 Type; };
template <> struct Word<16> { typedef uint4 Type; };

template <class T, int N> NF_DEVICE Vec<T, N> ld(const T* p) {
  typedef typename Word<sizeof(T) * N>::Type W;
  const W w = *reinterpret_cast<const W*>(p);
  return bits<Vec<T, N>>(w);
}
template <class T, int N> NF_DEVICE void st(T* p, Vec<T, N> v) {
  typedef typename Word<sizeof(T) * N>::Type W;
  *reinterpret_cast<W*>(p) = bits<W>(v);
}

template <int BYTES> NF_DEVICE void cp_async(void* to, const void* from, int validBytes) {
  static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16);
#if NF_ARCH >= 800
  const unsigned address = (unsigned)__cvta_generic_to_shared(to);
  if constexpr (BYTES == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(validBytes) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %3, %2;" ::"r"(address), "l"(from), "r"(validBytes), "n"(BYTES) : "memory");
#else
  typedef typename Word<BYTES>::Type W;
  if (validBytes == BYTES) {
    *reinterpret_cast<W*>(to) = *reinterpret_cast<const W*>(from);
  } else {
    *reinterpret_cast<W*>(to) = W{};
    for (int i = 0; i < validBytes; ++i) static_cast<unsigned char*>(to)[i] = static_cast<const unsigned char*>(from)[i];
  }
#endif
}
NF_DEVICE void cp_async_commit() {
#if NF_ARCH >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
template <int PENDING_GROUPS> NF_DEVICE void cp_async_wait() {
#if NF_ARCH >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING_GROUPS) : "memory");
#endif
}

NF_DEVICE void fence() { __threadfence(); }
/* In a loop that waits for another thread's store. */
NF_DEVICE void spin() {}

NF_DEVICE int atomic_cas(int* p, int compare, int value) { return atomicCAS(p, compare, value); }
NF_DEVICE unsigned atomic_cas(unsigned* p, unsigned compare, unsigned value) { return atomicCAS(p, compare, value); }
NF_DEVICE float atomic_cas(float* p, float compare, float value) {
  return bits<float>(atomicCAS((int*)p, bits<int>(compare), bits<int>(value)));
}
NF_DEVICE long long atomic_cas(long long* p, long long compare, long long value) {
  return (long long)atomicCAS((unsigned long long*)p, (unsigned long long)compare, (unsigned long long)value);
}

/* ---- arithmetic */

NF_DEVICE float fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }
NF_DEVICE double fma(double a, double b, double c) { return __fma_rn(a, b, c); }
NF_DEVICE float ex2(float x) {
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
NF_DEVICE float rcp(float x) {
  float r;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
NF_DEVICE float rsqrt(float x) {
  float r;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}

#endif

/* ---- atomics on global and shared memory: float, int, unsigned, long long; they return the value before. */

NF_DEVICE bool same_bits(float a, float b) { return bits<int>(a) == bits<int>(b); }
template <class T> NF_DEVICE bool same_bits(T a, T b) { return a == b; }
/* *p = f(*p). */
template <class T, class F> NF_DEVICE T atomic_update(T* p, F f) {
  T old = *(volatile T*)p;
  for (;;) {
    const T seen = atomic_cas(p, old, f(old));
    if (same_bits(seen, old)) return old;
    old = seen;
  }
}
template <class T> NF_DEVICE T atomic_add(T* p, T value) {
#if !defined(NF_EMULATE)
  if constexpr (__is_same(T, long long)) return (T)atomicAdd((unsigned long long*)p, (unsigned long long)value);
  else return atomicAdd(p, value);
#else
  return atomic_update(p, [=](T old) { return T(old + value); });
#endif
}
/* A NaN in memory or as the value changes nothing. */
template <class T> NF_DEVICE T atomic_max(T* p, T value) {
#if !defined(NF_EMULATE)
  if constexpr (!__is_same(T, float)) return atomicMax(p, value);
  else
#endif
    return atomic_update(p, [=](T old) { return value > old ? value : old; });
}
template <class T> NF_DEVICE T atomic_min(T* p, T value) {
#if !defined(NF_EMULATE)
  if constexpr (!__is_same(T, float)) return atomicMin(p, value);
  else
#endif
    return atomic_update(p, [=](T old) { return value < old ? value : old; });
}

/* Sets the launch's error word (NfError); the first fault wins. */
template <class Launch> NF_DEVICE void fault(const Launch* L, int code, int operand, NfInt value) {
  if (atomic_cas(&L->error->code, 0, code) != 0) return;
  L->error->operand = operand;
  L->error->value = value;
}

}  // namespace nf
