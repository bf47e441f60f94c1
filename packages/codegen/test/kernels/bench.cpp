/* Times the CPU kernels on one thread against the measured multiply-add peak and copy bandwidth of the machine.
 * Every round times each case once, in CPU time of the thread, so that a busy neighbour disturbs all alike. Printed are
 * the median of the rounds, the best round, and the share that the median and the best have of the case's reference. */
#include <functional>
#include <string>
#include <time.h>

#include "util.hpp"

using namespace nf;

static double now() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

/* 24 independent chains (12 without 32 registers) keep both multiply-add units busy. Returns operations done. */
NF_NOINLINE double peak(NfInt n) {
  constexpr int C = NF_LANES == 16 ? 24 : 12;
  F32 acc[C], x = splat<F32>(0.999f), y = splat<F32>(1e-3f);
#pragma GCC unroll 32
  for (int i = 0; i < C; ++i) acc[i] = splat<F32>((float)i);
  for (NfInt k = 0; k < n; ++k) {
#pragma GCC unroll 32
    for (int i = 0; i < C; ++i) acc[i] = fma(acc[i], x, y);
    asm("" : "+v"(x), "+v"(y));
  }
#pragma GCC unroll 32
  for (int i = 0; i < C; ++i) asm volatile("" ::"v"(acc[i]));
  return 2.0 * C * NF_LANES * n;
}

struct Case {
  std::string name;
  double work; /* floating-point operations, or bytes if `bandwidth` */
  bool bandwidth;
  std::function<void()> run;
  int reference = 0; /* index of the case whose rate is 100 % */
  std::vector<double> rates;
};

static std::vector<Case> cases;
static std::vector<std::shared_ptr<Array>> keep;
static Random rnd;

static float* array(NfInt n) {
  auto a = std::make_shared<Array>((size_t)n);
  a->fill(rnd);
  keep.push_back(a);
  return a->p;
}

static std::vector<char> scratch_memory(64 << 20);
static void* scratch = (void*)(((uintptr_t)scratch_memory.data() + 63) & ~uintptr_t(63));

static void add_conv(const char* name, NfInt H, NfInt W, NfInt cin, NfInt cout, NfInt k, NfInt s, bool nchw, bool prologue = false) {
  NfInt p = k / 2, OH = (H + 2 * p - k) / s + 1, OW = (W + 2 * p - k) / s + 1;
  ConvArgs a{1, H, W, cin, OH, OW, cout, 1, k, k, s, s, 1, 1, p, p};
  if (nchw) a.xc = H * W, a.xh = W, a.xw = 1;
  else a.xc = 1, a.xw = cin, a.xh = W * cin;
  a.xn = H * W * cin, a.oc = 1, a.ow = cout, a.oh = OW * cout, a.on = OH * OW * cout;
  a.x = array(H * W * cin), a.w = array(ceil_to(cout, 16) * 16 * cin * k * k), a.o = array(OH * OW * cout);
  SwishEpi e{array(cout)};
  ScalePro pro{a.x, array(cin), a.xn, a.xh, a.xw};
  NfInt items = conv_grid(a).items;
  cases.push_back({name, 2.0 * OH * OW * cout * cin * k * k, false, [=] {
    NfLaunch l{nullptr, nullptr, 0, items, 0, 1, scratch, nullptr};
    if (prologue) conv(&l, a, pro, e);
    else conv(&l, a, NoPro{}, e);
  }});
}

#include "bench_more.hpp"

int main(int argc, char** argv) {
  int rounds = argc > 1 ? atoi(argv[1]) : 15;
  cases.push_back({"peak multiply-add", peak(1), false, [] { peak(1); }});
  cases[0].work = 2.0 * (NF_LANES == 16 ? 24 : 12) * NF_LANES * 20000, cases[0].run = [] { peak(20000); };
  add_conv("1x1 96->96 80x80", 80, 80, 96, 96, 1, 1, false);
  add_conv("1x1 96->96 20x20", 20, 20, 96, 96, 1, 1, false);
  add_conv("1x1 240->240 20x20", 20, 20, 240, 240, 1, 1, false);
  add_conv("1x1 480->480 3x40", 3, 40, 480, 480, 1, 1, false);
  add_conv("1x1 480->480 20x20", 20, 20, 480, 480, 1, 1, false);
  add_conv("1x1 24->96 160x160", 160, 160, 24, 96, 1, 1, false);
  add_conv("1x1 96->24 160x160", 160, 160, 96, 24, 1, 1, false);
  add_conv("1x1 96->96 80x80 prologue", 80, 80, 96, 96, 1, 1, false, true);
  add_conv("3x3 24->24 160x160", 160, 160, 24, 24, 3, 1, false);
  add_conv("3x3 32->32 160x160", 160, 160, 32, 32, 3, 1, false);
  add_conv("3x3 96->24 80x80", 80, 80, 96, 24, 3, 1, false);
  add_conv("3x3 96->96 20x20", 20, 20, 96, 96, 3, 1, false);
  add_conv("3x3 16->32 s2 320x320", 320, 320, 16, 32, 3, 2, false);
  add_conv("3x3 3->16 s2 640x640 nchw", 640, 640, 3, 16, 3, 2, true);
  add_conv("3x3 3->16 s2 640x640 nhwc", 640, 640, 3, 16, 3, 2, false);
  add_conv("gemm 40x120x6625", 1, 40, 120, 6625, 1, 1, false);
  add_conv("gemm 1x480x1000", 1, 1, 480, 1000, 1, 1, false);
  add_more();
  auto selected = [&](size_t i) {
    return i == 0 || argc < 3 || cases[i].reference == (int)i || cases[i].name.find(argv[2]) != std::string::npos;
  };
  std::vector<int> repeat(cases.size());
  for (size_t i = 0; i < cases.size(); ++i) {
    if (!selected(i)) continue;
    cases[i].run();
    double t = now();
    cases[i].run();
    repeat[i] = std::max(1, (int)(2e-3 / (now() - t + 1e-9)));
  }
  for (int r = 0; r < rounds; ++r)
    for (size_t i = 0; i < cases.size(); ++i) {
      if (!selected(i)) continue;
      double t = now();
      for (int k = 0; k < repeat[i]; ++k) cases[i].run();
      cases[i].rates.push_back(cases[i].work * repeat[i] / (now() - t) * 1e-9);
    }
  auto at = [](std::vector<double> v, double q) { std::sort(v.begin(), v.end()); return v[(size_t)(q * (double)(v.size() - 1))]; };
  printf("%d lanes, %d rounds\n", NF_LANES, rounds);
  for (size_t i = 0; i < cases.size(); ++i) {
    if (!selected(i)) continue;
    const Case& c = cases[i];
    const Case& of = cases[(size_t)c.reference];
    printf("%-34s %8.2f %8.2f %s %5.1f %% %5.1f %%\n", c.name.c_str(), at(c.rates, 0.5), at(c.rates, 1), c.bandwidth ? "GB/s   " : "GFLOP/s",
           100 * at(c.rates, 0.5) / at(of.rates, 0.5), 100 * at(c.rates, 1) / at(of.rates, 1));
  }
}
