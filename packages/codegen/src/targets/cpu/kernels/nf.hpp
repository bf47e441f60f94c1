/* Value types, lane selectors and accessors that every CPU kernel and every generated body use.
 *
 * A body is printed once as `template <class V, class M>` and instantiated with V = F32 (the vector of the level) and
 * V = float, so each function here exists for both, with bit-identical results. The vectors are compiler vector types
 * (operators + - * / and unary - are the language's); no header is included, because parsing the intrinsics headers
 * would cost more than compiling a model's kernels. Inline assembly spells the few instructions vector types cannot.
 *
 * A target whose lanes are threads (CUDA's scalars.cuh) defines NF_LANES as 1 and the macros below, and gets the scalar half
 * alone; `bits`, `fma`, memory and faults are its own.
 */
#pragma once
#include "abi.h"

#ifndef NF_LANES
#define NF_INLINE [[maybe_unused]] static inline __attribute__((always_inline))
#define NF_NOINLINE [[maybe_unused]] static __attribute__((noinline))
#define NF_KERNEL extern "C" __attribute__((visibility("default")))

#if defined(__AVX512F__)
#define NF_LANES 16
#elif defined(__AVX2__) && defined(__FMA__)
#define NF_LANES 8
#else
#define NF_LANES 4
#endif
#endif

