#include "arena.h"

#include <algorithm>
#include <random>

#include "check.h"
#include "error.h"

using namespace nimforge;

static void checkPlan(const std::vector<ArenaItem>& items, const ArenaPlan& plan, std::int64_t alignment) {
  for (std::size_t i = 0; i < items.size(); ++i) {
    CHECK(plan.offsets[i] >= 0 && plan.offsets[i] % alignment == 0);
    CHECK(plan.offsets[i] + items[i].bytes <= plan.bytes);
    if (items[i].fixed >= 0) CHECK(plan.offsets[i] == items[i].fixed);
    for (std::size_t k = 0; k < i; ++k) {
      const bool together = items[i].first <= items[k].last && items[k].first <= items[i].last;
      const bool apart = plan.offsets[i] + items[i].bytes <= plan.offsets[k] || plan.offsets[k] + items[k].bytes <= plan.offsets[i];
      if (together && items[i].bytes > 0 && items[k].bytes > 0) CHECK(apart);
    }
  }
  CHECK(plan.lowerBound <= plan.bytes);
}

TEST(arena_random_plans_are_sound) {
  std::mt19937 random(1);
  double worst = 1;
  for (int round = 0; round < 200; ++round) {
    std::vector<ArenaItem> items;
    const int count = 1 + int(random() % 60);
    for (int i = 0; i < count; ++i) {
      const int first = int(random() % 40);
      items.push_back({std::int64_t(random() % 5000), first, first + int(random() % 8), -1});
    }
    const ArenaPlan plan = planArena(items);
    checkPlan(items, plan, 64);
    worst = std::max(worst, double(plan.bytes) / double(std::max<std::int64_t>(peakBytes(items, 64), 1)));
  }
  std::printf("     worst arena / padded bound: %.3f\n", worst);
  CHECK(worst < 1.15);
}

TEST(arena_chain_meets_its_bound) {
  // A network without branches: every value lives for two steps.
  std::vector<ArenaItem> items;
  for (int i = 0; i < 100; ++i) items.push_back({64 * (1 + i * 37 % 29), i, i + 1, -1});
  const ArenaPlan plan = planArena(items);
  checkPlan(items, plan, 64);
  CHECK(plan.bytes == plan.lowerBound);
}

TEST(arena_keeps_fixed_items) {
  const std::vector<ArenaItem> items = {{100, 0, 5, 128}, {60, 0, 5, 512}, {200, 2, 3, -1}, {64, 3, 4, -1}, {0, 3, 3, -1}};
  const ArenaPlan plan = planArena(items);
  checkPlan(items, plan, 64);
  CHECK(plan.bytes == 576);
}

TEST(arena_is_deterministic_and_checks_sizes) {
  std::vector<ArenaItem> items;
  for (int i = 0; i < 50; ++i) items.push_back({(i * 7919) % 4000, i % 20, i % 20 + i % 5, -1});
  CHECK(planArena(items).offsets == planArena(items).offsets);
  CHECK(planArena({}).bytes == 0);
  bool refused = false;
  try {
    planArena({{INT64_MAX / 2, 0, 1, -1}, {INT64_MAX / 2, 0, 1, -1}, {INT64_MAX / 2, 0, 1, -1}});
  } catch (const Error& error) {
    refused = error.kind == "limit";
  }
  CHECK(refused);
}
