/* Scalars of every element type, for printed code: small floats by their bits, integers with the wrap-around and division of ONNX. */
#pragma once
#include "nf.hpp"
#include "vmath.hpp"

namespace nf {

template <class V> NF_INLINE MaskOf<V> mask_of(bool b) { return eq<V>(splat<V>(b ? 1.0f : 0.0f), splat<V>(1.0f)); }
template <class V> NF_INLINE V sign(V x) {
  V one = splat<V>(1), zero = splat<V>(0);
  return select<V>(gt<V>(x, zero), one, select<V>(lt<V>(x, zero), -one, x));
}

/* ---- small floats: `expo` exponent bits, `mant` mantissa bits; `nan` the bits of NaN, `inf` of infinity (0: none) */
template <int expo, int mant, int bias, unsigned most, unsigned inf, unsigned nan, bool fnuz> struct SmallFloat {
  NF_INLINE float decode(unsigned b) {
    const unsigned sign = b >> (expo + mant) & 1, m = b & ((1u << (expo + mant)) - 1);
    if (fnuz && b == nan) return __builtin_nanf("");
    if (m > most) return inf && m == inf ? (sign ? -__builtin_inff() : __builtin_inff()) : __builtin_nanf("");
    const int e = (int)(m >> mant);
    const unsigned f = m & ((1u << mant) - 1);
    const float ulp = bits<float>((unsigned)(127 + (e ? e : 1) - bias - mant) << 23);
    const float v = (float)(e ? f + (1u << mant) : f) * ulp;
    return sign ? -v : v;
  }
  NF_INLINE unsigned encode(float x, bool saturate) {
    const unsigned u = bits<unsigned>(x), sign = (u >> 31) << (expo + mant), a = u & 0x7fffffffu;
    if (a > 0x7f800000u) return nan ? nan : 8u;
    if (a == 0) return fnuz ? 0 : sign;
    unsigned m = ~0u;
    if (a != 0x7f800000u) {
      int e = (int)(a >> 23) - 127;
      if (e < 1 - bias) e = 1 - bias;
      const float scaled = bits<float>(a) * bits<float>((unsigned)(127 - (e - mant)) << 23); /* exact; below 2^(mant+1) */
      const float rounded = (scaled + 8388608.0f) - 8388608.0f;
      m = (unsigned)((e + bias - 1) << mant) + (unsigned)rounded;
    }
    if (m > most) {
      if (saturate || !nan) return sign + most;
      if (inf) return sign + inf;
      return fnuz ? nan : sign + nan;
    }
    return m == 0 && fnuz ? 0 : sign + m;
  }
};
typedef SmallFloat<4, 3, 7, 0x7e, 0, 0x7f, false> E4M3FN;
typedef SmallFloat<4, 3, 8, 0x7f, 0, 0x80, true> E4M3FNUZ;
typedef SmallFloat<5, 2, 15, 0x7b, 0x7c, 0x7f, false> E5M2;
typedef SmallFloat<5, 2, 16, 0x7f, 0, 0x80, true> E5M2FNUZ;
typedef SmallFloat<2, 1, 1, 0x7, 0, 0, false> E2M1;

NF_INLINE float decode_float16(unsigned short b) { return f16_to_f32(b); }
NF_INLINE unsigned short encode_float16(float x) { return f32_to_f16(x); }
NF_INLINE float decode_bfloat16(unsigned short b) { return bf16_to_f32(b); }
NF_INLINE unsigned short encode_bfloat16(float x) { return f32_to_bf16(x); }
#define NF_SMALL(name, type)                                                       \
  NF_INLINE float decode_##name(unsigned char b) { return type::decode(b); }       \
  NF_INLINE unsigned char encode_##name(float x, bool saturate = false) { return (unsigned char)type::encode(x, saturate); }
NF_SMALL(float8e4m3fn, E4M3FN)
NF_SMALL(float8e4m3fnuz, E4M3FNUZ)
NF_SMALL(float8e5m2, E5M2)
NF_SMALL(float8e5m2fnuz, E5M2FNUZ)
NF_SMALL(float4e2m1, E2M1)
#undef NF_SMALL
NF_INLINE float decode_float8e8m0(unsigned char b) {
  if (b == 255) return __builtin_nanf("");
  return b ? bits<float>((unsigned)b << 23) : 0x1p-127f;
}
NF_INLINE unsigned char encode_float8e8m0(float x, bool saturate = false) {
  if (x != x || x < 0) return 255;
  if (x == 0) return 0;
  if (x > 3.4028234e38f) return saturate ? 254 : 255;
  const unsigned u = bits<unsigned>(x);
  const unsigned e = (u >> 23) + ((u & 0x7fffff) >= (u >> 23 ? 0x400000 : 0x600000)); /* denormals: 2^-127 and its fraction */
  return e > 254 ? (saturate ? 254 : 255) : (unsigned char)e;
}

/* ---- integers */
template <class T> NF_INLINE T int_min(T a, T b) { return a < b ? a : b; }
template <class T> NF_INLINE T int_max(T a, T b) { return a > b ? a : b; }
template <class T> NF_INLINE T int_abs(T a) { return a < T(0) ? T(0 - (unsigned long long)a) : a; }
template <class T> NF_INLINE T int_sign(T a) { return a > T(0) ? T(1) : a < T(0) ? T(-1) : T(0); }
template <class T> NF_INLINE T int_shl(T a, T b) { return (unsigned long long)b >= 8 * sizeof(T) ? T(0) : T((unsigned long long)a << b); }
/* By a negative or too large amount only the sign is left. */
template <class T> NF_INLINE T int_shr(T a, T b) { return (unsigned long long)b >= 8 * sizeof(T) ? T(a < T(0) ? -1 : 0) : T(a >> b); }
template <class T> NF_INLINE T int_pow(T a, T b) {
  if (b < T(0)) return a == T(1) ? T(1) : a == T(-1) ? (b % T(2) == T(0) ? T(1) : T(-1)) : T(0);
  unsigned long long r = 1, x = (unsigned long long)a;
  for (unsigned long long n = (unsigned long long)b; n; n >>= 1, x *= x)
    if (n & 1) r *= x;
  return T(r);
}
/* Division by zero sets the error word; the smallest integer over -1 wraps. */
template <class T, class Launch> NF_INLINE T int_div(const Launch* L, int operand, T a, T b) {
  if (b == T(0)) return nf_fault(L, 2, operand, 0), T(0);
  if (T(-1) < T(0) && b == T(-1)) return T(0 - (unsigned long long)a);
  return T(a / b);
}
template <class T, class Launch> NF_INLINE T int_fmod(const Launch* L, int operand, T a, T b) {
  if (b == T(0)) return nf_fault(L, 2, operand, 0), T(0);
  if (T(-1) < T(0) && b == T(-1)) return T(0);
  return T(a % b);
}
template <class T, class Launch> NF_INLINE T int_mod(const Launch* L, int operand, T a, T b) {
  T r = int_fmod<T>(L, operand, a, b);
  return r != T(0) && (r < T(0)) != (b < T(0)) ? T(r + b) : r;
}

/* Truncates; wraps around (int64 and infinities saturate); NaN gives 0. */
template <class T, class F> NF_INLINE T float_to_int(F x) {
  if (sizeof(T) == 8 && T(-1) < T(0)) return to_int<T>(x);
  if (sizeof(T) <= 4 && abs<F>(x) < F(0x1p31)) return T((int)x);
  double y = (double)x, magnitude = __builtin_fabs(y);
  if (y != y || magnitude == __builtin_inf()) return to_int<T>(x);
  if (magnitude >= 0x1p117) return T(0); /* a multiple of 2^64 */
  if (magnitude >= 0x1p64) magnitude -= (double)(long long)(magnitude * 0x1p-64) * 0x1p64;
  unsigned long long low = (unsigned long long)magnitude;
  return T(y < 0 ? 0 - low : low);
}
/* 4- and 2-bit integers from floats: truncated, then wrapped into [low, high], as ONNX's reference does. */
NF_INLINE int to_small(float x, int low, int high) {
  if (__builtin_fabs((double)x) == __builtin_inf()) return x > 0 ? high : low;
  int range = high - low + 1, r = (float_to_int<signed char>(x) - low) % range;
  return (r < 0 ? r + range : r) + low;
}
template <class T> NF_INLINE T wrap_small(int x, int width, bool is_signed) {
  unsigned u = (unsigned)x & ((1u << width) - 1);
  return T(is_signed && u >> (width - 1) ? (int)u - (1 << width) : (int)u);
}

template <class F> NF_INLINE F fmod(F a, F b) {
  if (a != a || b != b || b == 0 || __builtin_fabs((double)a) == __builtin_inf()) return (F)__builtin_nan("");
  double x = __builtin_fabs((double)a), y = __builtin_fabs((double)b);
  if (y == __builtin_inf()) return a;
  while (x >= y) { /* exact: each step takes away y·2^k by shifting exponents */
    double t = y;
    while (t * 2 <= x) t *= 2;
    x -= t;
  }
  return (F)(a < 0 || (a == 0 && bits<unsigned long long>((double)a) >> 63) ? -x : x);
}
/* Python's and numpy's %: the remainder has the divisor's sign, a zero remainder too. */
template <class F> NF_INLINE F mod(F a, F b) {
  F r = fmod<F>(a, b);
  bool negative = bits<unsigned long long>((double)b) >> 63;
  if (r == 0) return negative ? -F(0) : F(0);
  return (r < 0) != negative ? r + b : r;
}

/* An index that comes as data: negatives count from the end; out of range is reported and read at 0. */
template <class Launch, class I> NF_INLINE I data_index(const Launch* L, int operand, NfInt value, I extent) {
  NfInt at = value < 0 ? value + extent : value;
  if (at < 0 || at >= extent) return nf_fault(L, 1, operand, value), I(0);
  return I(at);
}

}  // namespace nf
