/* Checks the CPU kernels against references in double over edge shapes. Exit status 0 and "ok" when all agree. */
#include <limits>

#include "util.hpp"

#include "conv_transpose.hpp"
#include "depthwise.hpp"
#include "gemm.hpp"
#include "vmath_wide.hpp"

using namespace nf;

static int failures = 0, checks = 0;

static void check(bool ok, const char* what, const char* detail) {
  ++checks;
  if (ok) return;
  if (++failures < 40) printf("FAIL %s: %s\n", what, detail);
}

struct ConvCase {
  NfInt N, H, W, Cin, Cout, groups, KH, KW, sh, sw, dh, dw, pt, pl, pb, pr;
  bool nchw_in, nchw_out;
  int hook; /* 0 bias, 1 hardswish + residual, 2 prologue + bias */
};

static void test_conv(const ConvCase& k, Random& rnd) {
  char name[200];
  snprintf(name, sizeof name, "conv N%lld %lldx%lld %lld->%lld g%lld k%lldx%lld s%lld%lld d%lld%lld p%lld%lld%lld%lld in%d out%d hook%d", k.N, k.H, k.W,
           k.Cin, k.Cout, k.groups, k.KH, k.KW, k.sh, k.sw, k.dh, k.dw, k.pt, k.pl, k.pb, k.pr, k.nchw_in, k.nchw_out, k.hook);
  NfInt OH = (k.H + k.pt + k.pb - (k.KH - 1) * k.dh - 1) / k.sh + 1, OW = (k.W + k.pl + k.pr - (k.KW - 1) * k.dw - 1) / k.sw + 1;
  NfInt taps = k.KH * k.KW, cg = k.Cin / k.groups, width = k.Cout / k.groups;
  Array x(k.N * k.H * k.W * k.Cin), w(k.Cout * cg * taps), packed(k.groups * ceil_to(width, 16) * 16 * cg * taps);
  Array bias(k.Cout), scale(k.Cin), o(k.N * OH * OW * k.Cout), r(o.size), o2(o.size);
  x.fill(rnd), w.fill(rnd), bias.fill(rnd), scale.fill(rnd), r.fill(rnd);
  pack_panels(packed.p, w.p, k.groups, k.Cout, k.Cin, taps);
  ConvArgs a{k.N, k.H, k.W, k.Cin, OH, OW, k.Cout, k.groups, k.KH, k.KW, k.sh, k.sw, k.dh, k.dw, k.pt, k.pl};
  a.xn = k.H * k.W * k.Cin, a.on = OH * OW * k.Cout;
  if (k.nchw_in) a.xc = k.H * k.W, a.xh = k.W, a.xw = 1;
  else a.xc = 1, a.xh = k.W * k.Cin, a.xw = k.Cin;
  if (k.nchw_out) a.oc = OH * OW, a.oh = OW, a.ow = 1;
  else a.oc = 1, a.oh = OW * k.Cout, a.ow = k.Cout;
  a.x = x.p, a.w = packed.p, a.o = o.p;
  BiasEpi be{bias.p};
  SwishResidualEpi se{bias.p, r.p, OH * OW * k.Cout, OW * k.Cout, k.Cout};
  ScalePro sp{x.p, scale.p, a.xn, a.xh, a.xw};
  Grid g = conv_grid(a);
  auto run = [&](float* to, int parts) {
    a.o = to;
    launch(g.items, parts, (size_t)g.scratch, [&](const NfLaunch* l) {
      if (k.hook == 0) conv(l, a, NoPro{}, be);
      else if (k.hook == 1) conv(l, a, NoPro{}, se);
      else conv(l, a, sp, be);
    });
  };
  run(o.p, 1);
  run(o2.p, 3);
  bool good = !memcmp(o.p, o2.p, o.size * 4);
  check(good, name, "depends on the split into launches");
  check(o.guard_intact(), name, "wrote past the output");
  double worst = 0;
  for (NfInt n = 0; n < k.N; ++n)
    for (NfInt oh = 0; oh < OH; ++oh)
      for (NfInt ow = 0; ow < OW; ++ow)
        for (NfInt c = 0; c < k.Cout; ++c) {
          double sum = 0, mag = 1e-3;
          for (NfInt y = 0; y < k.KH; ++y)
            for (NfInt z = 0; z < k.KW; ++z) {
              NfInt ih = oh * k.sh - k.pt + y * k.dh, iw = ow * k.sw - k.pl + z * k.dw;
              if (ih < 0 || ih >= k.H || iw < 0 || iw >= k.W) continue;
              for (NfInt i = 0; i < cg; ++i) {
                NfInt ci = c / width * cg + i;
                double v = x.p[n * a.xn + ih * a.xh + iw * a.xw + ci * a.xc];
                if (k.hook == 2) v = v * scale.p[ci] + 0.5;
                double t = v * w.p[(c * cg + i) * taps + y * k.KW + z];
                sum += t, mag += fabs(t);
              }
            }
          sum += bias.p[c];
          if (k.hook == 1) sum = sum * fmin(fmax(sum + 3, 0), 6) / 6 + r.p[((n * OH + oh) * OW + ow) * k.Cout + c];
          double e = fabs(sum - o.p[n * a.on + oh * a.oh + ow * a.ow + c * a.oc]) / (mag + 1);
          if (!(e <= worst)) worst = e;
        }
  char detail[60];
  snprintf(detail, sizeof detail, "error %.3g", worst);
  check(worst < 2e-6, name, detail);
}

