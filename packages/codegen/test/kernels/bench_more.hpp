/* Benchmark cases beyond convolution by tiles, and the bandwidth probes that some are measured against. */
#pragma once
#include "conv_transpose.hpp"
#include "depthwise.hpp"
#include "gemm.hpp"
#include "vmath_wide.hpp"

/* Copies n floats; bytes read + bytes written are counted. Returns the index of the case. */
static int add_copy(const char* name, NfInt n) {
  float *x = array(n), *o = array(n);
  cases.push_back({name, 8.0 * (double)n, true, [=] {
    for (NfInt i = 0; i < n; i += lanes<F32>) st(o + i, ld<F32>(x + i, All{}), All{});
    asm volatile("" ::: "memory");
  }});
  cases.back().reference = (int)cases.size() - 1;
  return (int)cases.size() - 1;
}

/* Counts the bytes of input and output once; the share is that of a copy of the same size. */
static void add_depthwise(const char* name, NfInt H, NfInt W, NfInt C, NfInt k, NfInt s, int reference) {
  NfInt p = k / 2, OH = (H + 2 * p - k) / s + 1, OW = (W + 2 * p - k) / s + 1;
  DepthwiseArgs a{1, H, W, C, OH, OW, C, C, k, k, s, s, 1, 1, p, p, H * W * C, W * C, C, 1, OH * OW * C, OW * C, C, 1};
  a.x = array(H * W * C), a.w = array(k * k * C), a.o = array(OH * OW * C);
  SwishEpi e{array(C)};
  NfInt items = OH * ceil_to(OW, 16);
  cases.push_back({name, 4.0 * (double)((H * W + OH * OW) * C), true, [=] {
    NfLaunch l{nullptr, nullptr, 0, items, 0, 1, scratch, nullptr};
    depthwise(&l, a, NoPro{}, e);
  }, reference});
}

static void add_gemm(const char* name, NfInt B, NfInt M, NfInt K, NfInt N, bool transposed) {
  GemmArgs g{{1, 1, 1, B}, M, N, K, K, 1, transposed ? 1 : N, transposed ? K : 1, N, 1, {0, 0, 0, M * K}, {0, 0, 0, K * N}, {0, 0, 0, M * N}};
  g.a = array(B * M * K), g.b = array(B * K * N), g.c = array(B * M * N);
  SwishEpi e{array(N)};
  NfInt panels = ceil_to(N, 16), items = B * ceil_to(panels, block_of(K, panels)) * ceil_to(M, 96);
  cases.push_back({name, 2.0 * (double)(B * M * N * K), false, [=] {
    NfLaunch l{nullptr, nullptr, 0, items, 0, 1, scratch, nullptr};
    gemm(&l, g, e);
  }});
}

static void add_transpose(const char* name, NfInt H, NfInt W, NfInt cin, NfInt cout) {
  ConvArgs a{1, H, W, cin, 2 * H, 2 * W, cout, 1, 2, 2, 2, 2, 1, 1, 0, 0, H * W * cin, W * cin, cin, 1, 4 * H * W * cout, 2 * W * cout, cout, 1};
  a.x = array(H * W * cin), a.w = array(ceil_to(cout, 16) * 16 * cin * 4), a.o = array(4 * H * W * cout);
  SwishEpi e{array(cout)};
  NfInt panels = ceil_to(cout, 16), items = 4 * ceil_to(panels, block_of(4 * cin, panels)) * ceil_to(H * W, 24);
  cases.push_back({name, 8.0 * (double)(H * W * cin * cout), false, [=] {
    NfLaunch l{nullptr, nullptr, 0, items, 0, 1, scratch, nullptr};
    conv_transpose(&l, a, NoPro{}, e);
  }});
}

template <class F> static void add_function(const char* name, F f) {
  float *x = array(4096), *o = array(4096);
  cases.push_back({name, 4096, false, [=] {
    for (NfInt i = 0; i < 4096; i += lanes<F32>) st(o + i, f(ld<F32>(x + i, All{})), All{});
    asm volatile("" ::: "memory");
  }});
}

static void add_more() {
  add_gemm("dynamic gemm 8x40x15x40", 8, 40, 15, 40, false);
  add_gemm("dynamic gemm 8x40x15x40 B^T", 8, 40, 15, 40, true);
  add_gemm("dynamic gemm 512x256x512", 1, 512, 256, 512, false);
  add_gemm("dynamic gemm 512x256x512 B^T", 1, 512, 256, 512, true);
  add_transpose("transpose 2x2 24->24 160x160", 160, 160, 24, 24);
  int l2 = add_copy("copy 2 x 150 KiB", 38400), l3 = add_copy("copy 2 x 2.4 MB", 614400), far = add_copy("copy 2 x 10 MB", 2457600);
  add_depthwise("depthwise 3x3 20x20x96", 20, 20, 96, 3, 1, l2);
  add_depthwise("depthwise 5x5 20x20x96", 20, 20, 96, 5, 1, l2);
  add_depthwise("depthwise 3x3 80x80x96", 80, 80, 96, 3, 1, l3);
  add_depthwise("depthwise 5x5 80x80x96", 80, 80, 96, 5, 1, l3);
  add_depthwise("depthwise 3x3 s2 160x160x96", 160, 160, 96, 3, 2, far);
  add_depthwise("depthwise 3x3 160x160x24", 160, 160, 24, 3, 1, l3);
  /* "GFLOP/s" of these are billions of values per second */
  add_function("exp", [](F32 x) { return nf::exp(x); });
  add_function("sigmoid", [](F32 x) { return nf::sigmoid(x); });
  add_function("tanh", [](F32 x) { return nf::tanh(x); });
  add_function("erf", [](F32 x) { return nf::erf(x); });
  add_function("log", [](F32 x) { return nf::log(x); });
  add_function("sin", [](F32 x) { return nf::sin(x); });
  add_function("pow", [](F32 x) { return nf::pow(x, splat<F32>(1.7f)); });
}