namespace nf {

#if NF_LANES > 1
#define NF_VECTOR(T, ...) typedef T __attribute__((vector_size(4 * NF_LANES) __VA_ARGS__))
NF_VECTOR(float) F32;
NF_VECTOR(double) F64;
NF_VECTOR(unsigned) U32;
NF_VECTOR(unsigned long long) U64;
NF_VECTOR(float, , aligned(4), may_alias) F32Unaligned;
typedef decltype(F32{} < F32{}) I32;
typedef decltype(F64{} < F64{}) I64;
#endif

/* The companions of a value type: its element, its bit patterns, its mask (a vector comparison gives 0 or -1 lanes). */
template <class V> struct Of;
template <> struct Of<float> { typedef float Elem; typedef int Int; typedef unsigned Uns; typedef bool Mask; };
template <> struct Of<double> { typedef double Elem; typedef long long Int; typedef unsigned long long Uns; typedef bool Mask; };
#if NF_LANES > 1
template <> struct Of<F32> { typedef float Elem; typedef I32 Int; typedef U32 Uns; typedef I32 Mask; };
template <> struct Of<F64> { typedef double Elem; typedef I64 Int; typedef U64 Uns; typedef I64 Mask; };
#endif
template <class V> using MaskOf = typename Of<V>::Mask;

template <class V> constexpr int lanes = sizeof(V) / sizeof(typename Of<V>::Elem);
template <class V> constexpr bool is_vector = lanes<V> != 1;
template <class V> constexpr bool is_single = sizeof(typename Of<V>::Elem) == 4;

template <int... I> struct Seq {};
template <int N, int... I> struct MakeSeq { typedef typename MakeSeq<N - 1, N - 1, I...>::Type Type; };
template <int... I> struct MakeSeq<0, I...> { typedef Seq<I...> Type; };
template <int N> using Iota = typename MakeSeq<N>::Type;

template <class V, int... I> NF_INLINE V splat_(typename Of<V>::Elem x, Seq<I...>) { return V{((void)I, x)...}; }
/* The value with `x` in every lane. */
template <class V> NF_INLINE V splat(typename Of<V>::Elem x) {
  if constexpr (is_vector<V>) return splat_<V>(x, Iota<lanes<V>>{});
  else return x;
}

#if NF_LANES > 1
typedef MaskOf<F32> Mask;

template <class To, class From> NF_INLINE To bits(From x) { static_assert(sizeof(To) == sizeof(From)); return __builtin_bit_cast(To, x); }

/* ---- lane selectors: all lanes, or the first n (0 <= n <= lanes); scalars ignore them */

struct All {};

template <int... I> NF_INLINE I32 first_lanes_(int n, Seq<I...>) { return I32{I...} < I32{((void)I, n)...}; }

struct Some {
  int n;
#if NF_LANES == 16
  unsigned short mask;
  __attribute__((always_inline)) explicit Some(NfInt count) : n((int)count), mask((unsigned short)((1u << count) - 1)) {}
#elif NF_LANES == 8
  I32 mask;
  __attribute__((always_inline)) explicit Some(NfInt count) : n((int)count), mask(first_lanes_((int)count, Iota<8>{})) {}
#else
  __attribute__((always_inline)) explicit Some(NfInt count) : n((int)count) {}
#endif
};

/* ---- memory: `stride` in elements; lanes that are not selected load 0 and are not touched in memory */

NF_INLINE F32 load_first(const float* p, Some m) {
#if NF_LANES == 16
  F32 r;
  asm("vmovups %1, %0%{%2%}%{z%}" : "=v"(r) : "m"(*(const F32Unaligned*)p), "Yk"(m.mask));
  return r;
#elif NF_LANES == 8
  F32 r;
  asm("vmaskmovps %1, %2, %0" : "=x"(r) : "m"(*(const F32Unaligned*)p), "x"(m.mask));
  return r;
#else
  if (m.n >= 4) return *(const F32Unaligned*)p;
  return F32{m.n > 0 ? p[0] : 0, m.n > 1 ? p[1] : 0, m.n > 2 ? p[2] : 0, 0};
#endif
}

NF_INLINE void store_first(float* p, F32 v, Some m) {
#if NF_LANES == 16
  asm("vmovups %1, %0%{%2%}" : "+m"(*(F32Unaligned*)p) : "v"(v), "Yk"(m.mask));
#elif NF_LANES == 8
  asm("vmaskmovps %1, %2, %0" : "+m"(*(F32Unaligned*)p) : "x"(v), "x"(m.mask));
#else
  if (m.n >= 4) *(F32Unaligned*)p = v;
  else for (int i = 0; i < m.n; ++i) p[i] = v[i];
#endif
}

template <class V, int... I> NF_INLINE V gather_(const float* p, NfInt stride, Seq<I...>) { return V{p[I * stride]...}; }

/* Contiguous load. */
template <class V, class M> NF_INLINE V ld(const float* p, M m) {
  if constexpr (!is_vector<V>) return *p;
  else if constexpr (__is_same(M, All)) return *(const F32Unaligned*)p;
  else return load_first(p, m);
}
template <class V, class M> NF_INLINE V ld(const double* p, M) { return *p; }

/* One element in every lane. */
template <class V> NF_INLINE V ldb(const float* p) { return splat<V>(*p); }
template <class V> NF_INLINE V ldb(const double* p) { return *p; }

/* Lane i from p[i * stride]. */
template <class V, class M> NF_INLINE V lds(const float* p, NfInt stride, M m) {
  if constexpr (!is_vector<V>) return *p;
  else if constexpr (__is_same(M, All)) return gather_<V>(p, stride, Iota<lanes<V>>{});
  else {
    float t[lanes<V>] = {};
    for (int i = 0; i < m.n; ++i) t[i] = p[i * stride];
    return *(const F32Unaligned*)t;
  }
}
template <class V, class M> NF_INLINE V lds(const double* p, NfInt, M) { return *p; }

template <class V, class M> NF_INLINE void st(float* p, V v, M m) {
  if constexpr (!is_vector<V>) *p = v;
  else if constexpr (__is_same(M, All)) *(F32Unaligned*)p = v;
  else store_first(p, v, m);
}
template <class M> NF_INLINE void st(double* p, double v, M) { *p = v; }

template <class V, class M> NF_INLINE void sts(float* p, NfInt stride, V v, M m) {
  if constexpr (!is_vector<V>) *p = v;
  else {
    int n = lanes<V>;
    if constexpr (!__is_same(M, All)) n = m.n;
    for (int i = 0; i < n; ++i) p[i * stride] = v[i];
  }
}
template <class M> NF_INLINE void sts(double* p, NfInt, double v, M) { *p = v; }
#endif

/* ---- masks */

template <class V> NF_INLINE MaskOf<V> lt(V a, V b) { return a < b; }
template <class V> NF_INLINE MaskOf<V> le(V a, V b) { return a <= b; }
template <class V> NF_INLINE MaskOf<V> gt(V a, V b) { return a > b; }
template <class V> NF_INLINE MaskOf<V> ge(V a, V b) { return a >= b; }
template <class V> NF_INLINE MaskOf<V> eq(V a, V b) { return a == b; }
template <class V> NF_INLINE MaskOf<V> ne(V a, V b) { return a != b; }
NF_INLINE bool and_(bool a, bool b) { return a & b; }
NF_INLINE bool or_(bool a, bool b) { return a | b; }
NF_INLINE bool not_(bool a) { return !a; }
template <class K> NF_INLINE K and_(K a, K b) { return a & b; }
template <class K> NF_INLINE K or_(K a, K b) { return a | b; }
template <class K> NF_INLINE K not_(K a) { return ~a; }
template <class V> NF_INLINE V select(MaskOf<V> m, V a, V b) { return m ? a : b; }

NF_INLINE bool any_lane(bool m) { return m; }
#if NF_LANES > 1
template <class K> NF_INLINE bool any_lane(K m) {
  U64 w = bits<U64>(m);
  unsigned long long r = 0;
  for (int i = 0; i < (int)(sizeof(K) / 8); ++i) r |= w[i];
  return r != 0;
}

/* ---- arithmetic: a level without fused multiply-add multiplies, then adds */

NF_INLINE float fma(float a, float b, float c) {
#if NF_LANES == 4
  return a * b + c;
#else
  return __builtin_fmaf(a, b, c);
#endif
}
NF_INLINE double fma(double a, double b, double c) {
#if NF_LANES == 4
  return a * b + c;
#else
  return __builtin_fma(a, b, c);
#endif
}

#if NF_LANES == 4
NF_INLINE F32 fma(F32 a, F32 b, F32 c) { return a * b + c; }
NF_INLINE F64 fma(F64 a, F64 b, F64 c) { return a * b + c; }
#elif __has_builtin(__builtin_elementwise_fma)
NF_INLINE F32 fma(F32 a, F32 b, F32 c) { return __builtin_elementwise_fma(a, b, c); }
NF_INLINE F64 fma(F64 a, F64 b, F64 c) { return __builtin_elementwise_fma(a, b, c); }
#elif NF_LANES == 8
NF_INLINE F32 fma(F32 a, F32 b, F32 c) { return __builtin_ia32_vfmaddps256(a, b, c); }
NF_INLINE F64 fma(F64 a, F64 b, F64 c) { return __builtin_ia32_vfmaddpd256(a, b, c); }
#else /* every lane, the current rounding mode (4) */
NF_INLINE F32 fma(F32 a, F32 b, F32 c) { return __builtin_ia32_vfmaddps512_mask(a, b, c, (unsigned short)-1, 4); }
NF_INLINE F64 fma(F64 a, F64 b, F64 c) { return __builtin_ia32_vfmaddpd512_mask(a, b, c, (unsigned char)-1, 4); }
#endif
#endif

/* b < a ? b : a, and b > a ? b : a: a if either is NaN. */
NF_INLINE float lesser(float b, float a) { return b < a ? b : a; }
NF_INLINE float greater(float b, float a) { return b > a ? b : a; }
NF_INLINE double lesser(double b, double a) { return b < a ? b : a; }
NF_INLINE double greater(double b, double a) { return b > a ? b : a; }
#if NF_LANES == 1
#elif NF_LANES == 4
NF_INLINE F32 lesser(F32 b, F32 a) { asm("minps %1, %0" : "+x"(b) : "x"(a)); return b; }
NF_INLINE F32 greater(F32 b, F32 a) { asm("maxps %1, %0" : "+x"(b) : "x"(a)); return b; }
NF_INLINE F64 lesser(F64 b, F64 a) { asm("minpd %1, %0" : "+x"(b) : "x"(a)); return b; }
NF_INLINE F64 greater(F64 b, F64 a) { asm("maxpd %1, %0" : "+x"(b) : "x"(a)); return b; }
#else
NF_INLINE F32 lesser(F32 b, F32 a) { F32 r; asm("vminps %2, %1, %0" : "=v"(r) : "v"(b), "v"(a)); return r; }
NF_INLINE F32 greater(F32 b, F32 a) { F32 r; asm("vmaxps %2, %1, %0" : "=v"(r) : "v"(b), "v"(a)); return r; }
NF_INLINE F64 lesser(F64 b, F64 a) { F64 r; asm("vminpd %2, %1, %0" : "=v"(r) : "v"(b), "v"(a)); return r; }
NF_INLINE F64 greater(F64 b, F64 a) { F64 r; asm("vmaxpd %2, %1, %0" : "=v"(r) : "v"(b), "v"(a)); return r; }
#endif

/* NaN if either is NaN. The test of `b` folds away for a constant: write min(x, splat<V>(6)). */
template <class V> NF_INLINE V min(V a, V b) { return select<V>(b != b, b, lesser(b, a)); }
template <class V> NF_INLINE V max(V a, V b) { return select<V>(b != b, b, greater(b, a)); }

template <class V> NF_INLINE V sign_bit() { return splat<V>(-0.0f); }
template <class V> NF_INLINE V abs(V x) {
  typedef typename Of<V>::Int I;
  return bits<V>(bits<I>(x) & ~bits<I>(sign_bit<V>()));
}
template <class V> NF_INLINE V copysign(V magnitude, V sign) {
  typedef typename Of<V>::Int I;
  I s = bits<I>(sign_bit<V>());
  return bits<V>((bits<I>(magnitude) & ~s) | (bits<I>(sign) & s));
}

NF_INLINE float sqrt(float x) { return __builtin_sqrtf(x); }
NF_INLINE double sqrt(double x) { return __builtin_sqrt(x); }
#if NF_LANES == 1
#elif NF_LANES == 4
NF_INLINE F32 sqrt(F32 x) { F32 r; asm("sqrtps %1, %0" : "=x"(r) : "x"(x)); return r; }
NF_INLINE F64 sqrt(F64 x) { F64 r; asm("sqrtpd %1, %0" : "=x"(r) : "x"(x)); return r; }
#else
NF_INLINE F32 sqrt(F32 x) { F32 r; asm("vsqrtps %1, %0" : "=v"(r) : "v"(x)); return r; }
NF_INLINE F64 sqrt(F64 x) { F64 r; asm("vsqrtpd %1, %0" : "=v"(r) : "v"(x)); return r; }
#endif
#if NF_LANES > 1
template <class V> NF_INLINE V rsqrt(V x) { return splat<V>(1) / sqrt(x); }
#endif

/* Rounding to integers without SSE4.1: adding and taking away 2^23 (2^52) rounds to nearest even where it matters. */
template <class V> NF_INLINE V round_even(V x) {
  typedef typename Of<V>::Elem E;
  V big = splat<V>((E)(is_single<V> ? 8388608.0 : 4503599627370496.0)), a = abs(x);
  return copysign<V>(select<V>(a < big, (a + big) - big, a), x);
}
template <class V> NF_INLINE V floor(V x) {
  V r = round_even(x);
  return copysign<V>(select<V>(r > x, r - splat<V>(1), r), x);
}
template <class V> NF_INLINE V ceil(V x) {
  V r = round_even(x);
  return copysign<V>(select<V>(r < x, r + splat<V>(1), r), x);
}
template <class V> NF_INLINE V trunc(V x) { return copysign<V>(floor(abs(x)), x); }

/* ---- reductions over lanes, halves first: the order is fixed */

#if NF_LANES > 1
template <int X, class V, int... I> NF_INLINE V swap_lanes_(V v, Seq<I...>) { return __builtin_shufflevector(v, v, (I ^ X)...); }
template <int X = 0, class V, class F> NF_INLINE typename Of<V>::Elem fold(V v, F f) {
  if constexpr (!is_vector<V>) return v;
  else if constexpr (X == 1) return f(v, swap_lanes_<1>(v, Iota<lanes<V>>{}))[0];
  else {
    constexpr int half = X == 0 ? lanes<V> / 2 : X;
    if constexpr (half == 1) return fold<1>(v, f);
    else return fold<half / 2>(f(v, swap_lanes_<half>(v, Iota<lanes<V>>{})), f);
  }
}
template <class V> NF_INLINE typename Of<V>::Elem hsum(V v) { return fold(v, [](V a, V b) __attribute__((always_inline)) { return a + b; }); }
template <class V> NF_INLINE typename Of<V>::Elem hprod(V v) { return fold(v, [](V a, V b) __attribute__((always_inline)) { return a * b; }); }
template <class V> NF_INLINE typename Of<V>::Elem hmax(V v) { return fold(v, [](V a, V b) __attribute__((always_inline)) { return max(a, b); }); }
template <class V> NF_INLINE typename Of<V>::Elem hmin(V v) { return fold(v, [](V a, V b) __attribute__((always_inline)) { return min(a, b); }); }
#endif

/* ---- integers; the divisor is positive for ceil_div */

template <class A, class B> NF_INLINE auto floor_div(A a, B b) { auto q = a / b; return q - ((a % b != 0) & ((a < 0) != (b < 0))); }
template <class A, class B> NF_INLINE auto floor_mod(A a, B b) { auto r = a % b; return (r != 0) & ((r < 0) != (b < 0)) ? r + b : r; }
template <class A, class B> NF_INLINE auto ceil_div(A a, B b) { return -floor_div(-a, b); }

/* Truncates like C; what does not fit saturates, NaN gives 0. */
template <class I, class F> NF_INLINE I to_int(F x) {
  constexpr bool is_signed = I(-1) < I(0);
  constexpr int width = 8 * sizeof(I) - is_signed;
  constexpr I most = is_signed ? I(~(1ull << (8 * sizeof(I) - 1))) : I(-1);
  const F end = (F)(1ull << (width - 1)) * 2; /* 2^width, exact */
  if (x != x) return 0;
  if (x >= end) return most;
  if (is_signed ? x <= -end : x <= 0) return is_signed ? I(~most) : I(0);
  return (I)x;
}

/* ---- half precision, by integer arithmetic on every level; a device has instructions (NF_HALF_INSTRUCTIONS) */

NF_INLINE float bf16_to_f32(unsigned short h) { return bits<float>((unsigned)h << 16); }
#if !defined(NF_HALF_INSTRUCTIONS)
NF_INLINE float f16_to_f32(unsigned short h) {
  unsigned s = (h & 0x8000u) << 16, e = (h >> 10) & 31, m = h & 1023;
  if (e == 0) return bits<float>(bits<unsigned>((float)m * 0x1p-24f) | s);
  return bits<float>(s | (e == 31 ? 0x7f800000u : (e + 112) << 23) | m << 13);
}
NF_INLINE unsigned short f32_to_f16(float f) {
  unsigned x = bits<unsigned>(f), s = (x >> 16) & 0x8000u, a = x & 0x7fffffffu;
  if (a > 0x7f800000u) return (unsigned short)(s | 0x7e00u | (a >> 13 & 0x3ffu));
  if (a >= 0x477ff000u) return (unsigned short)(s | 0x7c00u);
  if (a < 0x38800000u) return (unsigned short)(s | (bits<unsigned>(bits<float>(a) + 0.5f) - 0x3f000000u)); /* ulp of 0.5 is 2^-24 */
  return (unsigned short)(s | ((a - 0x38000000u + 0xfffu + (a >> 13 & 1)) >> 13));
}
NF_INLINE unsigned short f32_to_bf16(float f) {
  unsigned x = bits<unsigned>(f);
  if ((x & 0x7fffffffu) > 0x7f800000u) return (unsigned short)(x >> 16 | 0x40u);
  return (unsigned short)((x + 0x7fffu + (x >> 16 & 1)) >> 16);
}
#endif

#if NF_LANES > 1
/* Records a fault; of several, on any worker, the first wins. */
NF_INLINE void nf_fault(const NfLaunch* launch, int code, int operand, NfInt value) {
  int none = 0;
  if (!__atomic_compare_exchange_n(&launch->error->code, &none, code, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) return;
  launch->error->operand = operand;
  launch->error->value = value;
}
#endif

}  // namespace nf