static void test_convs() {
  Random rnd;
  const NfInt sizes[] = {1, 7, 31, 33};
  for (NfInt m : sizes)
    for (NfInt k : sizes)
      for (NfInt n : {1, 7, 16, 31, 33, 48, 64, 80, 112, 130, 300}) {
        test_conv({1, 1, m, k, n, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, false, false, (int)((m + k + n) % 3)}, rnd);
        test_conv({1, 1, m, k, n, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, true, true, (int)((m + k + n) % 2)}, rnd);
      }
  for (int i = 0; i < 400; ++i) {
    auto pick = [&](NfInt lo, NfInt hi) { return lo + (NfInt)(rnd.next() >> 33) % (hi - lo + 1); };
    ConvCase c;
    c.N = pick(1, 3), c.H = pick(1, 14), c.W = pick(1, 20), c.groups = pick(0, 2) ? 1 : pick(2, 4);
    c.Cin = c.groups * pick(1, c.groups == 1 ? 40 : 20), c.Cout = c.groups * pick(1, c.groups == 1 ? 100 : 37);
    c.KH = pick(1, 5), c.KW = pick(1, 5), c.sh = pick(1, 3), c.sw = pick(1, 3), c.dh = pick(1, 2), c.dw = pick(1, 2);
    c.pt = pick(0, 3), c.pl = pick(0, 3), c.pb = pick(0, 3), c.pr = pick(0, 3);
    c.nchw_in = pick(0, 1), c.nchw_out = pick(0, 1), c.hook = (int)pick(0, 2);
    if (c.hook == 2) c.nchw_in = false;
    if (c.H + c.pt + c.pb < (c.KH - 1) * c.dh + 1 || c.W + c.pl + c.pr < (c.KW - 1) * c.dw + 1) continue;
    test_conv(c, rnd);
  }
  test_conv({1, 6, 6, 600, 70, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, false, false, 1}, rnd);
}

