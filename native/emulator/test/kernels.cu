/* Kernels that the emulator's tests run: an image as the compiler makes them, from the same headers. */
#include "mma.cuh"

namespace nf {

/* The compiler may not know what a kernel does wrong. */
template <class T> NF_DEVICE T hidden(T x) {
  asm volatile("" : "+r"(x));
  return x;
}
NF_DEVICE float* floats(const NfLaunch* L, int i) { return (float*)L->buffers[i]; }

/* ---- what works */

NF_KERNEL(empty, 256, 1, 1, 0) {}

/* out[i] = i's place in the order in which threads came by. */
NF_KERNEL(arrival, 256, 1, 2, 0) {
  ((int*)L->buffers[1])[block() * threads() + tid()] = atomic_add((int*)L->buffers[0], 1);
}

/* out[global thread] = everything a thread knows. */
NF_KERNEL(numbers, 64, 1, 1, 0) {
  int* out = (int*)L->buffers[0] + (block() * threads() + tid()) * 6;
  const int all[6] = {tid(), threads(), lane(), warp(), (int)block(), (int)blocks()};
  for (int i = 0; i < 6; ++i) out[i] = all[i];
}

/* Neighbours exchange through shared memory, many times. */
NF_KERNEL(rotate, 256, 1, 1, 1) {
  int* s = shared<int>();
  int v = tid();
  for (int i = 0; i < (int)L->dims[0]; ++i) {
    s[tid()] = v;
    sync();
    v = s[(tid() + 1) % 256];
    sync();
  }
  ((int*)L->buffers[0])[tid()] = v;
}

template <class T> NF_DEVICE bool shuffles_of() {
  const T v = (T)(lane() + 1);
  bool good = shfl(v, 5) == (T)6 && shfl(v, lane() * 3) == (T)(lane() * 3 % 32 + 1);
  good &= shfl_xor(v, 9) == (T)((lane() ^ 9) + 1);
  good &= shfl_up(v, 3) == (T)(lane() < 3 ? lane() + 1 : lane() - 2);
  good &= shfl_down(v, 30) == (T)(lane() < 2 ? lane() + 31 : lane() + 1);
  const unsigned half = lane() < 16 ? 0xffffu : 0xffff0000u;
  good &= shfl_xor(v, 15, half) == (T)((lane() ^ 15) + 1);
  return good;
}
NF_KERNEL(collectives, 128, 1, 1, 0) {
  bool good = shuffles_of<float>() & shuffles_of<double>() & shuffles_of<int>() & shuffles_of<unsigned>() & shuffles_of<long long>();
  good &= ballot(lane() % 3 == 0) == 0x49249249u;
  good &= any(lane() == 7) && !any(lane() == 77) && all(lane() < 32) && !all(lane() != 31);
  if (lane() % 2) good &= ballot(lane() < 8, 0xaaaaaaaau) == 0xaau;
  else good &= ballot(lane() < 8, 0x55555555u) == 0x55u;
  /* halves of a warp are ahead of each other */
  const unsigned half = lane() < 16 ? 0xffffu : 0xffff0000u;
  int sum = lane();
  for (int i = 0; i < (lane() < 16 ? 2 : 6); ++i) sum += shfl_xor(sum, 8, half) * 0;
  sync_warp();
  good &= shfl(sum, 31) == 31;
  ((int*)L->buffers[0])[tid()] = good;
}

NF_KERNEL(atomics, 256, 1, 4, 0) {
  const int i = (int)block() * 256 + tid();
  atomic_add((float*)L->buffers[0], 1.0f);
  atomic_max((float*)L->buffers[0] + 1, (float)i);
  atomic_min((float*)L->buffers[0] + 2, (float)-i);
  atomic_add((int*)L->buffers[1], 1);
  atomic_max((int*)L->buffers[1] + 1, i);
  atomic_min((int*)L->buffers[1] + 2, -i);
  atomic_add((long long*)L->buffers[2], 1ll << 32);
  atomic_max((long long*)L->buffers[2] + 1, (long long)i << 32);
  atomic_min((long long*)L->buffers[2] + 2, -(long long)i << 32);
  unsigned* s = shared<unsigned>();
  if (tid() == 0) *s = 0;
  sync();
  atomic_add(s, 2u);
  sync();
  if (tid() == 0) atomic_add((unsigned*)L->buffers[3], *s);
}

NF_KERNEL(elementary, 32, 1, 1, 0) {
  float* x = floats(L, 0) + tid() * 4;
  x[1] = ex2(x[0]);
  x[2] = rcp(x[0]);
  x[3] = rsqrt(x[0]);
}

/* Two warps produce, two consume, over named barriers: 1 is full, 2 is empty. */
NF_KERNEL(named, 128, 1, 1, 1) {
  int* s = shared<int>();
  int sum = 0;
  const int n = (int)L->dims[0];
  if (warp() < 2) {
    for (int i = 0; i < n; ++i) {
      sync_named(2, 128);
      s[tid()] = i + tid();
      arrive_named(1, 128);
    }
  } else {
    arrive_named(2, 128);
    for (int i = 0; i < n; ++i) {
      sync_named(1, 128);
      sum += s[127 - tid()];
      if (i + 1 < n) arrive_named(2, 128);
    }
    ((int*)L->buffers[0])[tid() - 64] = sum;
  }
}

/* Thread 0 waits for a flag that thread 255 sets. */
NF_KERNEL(flag, 256, 1, 1, 0) {
  volatile int* s = shared<int>();
  if (tid() == 0) *s = 0;
  sync();
  if (tid() == 255) *s = 7;
  if (tid() == 0) {
    while (*s != 7) spin();
    ((int*)L->buffers[0])[0] = *s;
  }
}

NF_KERNEL(zero_fill, 32, 1, 2, 0) {
  float* s = shared<float>();
  cp_async<16>(s + tid() * 4, floats(L, 0) + tid() * 4, tid() % 5 * 4);
  cp_async_commit();
  cp_async<4>(s + 128 + tid(), floats(L, 0) + tid(), 4);
  cp_async_commit();
  cp_async_wait<1>();
  for (int i = 0; i < 4; ++i) floats(L, 1)[tid() * 5 + i] = s[tid() * 4 + i];
  const bool early = s[128 + tid()] != s[128 + tid()]; /* the second group is still open */
  cp_async_wait<0>();
  floats(L, 1)[tid() * 5 + 4] = early ? s[128 + tid()] : -1;
}

/* ---- planted faults: PLANT names what is left out, 0 nothing */

/* c[m][n] = sum over k of a[m][k] b[k][n], 16 x 16 tiles through two stages of cp.async. */
template <int PLANT> NF_DEVICE void gemm(const NfLaunch* L) {
  const int size = (int)L->dims[0], tiles = size / 16;
  const int row0 = (int)block() / tiles * 16, col0 = (int)block() % tiles * 16;
  const float *a = floats(L, 0), *b = floats(L, 1);
  float* stage = shared<float>();
  const int r = tid() / 4 % 16, c = tid() % 4 * 4;
  auto fetch = [&](int k) {
    float* s = stage + k % 2 * 512;
    if (tid() < 64) cp_async<16>(s + r * 16 + c, a + (row0 + r) * size + k * 16 + c, 16);
    else cp_async<16>(s + 256 + r * 16 + c, b + (k * 16 + r) * size + col0 + c, 16);
    cp_async_commit();
  };
  float acc[2] = {};
  const int m = tid() / 8, n = tid() % 8 * 2;
  fetch(0);
  for (int k = 0; k < tiles; ++k) {
    if (k + 1 < tiles) fetch(k + 1);
    else cp_async_commit();
    if (PLANT != 1) cp_async_wait<1>();
    if (PLANT != 2) sync();
    const float* s = stage + k % 2 * 512;
    for (int i = 0; i < 16; ++i)
      for (int j = 0; j < 2; ++j) acc[j] = fma(s[m * 16 + i], s[256 + i * 16 + n + j], acc[j]);
    if (PLANT != 3) sync();
  }
  for (int j = 0; j < 2; ++j) floats(L, 2)[(row0 + m) * size + col0 + n + j] = acc[j];
}
NF_KERNEL(gemm_good, 128, 1, 3, 1) { gemm<0>(L); }
NF_KERNEL(gemm_no_wait, 128, 1, 3, 1) { gemm<1>(L); }
NF_KERNEL(gemm_no_barrier, 128, 1, 3, 1) { gemm<2>(L); }
NF_KERNEL(gemm_no_write_after_read_barrier, 128, 1, 3, 1) { gemm<3>(L); }

/* Rows of dims[0] elements, a block each; both reductions use the same shared memory. */
template <int PLANT> NF_DEVICE void softmax(const NfLaunch* L) {
  const int n = (int)L->dims[0];
  const float* x = floats(L, 0) + block() * n;
  float* s = shared<float>();
  float most = -__builtin_inff();
  for (int i = tid(); i < n; i += threads()) most = x[i] > most ? x[i] : most;
  for (int d = 16; d; d /= 2) {
    const float other = shfl_xor(most, d);
    most = other > most ? other : most;
  }
  if (lane() == 0) s[warp()] = most;
  if (PLANT != 1) sync();
  for (int i = 0; i < threads() / 32; ++i) most = s[i] > most || s[i] != s[i] ? s[i] : most;
  if (PLANT != 2) sync();
  float sum = 0;
  for (int i = tid(); i < n; i += threads()) sum += ex2((x[i] - most) * 1.44269504f);
  for (int d = 16; d; d /= 2) sum += shfl_xor(sum, d);
  if (lane() == 0) s[warp()] = sum;
  if (PLANT != 3) sync();
  sum = 0;
  for (int i = 0; i < threads() / 32; ++i) sum += s[i];
  for (int i = tid(); i < n; i += threads()) floats(L, 1)[block() * n + i] = ex2((x[i] - most) * 1.44269504f) / sum;
}
NF_KERNEL(softmax_good, 256, 1, 2, 1) { softmax<0>(L); }
NF_KERNEL(softmax_no_barrier_1, 256, 1, 2, 1) { softmax<1>(L); }
NF_KERNEL(softmax_no_barrier_2, 256, 1, 2, 1) { softmax<2>(L); }
NF_KERNEL(softmax_no_barrier_3, 256, 1, 2, 1) { softmax<3>(L); }

/* A transpose within a warp: only its own lanes need to wait. */
template <int PLANT> NF_DEVICE void transpose(const NfLaunch* L) {
  float* s = shared<float>(warp() * 32 * 4);
  for (int i = 0; i < 4; ++i) {
    s[lane()] = (float)(i * 100 + lane());
    if (PLANT != 1) sync_warp();
    floats(L, 0)[i * 64 + tid()] = s[31 - lane()];
    if (PLANT != 2) sync_warp();
  }
}
NF_KERNEL(transpose_good, 64, 1, 1, 0) { transpose<0>(L); }
NF_KERNEL(transpose_no_sync_warp_1, 64, 1, 1, 0) { transpose<1>(L); }
NF_KERNEL(transpose_no_sync_warp_2, 64, 1, 1, 0) { transpose<2>(L); }

/* A ring of two stages: warp 0 fetches by asynchronous copies that complete on the full barriers, warps 1 to 4 consume. */
struct Fetch {
  float* to;
  const float* from;
};
template <int PLANT> NF_DEVICE void ring(const NfLaunch* L) {
  const NfEmulator* e = emulator();
  long long* full = shared<long long>();
  long long* empty = shared<long long>(16);
  float* data = shared<float>(32);
  const int n = (int)L->dims[0];
  if (tid() == 0)
    for (int i = 0; i < 2; ++i) {
      e->mbarrier_init(full + i, 1, "ring", 1);
      e->mbarrier_init(empty + i, 128, "ring", 2);
    }
  sync();
  if (warp() == 0) {
    if (lane() == 0)
      for (int k = 0; k < n; ++k) {
        const int stage = k % 2;
        if (k >= 2 && PLANT != 1) e->mbarrier_wait(empty + stage, (k / 2 - 1) % 2, "ring", 3);
        for (int i = 0; i < 32; ++i) data[stage * 32 + i] = __builtin_nanf("");
        const Fetch fetch{data + stage * 32, floats(L, 0) + k * 32};
        e->mbarrier_arrive(full + stage, 1, 128, "ring", 4);
        e->defer(full + stage, 128, [](const void* p) {
          const Fetch& f = *(const Fetch*)p;
          for (int i = 0; i < 32; ++i) f.to[i] = f.from[i];
        }, &fetch, sizeof fetch, "ring", 5);
      }
  } else {
    float sum = 0;
    for (int k = 0; k < n; ++k) {
      const int stage = k % 2;
      if (PLANT != 2) e->mbarrier_wait(full + stage, k / 2 % 2, "ring", 6);
      sum += data[stage * 32 + lane()] * (float)warp();
      e->mbarrier_arrive(empty + stage, 1, 0, "ring", 7);
    }
    floats(L, 1)[tid() - 32] = sum;
  }
}
NF_KERNEL(ring_good, 160, 1, 2, 1) { ring<0>(L); }
NF_KERNEL(ring_no_wait_empty, 160, 1, 2, 1) { ring<1>(L); }
NF_KERNEL(ring_no_wait_full, 160, 1, 2, 1) { ring<2>(L); }

/* Operations in groups: the result is there after the wait, not before. */
NF_KERNEL(groups, 128, 1, 1, 0) {
  const NfEmulator* e = emulator();
  float* out = floats(L, 0) + tid() * 3;
  float result[2] = {-1, -1};
  for (int i = 0; i < 2; ++i) {
    float* at = result + i;
    e->exchange_group(nullptr, nullptr, "groups", 1);
    e->defer_group(0, [](const void* p) { **(float* const*)p = 5; }, &at, sizeof at, "groups", 2);
    e->defer_commit(0);
  }
  out[0] = result[0];
  e->defer_wait(0, 1);
  out[1] = result[0] + 10 * result[1];
  e->defer_wait(0, 0);
  out[2] = result[0] + 10 * result[1];
}

/* ---- traps: each must be stopped */

NF_KERNEL(trap_misaligned_load, 32, 1, 1, 0) {
  const auto v = ld<float, 4>(floats(L, 0) + hidden(1));
  floats(L, 0)[0] = v[0];
}
NF_KERNEL(trap_misaligned_store, 32, 1, 1, 0) { st(shared<float>() + hidden(2), Vec<float, 4>{}); }
NF_KERNEL(trap_misaligned_copy, 32, 1, 1, 0) { cp_async<16>(shared<float>(), floats(L, 0) + hidden(3), 16); }
NF_KERNEL(trap_exited, 64, 1, 1, 0) {
  if (tid() >= 40) return;
  sync();
}
NF_KERNEL(trap_conditional_barrier, 64, 1, 1, 0) {
  if (tid() < 32) sync();
  else sync_named(1, 64);
}
NF_KERNEL(trap_different_barriers, 64, 1, 1, 0) {
  if (tid() < 32) {
    sync();
    shared<int>()[0] = 1;
  } else {
    sync();
    shared<int>()[1] = 2;
  }
}
NF_KERNEL(trap_barrier_counts, 128, 1, 1, 0) { sync_named(1, tid() < 64 ? 64 : 96); }
NF_KERNEL(trap_barrier_odd_count, 128, 1, 1, 0) { sync_named(1, 40); }
NF_KERNEL(trap_mask_without_caller, 32, 1, 1, 0) { ballot(true, 0xffff); }
NF_KERNEL(trap_mask_of_exited, 32, 1, 1, 0) {
  if (lane() == 3) return;
  ballot(true);
}
NF_KERNEL(trap_masks_differ, 32, 1, 1, 0) { ballot(true, lane() < 8 ? ~0u : 0xffffff00u | 1u << 4); }
NF_KERNEL(trap_collectives_differ, 32, 1, 1, 0) {
  if (lane() < 8) shfl(lane(), 0);
  else ballot(true);
}
NF_KERNEL(trap_collective_skipped, 32, 1, 1, 0) {
  if (lane() < 31) ballot(true);
  else sync();
}
NF_KERNEL(trap_shuffle_from_outside, 32, 1, 1, 0) {
  if (lane() < 16) shfl(lane(), 20, 0xffff);
}
NF_KERNEL(trap_spin, 64, 1, 1, 0) {
  volatile int* s = shared<int>();
  while (*s != 3) spin();
}
NF_KERNEL(trap_wait_for_nothing, 64, 1, 1, 0) {
  if (warp() == 0) sync_named(3, 64);
}
__attribute__((noinline)) static int deep(int n) {
  volatile char room[4000];
  room[n % 4000] = (char)n;
  return n == 0 ? 0 : deep(n - 1) + room[(n * 7) % 4000];
}
NF_KERNEL(trap_stack, 32, 1, 1, 0) { ((int*)L->buffers[0])[0] = deep(hidden(1000)); }
NF_KERNEL(trap_shared_behind, 32, 1, 1, 0) { shared<float>()[hidden(1024)] = 1; }
NF_KERNEL(trap_shared_just_behind, 32, 1, 1, 0) { shared<float>()[hidden(10)] = 1; }
NF_KERNEL(trap_shared_before, 32, 1, 1, 0) { shared<float>()[hidden(-1)] = 1; }
NF_KERNEL(trap_copy_behind, 32, 1, 1, 0) { cp_async<16>(shared<float>(hidden(4096)), floats(L, 0), 16); }
NF_KERNEL(trap_copy_too_many, 32, 1, 1, 0) { cp_async<8>(shared<float>(), floats(L, 0), 12); }
NF_KERNEL(trap_null, 32, 1, 1, 0) { *(volatile int*)(unsigned long long)hidden(16ll) = 1; }
NF_KERNEL(trap_division, 32, 1, 1, 0) { ((int*)L->buffers[0])[0] = 7 / hidden(0); }
NF_KERNEL(trap_mbarrier_not_initialized, 32, 1, 1, 0) { emulator()->mbarrier_arrive(shared<long long>(), 1, 0, "kernel", 1); }
NF_KERNEL(trap_mbarrier_never, 32, 1, 1, 0) {
  long long* m = shared<long long>();
  if (tid() == 0) emulator()->mbarrier_init(m, 2, "kernel", 1);
  sync();
  if (tid() == 0) emulator()->mbarrier_arrive(m, 1, 0, "kernel", 2);
  emulator()->mbarrier_wait(m, 0, "kernel", 3);
}
/* Not a trap but poison: what was not written, was not committed, is NaN. */
NF_KERNEL(poison, 32, 1, 2, 0) {
  float* s = shared<float>();
  cp_async<4>(s + tid(), floats(L, 0) + tid(), 4);
  cp_async_wait<0>();
  floats(L, 1)[tid()] = s[tid()];
  floats(L, 1)[32 + tid()] = s[32 + tid()];
}

/* ---- for the runner's test: y[i] = 2 x[i] for i from dims[1] to dims[0] */

NF_KERNEL(twice, 32, 1, 2, 2) {
  const int n = (int)L->dims[0], i = (int)block() * 32 + tid() + (int)L->dims[1];
  if (i < n) floats(L, 1)[i] = 2 * floats(L, 0)[i < 0 ? 0 : i];
}
NF_KERNEL(error_word, 32, 1, 1, 0) { fault(L, 1, 2, 7); }
NF_KERNEL(endless, 32, 1, 1, 0) {
  while (hidden(1)) {}
}

/* ---- speed */

/* c = a b^T in float16 of 512^3 or so, 64 x 64 x 32 tiles, four warps of 32 x 32. */
NF_KERNEL(gemm_mma, 128, 1, 3, 3) {
  constexpr int pitch = 40;
  const int N = (int)L->dims[1], K = (int)L->dims[2], tiles = N / 64;
  const int row0 = (int)block() / tiles * 64, col0 = (int)block() % tiles * 64;
  const unsigned short *a = (const unsigned short*)L->buffers[0], *b = (const unsigned short*)L->buffers[1];
  unsigned short* stage = shared<unsigned short>();
  auto fetch = [&](int k) {
    unsigned short* s = stage + k % 2 * 128 * pitch;
    for (int i = tid(); i < 512; i += 128) {
      const int r = i / 4 % 64, c = i % 4 * 8;
      const unsigned short* from = i < 256 ? a + (long long)(row0 + r) * K : b + (long long)(col0 + r) * K;
      cp_async<16>(s + (i / 256 * 64 + r) * pitch + c, from + k * 32 + c, 16);
    }
    cp_async_commit();
  };
  float acc[2][4][4] = {};
  const int wm = warp() / 2 * 32, wn = warp() % 2 * 32;
  fetch(0);
  for (int k = 0; k < K / 32; ++k) {
    if (k + 1 < K / 32) fetch(k + 1);
    else cp_async_commit();
    cp_async_wait<1>();
    sync();
    const unsigned short* s = stage + k % 2 * 128 * pitch;
    for (int kk = 0; kk < 32; kk += 16) {
      unsigned ra[2][4], rb[4][2];
      for (int i = 0; i < 2; ++i) ldmatrix_x4(ra[i], s + (wm + i * 16 + lane() % 16) * pitch + kk + lane() / 16 * 8);
      for (int j = 0; j < 4; ++j) ldmatrix_x2(rb[j], s + (64 + wn + j * 8 + lane() % 8) * pitch + kk + lane() / 8 % 2 * 8);
      for (int i = 0; i < 2; ++i)
        for (int j = 0; j < 4; ++j) mma_f16(acc[i][j], ra[i], rb[j]);
    }
    sync();
  }
  float* c = floats(L, 2);
  for (int i = 0; i < 2; ++i)
    for (int j = 0; j < 4; ++j)
      for (int e = 0; e < 4; ++e)
        c[(long long)(row0 + wm + i * 16 + e / 2 * 8 + lane() / 4) * N + col0 + wn + j * 8 + lane() % 4 * 2 + e % 2] = acc[i][j][e];
}
/* dims[0] full barriers. */
NF_KERNEL(barriers, 256, 1, 1, 1) {
  for (int i = 0; i < (int)L->dims[0]; ++i) sync();
}
/* dims[0] shuffles. */
NF_KERNEL(shuffling, 256, 1, 1, 1) {
  int v = tid();
  for (int i = 0; i < (int)L->dims[0]; ++i) v = shfl_xor(v, 1);
  if (v < 0) ((int*)L->buffers[0])[0] = v;
}

}  // namespace nf
