// The emulator runs kernels.cu as an engine would: an image with no symbols but its kernels.
#include "../emulator.h"

#include <dlfcn.h>

#include <cmath>
#include <cstring>
#include <ctime>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "../../test/check.h"
#include "../priorities.h"

using namespace nimforge;

namespace {

struct Outcome {
  int status;
  std::string fault;
  NfError error;
};

NfKernel kernel(const char* name) {
  static void* const image = dlopen(KERNELS, RTLD_NOW | RTLD_LOCAL);
  if (!image) std::printf("%s\n", dlerror());
  return reinterpret_cast<NfKernel>(dlsym(image, name));
}

Outcome launch(const char* name, std::vector<void*> buffers, std::vector<NfInt> dims, NfInt blocks, NfInt shared = 0, NfInt begin = 0,
               NfInt end = -1) {
  Outcome out{};
  const NfEmulator table = emulatorFor(blocks);
  NfLaunch l{buffers.data(), dims.data(), begin, end < 0 ? blocks : end, 0, 1, nullptr, &out.error, shared, &table};
  out.status = kernel(name)(&l);
  if (out.status) out.fault = lastEmulatorFault();
  return out;
}

struct Seed {
  explicit Seed(std::uint64_t seed) {
    EmulatorOptions options = before;
    options.seed = seed;
    setEmulatorOptions(options);
  }
  ~Seed() { setEmulatorOptions(before); }
  EmulatorOptions before = emulatorOptions();
};

// Of this thread's processor time: a busy machine does not count.
double seconds(auto f) {
  const auto now = [] {
    timespec t{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return double(t.tv_sec) + double(t.tv_nsec) * 1e-9;
  };
  const double start = now();
  f();
  return now() - start;
}

bool isNaN(float x) { return x != x; }

}  // namespace

TEST(threads_know_themselves) {
  std::vector<int> out(3 * 64 * 6, -1);
  CHECK(launch("numbers", {out.data()}, {}, 3).status == 0);
  for (int i = 0; i < 192; ++i) {
    const int expected[6] = {i % 64, 64, i % 32, i % 64 / 32, i / 64, 3};
    CHECK(std::memcmp(out.data() + i * 6, expected, sizeof expected) == 0);
  }
  // A part of the grid.
  std::vector<int> part(3 * 64 * 6, -1);
  CHECK(launch("numbers", {part.data()}, {}, 3, 0, 1, 2).status == 0);
  CHECK(part[64 * 6 + 4] == 1 && part[64 * 6 + 5] == 3 && part[0] == -1 && part[128 * 6] == -1);
}

TEST(barriers_keep_threads_in_step) {
  std::vector<int> out(256);
  for (int seed = 0; seed < 20; ++seed) {
    const Seed use(seed);
    CHECK(launch("rotate", {out.data()}, {100}, 1, 1024).status == 0);
    for (int i = 0; i < 256; ++i) CHECK(out[i] == (i + 100) % 256);
  }
}

TEST(order_depends_on_the_seed_alone) {
  std::set<std::vector<int>> orders;
  std::vector<int> first(512), counter(1);
  for (int seed = 0; seed < 10; ++seed) {
    const Seed use(seed);
    std::vector<int> order(512), again(512);
    counter[0] = 0;
    launch("arrival", {counter.data(), order.data()}, {}, 2);
    counter[0] = 0;
    launch("arrival", {counter.data(), again.data()}, {}, 2);
    CHECK(order == again);
    orders.insert(order);
    // Blocks have orders of their own.
    std::vector<int> one(order.begin(), order.begin() + 256), two(order.begin() + 256, order.end());
    for (int& x : two) x -= 256;
    CHECK(one != two);
  }
  CHECK(orders.size() == 10);
}

TEST(priorities_run_one_warp_ahead) {
  // Threads that always go on: the first to come runs until it waits, and every warp is first under some seed.
  std::set<int> first;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    Priorities p;
    p.begin(256, seed);
    bool round = false;
    const int thread = p.take(round);
    first.insert(thread / 32);
    p.wake(thread);
    CHECK(p.take(round) == thread);
    p.putOff(thread);
    for (int i = 1; i < 256; ++i) CHECK(p.take(round) != thread);
    CHECK(!round && p.take(round) == thread && round && p.take(round) == -1);
  }
  CHECK(first.size() == 8);
}

TEST(collectives) {
  for (int seed = 0; seed < 20; ++seed) {
    const Seed use(seed);
    std::vector<int> good(128);
    const Outcome o = launch("collectives", {good.data()}, {}, 1);
    CHECK(o.status == 0);
    if (o.status) std::printf("%s\n", o.fault.c_str());
    for (int g : good) CHECK(g == 1);
  }
}

