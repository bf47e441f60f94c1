#include "arena.h"

#include <algorithm>
#include <functional>
#include <map>
#include <numeric>

#include "error.h"
#include "memory.h"

namespace nimforge {
namespace {

constexpr std::int64_t kMostBytes = std::int64_t{1} << 56;

bool meet(const ArenaItem& a, const ArenaItem& b) { return a.first <= b.last && b.first <= a.last; }

// Places items in a given order, each in the gap of least waste (best) or lowest offset (first) that its neighbours leave.
class Placer {
 public:
  enum class Fit { first, best };

  Placer(const std::vector<ArenaItem>& items, std::int64_t alignment) : items_(items), alignment_(alignment) {
    sizes_.reserve(items.size());
    for (const ArenaItem& item : items) sizes_.push_back(alignUp(item.bytes, alignment));
  }

  std::int64_t size(int i) const { return sizes_[i]; }

  // Offsets, and the end of the highest item; stops early with a value > `limit`.
  std::int64_t place(const std::vector<int>& order, Fit fit, std::vector<std::int64_t>& offsets, std::int64_t limit) {
    placed_.clear();
    std::int64_t end = 0;
    for (std::size_t i = 0; i < items_.size(); ++i) {
      if (items_[i].fixed < 0) continue;
      offsets[i] = items_[i].fixed;
      end = std::max(end, put(int(i), offsets[i]));
    }
    for (int i : order) {
      offsets[i] = find(i, fit);
      end = std::max(end, put(i, offsets[i]));
      if (end > limit) break;
    }
    return end;
  }

 private:
  // Kept by offset, so that one sweep sees the gaps.
  std::int64_t put(int i, std::int64_t offset) {
    const auto at = std::upper_bound(placed_.begin(), placed_.end(), offset, [](std::int64_t o, const Spot& s) { return o < s.offset; });
    placed_.insert(at, {offset, i});
    return offset + sizes_[i];
  }

  std::int64_t find(int i, Fit fit) const {
    if (sizes_[i] == 0) return 0;
    std::int64_t free = 0, best = -1, bestWaste = 0;
    for (const Spot& s : placed_) {
      if (sizes_[s.item] == 0 || !meet(items_[i], items_[s.item])) continue;
      const std::int64_t waste = s.offset - free - sizes_[i];
      if (waste >= 0) {
        if (fit == Fit::first) return free;
        if (best < 0 || waste < bestWaste) best = free, bestWaste = waste;
      }
      free = std::max(free, s.offset + sizes_[s.item]);
    }
    return best >= 0 ? best : free;
  }

