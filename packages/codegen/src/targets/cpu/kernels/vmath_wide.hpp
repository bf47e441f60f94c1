/* The elementary functions that are evaluated in double for every value type: trigonometric, hyperbolic, power.
 * float goes through two half vectors of double and is rounded once. Error in double <= 4 ulp, including arguments of any
 * size: large angles are reduced with 2/pi to 1280 bits (Payne and Hanek).
 */
#pragma once
#include "vmath.hpp"

namespace nf {

#if NF_LANES > 1
typedef float F32Half __attribute__((vector_size(2 * NF_LANES)));
template <int FROM, int... I> NF_INLINE F64 widen_(F32 x, Seq<I...>) {
  return __builtin_convertvector(__builtin_shufflevector(x, x, (I + FROM)...), F64);
}
template <int... I> NF_INLINE F32 join_(F32Half a, F32Half b, Seq<I...>) { return __builtin_shufflevector(a, b, I...); }

/* f, a function of F64 or double, applied to floats. */
template <class F> NF_INLINE F32 in_double(F f, F32 x) {
  typedef Iota<lanes<F64>> Half;
  return join_(__builtin_convertvector(f(widen_<0>(x, Half{})), F32Half),
               __builtin_convertvector(f(widen_<lanes<F64>>(x, Half{})), F32Half), Iota<lanes<F32>>{});
}
template <class F> NF_INLINE F32 in_double(F f, F32 x, F32 y) {
  typedef Iota<lanes<F64>> Half;
  return join_(__builtin_convertvector(f(widen_<0>(x, Half{}), widen_<0>(y, Half{})), F32Half),
               __builtin_convertvector(f(widen_<lanes<F64>>(x, Half{}), widen_<lanes<F64>>(y, Half{})), F32Half), Iota<lanes<F32>>{});
}
#endif
template <class F> NF_INLINE float in_double(F f, float x) { return (float)f((double)x); }
template <class F> NF_INLINE float in_double(F f, float x, float y) { return (float)f((double)x, (double)y); }

/* ---- angles: x = q pi/2 + r + tail */

template <class V> struct Angle { V r, tail; IntOf<V> q; };

/* 64 bits of 2/pi from bit `from` on, the first bit worth 1/2; bits before that are 0. */
NF_INLINE unsigned long long two_over_pi_bits(int from) {
  static constexpr unsigned long long words[] = {
      0xa2f9836e4e441529, 0xfc2757d1f534ddc0, 0xdb6295993c439041, 0xfe5163abdebbc561, 0xb7246e3a424dd2e0, 0x06492eea09d1921c, 0xfe1deb1cb129a73e,
      0xe88235f52ebb4484, 0xe99c7026b45f7e41, 0x3991d639835339f4, 0x9c845f8bbdf9283b, 0x1ff897ffde05980f, 0xef2f118b5a0a6d1f, 0x6d367ecf27cb09b7,
      0x4f463f669e5fea2d, 0x7527bac7ebe5f17b, 0x3d0739f78a5292ea, 0x6bfb5fb11f8d5d08, 0x56033046fc7b6bab, 0xf0cfbc209af4361d};
  auto word = [](int i) { return i < 0 || i >= 20 ? 0 : words[i]; };
  int i = from >> 6, shift = from & 63;
  return shift ? word(i) << shift | word(i + 1) >> (64 - shift) : word(i);
}

/* |x| >= 2^20. Bits of 2/pi that contribute multiples of 4 quadrants are left out, the next 192 give the rest. */
NF_NOINLINE Angle<double> reduce_large_angle(double x) {
  unsigned long long b = bits<unsigned long long>(x);
  int e = (int)(b >> 52 & 2047);
  if (e == 2047) return {x - x, 0, 0};
  unsigned long long m = (b & ((1ull << 52) - 1)) | 1ull << 52;
  int from = e - 1075 - 2;
  typedef unsigned __int128 Wide;
  Wide p0 = (Wide)m * two_over_pi_bits(from + 128);
  Wide p1 = (Wide)m * two_over_pi_bits(from + 64) + (p0 >> 64);
  unsigned long long low = (unsigned long long)p0, middle = (unsigned long long)p1;
  unsigned long long high = m * two_over_pi_bits(from) + (unsigned long long)(p1 >> 64);
  long long q = (long long)(high >> 62);
  Wide fraction = (Wide)(high << 2 | middle >> 62) << 64 | (middle << 2 | low >> 62);
  bool negative = (long long)(fraction >> 64 >> 63) & 1;
  if (negative) fraction = -fraction, ++q; /* to the nearest quadrant */
  if (fraction == 0) return {0, 0, q};
  unsigned long long top = (unsigned long long)(fraction >> 64);
  int zeros = top ? __builtin_clzll(top) : 64 + __builtin_clzll((unsigned long long)fraction);
  fraction <<= zeros;
  double unit = bits<double>((unsigned long long)(1023 - 53 - zeros) << 52);
  double f = (double)(long long)(unsigned long long)(fraction >> 75) * unit;
  double g = (double)(long long)(unsigned long long)(fraction >> 22 & ((1ull << 53) - 1)) * unit * 0x1p-53;
  double r = f * 0x1.921fb54442d18p0, tail = f * 0x1.1a62633145c07p-54 + g * 0x1.921fb54442d18p0;
  bool flip = negative != (bool)(b >> 63);
  return {flip ? -r : r, flip ? -tail : tail, b >> 63 ? -q : q};
}

template <class V> NF_INLINE Angle<V> reduce_angle(V x) {
  Rounded<V> n = nearest<V>(x * num<V>(0x1.45f306dc9c883p-1));
  V t = x - n.value * num<V>(0x1.921fb544p0), w = n.value * num<V>(0x1.0b4611a6p-34); /* products exact: 33 bits each */
  V hi = t - w, lo = ((t - hi) - w) - n.value * num<V>(0x1.3198a2e037073p-69);
  V r = hi + lo;
  Angle<V> a{r, (hi - r) + lo, n.bits};
  MaskOf<V> large = not_(abs(x) < num<V>(0x1p20));
  if (any_lane(large)) {
    if constexpr (is_vector<V>) {
      for (int i = 0; i < lanes<V>; ++i)
        if (large[i]) {
          Angle<double> s = reduce_large_angle(x[i]);
          a.r[i] = s.r, a.tail[i] = s.tail, a.q[i] = s.q;
        }
    } else
      a = reduce_large_angle(x);
  }
  return a;
}

template <class V> NF_INLINE V sin_reduced(const Angle<V>& a) {
  V z = a.r * a.r;
  V p = poly(z, 1.0 / 355687428096000, -1.0 / 1307674368000, 1.0 / 6227020800, -1.0 / 39916800, 1.0 / 362880, -1.0 / 5040, 1.0 / 120, -1.0 / 6);
  return a.r + fma(a.r * z, p, a.tail);
}
template <class V> NF_INLINE V cos_reduced(const Angle<V>& a) {
  V z = a.r * a.r, half = z * num<V>(0.5), one = num<V>(1), w = one - half;
  V p = poly(z, -1.0 / 6402373705728000, 1.0 / 20922789888000, -1.0 / 87178291200, 1.0 / 479001600, -1.0 / 3628800, 1.0 / 40320, -1.0 / 720, 1.0 / 24);
  return w + (((one - w) - half) + (z * z * p - a.r * a.tail));
}
template <class V> NF_INLINE V quadrant(const Angle<V>& a, IntOf<V> q) {
  typedef IntOf<V> I;
  V y = select<V>((q & 1) != 0, cos_reduced(a), sin_reduced(a));
  return bits<V>(bits<I>(y) ^ ((q & 2) << (is_single<V> ? 30 : 62)));
}

template <class V> NF_INLINE V sin(V x) {
  if constexpr (is_single<V>) return in_double([](auto d) { return sin(d); }, x);
  else {
    Angle<V> a = reduce_angle(x);
    return select<V>(x == num<V>(0), x, quadrant(a, a.q));
  }
}
template <class V> NF_INLINE V cos(V x) {
  if constexpr (is_single<V>) return in_double([](auto d) { return cos(d); }, x);
  else {
    Angle<V> a = reduce_angle(x);
    return quadrant(a, a.q + 1);
  }
}
template <class V> NF_INLINE V tan(V x) {
  if constexpr (is_single<V>) return in_double([](auto d) { return tan(d); }, x);
  else {
    Angle<V> a = reduce_angle(x);
    V s = sin_reduced(a), c = cos_reduced(a);
    MaskOf<V> odd = (a.q & 1) != 0;
    return select<V>(x == num<V>(0), x, select<V>(odd, -c, s) / select<V>(odd, s, c));
  }
}

/* ---- inverse trigonometric */

template <class V> NF_INLINE V atan(V x) {
  if constexpr (is_single<V>) return in_double([](auto d) { return atan(d); }, x);
  else {
    V a = abs(x), one = num<V>(1), zero = num<V>(0);
    MaskOf<V> big = a > num<V>(2.414213562373095), middle = a > num<V>(0.41421356237309503);
    V t = select<V>(big, -one, select<V>(middle, a - one, a)) / select<V>(big, a, select<V>(middle, a + one, one));
    V base = select<V>(big, num<V>(0x1.921fb54442d18p0), select<V>(middle, num<V>(0x1.921fb54442d18p-1), zero));
    V low = select<V>(big, num<V>(0x1.1a62633145c07p-54), select<V>(middle, num<V>(0x1.1a62633145c07p-55), zero));
    V z = t * t; /* (atan(t) - t) / t^3 */
    V p = poly(z, -0.013790276896186756992, 0.030508638210712916108, -0.040989252120469183297, 0.04718024545901350433, -0.052578258764368123227,
               0.058819028860808922007, -0.066666404766128118679, 0.076923066660884528732, -0.090909090650088434179, 0.11111111110721052464,
               -0.14285714285711226967, 0.19999999999999990558, -0.33333333333333333328);
    return copysign<V>(base + (t + fma(t * z, p, low)), x);
  }
}
template <class V> NF_INLINE V asin(V x) {
  if constexpr (is_single<V>) return in_double([](auto d) { return asin(d); }, x);
  else return atan<V>(x / sqrt((num<V>(1) - x) * (num<V>(1) + x)));
}
template <class V> NF_INLINE V acos(V x) {
  if constexpr (is_single<V>) return in_double([](auto d) { return acos(d); }, x);
  else return num<V>(2) * atan<V>(sqrt((num<V>(1) - x) / (num<V>(1) + x)));
}

/* ---- hyperbolic */

template <class V> NF_INLINE V sinh(V x) {
  if constexpr (is_single<V>) return in_double([](auto d) { return sinh(d); }, x);
  else {
    V a = abs(x), t = expm1(a), e = exp<V>(a * num<V>(0.5));
    V y = select<V>(a > num<V>(40), num<V>(0.5) * e * e, num<V>(0.5) * (t + t / (t + num<V>(1))));
    return copysign<V>(y, x);
  }
}
template <class V> NF_INLINE V cosh(V x) {
  if constexpr (is_single<V>) return in_double([](auto d) { return cosh(d); }, x);
  else {
    V a = abs(x), half = num<V>(0.5), h = exp<V>(a * half), e = exp(a);
    return select<V>(a > num<V>(40), half * h * h, half * e + half / e);
  }
}
template <class V> NF_INLINE V asinh(V x) {
  if constexpr (is_single<V>) return in_double([](auto d) { return asinh(d); }, x);
  else {
    V a = abs(x), one = num<V>(1), z = a * a;
    V y = log1p<V>(a + z / (one + sqrt(z + one)));
    return copysign<V>(select<V>(a > num<V>(1e8), log(a) + num<V>(0x1.62e42fefa39efp-1), y), x);
  }
}
template <class V> NF_INLINE V acosh(V x) {
  if constexpr (is_single<V>) return in_double([](auto d) { return acosh(d); }, x);
  else {
    V t = x - num<V>(1), y = log1p<V>(t + sqrt(t * (t + num<V>(2))));
    y = select<V>(x > num<V>(1e8), log(x) + num<V>(0x1.62e42fefa39efp-1), y);
    return select<V>(x < num<V>(1), num<V>(__builtin_nan("")), y);
  }
}
template <class V> NF_INLINE V atanh(V x) {
  if constexpr (is_single<V>) return in_double([](auto d) { return atanh(d); }, x);
  else {
    V a = abs(x);
    return copysign<V>(num<V>(0.5) * log1p<V>((a + a) / (num<V>(1) - a)), x);
  }
}

/* ---- power: exp(y log x) with the logarithm and the product in two doubles */

template <class V> struct Two { V hi, lo; };
template <class V> NF_INLINE Two<V> two_sum(V a, V b) {
  V s = a + b, c = s - a;
  return {s, (a - (s - c)) + (b - c)};
}
template <class V> NF_INLINE Two<V> two_product(V a, V b) {
  V p = a * b;
#if NF_LANES == 4 /* Dekker: halves of 26 bits have exact products */
  V k = num<V>(134217729), ah = a * k - (a * k - a), bh = b * k - (b * k - b), al = a - ah, bl = b - bh;
  return {p, ((ah * bh - p) + ah * bl + al * bh) + al * bl};
#else
  return {p, fma(a, b, -p)};
#endif
}

/* log x for finite x > 0, to about 2^-70 */
template <class V> NF_INLINE Two<V> log_two(V x) {
  Split2<V> t = split_exponent(x);
  V f = t.m - num<V>(1), d = f + num<V>(2), two = num<V>(2);
  V s = f / d;
  Two<V> sd = two_product(s, d);
  V sl = ((f - sd.hi) - sd.lo - s * (f - (d - two))) / d; /* s + sl = f / (2 + f); log m = 2 atanh of it */
  Two<V> z = two_product(s, s);
  z.lo += two * s * sl;
  Two<V> w = two_product(z.hi, num<V>(1.0 / 3));
  w.lo += z.lo * num<V>(1.0 / 3) + z.hi * num<V>(0x1.5555555555555p-56);
  V q = z.hi * z.hi * poly(z.hi, 1.0 / 25, 1.0 / 23, 1.0 / 21, 1.0 / 19, 1.0 / 17, 1.0 / 15, 1.0 / 13, 1.0 / 11, 1.0 / 9, 1.0 / 7, 1.0 / 5);
  V wh = w.hi + q, wl = ((w.hi - wh) + q) + w.lo;
  Two<V> product = two_product(two * s, wh);
  Two<V> a = two_sum(t.e * num<V>(0x1.62e42feep-1), two * s), b = two_sum(a.hi, product.hi);
  V low = a.lo + b.lo + product.lo + two * (sl + s * wl + sl * wh) + t.e * num<V>(0x1.a39ef35793c76p-33);
  V hi = b.hi + low;
  return {hi, (b.hi - hi) + low};
}

template <class V> NF_INLINE V pow(V x, V y) {
  if constexpr (is_single<V>) return in_double([](auto a, auto b) { return pow(a, b); }, x, y);
  else {
    V zero = num<V>(0), one = num<V>(1), inf = num<V>(__builtin_inf()), nan = num<V>(__builtin_nan("")), a = abs(x);
    Two<V> l = log_two(a), p = two_product(l.hi, y);
    V low = p.lo + l.lo * y;
    Reduced<V> t = reduce_ln2<V>(clamp(p.hi, -746, 710));
    low = select<V>(abs(p.hi) < num<V>(746), low, zero);
    V r = scale<V>(expm1_reduced<V>(t.r + low) + one, t.n.bits);
    MaskOf<V> up = y > zero;
    r = select<V>(a == zero, select<V>(up, zero, inf), r);
    r = select<V>(a == inf, select<V>(up, inf, zero), r);
    r = select<V>(a == one, one, r);
    MaskOf<V> whole = trunc(y) == y, odd = and_(whole, trunc<V>(y * num<V>(0.5)) * num<V>(2) != y);
    V s = copysign<V>(one, x);
    r = select<V>(odd, r * s, r);
    r = select<V>(and_(and_(x < zero, a < inf), not_(whole)), nan, r);
    r = select<V>(or_(x != x, y != y), x + y, r);
    return select<V>(or_(x == one, y == zero), one, r);
  }
}

}  // namespace nf