TEST(atomics_over_blocks_and_workers) {
  float f[3] = {0, -1, 1};
  int i[3] = {0, -1, 1};
  long long l[3] = {0, -1, 1};
  unsigned u = 0;
  auto part = [&](NfInt begin, NfInt end) { CHECK(launch("atomics", {f, i, l, &u}, {}, 64, 4, begin, end).status == 0); };
  std::thread other(part, 0, 32);
  part(32, 64);
  other.join();
  CHECK(f[0] == 16384 && f[1] == 16383 && f[2] == -16383);
  CHECK(i[0] == 16384 && i[1] == 16383 && i[2] == -16383);
  CHECK(l[0] == 16384ll << 32 && l[1] == 16383ll << 32 && l[2] == -(16383ll << 32));
  CHECK(u == 64 * 512);
}

TEST(elementary_functions) {
  std::vector<float> x(32 * 4);
  for (int i = 0; i < 32; ++i) x[i * 4] = std::ldexp(1.0f + float(i) / 40, i % 7) * (i < 16 ? 1 : 0.1f);
  CHECK(launch("elementary", {x.data()}, {}, 1).status == 0);
  for (int i = 0; i < 32; ++i) {
    CHECK(std::fabs(x[i * 4 + 1] / std::exp2(double(x[i * 4])) - 1) < 3e-7);
    CHECK(std::fabs(x[i * 4 + 2] * double(x[i * 4]) - 1) < 2e-7);
    CHECK(std::fabs(x[i * 4 + 3] * std::sqrt(double(x[i * 4])) - 1) < 3e-7);
  }
  x[0] = 1000, x[4] = -1000, x[8] = NAN, x[12] = -126.5f, x[16] = 127.5f;
  launch("elementary", {x.data()}, {}, 1);
  CHECK(std::isinf(x[1]) && x[5] == 0 && isNaN(x[9]) && x[13] == 0 && x[17] > 2e38f && !std::isinf(x[17]));
}

TEST(named_barriers) {
  for (int seed = 0; seed < 20; ++seed) {
    const Seed use(seed);
    std::vector<int> sums(64);
    CHECK(launch("named", {sums.data()}, {50}, 1, 256).status == 0);
    for (int i = 0; i < 64; ++i) CHECK(sums[i] == 49 * 50 / 2 + 50 * (63 - i));
  }
}

TEST(spinning_threads_let_others_run) {
  for (int seed = 0; seed < 20; ++seed) {
    const Seed use(seed);
    int out = 0;
    CHECK(launch("flag", {&out}, {}, 1, 4).status == 0);
    CHECK(out == 7);
  }
}

TEST(asynchronous_copies) {
  std::vector<float> in(128), out(160);
  for (int i = 0; i < 128; ++i) in[i] = float(i + 1);
  CHECK(launch("zero_fill", {in.data(), out.data()}, {}, 1, 640).status == 0);
  for (int t = 0; t < 32; ++t) {
    for (int i = 0; i < 4; ++i) CHECK(out[t * 5 + i] == (i < t % 5 ? in[t * 4 + i] : 0));
    CHECK(out[t * 5 + 4] == in[t]);
  }
  CHECK(launch("poison", {in.data(), out.data()}, {}, 1, 256).status == 0);
  for (int i = 0; i < 64; ++i) CHECK(isNaN(out[i]));
}

TEST(deferred_groups) {
  std::vector<float> out(128 * 3);
  CHECK(launch("groups", {out.data()}, {}, 1).status == 0);
  for (int t = 0; t < 128; ++t) CHECK(out[t * 3] == -1 && out[t * 3 + 1] == 5 - 10 && out[t * 3 + 2] == 55);
}

// ---- planted faults: under every seed the kernel is stopped or its result is wrong, and the whole kernel never is

