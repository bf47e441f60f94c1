// Workers that share one launch at a time. Between launches they spin for some microseconds, then sleep. A worker joins a
// launch by itself and the caller waits only for those that joined: one that the system has not woken delays nothing.
#pragma once
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace nimforge {

class ThreadPool {
 public:
  // [begin, end) on worker `thread`. Must not throw.
  using Body = void (*)(void* context, std::int64_t begin, std::int64_t end, int thread);

  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return threads_; }
  // Covers [0, items) in parts of at least `grain`; the caller takes part as worker 0. One caller at a time.
  void run(std::int64_t items, std::int64_t grain, Body body, void* context);

 private:
  struct Job {
    std::int64_t items, part;
    Body body;
    void* context;
  };
  void work(int thread);
  void drain(int thread);
  bool awaitNext(std::uint32_t seen);

  const int threads_;
  const bool spins_;
  Job job_{};
  alignas(64) std::atomic<std::int64_t> cursor_{0};
  // Bit 31: a launch may be joined. The rest: workers inside.
  alignas(64) std::atomic<std::uint32_t> gate_{0};
  alignas(64) std::atomic<std::uint32_t> epoch_{0};
  std::atomic<int> sleepers_{0};
  std::atomic<bool> stop_{false};
  std::vector<std::thread> workers_;
};

}  // namespace nimforge
