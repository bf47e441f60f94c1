/* Elementary functions, one sequence of steps for lanes and scalars.
 *
 * float: exp, log, tanh, sigmoid, erf and their relatives are evaluated in float (<= 4 ulp); the rarer functions go
 * through double, in two half vectors, and are rounded once. double: <= 4 ulp. Polynomial coefficients are Chebyshev
 * interpolants of the functions named beside them, or Taylor series. Denormals, infinities and NaN follow IEEE 754.
 */
#pragma once
#include "nf.hpp"

namespace nf {

template <class V> NF_INLINE V horner(V, V acc) { return acc; }
template <class V, class... C> NF_INLINE V horner(V x, V acc, double c, C... rest) {
  return horner(x, fma(acc, x, splat<V>((typename Of<V>::Elem)c)), rest...);
}
/* c0 x^n + c1 x^(n-1) + ... + cn */
template <class V, class... C> NF_INLINE V poly(V x, double c, C... rest) { return horner(x, splat<V>((typename Of<V>::Elem)c), rest...); }
template <class V> NF_INLINE V num(double x) { return splat<V>((typename Of<V>::Elem)x); }

template <class V> constexpr int mantissa_bits = is_single<V> ? 23 : 52;
template <class V> constexpr int exponent_bias = is_single<V> ? 127 : 1023;
template <class V> using IntOf = typename Of<V>::Int;

/* ---- exponentials */

/* x rounded to an integer, |x| < 2^21, as a value and as bits. */
template <class V> struct Rounded { V value; IntOf<V> bits; };
template <class V> NF_INLINE Rounded<V> nearest(V x) {
  V magic = num<V>(is_single<V> ? 0x1.8p23 : 0x1.8p52), t = x + magic;
  return {t - magic, bits<IntOf<V>>(t) - bits<IntOf<V>>(magic)};
}

/* x * 2^n for -2 * bias < n <= 2 * bias: in two factors, so that it rounds once, overflows to infinity and reaches denormals. */
template <class V> NF_INLINE V scale(V x, IntOf<V> n) {
  typedef typename Of<V>::Uns U;
  IntOf<V> half = bits<IntOf<V>>((bits<U>(n + 2 * exponent_bias<V>) >> 1)) - exponent_bias<V>; /* floor(n / 2) */
  V a = bits<V>((half + exponent_bias<V>) << mantissa_bits<V>);
  V b = bits<V>((n - half + exponent_bias<V>) << mantissa_bits<V>);
  return x * a * b;
}

/* e^r - 1 for |r| <= ln 2 / 2 */
template <class V> NF_INLINE V expm1_reduced(V r) {
  if constexpr (is_single<V>)
    return fma(r * r, poly(r, 0.0013944735269, 0.0083640869402, 0.041666386031, 0.16666571445, 0.50000000167), r);
  else
    return fma(r * r, poly(r, 1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320,
                           1.0 / 5040, 1.0 / 720, 1.0 / 120, 1.0 / 24, 1.0 / 6, 0.5), r);
}

template <class V> struct Reduced { V r; Rounded<V> n; };
/* x = n ln 2 + r; the high part of ln 2 has few enough bits for n * hi to be exact. */
template <class V> NF_INLINE Reduced<V> reduce_ln2(V x) {
  Rounded<V> n = nearest<V>(x * num<V>(0x1.71547652b82fep0));
  V hi = num<V>(is_single<V> ? 0.693359375 : 0x1.62e42feep-1), lo = num<V>(is_single<V> ? -2.12194440054690583e-4 : 0x1.a39ef35793c76p-33);
  return {(x - n.value * hi) - n.value * lo, n};
}

/* x kept within [lo, hi]; NaN stays. */
template <class V> NF_INLINE V clamp(V x, double lo, double hi) { return min<V>(max<V>(x, num<V>(lo)), num<V>(hi)); }

template <class V> NF_INLINE V exp(V x) {
  Reduced<V> t = reduce_ln2<V>(is_single<V> ? clamp(x, -104, 89) : clamp(x, -746, 710));
  return scale<V>(expm1_reduced(t.r) + num<V>(1), t.n.bits);
}

template <class V> NF_INLINE V exp2(V x) {
  x = is_single<V> ? clamp(x, -151, 129) : clamp(x, -1077, 1025);
  Rounded<V> n = nearest<V>(x);
  return scale<V>(expm1_reduced<V>((x - n.value) * num<V>(0x1.62e42fefa39efp-1)) + num<V>(1), n.bits);
}

template <class V> NF_INLINE V expm1(V x) {
  Reduced<V> t = reduce_ln2<V>(is_single<V> ? clamp(x, -30, 89) : clamp(x, -60, 710));
  V p = expm1_reduced(t.r), one = num<V>(1);
  V s = scale<V>(one, t.n.bits);
  V y = fma(s, p, s - one);
  V top = t.n.value > num<V>(exponent_bias<V>) ? scale<V>(p + one, t.n.bits) : y; /* 2^n itself overflows */
  return select<V>(x == num<V>(0), x, top);
}

/* t / (t + 2) with t = e^2x - 1 */
template <class V> NF_INLINE V tanh(V x) {
  V a = abs(x);
  a = select<V>(a > num<V>(22), num<V>(22), a);
  Reduced<V> t = reduce_ln2<V>(a + a);
  V s = scale<V>(num<V>(1), t.n.bits), y = fma(s, expm1_reduced(t.r), s - num<V>(1));
  return copysign<V>(y / (y + num<V>(2)), x);
}

template <class V> NF_INLINE V sigmoid(V x) {
  V z = exp<V>(-abs(x)), one = num<V>(1);
  return select<V>(x < num<V>(0), z, one) / (one + z);
}

/* ---- logarithms */

template <class V> struct Split2 { V m, e; };
/* x = m 2^e with m in [sqrt 1/2, sqrt 2), for finite x > 0 */
template <class V> NF_INLINE Split2<V> split_exponent(V x) {
  typedef IntOf<V> I;
  V tiny = num<V>(is_single<V> ? 0x1p-126 : 0x1p-1022), up = num<V>(is_single<V> ? 0x1p23 : 0x1p52);
  MaskOf<V> small = x < tiny;
  x = select<V>(small, x * up, x);
  I one = bits<I>(num<V>(1)), root = bits<I>(num<V>(0.70710678118654752));
  I b = bits<I>(x) + (one - root);
  I e = (bits<I>(bits<typename Of<V>::Uns>(b) >> mantissa_bits<V>)) - exponent_bias<V>;
  V m = bits<V>((b & (((I{} + 1) << mantissa_bits<V>) - 1)) + root);
  V magic = num<V>(is_single<V> ? 0x1.8p23 : 0x1.8p52);
  V ev = bits<V>(e + bits<I>(magic)) - magic;
  return {m, ev - select<V>(small, num<V>(mantissa_bits<V>), num<V>(0))};
}

/* log(1 + f) - f for 1 + f in [sqrt 1/2, sqrt 2), apart from the leading -f^2/2 which is returned in `half` */
template <class V> NF_INLINE V log1p_tail(V f, V& half) {
  V f2 = f * f;
  half = f2 * num<V>(0.5);
  if constexpr (is_single<V>)
    return f2 * f * poly(f, 0.069716114715, -0.11479733847, 0.11685419923, -0.12425687331, 0.14249057646, -0.1666780232, 0.20000715749, -0.24999996958, 0.3333333118);
  else {
    V s = f / (num<V>(2) + f), z = s * s; /* log(1 + f) = 2 atanh(s) */
    V r = z * poly(z, 2.0 / 25, 2.0 / 23, 2.0 / 21, 2.0 / 19, 2.0 / 17, 2.0 / 15, 2.0 / 13, 2.0 / 11, 2.0 / 9, 2.0 / 7, 2.0 / 5, 2.0 / 3);
    return s * (half + r);
  }
}

template <class V> NF_INLINE V log_special(V x, V y) {
  y = select<V>(x == num<V>(0), num<V>(-__builtin_inf()), y);
  y = select<V>(x < num<V>(0), num<V>(__builtin_nan("")), y);
  return select<V>(or_(x == num<V>(__builtin_inf()), x != x), x, y);
}

template <class V> NF_INLINE V log(V x) {
  Split2<V> t = split_exponent(x);
  V hi = num<V>(is_single<V> ? 0.693359375 : 0x1.62e42feep-1), lo = num<V>(is_single<V> ? -2.12194440054690583e-4 : 0x1.a39ef35793c76p-33);
  V f = t.m - num<V>(1), half, tail = log1p_tail(f, half);
  return log_special<V>(x, t.e * hi + (f - (half - (tail + t.e * lo))));
}

template <class V> NF_INLINE V log2(V x) {
  Split2<V> t = split_exponent(x);
  V f = t.m - num<V>(1), half, tail = log1p_tail(f, half);
  V log2e_hi = num<V>(is_single<V> ? 1.4423828125 : 0x1.7154765p0), log2e_lo = num<V>(is_single<V> ? 3.1222838e-4 : 0x1.5c17f0bbbe880p-31);
  V y = f - (half - tail);
  return log_special<V>(x, t.e + (y * log2e_hi + y * log2e_lo));
}

/* Kahan: the error of u = 1 + x cancels in x / (u - 1) */
template <class V> NF_INLINE V log1p(V x) {
  V one = num<V>(1), u = one + x;
  V y = log(u) * (x / (u - one));
  y = select<V>(u == one, x, y);
  return select<V>(or_(x == num<V>(-1), x == num<V>(__builtin_inf())), log(u), y);
}

/* ---- erf */

template <class V> NF_INLINE V erf(V x) {
  V a = abs(x), one = num<V>(1);
  if constexpr (is_single<V>) {
    V z = a * a;
    V small = a * poly(z, 8.387074557e-5, -0.0008147081117, 0.005201456326, -0.02685958812, 0.1128369935, -0.3761263402, 1.128379167);
    V c = select<V>(a > num<V>(4), num<V>(4), a); /* erf(4) rounds to 1 */
    V big = one - exp(poly(c, 1.643569654e-6, -4.617791279e-5, 0.000597743472, -0.004763575249, 0.0264310176, -0.1100944808,
                           -0.6318145167, -1.130237616, 0.0003204415313)); /* log erfc on [0.92, 4] */
    return copysign<V>(select<V>(a < num<V>(0.92), small, big), x);
  } else {
    V z = a * a;
    V small = a * poly(z, -4.2309458242953378173e-12, 8.7090451290531066896e-11, -1.2164560057283450081e-9, 1.4792401209404813002e-8,
                       -1.6364642158167615302e-7, 1.6462045441468418937e-6, -0.000014925647567519332125, 0.0001205533290288873541,
                       -0.00085483270219348295955, 0.0052239776254232983087, -0.026866170645129840806, 0.11283791670955120236,
                       -0.37612638903183752379, 1.1283791670955125739);
    V c = select<V>(a > num<V>(6), num<V>(6), a); /* erf(6) rounds to 1 */
    V u = (c - num<V>(3)) / (c + num<V>(3));      /* e^(c^2) erfc(c) on [1, 6] */
    V q = poly(u, -2.0355575642200859218e-7, -2.6915157592850124842e-7, 1.2459620847174091823e-6, 2.1124428949403865976e-6,
               -7.9776965796440728579e-6, -0.000012859347351455289403, 0.000064056577940516656969, 0.00004525520140579536031,
               -0.00059706195318153519556, 0.00070774644356119723542, 0.0042691363330778686353, -0.024392499318790734847,
               0.071665837197973308226, -0.1501159365007758145, 0.24560380171233091336, -0.32623356004303723321,
               0.17900115118138995038);
    return copysign<V>(select<V>(a < one, small, one - q * exp<V>(-(c * c))), x);
  }
}

}  // namespace nf