static void test_conv_transpose(Random& rnd) {
  for (int i = 0; i < 250; ++i) {
    auto pick = [&](NfInt lo, NfInt hi) { return lo + (NfInt)(rnd.next() >> 33) % (hi - lo + 1); };
    NfInt N = pick(1, 2), H = pick(1, 7), W = pick(1, 9), groups = pick(0, 2) ? 1 : 2, Cin = groups * pick(1, 20), Cout = groups * pick(1, 40);
    NfInt KH = pick(1, 4), KW = pick(1, 4), sh = pick(1, 3), sw = pick(1, 3), dh = pick(1, 2), dw = pick(1, 2), pt = pick(0, 2), pl = pick(0, 2);
    NfInt OH = (H - 1) * sh + (KH - 1) * dh + 1 - pt - pick(0, 1) + pick(0, 1), OW = (W - 1) * sw + (KW - 1) * dw + 1 - pl - pick(0, 1) + pick(0, 1);
    if (OH < 1 || OW < 1) continue;
    bool nchw = pick(0, 1);
    char name[160];
    snprintf(name, sizeof name, "transpose N%lld %lldx%lld %lld->%lld g%lld k%lldx%lld s%lld%lld d%lld%lld p%lld%lld o%lldx%lld nchw%d", N, H, W, Cin, Cout, groups, KH,
             KW, sh, sw, dh, dw, pt, pl, OH, OW, nchw);
    NfInt taps = KH * KW, cg = Cin / groups, width = Cout / groups;
    Array x(N * H * W * Cin), w(Cout * cg * taps), packed(groups * ceil_to(width, 16) * 16 * cg * taps), bias(Cout), o(N * OH * OW * Cout), r(o.size), scale(Cin);
    x.fill(rnd), w.fill(rnd), bias.fill(rnd), r.fill(rnd), scale.fill(rnd);
    pack_panels(packed.p, w.p, groups, Cout, Cin, taps); /* w here is [Cout][Cin / groups][KH][KW] */
    ConvArgs a{N, H, W, Cin, OH, OW, Cout, groups, KH, KW, sh, sw, dh, dw, pt, pl};
    a.xn = H * W * Cin, a.on = OH * OW * Cout, a.x = x.p, a.w = packed.p, a.o = o.p;
    if (nchw) a.xc = H * W, a.xh = W, a.xw = 1, a.oc = OH * OW, a.oh = OW, a.ow = 1;
    else a.xc = 1, a.xh = W * Cin, a.xw = Cin, a.oc = 1, a.oh = OW * Cout, a.ow = Cout;
    bool pro = !nchw && pick(0, 2) == 0;
    NfInt panels = ceil_to(width, 16), depth = taps * cg;
    NfInt items = sh * sw * groups * ceil_to(panels, block_of(depth, panels)) * ceil_to(N * ceil_to(OH, sh) * ceil_to(OW, sw), 24);
    SwishResidualEpi e{bias.p, r.p, OH * OW * Cout, OW * Cout, Cout};
    ScalePro sp{x.p, scale.p, a.xn, a.xh, a.xw};
    launch(items, 3, (size_t)conv_grid(a).scratch, [&](const NfLaunch* l) { pro ? conv_transpose(l, a, sp, e) : conv_transpose(l, a, NoPro{}, e); });
    check(o.guard_intact(), name, "wrote past the output");
    std::vector<double> sum(o.size), mag(o.size, 1);
    for (NfInt n = 0; n < N; ++n)
      for (NfInt ih = 0; ih < H; ++ih)
        for (NfInt iw = 0; iw < W; ++iw)
          for (NfInt y = 0; y < KH; ++y)
            for (NfInt z = 0; z < KW; ++z) {
              NfInt oh = ih * sh + y * dh - pt, ow = iw * sw + z * dw - pl;
              if (oh < 0 || oh >= OH || ow < 0 || ow >= OW) continue;
              for (NfInt c = 0; c < Cout; ++c)
                for (NfInt k = 0; k < cg; ++k) {
                  NfInt ci = c / width * cg + k;
                  double v = x.p[n * a.xn + ih * a.xh + iw * a.xw + ci * a.xc];
                  if (pro) v = v * scale.p[ci] + 0.5;
                  double t = v * w.p[(c * cg + k) * taps + y * KW + z];
                  size_t at = (size_t)(((n * OH + oh) * OW + ow) * Cout + c);
                  sum[at] += t, mag[at] += fabs(t);
                }
            }
    double worst = 0;
    for (NfInt q = 0; q < N * OH * OW; ++q)
      for (NfInt c = 0; c < Cout; ++c) {
        size_t at = (size_t)(q * Cout + c);
        double s = sum[at] + bias.p[c];
        s = s * fmin(fmax(s + 3, 0), 6) / 6 + r.p[at];
        double err = fabs(s - o.p[q / (OH * OW) * a.on + q / OW % OH * a.oh + q % OW * a.ow + c * a.oc]) / mag[at];
        if (!(err <= worst)) worst = err;
      }
    char detail[60];
    snprintf(detail, sizeof detail, "error %.3g", worst);
    check(worst < 2e-6, name, detail);
  }
}

