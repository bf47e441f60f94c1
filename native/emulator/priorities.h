// Which thread of a block runs next: the ready one of the highest priority, and priorities are random.
//
// A uniform choice among ready threads keeps the warps in step, so that a missing barrier between a read and the next write of the
// same place goes unseen. With fixed random priorities one warp runs as far ahead as synchronization lets it, which is what
// such a fault needs (probabilistic concurrency testing). Now and then a warp is put off behind all others: faults that need
// a second change of order.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

namespace nimforge {

// splitmix64
class Random {
 public:
  explicit Random(std::uint64_t seed = 0) : state_(seed) {}
  std::uint64_t next() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }
  int below(int n) { return int((next() >> 32) * std::uint64_t(n) >> 32); }

 private:
  std::uint64_t state_;
};

class Priorities {
 public:
  static constexpr int kMostThreads = 1024;

  // All `threads` (a multiple of 32) are ready, in a new order.
  void begin(int threads, std::uint64_t seed) {
    random_ = Random(seed);
    words_ = (threads + 63) / 64;
    threads_ = threads;
    ready_.fill(0);
    putOff_.fill(0);
    redraw();
    for (int rank = 0; rank < threads; ++rank) set(ready_, rank);
  }

  // New priorities; only while every thread is ready or none is.
  void redraw() {
    std::array<std::uint8_t, kMostThreads / 32> order;
    const int warps = threads_ / 32;
    for (int i = 0; i < warps; ++i) {
      const int j = random_.below(i + 1);
      order[i] = order[j];
      order[j] = std::uint8_t(i);
    }
    // Lanes of a warp one after the other, in an order that any lane may lead; one time in four all threads are mixed.
    const std::uint64_t r = random_.next();
    const int step = int(r >> 8 & 31) | 1, offset = int(r >> 16 & 31);
    for (int i = 0; i < warps; ++i)
      for (int k = 0; k < 32; ++k) {
        const int rank = i * 32 + k, thread = order[i] * 32 + ((k * step + offset) & 31);
        threadOf_[rank] = std::uint16_t(thread);
      }
    if (r % 4 == 0)
      for (int i = threads_ - 1; i > 0; --i) std::swap(threadOf_[i], threadOf_[random_.below(i + 1)]);
    for (int rank = 0; rank < threads_; ++rank) rankOf_[threadOf_[rank]] = std::uint16_t(rank);
  }

  void wake(int thread) { set(ready_, rankOf_[thread]); }
  // Ready, but behind all that are so already.
  void putOff(int thread) { set(putOff_, rankOf_[thread]); }
  bool chance(int in) { return random_.below(in) == 0; }

  // Takes the next thread; -1 when none is ready. `round` becomes true when those that were put off got their turn.
  int take(bool& round) {
    if (const int thread = takeFrom(ready_); thread >= 0) return thread;
    ready_.swap(putOff_);
    round = true;
    return takeFrom(ready_);
  }

 private:
  using Set = std::array<std::uint64_t, kMostThreads / 64>;
  static void set(Set& s, int i) { s[i >> 6] |= 1ull << (i & 63); }
  int takeFrom(Set& s) {
    for (int w = 0; w < words_; ++w)
      if (s[w]) {
        const int rank = w * 64 + std::countr_zero(s[w]);
        s[w] &= s[w] - 1;
        return threadOf_[rank];
      }
    return -1;
  }

  Random random_;
  int words_ = 0, threads_ = 0;
  Set ready_{}, putOff_{};
  std::array<std::uint16_t, kMostThreads> threadOf_, rankOf_;
};

}  // namespace nimforge