namespace {

bool rightGemm(const char* name) {
  constexpr int n = 64;
  std::vector<float> a(n * n), b(n * n), c(n * n);
  for (int i = 0; i < n * n; ++i) a[i] = float(i * 7 % 13 - 6), b[i] = float(i * 5 % 11 - 5);
  if (launch(name, {a.data(), b.data(), c.data()}, {n}, (n / 16) * (n / 16), 4096).status) return false;
  for (int i = 0; i < n; ++i)
    for (int j = 0; j < n; ++j) {
      float sum = 0;
      for (int k = 0; k < n; ++k) sum += a[i * n + k] * b[k * n + j];
      if (!(c[i * n + j] == sum)) return false;
    }
  return true;
}

bool rightSoftmax(const char* name) {
  constexpr int rows = 2, n = 700;
  std::vector<float> x(rows * n), y(rows * n);
  for (int i = 0; i < rows * n; ++i) x[i] = -20 - float(i * 37 % 101) / 10;  // below any partial sum
  if (launch(name, {x.data(), y.data()}, {n}, rows, 32).status) return false;
  for (int r = 0; r < rows; ++r) {
    double sum = 0;
    for (int i = 0; i < n; ++i) sum += std::exp(double(x[r * n + i]) + 20);
    for (int i = 0; i < n; ++i)
      if (!(std::fabs(y[r * n + i] - std::exp(double(x[r * n + i]) + 20) / sum) < 1e-6)) return false;
  }
  return true;
}

bool rightTranspose(const char* name) {
  std::vector<float> out(256);
  if (launch(name, {out.data()}, {}, 1, 256).status) return false;
  for (int i = 0; i < 256; ++i)
    if (!(out[i] == float(i / 64 * 100 + 31 - i % 32))) return false;
  return true;
}

bool rightRing(const char* name) {
  constexpr int n = 9;
  std::vector<float> in(n * 32), out(128);
  for (int i = 0; i < n * 32; ++i) in[i] = float(i % 17);
  if (launch(name, {in.data(), out.data()}, {n}, 1, 128 + 256).status) return false;
  for (int t = 0; t < 128; ++t) {
    float sum = 0;
    for (int k = 0; k < n; ++k) sum += in[k * 32 + t % 32] * float(t / 32 + 1);
    if (out[t] != sum) return false;
  }
  return true;
}

int caught(bool (*right)(const char*), const char* name) {
  int count = 0;
  for (int seed = 1; seed <= 100; ++seed) {
    const Seed use(seed);
    count += !right(name);
  }
  if (count != 0 && count != 100) std::printf("%s: %d/100\n", name, count);
  return count;
}

}  // namespace

TEST(planted_faults_are_caught) {
  CHECK(caught(rightGemm, "gemm_good") == 0);
  CHECK(caught(rightGemm, "gemm_no_wait") == 100);
  CHECK(caught(rightGemm, "gemm_no_barrier") == 100);
  CHECK(caught(rightGemm, "gemm_no_write_after_read_barrier") == 100);
  CHECK(caught(rightSoftmax, "softmax_good") == 0);
  CHECK(caught(rightSoftmax, "softmax_no_barrier_1") == 100);
  CHECK(caught(rightSoftmax, "softmax_no_barrier_2") == 100);
  CHECK(caught(rightSoftmax, "softmax_no_barrier_3") == 100);
  CHECK(caught(rightTranspose, "transpose_good") == 0);
  CHECK(caught(rightTranspose, "transpose_no_sync_warp_1") == 100);
  CHECK(caught(rightTranspose, "transpose_no_sync_warp_2") == 100);
  CHECK(caught(rightRing, "ring_good") == 0);
  CHECK(caught(rightRing, "ring_no_wait_empty") == 100);
  CHECK(caught(rightRing, "ring_no_wait_full") == 100);
}

// ---- traps