static void test_gemm(Random& rnd) {
  const NfInt sizes[] = {1, 7, 15, 16, 31, 33, 100};
  for (NfInt M : sizes)
    for (NfInt K : {0, 1, 7, 31, 64, 300, 600})
      for (NfInt N : sizes)
        for (int form = 0; form < 4; ++form) {
          bool ta = form & 1, tb = form & 2;
          NfInt B1 = 2, B3 = 1 + (M + N) % 3, batches = B1 * B3;
          char name[100];
          snprintf(name, sizeof name, "gemm %lldx%lldx%lld ta%d tb%d", M, K, N, ta, tb);
          Array a(batches * M * K), b(B3 * K * N), c(batches * M * N), c2(c.size), bias(N); /* B is broadcast over dimension 1 */
          a.fill(rnd), b.fill(rnd), bias.fill(rnd);
          GemmArgs g{{1, B1, 1, B3}, M, N, K, ta ? 1 : K, ta ? M : 1, tb ? 1 : N, tb ? K : 1, N, 1,
                     {0, B3 * M * K, 0, M * K}, {0, 0, 0, K * N}, {0, B3 * M * N, 0, M * N}, a.p, b.p, c.p};
          bool columns_first = (M + K) % 2;
          if (columns_first) g.cm = 1, g.cn = M;
          NfInt panels = ceil_to(N, 16), block = block_of(K, panels), items = batches * ceil_to(panels, block) * ceil_to(M, 96);
          BiasEpi e{bias.p};
          launch(items, 1, (size_t)(64 * K * block), [&](const NfLaunch* l) { gemm(l, g, e); });
          g.c = c2.p;
          launch(items, 3, (size_t)(64 * K * block), [&](const NfLaunch* l) { gemm(l, g, e); });
          check(!memcmp(c.p, c2.p, c.size * 4), name, "depends on the split into launches");
          check(c.guard_intact(), name, "wrote past the output");
          double worst = 0;
          for (NfInt q = 0; q < batches; ++q)
            for (NfInt m = 0; m < M; ++m)
              for (NfInt n = 0; n < N; ++n) {
                double sum = bias.p[n], mag = 1;
                for (NfInt k = 0; k < K; ++k) {
                  double t = (double)a.p[q * M * K + m * g.am + k * g.ak] * b.p[q % B3 * K * N + k * g.bk + n * g.bn];
                  sum += t, mag += fabs(t);
                }
                double err = fabs(sum - c.p[q * M * N + m * g.cm + n * g.cn]) / mag;
                if (!(err <= worst)) worst = err;
              }
          char detail[60];
          snprintf(detail, sizeof detail, "error %.3g", worst);
          check(worst < 1e-6, name, detail);
        }
}

