// Places buffers with lifetimes in one arena: an offset for each so that no two that are live at the same step overlap.
#pragma once
#include <cstdint>
#include <vector>

namespace nimforge {

struct ArenaItem {
  std::int64_t bytes;
  int first, last;           // steps, both included
  std::int64_t fixed = -1;   // offset that it already has
};

struct ArenaPlan {
  std::vector<std::int64_t> offsets;
  std::int64_t bytes = 0;
  // The largest sum, over steps, of the live items' unpadded bytes: no plan can be smaller.
  std::int64_t lowerBound = 0;
};

// Best of several greedy orders, then a local search around the best; deterministic. Throws limit when sizes overflow.
ArenaPlan planArena(const std::vector<ArenaItem>& items, std::int64_t alignment = 64);

// Largest sum over steps of live bytes, each rounded up to `alignment`.
std::int64_t peakBytes(const std::vector<ArenaItem>& items, std::int64_t alignment);

}  // namespace nimforge
