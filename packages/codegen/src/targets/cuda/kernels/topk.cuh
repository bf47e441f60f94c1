/* The k best elements of each row in order, with their positions. Ties go to the lower position; NaN is above every number, -0 is 0.
 *
 * Elements become unsigned keys whose order is the wanted one, so an entry (key, position) is unique and the result does not depend
 * on the order of threads. A short row is sorted whole; of a longer one a radix select finds the last entry that is wanted, digit by
 * digit of the key, then of the position, and the k entries up to it are sorted. More entries than fit in shared memory are sorted in
 * the output, where only positions are kept.
 *
 *   dims:    outer size inner k                x is [outer, size, inner], values and positions are [outer, k, inner]
 *   items    = outer * inner
 *   scratch  = TopKConfig::shared_bytes
 */
#pragma once
#include "scalars.cuh"

namespace nf {

/* ---- orders: `Storage`; `Key`, unsigned; `key`, ascending as the values with NaN highest, in the low `key_bits` bits */

template <class S, class K, K INFINITY_BITS> struct OrderFloat {
  typedef S Storage;
  typedef K Key;
  static constexpr int key_bits = 8 * sizeof(S);
  static NF_DEVICE Key key(Storage x) {
    constexpr Key sign = Key(1) << (key_bits - 1), every = sign | (sign - 1);
    Key b;
    if constexpr (sizeof(S) == sizeof(K)) b = bits<Key>(x);
    else b = (Key)x;
    const Key magnitude = b & (sign - 1);
    if (magnitude > INFINITY_BITS) return every;
    return magnitude == 0 ? sign : b & sign ? every - b : b | sign;
  }
};
typedef OrderFloat<unsigned short, unsigned, 0x7c00u> OrderFloat16;
typedef OrderFloat<unsigned short, unsigned, 0x7f80u> OrderBFloat16;
typedef OrderFloat<float, unsigned, 0x7f800000u> OrderFloat32;
typedef OrderFloat<double, unsigned long long, 0x7ff0000000000000ull> OrderFloat64;
/* Smaller floats, by their value. */
template <float (*DECODE)(unsigned char)> struct OrderSmallFloat {
  typedef unsigned char Storage;
  typedef unsigned Key;
  static constexpr int key_bits = 32;
  static NF_DEVICE Key key(Storage x) { return OrderFloat32::key(DECODE(x)); }
};
/* Integers T, whose unsigned type is U. */
template <class T, class U> struct OrderInteger {
  typedef T Storage;
  typedef decltype(U() + 0u) Key;
  static constexpr int key_bits = 8 * sizeof(T);
  static constexpr Key flip = T(-1) < T(0) ? Key(1) << (key_bits - 1) : 0;
  static NF_DEVICE Key key(Storage x) { return (Key)(U)x ^ flip; }
};

/* CAPACITY entries fit in shared memory: rows up to it are sorted there whole. */
template <class Order, bool LARGEST, int THREADS, int CAPACITY> struct TopKConfig {
  typedef typename Order::Storage Storage;
  typedef typename Order::Key Key;
  static_assert(THREADS % 32 == 0);
  static constexpr int threads = THREADS, capacity = CAPACITY, key_bits = Order::key_bits;
  static constexpr Key every = ~Key(0) >> (8 * (int)sizeof(Key) - key_bits);
  static NF_DEVICE Key key(Storage x) { return LARGEST ? every - Order::key(x) : Order::key(x); }
  static constexpr int bins_at = CAPACITY * (int)(sizeof(Key) + 4);
  static constexpr int found_at = bins_at + 256 * 4;
  static constexpr int shared_bytes = found_at + 4 * 4;
};

template <class Key> struct TopKEntry {
  Key key;
  unsigned position;
  NF_DEVICE bool operator<(const TopKEntry& other) const {
    return key < other.key || (key == other.key && position < other.position);
  }
};

/* Entries in shared memory. */
template <class C> struct TopKShared {
  typename C::Key* keys;
  unsigned* positions;
  NF_DEVICE TopKEntry<typename C::Key> get(Index i) const { return {keys[i], positions[i]}; }
  NF_DEVICE void put(Index i, TopKEntry<typename C::Key> e) const { keys[i] = e.key, positions[i] = e.position; }
};
/* Entries in the output: keys are looked up in the row. */
template <class C> struct TopKOutput {
  const typename C::Storage* row;
  long long* positions;
  Index inner;
  NF_DEVICE TopKEntry<typename C::Key> get(Index i) const {
    const unsigned position = (unsigned)positions[i * inner];
    return {C::key(row[(Index)position * inner]), position};
  }
  NF_DEVICE void put(Index i, TopKEntry<typename C::Key> e) const { positions[i * inner] = e.position; }
};

/* Bitonic sort, ascending, of any number of entries: every comparison leaves the smaller entry at the lower place, so entries that the
 * network has beyond `count` would be infinite and never move. */
template <int THREADS, class Entries> NF_DEVICE void topk_sort(const Entries& entries, Index count) {
  Index width = 1;
  while (width < count) width *= 2;
  const auto order = [&](Index i, Index j) {
    if (j >= count) return;
    const auto a = entries.get(i), b = entries.get(j);
    if (b < a) entries.put(i, b), entries.put(j, a);
  };
  for (Index run = 2; run <= width; run *= 2) {
    for (Index t = tid(); t < width / 2; t += THREADS) { /* two sorted halves to a bitonic pair */
      const Index from = t / (run / 2) * run, o = t % (run / 2);
      order(from + o, from + run - 1 - o);
    }
    sync();
    for (Index step = run / 4; step > 0; step /= 2) {
      for (Index t = tid(); t < width / 2; t += THREADS) {
        const Index i = t / step * (2 * step) + t % step;
        order(i, i + step);
      }
      sync();
    }
  }
}

/* In which of the 256 bins the entry of rank `rank` (from 1) lies: found[0] the bin, found[1] entries in bins before it, found[2] in it. */
NF_DEVICE void topk_find_bin(const int* bins, int rank, int* found) {
  if (warp() == 0) {
    int own = 0;
    NF_UNROLL
    for (int i = 0; i < 8; ++i) own += bins[8 * lane() + i];
    int until = own;
    NF_UNROLL
    for (int x = 1; x < 32; x <<= 1) {
      const int other = shfl_up(until, x);
      if (lane() >= x) until += other;
    }
    int before = until - own;
    if (before < rank && rank <= until) {
      int i = 8 * lane();
      while (before + bins[i] < rank) before += bins[i++];
      found[0] = i, found[1] = before, found[2] = bins[i];
    }
  }
}

/* The last of the row's k smallest entries, or one between it and the next; k < size. */
template <class C> NF_DEVICE TopKEntry<typename C::Key> topk_select(const typename C::Storage* row, Index size, Index inner, Index k) {
  typedef typename C::Key Key;
  int* const bins = shared<int>(C::bins_at);
  int* const found = shared<int>(C::found_at);
  TopKEntry<Key> last{0, 0};
  int rank = (int)k;
  /* Counts the digits of entries that agree with `last` above them and keeps the bin that the last wanted one is in; true when that
   * bin is wanted whole. */
  const auto refine = [&](auto digit, auto agrees) {
    for (int i = tid(); i < 256; i += C::threads) bins[i] = 0;
    sync();
    for (Index i = tid(); i < size; i += C::threads) {
      const TopKEntry<Key> e{C::key(row[i * inner]), (unsigned)i};
      if (agrees(e)) atomic_add(&bins[digit(e)], 1);
    }
    sync();
    topk_find_bin(bins, rank, found);
    sync();
    rank -= found[1];
    return found[2] == rank;
  };
  for (int shift = C::key_bits - 8; shift >= 0; shift -= 8) {
    const Key above = ~((Key(256) << shift) - 1);
    const bool whole = refine([&](const TopKEntry<Key>& e) { return (int)(e.key >> shift & 255); },
                              [&](const TopKEntry<Key>& e) { return ((e.key ^ last.key) & above) == 0; });
    last.key |= (Key)found[0] << shift;
    if (whole) return {last.key | ((Key(1) << shift) - 1), ~0u};
  }
  int shift = 0;
  while (shift < 24 && (unsigned)(size - 1) >> shift >> 8) shift += 8;
  for (unsigned above = 0; shift >= 0; shift -= 8) {
    const bool whole = refine([&](const TopKEntry<Key>& e) { return (int)(e.position >> shift & 255); },
                              [&](const TopKEntry<Key>& e) { return e.key == last.key && ((e.position ^ last.position) & above) == 0; });
    last.position |= (unsigned)found[0] << shift;
    above |= 255u << shift;
    if (whole) return {last.key, last.position | ((1u << shift) - 1)};
  }
  return last;
}

template <class C>
NF_DEVICE void topk(const NfInt* dims, const typename C::Storage* x, typename C::Storage* values, long long* positions) {
  typedef typename C::Key Key;
  typedef TopKEntry<Key> Entry;
  const Index size = (Index)dims[1], inner = (Index)dims[2], k = (Index)dims[3];
  const Index item = (Index)block(), o = item / inner, i = item - o * inner;
  const typename C::Storage* const row = x + o * size * inner + i;
  typename C::Storage* const best = values + o * k * inner + i;
  long long* const at = positions + o * k * inner + i;
  if (k == 0) return;
  const auto finish = [&](const auto& entries, Index count) {
    sync();
    topk_sort<C::threads>(entries, count);
    for (Index n = tid(); n < k; n += C::threads) {
      const unsigned position = entries.get(n).position;
      best[n * inner] = row[(Index)position * inner];
      at[n * inner] = position;
    }
  };
  const TopKShared<C> fast{shared<Key>(), shared<unsigned>(C::capacity * (int)sizeof(Key))};
  const TopKOutput<C> large{row, at, inner};
  if (size <= C::capacity) {
    for (Index n = tid(); n < size; n += C::threads) fast.put(n, Entry{C::key(row[n * inner]), (unsigned)n});
    finish(fast, size);
    return;
  }
  if (k == size) {
    for (Index n = tid(); n < size; n += C::threads) large.put(n, Entry{0, (unsigned)n});
    finish(large, size);
    return;
  }
  const Entry last = topk_select<C>(row, size, inner, k);
  int* const taken = shared<int>(C::found_at) + 3;
  if (tid() == 0) *taken = 0;
  sync();
  const auto gather = [&](const auto& entries) {
    for (Index n = tid(); n < size; n += C::threads) {
      const Entry e{C::key(row[n * inner]), (unsigned)n};
      if (!(last < e)) entries.put(atomic_add(taken, 1), e);
    }
    finish(entries, k);
  };
  if (k <= C::capacity) gather(fast);
  else gather(large);
}

}  // namespace nf