static void test_depthwise(Random& rnd) {
  for (int i = 0; i < 400; ++i) {
    auto pick = [&](NfInt lo, NfInt hi) { return lo + (NfInt)(rnd.next() >> 33) % (hi - lo + 1); };
    NfInt C = pick(1, 70);
    DepthwiseArgs a{pick(1, 2), pick(1, 12), pick(1, 40), C, 0, 0, C, C, pick(1, 5), pick(1, 5), pick(1, 2), pick(1, 3), pick(1, 2), pick(1, 2), pick(0, 4), pick(0, 4)};
    a.OH = (a.H + a.pt + pick(0, 4) - (a.KH - 1) * a.dh - 1 + a.sh) / a.sh, a.OW = (a.W + a.pl + pick(0, 4) - (a.KW - 1) * a.dw - 1 + a.sw) / a.sw;
    if (a.OH < 1 || a.OW < 1) continue;
    char name[160];
    snprintf(name, sizeof name, "depthwise N%lld %lldx%lld C%lld o%lldx%lld k%lldx%lld s%lld%lld d%lld%lld p%lld%lld", a.N, a.H, a.W, C, a.OH, a.OW, a.KH, a.KW, a.sh,
             a.sw, a.dh, a.dw, a.pt, a.pl);
    bool nchw = pick(0, 2) == 0, pro = !nchw && pick(0, 2) == 0;
    a.xn = a.H * a.W * C, a.on = a.OH * a.OW * C;
    if (nchw) a.xc = a.H * a.W, a.xh = a.W, a.xw = 1, a.oc = a.OH * a.OW, a.oh = a.OW, a.ow = 1;
    else a.xc = 1, a.xh = a.W * C, a.xw = C, a.oc = 1, a.oh = a.OW * C, a.ow = C;
    Array x(a.N * a.xn), w(a.KH * a.KW * C), o(a.N * a.on), o2(o.size), r(o.size), bias(C), scale(C);
    x.fill(rnd), w.fill(rnd), r.fill(rnd), bias.fill(rnd), scale.fill(rnd);
    a.x = x.p, a.w = w.p;
    SwishResidualEpi e{bias.p, r.p, a.on, a.OW * C, C};
    ScalePro sp{x.p, scale.p, a.xn, a.xh, a.xw};
    for (int parts : {1, 3}) {
      a.o = parts == 1 ? o.p : o2.p;
      launch(a.N * a.OH * ceil_to(a.OW, 16), parts, (size_t)(80 * a.KH * a.KW + 20 * ((C + 15) / 16 * 16) + 16 * a.KH * a.KW * C + 64), [&](const NfLaunch* l) { pro ? depthwise(l, a, sp, e) : depthwise(l, a, NoPro{}, e); });
    }
    check(!memcmp(o.p, o2.p, o.size * 4), name, "depends on the split into launches");
    check(o.guard_intact(), name, "wrote past the output");
    double worst = 0;
    for (NfInt q = 0; q < a.N * a.OH * a.OW; ++q)
      for (NfInt c = 0; c < C; ++c) {
        NfInt n = q / (a.OH * a.OW), oh = q / a.OW % a.OH, ow = q % a.OW;
        double s = 0, mag = 1;
        for (NfInt t = 0; t < a.KH * a.KW; ++t) {
          NfInt ih = oh * a.sh - a.pt + t / a.KW * a.dh, iw = ow * a.sw - a.pl + t % a.KW * a.dw;
          if (ih < 0 || ih >= a.H || iw < 0 || iw >= a.W) continue;
          double v = x.p[n * a.xn + ih * a.xh + iw * a.xw + c * a.xc];
          if (pro) v = v * scale.p[c] + 0.5;
          s += v * w.p[t * C + c], mag += fabs(v * w.p[t * C + c]);
        }
        s += bias.p[c];
        s = s * fmin(fmax(s + 3, 0), 6) / 6 + r.p[q * C + c];
        double err = fabs(s - o.p[n * a.on + oh * a.oh + ow * a.ow + c * a.oc]) / mag;
        if (!(err <= worst)) worst = err;
      }
    char detail[60];
    snprintf(detail, sizeof detail, "error %.3g", worst);
    check(worst < 2e-6, name, detail);
  }
}

/* ---- elementary functions: lanes against scalars bit for bit, both against long double */

template <class T> static long double ulp_error(T got, long double want) {
  T rounded = (T)want;
  if (std::isnan(rounded)) return std::isnan(got) ? 0 : 1e30L;
  if (got == rounded) return std::signbit(got) == std::signbit(rounded) ? 0 : 1e20L;
  if (std::isinf(rounded) || std::isinf(got)) return std::nextafter(rounded, (T)0) == got || std::nextafter(got, (T)0) == rounded ? 1 : 1e30L;
  T size = std::max(std::fabs(rounded), std::numeric_limits<T>::min());
  long double ulp = std::ldexp((long double)std::numeric_limits<T>::epsilon(), std::ilogb(size));
  return fabsl((long double)got - want) / ulp;
}

static bool identical(float a, float b) { return !memcmp(&a, &b, 4) || (a != a && b != b); }

struct Function {
  const char* name;
  F32 (*lanes_)(F32);
  float (*single)(float);
  double (*twice)(double);
  long double (*want)(long double);
  double float_ulp, double_ulp;
};

static long double sigmoid_l(long double x) { return x < 0 ? expl(x) / (1 + expl(x)) : 1 / (1 + expl(-x)); }
static long double rsqrt_l(long double x) { return 1 / sqrtl(x); }
static long double round_even_l(long double x) { return rintl(x); }