TEST(traps) {
  EmulatorOptions impatient = emulatorOptions();
  impatient.patienceSeconds = 0.05;
  const Seed restore(1);
  setEmulatorOptions(impatient);
  const struct {
    const char *kernel, *text;
    bool memory = false;  // found by an inaccessible page or an instruction's signal, which sanitizers report themselves
  } all[] = {
      {"trap_misaligned_load", "misaligned access 16: address 0x"},
      {"trap_misaligned_store", "misaligned access 16: shared memory + 8 (it has 40 bytes)"},
      {"trap_misaligned_copy", "misaligned access 16"},
      {"trap_exited", "divergent barrier: "},
      {"trap_conditional_barrier", "divergent barrier: "},
      {"trap_different_barriers", "divergent barrier: others wait at another barrier of the whole block"},
      {"trap_barrier_counts", "divergent barrier: barrier 1 for "},
      {"trap_barrier_odd_count", "barrier 1 for 40 threads: it must be a multiple of 32"},
      {"trap_mask_without_caller", "wrong mask: 0x0000ffff is without the calling lane"},
      {"trap_mask_of_exited", "lane"},
      {"trap_masks_differ", "wrong mask: "},
      {"trap_collectives_differ", "divergent collective: "},
      {"trap_collective_skipped", "1 thread (31) at barrier 0 for 32"},
      {"trap_shuffle_from_outside", "a shuffle reads a lane that does not take part: lane 20"},
      {"trap_spin", "deadlock: 64 threads (first 0) spinning"},
      {"trap_wait_for_nothing", "divergent barrier: 32 threads (first 0) at barrier 3 for 64"},
      {"trap_stack", "stack overflow", true},
      {"trap_shared_behind", "invalid access: shared memory + 4096 (it has 40 bytes)", true},
      {"trap_shared_just_behind", "block 0: wrote outside its shared memory: shared memory + 40", true},
      {"trap_shared_before", "block 0: wrote outside its shared memory: shared memory - ", true},
      {"trap_copy_behind", "an asynchronous copy of 16 bytes to outside shared memory"},
      {"trap_copy_too_many", "an asynchronous copy of more bytes than it has: 12"},
      {"trap_null", "invalid access: address 0x10", true},
      {"trap_division", "an integer division by zero", true},
      {"trap_mbarrier_not_initialized", "arrives at what is no initialized mbarrier: shared memory + 0"},
      {"trap_mbarrier_never", "deadlock: 32 threads (first 0) at an mbarrier"},
  };
  alignas(64) static float buffer[64];
  for (const auto& trap : all) {
#ifdef __SANITIZE_ADDRESS__
    if (trap.memory) continue;
#endif
    for (int i = 0; i < 3; ++i) {
      const Outcome o = launch(trap.kernel, {buffer}, {}, 1, 40);
      CHECK(o.status != 0);
      CHECK(o.fault.find(trap.text) != std::string::npos);
      if (o.fault.find(trap.text) == std::string::npos) std::printf("%s: \"%s\"\n", trap.kernel, o.fault.c_str());
    }
  }
  // Later launches are as good as the first.
  CHECK(rightSoftmax("softmax_good"));
  CHECK(lastEmulatorFault().empty());
}

TEST(launches_that_cannot_run) {
  CHECK(launch("empty", {nullptr}, {}, 1, 300 << 10).fault.find("more than any device has") != std::string::npos);
  CHECK(launch("empty", {nullptr}, {}, 0).status == 0);
}

TEST(workers_are_independent) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([] {
      CHECK(rightGemm("gemm_good"));
      releaseEmulator();
      CHECK(rightSoftmax("softmax_good"));
    });
  for (auto& t : threads) t.join();
}

TEST(speed) {
#if defined(__SANITIZE_ADDRESS__) || defined(NIMFORGE_EMULATOR_UCONTEXT) || !defined(__x86_64__)
  const bool fast = false;
#else
  const bool fast = true;
#endif
  const NfInt blocks = 4000;
  launch("empty", {nullptr}, {}, 100);
  double s = seconds([&] { launch("empty", {nullptr}, {}, blocks); });
  std::printf("     empty kernel: %.1f M threads/s\n", double(blocks) * 256 / s / 1e6);
  if (fast) CHECK(double(blocks) * 256 / s > 5e6);
  s = seconds([&] { launch("barriers", {nullptr}, {4000}, 1); });
  std::printf("     barrier: %.1f ns per thread\n", s / (4000.0 * 256) * 1e9);
  s = seconds([&] { launch("shuffling", {nullptr}, {4000}, 1); });
  std::printf("     shuffle: %.1f ns per thread\n", s / (4000.0 * 256) * 1e9);
  const int n = 512;
  std::vector<unsigned short> a(n * n), b(n * n);
  std::vector<float> c(n * n);
  for (int i = 0; i < n * n; ++i) a[i] = i * 7 % 13 ? 0x3c00 : 0xc000, b[i] = i * 5 % 11 ? 0x3c00 : 0;  // 1, -2; 1, 0
  Outcome o{};
  s = seconds([&] { o = launch("gemm_mma", {a.data(), b.data(), c.data()}, {n, n, n}, 64, 2 * 128 * 40 * 2); });
  if (o.status) std::printf("%s\n", o.fault.c_str());
  if (fast) CHECK(s < 1);
  std::printf("     mma GEMM of 512^3: %.0f ms, %.2f Gmac/s\n", s * 1e3, double(n) * n * n / s / 1e9);
  for (int i = 0; i < n; i += 31)
    for (int j = 0; j < n; j += 17) {
      float sum = 0;
      for (int k = 0; k < n; ++k) sum += (a[i * n + k] == 0x3c00 ? 1.0f : -2.0f) * (b[j * n + k] == 0 ? 0.0f : 1.0f);
      CHECK(c[i * n + j] == sum);
    }
}
