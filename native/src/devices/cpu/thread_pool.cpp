#include "devices/cpu/thread_pool.h"

#include <algorithm>
#include <chrono>
#include <system_error>

#include "cpu_features.h"
#include "error.h"

namespace nimforge {
namespace {

constexpr std::uint32_t kOpen = 1u << 31;
constexpr int kPartsPerThread = 8;
constexpr std::chrono::microseconds kSpin{50};

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Until `done`, for at most kSpin.
template <typename Done>
bool spinUntil(Done done) {
  const auto end = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 32; ++i) {
      if (done()) return true;
      pause();
    }
  } while (std::chrono::steady_clock::now() < end);
  return done();
}

}  // namespace

ThreadPool::ThreadPool(int threads) : threads_(std::max(threads, 1)), spins_(threads_ <= int(std::thread::hardware_concurrency())) {
  try {
    for (int i = 1; i < threads_; ++i) workers_.emplace_back([this, i] { work(i); });
  } catch (const std::system_error&) {
    stop_ = true;
    ++epoch_;
    epoch_.notify_all();
    for (auto& worker : workers_) worker.join();
    throw limit("threads", "the system refuses to start " + std::to_string(threads_) + " threads").advise("use fewer threads (--threads N)");
  }
}

ThreadPool::~ThreadPool() {
  stop_ = true;
  ++epoch_;
  epoch_.notify_all();
  for (auto& worker : workers_) worker.join();
}

void ThreadPool::run(std::int64_t items, std::int64_t grain, Body body, void* context) {
  grain = std::max<std::int64_t>(grain, 1);
  if (items <= 0) return;
  if (threads_ == 1 || items <= grain) return body(context, 0, items, 0);
  const std::int64_t even = (items - 1) / (std::int64_t(threads_) * kPartsPerThread) + 1;
  const std::int64_t part = std::max(grain, (even - 1) / grain * grain + grain);
  job_ = {items, part, body, context};
  cursor_.store(0, std::memory_order_relaxed);
  gate_.fetch_or(kOpen, std::memory_order_release);
  epoch_.fetch_add(1);
  if (sleepers_.load() > 0) epoch_.notify_all();
  drain(0);
  gate_.fetch_and(~kOpen, std::memory_order_acq_rel);
  const auto empty = [this] { return gate_.load(std::memory_order_acquire) == 0; };
  if (spins_ && spinUntil(empty)) return;
  for (std::uint32_t inside; (inside = gate_.load(std::memory_order_acquire)) != 0;) gate_.wait(inside);
}

void ThreadPool::drain(int thread) {
  const Job job = job_;
  for (;;) {
    const std::int64_t begin = cursor_.fetch_add(job.part, std::memory_order_relaxed);
    if (begin >= job.items) return;
    job.body(job.context, begin, std::min(begin + job.part, job.items), thread);
  }
}

void ThreadPool::work(int thread) {
  for (std::uint32_t seen = 0; awaitNext(seen);) {
    seen = epoch_.load();
    if (gate_.fetch_add(1, std::memory_order_acq_rel) & kOpen) drain(thread);
    if (gate_.fetch_sub(1, std::memory_order_acq_rel) == 1) gate_.notify_one();
  }
}

// False: the pool ends.
bool ThreadPool::awaitNext(std::uint32_t seen) {
  const auto next = [&] { return epoch_.load(std::memory_order_acquire) != seen; };
  if (!spins_ || !spinUntil(next)) {
    sleepers_.fetch_add(1);
    while (!next()) epoch_.wait(seen);
    sleepers_.fetch_sub(1);
  }
  return !stop_;
}

}  // namespace nimforge