#define FUNCTION(f, want, fu, du) {#f, [](F32 x) { return nf::f(x); }, [](float x) { return nf::f(x); }, [](double x) { return nf::f(x); }, want, fu, du}
static const Function functions[] = {
    FUNCTION(exp, expl, 2, 2), FUNCTION(exp2, exp2l, 2, 2), FUNCTION(expm1, expm1l, 3, 4), FUNCTION(log, logl, 2, 2), FUNCTION(log2, log2l, 4, 4),
    FUNCTION(log1p, log1pl, 4, 4), FUNCTION(tanh, tanhl, 4, 4), FUNCTION(sigmoid, sigmoid_l, 3, 3), FUNCTION(erf, erfl, 3, 4), FUNCTION(sin, sinl, 1, 2),
    FUNCTION(cos, cosl, 1, 2), FUNCTION(tan, tanl, 1, 4), FUNCTION(asin, asinl, 1, 4), FUNCTION(acos, acosl, 1, 4), FUNCTION(atan, atanl, 1, 2),
    FUNCTION(sinh, sinhl, 1, 4), FUNCTION(cosh, coshl, 1, 4), FUNCTION(asinh, asinhl, 1, 4), FUNCTION(acosh, acoshl, 1, 4), FUNCTION(atanh, atanhl, 1, 4),
    FUNCTION(sqrt, sqrtl, 0.51, 0.51), FUNCTION(rsqrt, rsqrt_l, 1.5, 1.5), FUNCTION(floor, floorl, 0, 0), FUNCTION(ceil, ceill, 0, 0),
    FUNCTION(trunc, truncl, 0, 0), FUNCTION(round_even, round_even_l, 0, 0)};

/* Every sign and exponent with random fractions, dense around 0 and 1, and all special values. */
template <class T> static std::vector<T> arguments(Random& rnd) {
  std::vector<T> v;
  const T inf = std::numeric_limits<T>::infinity(), tiny = std::numeric_limits<T>::denorm_min(), least = std::numeric_limits<T>::min();
  for (T s : {T(1), T(-1)}) {
    for (T x : {T(0), inf, std::numeric_limits<T>::quiet_NaN(), tiny, 3 * tiny, least, std::numeric_limits<T>::max(), T(1), T(0.5), T(1.5), T(2.5), T(2), T(8388608), T(8388607.5)})
      v.push_back(s * x);
    for (int e = std::numeric_limits<T>::min_exponent - std::numeric_limits<T>::digits; e <= std::numeric_limits<T>::max_exponent; ++e)
      for (int i = 0; i < (sizeof(T) == 4 ? 60 : 10); ++i) v.push_back(s * (T)std::ldexp(1 + (double)(rnd.next() >> 12) * 0x1p-52, e - 1));
    for (int i = 0; i < 30000; ++i) {
      T u = (T)((double)(rnd.next() >> 12) * 0x1p-52);
      for (T w : {T(1), T(4), T(100), T(760), T(1e5), T(1e7)}) v.push_back(s * u * w);
      v.push_back(s * (1 + u * T(0.01)));
    }
    for (int i = 1; i < 3000; ++i) v.push_back(s * (T)(i * M_PI_2)); /* near multiples of pi/2 the reduction cancels */
  }
  while (v.size() % 16) v.push_back(1);
  return v;
}

static void test_functions(Random& rnd, bool print) {
  std::vector<float> xs = arguments<float>(rnd);
  std::vector<double> xd = arguments<double>(rnd);
  for (const Function& f : functions) {
    long double worst = 0, worst_double = 0;
    float at = 0;
    double at_double = 0;
    for (size_t i = 0; i + lanes<F32> <= xs.size(); i += lanes<F32>) {
      F32 y = f.lanes_(ld<F32>(&xs[i], All{}));
      for (size_t k = 0; k < lanes<F32>; ++k) {
        float x = xs[i + k];
        if (!identical(y[k], f.single(x))) check(false, f.name, "lanes and scalars differ");
        long double e = ulp_error<float>(y[k], f.want(x));
        if (!(e <= worst)) worst = e, at = x;
      }
    }
    for (double x : xd) {
      long double e = ulp_error<double>(f.twice(x), f.want(x));
      if (!(e <= worst_double)) worst_double = e, at_double = x;
    }
    char detail[160];
    snprintf(detail, sizeof detail, "float %.3Lg ulp at %a, double %.3Lg ulp at %a", worst, (double)at, worst_double, at_double);
    check(worst <= f.float_ulp && worst_double <= f.double_ulp, f.name, detail);
    if (print) printf("%-10s %s\n", f.name, detail);
  }
}

