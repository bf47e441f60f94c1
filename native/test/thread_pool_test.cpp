#include "devices/cpu/thread_pool.h"

#include <algorithm>
#include <chrono>

#include "check.h"

using namespace nimforge;

namespace {

struct Sum {
  std::vector<std::atomic<int>> hits;
  std::atomic<bool> wrong{false};
  std::int64_t grain, items;
  int threads;
};

void touch(void* context, std::int64_t begin, std::int64_t end, int thread) {
  auto& sum = *static_cast<Sum*>(context);
  if (thread < 0 || thread >= sum.threads || begin >= end || (end != sum.items && (end - begin) % sum.grain != 0)) sum.wrong = true;
  for (std::int64_t i = begin; i < end; ++i) ++sum.hits[i];
}

void nothing(void*, std::int64_t, std::int64_t, int) {}

double microsecondsPerLaunch(int threads) {
  ThreadPool pool(threads);
  std::vector<double> rounds;
  for (int round = 0; round < 20; ++round) {
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < 2000; ++i) pool.run(64, 1, nothing, nullptr);
    rounds.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count() / 2000);
  }
  std::sort(rounds.begin(), rounds.end());
  return rounds[rounds.size() / 2];
}

}  // namespace

TEST(pool_covers_every_item_once) {
  for (int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    for (std::int64_t items : {0, 1, 2, 63, 64, 1000, 100003})
      for (std::int64_t grain : {1, 7, 64, 1000000}) {
        Sum sum{std::vector<std::atomic<int>>(items), {}, grain, items, threads};
        for (int round = 0; round < 3; ++round) pool.run(items, grain, touch, &sum);
        CHECK(!sum.wrong);
        CHECK(std::all_of(sum.hits.begin(), sum.hits.end(), [](const auto& hit) { return hit == 3; }));
      }
  }
}

TEST(pool_wakes_after_sleep) {
  ThreadPool pool(4);
  for (int round = 0; round < 50; ++round) {
    Sum sum{std::vector<std::atomic<int>>(1000), {}, 1, 1000, 4};
    pool.run(1000, 1, touch, &sum);
    CHECK(std::all_of(sum.hits.begin(), sum.hits.end(), [](const auto& hit) { return hit == 1; }));
    std::this_thread::sleep_for(std::chrono::microseconds(round * 20));
  }
}

TEST(pool_latency) {
  for (int threads : {1, 2, 8}) std::printf("     %d threads: %.2f us per launch\n", threads, microsecondsPerLaunch(threads));
}
