/* Reductions over a warp and over a block.
 *
 * A monoid is a struct with `Value`, `identity()`, `combine(a, b)` where a precedes b, and `exchange(v, x)`, the value of lane
 * ^ x. Its name is the printed one of the reduction with a capital: Sum, Prod, Max, Min, And, Or, Argmax, ArgmaxLast, Argmin,
 * ArgminLast; and Moments (mean and variance, Welford and Chan) and SoftmaxSum (running maximum and sum of exponentials).
 *
 *   warp_reduce<M>(v)                 over the lanes of a warp; LANES < 32: over groups of so many neighbours
 *   block_reduce<M>(v, scratch)       over the threads of a block; `scratch` is the byte offset of reduce_bytes<M>(threads)
 *   warp_reduce_over<M>(n, f)         f(i) for i in [0, n), neighbouring lanes neighbouring i
 *   block_reduce_over<M>(n, scratch, f)
 *
 * Every thread gets the result, the same bits. The order is that of a tree over lanes, then warps: it depends on the number
 * of threads alone. All threads of the warp (block) call, in blocks of whole warps. The scratch is free again on return, and
 * the caller may have used it for something else only before a barrier.
 */
#pragma once
#include "scalars.cuh"

namespace nf {

template <class T> constexpr bool is_floating = __is_same(T, float) || __is_same(T, double);

/* The value of another lane, for every element type. */
template <class T> NF_DEVICE T exchange_lanes(T v, int x) {
  if constexpr (is_floating<T>) return shfl_xor(v, x);
  else if constexpr (sizeof(T) == 8) return (T)shfl_xor((long long)v, x);
  else return (T)shfl_xor((int)v, x);
}

template <class T> struct Scalar {
  typedef T Value;
  static NF_DEVICE T exchange(T v, int x) { return exchange_lanes(v, x); }
};

/* Integers wrap. */
template <class T> struct Sum : Scalar<T> {
  static NF_DEVICE T identity() { return T(0); }
  static NF_DEVICE T combine(T a, T b) {
    if constexpr (is_floating<T>) return a + b;
    else return (T)((unsigned long long)a + (unsigned long long)b);
  }
};
template <class T> struct Prod : Scalar<T> {
  static NF_DEVICE T identity() { return T(1); }
  static NF_DEVICE T combine(T a, T b) {
    if constexpr (is_floating<T>) return a * b;
    else return (T)((unsigned long long)a * (unsigned long long)b);
  }
};

/* The least and the greatest value; of floats, the infinities. */
template <class T> NF_DEVICE T lowest() {
  if constexpr (is_floating<T>) return (T)-__builtin_inf();
  else if constexpr (T(-1) < T(0)) return (T)(1ull << (8 * sizeof(T) - 1));
  else return T(0);
}
template <class T> NF_DEVICE T highest() {
  if constexpr (is_floating<T>) return (T)__builtin_inf();
  else return (T)~lowest<T>();
}
template <> NF_DEVICE bool highest<bool>() { return true; }

/* NaN if any is NaN. */
template <class T> struct Max : Scalar<T> {
  static NF_DEVICE T identity() { return lowest<T>(); }
  static NF_DEVICE T combine(T a, T b) {
    if constexpr (is_floating<T>) return max<T>(a, b);
    else return b > a ? b : a;
  }
};
template <class T> struct Min : Scalar<T> {
  static NF_DEVICE T identity() { return highest<T>(); }
  static NF_DEVICE T combine(T a, T b) {
    if constexpr (is_floating<T>) return min<T>(a, b);
    else return b < a ? b : a;
  }
};

template <class T = bool> struct And : Scalar<T> {
  static NF_DEVICE T identity() { return T(1); }
  static NF_DEVICE T combine(T a, T b) { return a && b; }
};
template <class T = bool> struct Or : Scalar<T> {
  static NF_DEVICE T identity() { return T(0); }
  static NF_DEVICE T combine(T a, T b) { return a || b; }
};

/* A value and its place; a place below 0 stands for nothing. */
template <class T> struct Candidate {
  T value;
  Index index;
};

/* The first NaN, else the best value; of equals the first, or the last. */
template <class T, bool MAX, bool LAST> struct Arg {
  typedef Candidate<T> Value;
  static NF_DEVICE Value identity() { return {T(0), -1}; }
  static NF_DEVICE bool takes(Value a, Value b) {
    if (b.index < 0) return false;
    if (a.index < 0) return true;
    const bool first = b.index < a.index, nan = b.value != b.value;
    if (a.value != a.value) return nan && first;
    if (nan) return true;
    if (a.value == b.value) return first != LAST;
    return MAX ? b.value > a.value : b.value < a.value;
  }
  static NF_DEVICE Value combine(Value a, Value b) { return takes(a, b) ? b : a; }
  static NF_DEVICE Value exchange(Value v, int x) { return {exchange_lanes(v.value, x), exchange_lanes(v.index, x)}; }
};
template <class T> using Argmax = Arg<T, true, false>;
template <class T> using ArgmaxLast = Arg<T, true, true>;
template <class T> using Argmin = Arg<T, false, false>;
template <class T> using ArgminLast = Arg<T, false, true>;

/* Mean and sum of squared deviations. */
struct Moments {
  struct Value {
    float mean, m2, count;
  };
  static NF_DEVICE Value identity() { return {0, 0, 0}; }
  static NF_DEVICE Value of(float x) { return {x, 0, 1}; }
  static NF_DEVICE Value combine(Value a, Value b) {
    const float count = a.count + b.count, part = count == 0 ? 0 : b.count / count, delta = b.mean - a.mean;
    return {fma(delta, part, a.mean), fma(delta, delta * (a.count * part), a.m2 + b.m2), count};
  }
  /* The first n of N values, in two passes: one division, and no cancellation. */
  template <int N> static NF_DEVICE Value of_run(const float (&x)[N], int n) {
    if (n <= 0) return identity();
    float sum = 0, m2 = 0;
    NF_UNROLL
    for (int i = 0; i < N; ++i) sum += i < n ? x[i] : 0;
    const float mean = sum / (float)n;
    NF_UNROLL
    for (int i = 0; i < N; ++i) {
      const float d = i < n ? x[i] - mean : 0;
      m2 = fma(d, d, m2);
    }
    return {mean, m2, (float)n};
  }
  static NF_DEVICE Value exchange(Value v, int x) { return {shfl_xor(v.mean, x), shfl_xor(v.m2, x), shfl_xor(v.count, x)}; }
};

/* The maximum and the sum of e^(x - maximum). */
struct SoftmaxSum {
  struct Value {
    float max, sum;
  };
  static NF_DEVICE Value identity() { return {-__builtin_inff(), 0}; }
  static NF_DEVICE Value of(float x) { return {x, x == __builtin_inff() ? __builtin_nanf("") : 1.0f}; }
  static NF_DEVICE float weight(float part, float whole) { return part == whole ? 1.0f : exp<float>(part - whole); }
  static NF_DEVICE Value combine(Value a, Value b) {
    const float m = max<float>(a.max, b.max);
    return {m, fma(b.sum, weight(b.max, m), a.sum * weight(a.max, m))};
  }
  static NF_DEVICE Value exchange(Value v, int x) { return {shfl_xor(v.max, x), shfl_xor(v.sum, x)}; }
};

/* Lower lanes come first on both sides of an exchange, so that both compute the same. */
template <class M, int LANES = 32> NF_DEVICE typename M::Value warp_reduce(typename M::Value v) {
  NF_UNROLL
  for (int x = 1; x < LANES; x *= 2) {
    const typename M::Value other = M::exchange(v, x);
    v = lane() & x ? M::combine(other, v) : M::combine(v, other);
  }
  return v;
}

template <class M> constexpr int reduce_bytes(int threads) { return threads / 32 * (int)sizeof(typename M::Value); }

template <class M> NF_DEVICE typename M::Value block_reduce(typename M::Value v, int scratch = 0) {
  v = warp_reduce<M>(v);
  const int warps = threads() / 32;
  if (warps == 1) return v;
  typename M::Value* parts = shared<typename M::Value>(scratch);
  if (lane() == 0) parts[warp()] = v;
  sync();
  v = lane() < warps ? parts[lane()] : M::identity();
  sync();
  return warp_reduce<M>(v);
}

template <class M, class F> NF_DEVICE typename M::Value warp_reduce_over(Index n, F f) {
  typename M::Value v = M::identity();
  for (Index i = lane(); i < n; i += 32) v = M::combine(v, f(i));
  return warp_reduce<M>(v);
}

template <class M, class F> NF_DEVICE typename M::Value block_reduce_over(Index n, int scratch, F f) {
  typename M::Value v = M::identity();
  for (Index i = tid(); i < n; i += threads()) v = M::combine(v, f(i));
  return block_reduce<M>(v, scratch);
}

}  // namespace nf