  struct Spot {
    std::int64_t offset;
    int item;
  };
  const std::vector<ArenaItem>& items_;
  std::int64_t alignment_;
  std::vector<std::int64_t> sizes_;
  std::vector<Spot> placed_;
};

// For each item, the largest live sum of the steps it is live at (breadth: it lies under the peak).
std::vector<std::int64_t> breadths(const std::vector<ArenaItem>& items, const std::vector<std::int64_t>& live, const std::vector<int>& steps) {
  std::vector<std::int64_t> out(items.size(), 0);
  for (std::size_t i = 0; i < items.size(); ++i) {
    auto at = std::upper_bound(steps.begin(), steps.end(), items[i].first);
    for (std::size_t k = (at - steps.begin()) - 1; k < steps.size() && steps[k] <= items[i].last; ++k) out[i] = std::max(out[i], live[k]);
  }
  return out;
}

// Live bytes from each step at which something begins or ends, in order of steps.
void profile(const std::vector<ArenaItem>& items, std::int64_t alignment, std::vector<int>& steps, std::vector<std::int64_t>& live) {
  std::map<int, std::int64_t> change;
  for (const ArenaItem& item : items) {
    const std::int64_t size = alignUp(item.bytes, alignment);
    change[item.first] += size;
    change[item.last + 1] -= size;
  }
  std::int64_t now = 0;
  for (const auto& [step, delta] : change) {
    steps.push_back(step);
    live.push_back(now += delta);
  }
}

void checkSizes(const std::vector<ArenaItem>& items) {
  std::int64_t sum = 0;
  for (const ArenaItem& item : items)
    if (item.bytes < 0 || item.bytes > kMostBytes || (sum += item.bytes) > kMostBytes)
      throw limit("arena-size", "the buffers are larger than any machine's memory");
}

}  // namespace

std::int64_t peakBytes(const std::vector<ArenaItem>& items, std::int64_t alignment) {
  checkSizes(items);
  std::vector<int> steps;
  std::vector<std::int64_t> live;
  profile(items, alignment, steps, live);
  return live.empty() ? 0 : *std::max_element(live.begin(), live.end());
}

ArenaPlan planArena(const std::vector<ArenaItem>& items, std::int64_t alignment) {
  checkSizes(items);
  ArenaPlan plan;
  plan.lowerBound = peakBytes(items, 1);
  plan.offsets.assign(items.size(), 0);
  std::vector<int> steps;
  std::vector<std::int64_t> live;
  profile(items, alignment, steps, live);
  const std::int64_t target = live.empty() ? 0 : *std::max_element(live.begin(), live.end());
  const auto breadth = breadths(items, live, steps);

  Placer placer(items, alignment);
  std::vector<int> loose;
  for (std::size_t i = 0; i < items.size(); ++i)
    if (items[i].fixed < 0) loose.push_back(int(i));

  std::int64_t best = INT64_MAX;
  std::vector<int> bestOrder = loose;
  auto bestFit = Placer::Fit::first;
  std::vector<std::int64_t> offsets(items.size());
  // Sideways steps are taken as well: on a plateau they lead to the next way down.
  const auto attempt = [&](const std::vector<int>& order, Placer::Fit fit) {
    const std::int64_t end = placer.place(order, fit, offsets, best);
    if (end <= best) best = end, bestOrder = order, bestFit = fit, plan.offsets = offsets;
  };

  const auto length = [&](int i) { return std::int64_t(items[i].last) - items[i].first + 1; };
  using Key = std::function<std::vector<std::int64_t>(int)>;  // largest first
  const Key keys[] = {
      [&](int i) { return std::vector{placer.size(i), length(i)}; },
      [&](int i) { return std::vector{breadth[i], placer.size(i)}; },
      [&](int i) { return std::vector{length(i), placer.size(i)}; },
      [&](int i) { return std::vector<std::int64_t>{placer.size(i) / alignment * length(i), placer.size(i)}; },
      [&](int i) { return std::vector<std::int64_t>{-items[i].first, placer.size(i)}; },
      [&](int i) { return std::vector<std::int64_t>{items[i].last, placer.size(i)}; },
  };
  for (const Key& key : keys) {
    if (best <= target) break;
    std::vector<std::vector<std::int64_t>> value(items.size());
    for (int i : loose) value[i] = key(i);
    std::vector<int> order = loose;
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return value[a] > value[b]; });
    attempt(order, Placer::Fit::first);
    if (best > target) attempt(order, Placer::Fit::best);
  }

  // The item that sticks out highest is placed earlier: first of all, or before a random other one.
  std::uint64_t random = 0x9e3779b97f4a7c15;
  const std::int64_t square = std::int64_t(loose.size()) * std::int64_t(loose.size());
  const std::int64_t tries = loose.size() < 2 ? 0 : std::min<std::int64_t>(2000, 10'000'000 / square);
  for (std::int64_t t = 0; t < tries && best > target; ++t) {
    random ^= random << 13, random ^= random >> 7, random ^= random << 17;
    std::vector<int> order = bestOrder;
    std::vector<std::size_t> high;
    for (std::size_t k = 0; k < order.size(); ++k)
      if (plan.offsets[order[k]] + placer.size(order[k]) == best) high.push_back(k);
    const std::size_t from = high.empty() || t % 4 == 3 ? random % order.size() : high[random / 7 % high.size()];
    const std::size_t to = t % 3 == 0 ? 0 : random / 61 % (from + 1);
    std::rotate(order.begin() + to, order.begin() + from, order.begin() + from + 1);
    attempt(order, t % 2 == 0 ? bestFit : Placer::Fit::first);
  }
  plan.bytes = best == INT64_MAX ? 0 : best;
  return plan;
}

}  // namespace nimforge