static void test_pow(Random& rnd) {
  const double specials[] = {0, -0.0, 1, -1, 2, -2, 3, -3, 0.5, -0.5, 1.0 / 3, INFINITY, -INFINITY, NAN, 1e-40, -1e-40, 1e30, -1e30, 1e300, 16777217, 9007199254740993.0, 2.5, -2.5};
  long double worst = 0, worst_double = 0;
  double fx = 0, fy = 0, dx = 0, dy = 0;
  auto one = [&](double x, double y) {
    float xs = (float)x, ys = (float)y, s = nf::pow(xs, ys);
    if (!identical(nf::pow(splat<F32>(xs), splat<F32>(ys))[0], s)) check(false, "pow", "lanes and scalars differ");
    long double e = ulp_error<float>(s, powl(xs, ys)), d = ulp_error<double>(nf::pow(x, y), powl(x, y));
    if (!(e <= worst)) worst = e, fx = x, fy = y;
    if (!(d <= worst_double)) worst_double = d, dx = x, dy = y;
  };
  for (double x : specials) for (double y : specials) one(x, y);
  for (int i = 0; i < 200000; ++i) {
    double u = (double)(rnd.next() >> 12) * 0x1p-52, v = (double)(rnd.next() >> 12) * 0x1p-51 - 1;
    one(std::exp2(200 * u - 100), v * 10), one(u, v * 100), one(1 + u * 1e-3, v * 1e5), one(1 + u, v * 1000), one(-u * 10, std::floor(v * 20)), one(u * 4, 2);
  }
  char detail[200];
  snprintf(detail, sizeof detail, "float %.3Lg ulp at %a^%a, double %.3Lg ulp at %a^%a", worst, fx, fy, worst_double, dx, dy);
  check(worst <= 1 && worst_double <= 2, "pow", detail);
}

