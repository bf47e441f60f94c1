/* Running totals along an axis of [outer, size, inner], in an order that only positions decide.
 *
 * scan_rows: a block takes one row, in tiles of THREADS * ITEMS elements: each thread adds its ITEMS neighbours, lanes scan these sums,
 * warps scan theirs, and the total goes on to the next tile. No block waits for another: the order never depends on timing.
 * scan_columns: a thread takes one row and goes along it; neighbouring threads read neighbouring elements where inner is large.
 *
 *   scan_rows      items = outer * inner                      scratch = scan_shared_bytes<Acc, THREADS>
 *   scan_columns   items = ceil(outer * inner / THREADS)      scratch = 0
 *
 * Monoid: `typedef Acc`, `static Acc identity()`, `static Acc combine(Acc, Acc)`.
 * In: `Acc at(Index o, Index k, Index i) const`. Out: `void put(Acc, Index o, Index k, Index i) const`.
 */
#pragma once
#include "device.cuh"

namespace nf {

template <class T> struct ScanSum {
  typedef T Acc;
  static NF_DEVICE T identity() { return T(0); }
  static NF_DEVICE T combine(T a, T b) { return a + b; }
};
template <class T> struct ScanProduct {
  typedef T Acc;
  static NF_DEVICE T identity() { return T(1); }
  static NF_DEVICE T combine(T a, T b) { return a * b; }
};

template <class Acc, int THREADS> constexpr int scan_shared_bytes = THREADS / 32 * (int)sizeof(Acc);

template <class Monoid, bool EXCLUSIVE, bool REVERSE, int THREADS, int ITEMS, class In, class Out>
NF_DEVICE void scan_rows(Index size, Index inner, const In& in, const Out& out) {
  typedef typename Monoid::Acc Acc;
  constexpr int warps = THREADS / 32;
  static_assert(THREADS % 32 == 0 && warps <= 32);
  Acc* const totals = shared<Acc>();
  const Index row = (Index)block(), o = row / inner, i = row - o * inner;
  Acc carry = Monoid::identity();
  for (Index first = 0; first < size; first += THREADS * ITEMS) {
    const Index own = first + tid() * ITEMS;
    Acc before[ITEMS + 1]; /* totals of this thread's elements before each */
    before[0] = Monoid::identity();
    NF_UNROLL
    for (int e = 0; e < ITEMS; ++e) {
      const Index k = own + e;
      before[e + 1] = k < size ? Monoid::combine(before[e], in.at(o, REVERSE ? size - 1 - k : k, i)) : before[e];
    }
    Acc until = before[ITEMS];
    NF_UNROLL
    for (int x = 1; x < 32; x <<= 1) {
      const Acc other = shfl_up(until, x);
      if (lane() >= x) until = Monoid::combine(other, until);
    }
    if (lane() == 31) totals[warp()] = until;
    sync();
    Acc base = carry;
    NF_UNROLL
    for (int w = 0; w < warps; ++w) {
      if (w == warp()) base = carry;
      carry = Monoid::combine(carry, totals[w]);
    }
    sync(); /* the next tile writes totals */
    const Acc lanes = shfl_up(until, 1);
    if (lane() > 0) base = Monoid::combine(base, lanes);
    NF_UNROLL
    for (int e = 0; e < ITEMS; ++e) {
      const Index k = own + e;
      if (k < size) out.put(Monoid::combine(base, before[EXCLUSIVE ? e : e + 1]), o, REVERSE ? size - 1 - k : k, i);
    }
  }
}

template <class Monoid, bool EXCLUSIVE, bool REVERSE, int THREADS, class In, class Out>
NF_DEVICE void scan_columns(Index outer, Index size, Index inner, const In& in, const Out& out) {
  typedef typename Monoid::Acc Acc;
  constexpr int ahead = 8; /* loads in flight */
  const Index row = (Index)block() * THREADS + tid();
  if (row >= outer * inner) return;
  const Index o = row / inner, i = row - o * inner;
  Acc total = Monoid::identity();
  for (Index first = 0; first < size; first += ahead) {
    Acc x[ahead];
    NF_UNROLL
    for (int e = 0; e < ahead; ++e) {
      const Index k = first + e;
      x[e] = k < size ? in.at(o, REVERSE ? size - 1 - k : k, i) : Monoid::identity();
    }
    NF_UNROLL
    for (int e = 0; e < ahead; ++e) {
      const Index k = first + e;
      const Acc until = Monoid::combine(total, x[e]);
      if (k < size) out.put(EXCLUSIVE ? total : until, o, REVERSE ? size - 1 - k : k, i);
      total = until;
    }
  }
}

}  // namespace nf
