/* What this machine can do: bytes read from memory and multiply-adds a second, on the given number of threads. Prints JSON. */
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

typedef float Vec __attribute__((vector_size(VECTOR_BYTES)));

static double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/* Runs `work` on all threads at once, several times; the best time. */
template <class Work> static double best(int threads, int times, Work work) {
  double least = 1e30;
  for (int k = 0; k < times; ++k) {
    std::vector<std::thread> pool;
    double start = seconds();
    for (int t = 0; t < threads; ++t) pool.emplace_back(work, t);
    for (auto& thread : pool) thread.join();
    double taken = seconds() - start;
    if (taken < least) least = taken;
  }
  return least;
}

static volatile float sink;

int main(int argc, char** argv) {
  int threads = argc > 1 ? atoi(argv[1]) : 1;
  const size_t bytes = size_t(256) << 20; /* of each thread, far above any cache */
  std::vector<std::vector<Vec>> data(threads);
  for (auto& part : data) part.assign(bytes / sizeof(Vec), Vec{} + 1.0f);
  double read = best(threads, 5, [&](int t) {
    Vec sum[8] = {};
    const Vec* p = data[t].data();
    for (size_t i = 0; i < bytes / sizeof(Vec); i += 8)
      for (int k = 0; k < 8; ++k) sum[k] += p[i + k];
    for (int k = 1; k < 8; ++k) sum[0] += sum[k];
    sink = sum[0][0];
  });
  const long steps = 10000000; /* 12 independent chains hide the latency of a multiply-add */
  double fma = best(threads, 5, [&](int) {
    Vec a[12], x = Vec{} + 0.999f, y = Vec{} + 0.001f; /* converges to 1: no denormals */
    for (int k = 0; k < 12; ++k) a[k] = Vec{} + float(k);
    for (long i = 0; i < steps; ++i)
      for (int k = 0; k < 12; ++k) a[k] = a[k] * x + y;
    for (int k = 1; k < 12; ++k) a[0] += a[k];
    sink = a[0][0];
  });
  double lanes = sizeof(Vec) / sizeof(float);
  printf("{\"readGBs\": %.1f, \"fmaGFlops\": %.1f}\n", threads * double(bytes) / read / 1e9, threads * 2.0 * 12 * lanes * steps / fma / 1e9);
}