static void test_values(Random& rnd) {
  for (unsigned h = 0; h < 65536; ++h) {
    float want = 0;
    unsigned e = h >> 10 & 31, m = h & 1023;
    want = e == 0 ? std::ldexp((float)m, -24) : e < 31 ? std::ldexp((float)(1024 + m), (int)e - 25) : m ? NAN : INFINITY;
    if (h >> 15) want = -want;
    float got = f16_to_f32((unsigned short)h);
    check(identical(got, want), "f16_to_f32", "value");
    unsigned short back = f32_to_f16(got);
    check(got != got ? (back & 0x7fff) > 0x7c00 : back == h, "f32_to_f16", "round trip");
    if (got != got || h >= 0x7bff) continue;
    float next = f16_to_f32((unsigned short)(h + 1)), half = got + (next - got) / 2;
    check(f32_to_f16(half) == (h & 1 ? h + 1 : h), "f32_to_f16", "tie to even");
    check(f32_to_f16(std::nextafter(half, next)) == h + 1 && f32_to_f16(std::nextafter(half, got)) == h, "f32_to_f16", "nearest");
  }
  check(f32_to_f16(65519.99f) == 0x7bff && f32_to_f16(65520.0f) == 0x7c00 && f32_to_f16(-1e30f) == 0xfc00, "f32_to_f16", "overflow");
  for (unsigned h = 0; h < 65536; ++h) {
    float x = bf16_to_f32((unsigned short)h);
    unsigned short back = f32_to_bf16(x);
    check(x != x ? (back & 0x7fff) > 0x7f80 : back == h, "bf16", "round trip");
  }
  check(f32_to_bf16(bits<float>(0x3f808000u)) == 0x3f80 && f32_to_bf16(bits<float>(0x3f818000u)) == 0x3f82 && f32_to_bf16(3.4e38f) == 0x7f80, "bf16", "rounding");
  for (NfInt a = -9; a <= 9; ++a)
    for (NfInt b : {-4, -3, -1, 1, 3, 4}) {
      check(floor_div(a, b) == (NfInt)std::floor((double)a / (double)b) && floor_mod(a, b) == a - b * floor_div(a, b), "floor_div", "value");
      if (b > 0) check(ceil_div(a, b) == (NfInt)std::ceil((double)a / (double)b), "ceil_div", "value");
    }
  check(nf::to_int<int>(1e10f) == INT32_MAX && nf::to_int<int>(-1e10f) == INT32_MIN && nf::to_int<int>(NAN) == 0 && nf::to_int<int>(-2.9f) == -2, "to_int", "int");
  check(nf::to_int<int>(2147483520.0f) == 2147483520 && nf::to_int<int>(-2147483648.0f) == INT32_MIN, "to_int", "edges");
  check(nf::to_int<long long>(9.3e18) == INT64_MAX && nf::to_int<long long>(-INFINITY) == INT64_MIN && nf::to_int<long long>(1e15) == 1000000000000000, "to_int", "int64");
  check(nf::to_int<unsigned char>(300.f) == 255 && nf::to_int<unsigned char>(-3.f) == 0 && nf::to_int<signed char>(-300.f) == -128 && nf::to_int<unsigned>(4e9f) == 4000000000u &&
            nf::to_int<unsigned long long>(1.8e19) == 18000000000000000000ull, "to_int", "unsigned and narrow");
  const float special[] = {0.f, -0.f, 1.f, -1.f, NAN, INFINITY, -INFINITY, 3.f};
  for (float a : special)
    for (float b : special) {
      float lo = nf::min(a, b), hi = nf::max(a, b);
      bool nan = a != a || b != b;
      check(nan ? lo != lo && hi != hi : lo == std::fmin(a, b) && hi == std::fmax(a, b), "min max", "value");
      check(identical(nf::min(splat<F32>(a), splat<F32>(b))[1], lo) && identical(nf::max(splat<F32>(a), splat<F32>(b))[1], hi), "min max", "lanes");
    }
  for (int n = 0; n <= lanes<F32>; ++n) {
    Array x(64), o(64);
    x.fill(rnd);
    for (NfInt stride : {1, 3}) {
      for (int i = 0; i < 64; ++i) o.p[i] = 7;
      F32 v = stride == 1 ? ld<F32>(x.p, Some(n)) : lds<F32>(x.p, stride, Some(n));
      if (stride == 1) st(o.p, v, Some(n));
      else sts(o.p, stride, v, Some(n));
      for (int i = 0; i < lanes<F32>; ++i) check(v[i] == (i < n ? x.p[i * stride] : 0), "Some", "load");
      for (int i = 0; i < 64; ++i) check(o.p[i] == (i % stride == 0 && i / stride < n ? x.p[i] : 7), "Some", "store");
    }
  }
  F32 v{};
  double sum = 0, product = 1;
  for (int i = 0; i < lanes<F32>; ++i) v[i] = (float)(i * 5 % 7 + 1), sum += v[i], product *= v[i];
  check(hsum(v) == sum && hprod(v) == (float)product && hmax(v) == 7 - (NF_LANES == 4) && hmin(v) == 1, "reductions", "value");
  v[2] = NAN;
  check(hmax(v) != hmax(v) && hmin(v) != hmin(v), "reductions", "NaN");
  NfError error{};
  NfLaunch l{nullptr, nullptr, 0, 0, 0, 1, nullptr, &error};
  nf_fault(&l, 1, 5, 42), nf_fault(&l, 2, 6, 43);
  check(error.code == 1 && error.operand == 5 && error.value == 42, "nf_fault", "the first wins");
}

int main(int argc, char**) {
  Random rnd;
  test_values(rnd);
  test_functions(rnd, argc > 1);
  test_pow(rnd);
  test_convs();
  test_conv_transpose(rnd);
  test_gemm(rnd);
  test_depthwise(rnd);
  printf("%s: %d checks, %d failures, %d lanes\n", failures ? "FAIL" : "ok", checks, failures, NF_LANES);
  return failures != 0;
}
