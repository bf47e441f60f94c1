// The convolutions of conv.cuh in the emulator: kernels, strides, dilations, pads, groups, layouts and prologues against sums in
// double precision, and the same bits from every tile.
#define NF_EMULATE
#ifndef NF_ARCH
#define NF_ARCH 800
#endif
#include "../../../packages/codegen/src/targets/cuda/kernels/conv.cuh"
#include "../emulator.h"
#include "gemm_memory.h"

namespace {

// out[n, oh, ow, c] = relu(acc + bias[c] + residual[n, oh, ow, c]); counts the writes of every element.
template <class Acc> struct TestEpilogue {
  Acc* out;
  const Acc* bias;
  const Acc* residual;
  unsigned char* writes;
  nf::Index on, oh, ow, oc;
  struct Row {
    nf::Index at;
  };
  Row row(nf::Index n, nf::Index h, nf::Index w) const { return {n * on + h * oh + w * ow}; }
  template <int V> void store(const Acc (&acc)[V], const Row& r, nf::Index c) const {
    for (int v = 0; v < V; ++v) {
      const nf::Index at = r.at + (c + v) * oc;
      const Acc x = acc[v] + bias[c + v] + residual[at];
      out[at] = x < 0 ? 0 : x;
      ++writes[at];
    }
  }
};
template <class Acc> TestEpilogue<Acc> epilogue(const NfLaunch* L) {
  const NfInt* d = L->dims;
  return {(Acc*)L->buffers[2], (const Acc*)L->buffers[3], (const Acc*)L->buffers[4], (unsigned char*)L->buffers[5], (int)d[20], (int)d[21], (int)d[22], (int)d[23]};
}

// x[n, h, w, c] * scale[c], scale being powers of two.
template <class E> struct Scaled {
  const typename E::Storage* x;
  const float* scale;
  const NfInt* d;
  struct Row {
    nf::Index at;
  };
  Row row(nf::Index n, nf::Index h, nf::Index w) const { return {(nf::Index)(n * d[16] + h * d[17] + w * d[18])}; }
  template <int V> void load(float (&out)[V], const Row& r, nf::Index c) const {
    for (int v = 0; v < V; ++v) out[v] = E::decode(x[r.at + (c + v) * (nf::Index)d[19]]) * scale[c + v];
  }
};

struct KernelEntry {
  const char* name;
  int (*run)(const NfLaunch*);
  int rows, columns, shared;
  bool weights_by_column, prologue, transposed;
};

#define CONV(config, B)                                                                                                         \
  NF_KERNEL(conv_##config, nf::config::threads, 1, 7, 27) {                                                                     \
    nf::conv<nf::config, nf::Major::B>(nf::conv_args(L->dims, L->buffers[0], L->buffers[1]), nf::NoPro{}, epilogue<nf::config::Acc>(L)); \
  }
#define PROLOGUE(config)                                                                                                        \
  NF_KERNEL(pro_##config, nf::config::threads, 1, 7, 27) {                                                                      \
    using E = nf::config::Element;                                                                                              \
    nf::conv<nf::config, nf::Major::MN>(nf::conv_args(L->dims, nullptr, L->buffers[1]),                                         \
                                        Scaled<E>{(const E::Storage*)L->buffers[0], (const float*)L->buffers[6], L->dims}, epilogue<nf::config::Acc>(L)); \
  }
#define TRANSPOSED(config)                                                                                                      \
  NF_KERNEL(transposed_##config, nf::config::threads, 1, 7, 27) {                                                               \
    nf::conv_transpose<nf::config>(nf::conv_args(L->dims, L->buffers[0], L->buffers[1]), nf::NoPro{}, epilogue<nf::config::Acc>(L)); \
  }
#define TRANSPOSED_PROLOGUE(config)                                                                                             \
  NF_KERNEL(transposed_pro_##config, nf::config::threads, 1, 7, 27) {                                                           \
    using E = nf::config::Element;                                                                                              \
    nf::conv_transpose<nf::config>(nf::conv_args(L->dims, nullptr, L->buffers[1]),                                              \
                                   Scaled<E>{(const E::Storage*)L->buffers[0], (const float*)L->buffers[6], L->dims}, epilogue<nf::config::Acc>(L)); \
  }
#define SHAPE(config) nf::config::rows, nf::config::columns, nf::config::shared_bytes
#define CONV_ENTRY(config, B) {"conv " #config, conv_##config, SHAPE(config), nf::Major::B == nf::Major::K, false, false}
#define PROLOGUE_ENTRY(config) {"prologue " #config, pro_##config, SHAPE(config), false, true, false}
#define TRANSPOSED_ENTRY(config) {"transposed " #config, transposed_##config, SHAPE(config), false, false, true}
#define TRANSPOSED_PROLOGUE_ENTRY(config) {"transposed prologue " #config, transposed_pro_##config, SHAPE(config), false, true, true}

#ifdef NF_FEW_KERNELS  // one of each kind: compiles in a few seconds
CONV(f16_64x64, MN) PROLOGUE(f16_64x64) TRANSPOSED(f16_64x64) CONV(f32_16x64, K) CONV(s8_16x64, K)
const KernelEntry f16_kernels[] = {CONV_ENTRY(f16_64x64, MN), PROLOGUE_ENTRY(f16_64x64), TRANSPOSED_ENTRY(f16_64x64)};
const KernelEntry f32_kernels[] = {CONV_ENTRY(f32_16x64, K)};
const KernelEntry s8_kernels[] = {CONV_ENTRY(s8_16x64, K)};
#else
CONV(f16_64x64, MN) CONV(f16_128x64, MN) CONV(f16_16x64, MN) CONV(f16_128x128, MN) CONV(simt_f16_64x64, MN)
CONV(f32_64x64, MN) CONV(f32_16x64, K) CONV(s8_64x64, K) CONV(s8_16x64, K)
PROLOGUE(f16_64x64) PROLOGUE(f32_64x64)
TRANSPOSED(f16_64x64) TRANSPOSED(f16_16x64) TRANSPOSED(f32_64x64) TRANSPOSED_PROLOGUE(f16_64x64)
const KernelEntry f16_kernels[] = {
    CONV_ENTRY(f16_64x64, MN), CONV_ENTRY(f16_128x64, MN), CONV_ENTRY(f16_16x64, MN), CONV_ENTRY(f16_128x128, MN), CONV_ENTRY(simt_f16_64x64, MN),
    PROLOGUE_ENTRY(f16_64x64), TRANSPOSED_ENTRY(f16_64x64), TRANSPOSED_ENTRY(f16_16x64), TRANSPOSED_PROLOGUE_ENTRY(f16_64x64)};
const KernelEntry f32_kernels[] = {CONV_ENTRY(f32_64x64, MN), CONV_ENTRY(f32_16x64, K), PROLOGUE_ENTRY(f32_64x64), TRANSPOSED_ENTRY(f32_64x64)};
const KernelEntry s8_kernels[] = {CONV_ENTRY(s8_64x64, K), CONV_ENTRY(s8_16x64, K)};
#if NF_ARCH >= 800
CONV(tf32_64x64, MN) CONV(bf16_64x64, MN) TRANSPOSED(tf32_64x64)
const KernelEntry tf32_kernels[] = {CONV_ENTRY(tf32_64x64, MN), TRANSPOSED_ENTRY(tf32_64x64)};
const KernelEntry bf16_kernels[] = {CONV_ENTRY(bf16_64x64, MN)};
#endif
#endif

struct Case {
  int N, H, W, Cin, Cout, groups, KH, KW, sh, sw, dh, dw, pt, pl, pb, pr;
};
// clang-format off
const Case cases[] = {
    {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0},
    {1, 7, 9, 16, 24, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0},
    {2, 9, 7, 8, 33, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1},
    {1, 11, 13, 3, 32, 1, 3, 3, 2, 2, 1, 1, 1, 1, 0, 1},
    {2, 6, 10, 32, 7, 1, 3, 3, 1, 2, 2, 1, 2, 0, 2, 2},
    {1, 12, 5, 40, 70, 1, 3, 2, 2, 1, 1, 3, 0, 2, 1, 1},
    {3, 1, 31, 48, 64, 1, 1, 5, 1, 3, 1, 2, 0, 4, 0, 3},
    {1, 8, 8, 48, 40, 2, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1},
    {1, 5, 6, 12, 9, 3, 2, 3, 2, 2, 1, 2, 1, 1, 1, 2},
    {1, 16, 9, 64, 129, 1, 1, 1, 2, 2, 1, 1, 0, 0, 0, 0},
    {1, 3, 3, 24, 16, 1, 5, 5, 1, 1, 1, 1, 2, 2, 2, 2},
    {2, 4, 7, 16, 12, 1, 2, 2, 2, 2, 1, 1, 0, 0, 0, 0},
    {1, 4, 4, 8, 8, 1, 2, 3, 4, 3, 1, 1, 0, 0, 0, 0},
    {2, 5, 8, 24, 10, 1, 1, 1, 2, 2, 1, 1, 0, 0, 0, 0},
    {2, 6, 5, 48, 10, 1, 2, 1, 3, 2, 1, 1, 0, 0, 0, 0},
};
// clang-format on
// Channels-last with channels `step` apart and padded to a multiple of `pad`, and so many elements more from a pixel, row or image to the
// next, and in front of the first; or planes of one channel.
struct Layout {
  const char* name;
  bool planes;
  int step, pad, pixel, row, image, shift;
};
// clang-format off
const Layout layouts[] = {
    {"channels-last", false, 1, 1, 0, 0, 0, 0}, {"padded", false, 1, 16, 0, 0, 0, 0}, {"planes", true, 1, 1, 0, 0, 0, 0},
    {"spread", false, 2, 16, 0, 0, 0, 0}, {"odd pixels", false, 1, 16, 1, 0, 0, 0}, {"odd rows", false, 1, 16, 0, 1, 0, 0},
    {"odd images", false, 1, 16, 0, 0, 1, 0}, {"shifted", false, 1, 16, 0, 0, 0, 1},
};
// clang-format on

int failures = 0, checks = 0;

template <class E, class Acc> std::vector<Acc> run(const KernelEntry& kernel, const Case& s, const Layout& layout) {
  using T = typename E::T;
  const bool t = kernel.transposed;
  const int effective_h = (s.KH - 1) * s.dh + 1, effective_w = (s.KW - 1) * s.dw + 1;
  const int OH = t ? (s.H - 1) * s.sh + effective_h - s.pt - s.pb : (s.H + s.pt + s.pb - effective_h) / s.sh + 1;
  const int OW = t ? (s.W - 1) * s.sw + effective_w - s.pl - s.pr : (s.W + s.pl + s.pr - effective_w) / s.sw + 1;
  std::vector<Acc> result;
  if (OH <= 0 || OW <= 0) return result;
  test::Random random(s.Cin * 131 + s.Cout * 17 + s.H);
  const int channels = s.Cin / s.groups, width = s.Cout / s.groups, K = s.KH * s.KW * channels;
  const auto rounded = [&](NfInt n) { return (n + layout.pad - 1) / layout.pad * layout.pad; };
  const NfInt pixels = static_cast<NfInt>(s.H) * s.W, xc = layout.planes ? pixels : layout.step;
  const NfInt xw = layout.planes ? 1 : rounded(s.Cin * layout.step) + layout.pixel;
  const NfInt xh = layout.planes ? s.W : rounded(s.W * xw) + layout.row, xn = layout.planes ? pixels * s.Cin : rounded(s.H * xh) + layout.image;
  test::Guarded<T> memory((s.N * xn + layout.shift + layout.pad - 1) / layout.pad * layout.pad);  // begins at a multiple of pad, too
  T* const x = memory.data() + layout.shift;
  for (std::size_t i = 0; i < memory.size(); ++i) memory[i] = E::poison();
  // What no window covers stays poison.
  const auto reads = [&](int size, int out, int taps, int stride, int dilation, int pad, int at) {
    for (int o = 0; o < out; ++o)
      for (int k = 0; k < taps; ++k) {
        const int from = t ? o + pad - k * dilation : o * stride + k * dilation - pad;
        if (t ? from >= 0 && from % stride == 0 && from / stride == at : from == at) return at < size;
      }
    return false;
  };
  for (int h = 0; h < s.H; ++h)
    for (int w = 0; w < s.W; ++w) {
      if (!reads(s.H, OH, s.KH, s.sh, s.dh, s.pt, h) || !reads(s.W, OW, s.KW, s.sw, s.dw, s.pl, w)) continue;
      for (int n = 0; n < s.N; ++n)
        for (int c = 0; c < s.Cin; ++c) x[n * xn + h * xh + w * xw + c * xc] = E::make(random.uniform());
    }
  const NfInt wk = kernel.weights_by_column ? 1 : (width + 7) / 8 * 8, wn = kernel.weights_by_column ? (K + 15) / 16 * 16 : 1;
  const NfInt wg = kernel.weights_by_column ? width * wn : K * wk;
  test::Guarded<T> weights(s.groups * wg);
  for (NfInt i = 0; i < s.groups * wg; ++i) weights[i] = E::poison();
  for (int g = 0; g < s.groups; ++g)
    for (int k = 0; k < K; ++k)
      for (int n = 0; n < width; ++n) weights[g * wg + k * wk + n * wn] = E::make(random.uniform());
  const NfInt outputs = static_cast<NfInt>(s.N) * OH * OW * s.Cout;
  test::Guarded<Acc> out(outputs), bias(s.Cout), residual(outputs);
  test::Guarded<unsigned char> writes(outputs);
  test::Guarded<float> scale(s.Cin);
  std::memset(writes.data(), 0, outputs);
  const float big = sizeof(T) == 1 ? 99 : 1;
  for (NfInt i = 0; i < outputs; ++i) residual[i] = static_cast<Acc>(random.uniform() * big);
  for (int c = 0; c < s.Cout; ++c) bias[c] = static_cast<Acc>(random.uniform() * big);
  for (int c = 0; c < s.Cin; ++c) scale[c] = kernel.prologue ? static_cast<float>(1 << c % 4) : 1;
  const NfInt ow = s.Cout, oh = OW * ow, on = OH * oh;
  const NfInt dims[27] = {s.N, s.H, s.W, s.Cin, OH, OW, s.Cout, s.groups, s.KH, s.KW, s.sh, s.sw, s.dh, s.dw, s.pt, s.pl, xn, xh, xw, xc, on, oh, ow, 1, wk, wn, wg};
  void* const buffers[7] = {x, weights.data(), out.data(), bias.data(), residual.data(), writes.data(), scale.data()};
  const auto tiles = [](NfInt a, NfInt b) { return (a + b - 1) / b; };
  NfError error{};
  NfLaunch launch{};
  launch.buffers = buffers, launch.dims = dims, launch.error = &error, launch.threads = 1, launch.scratchBytes = kernel.shared;
  launch.end = t ? s.sh * s.sw * s.groups * tiles(s.N * tiles(OH, s.sh) * tiles(OW, s.sw), kernel.rows) * tiles(width, kernel.columns)
                 : s.groups * tiles(static_cast<NfInt>(s.N) * OH * OW, kernel.rows) * tiles(width, kernel.columns);
  const NfEmulator table = nimforge::emulatorFor(launch.end);
  launch.emulator = &table;
  char where[300];
  std::snprintf(where, sizeof where, "%s, x %dx%dx%dx%d, %d outputs, %d groups, kernel %dx%d stride %dx%d dilation %dx%d pads %d,%d, %s", kernel.name, s.N, s.H,
                s.W, s.Cin, s.Cout, s.groups, s.KH, s.KW, s.sh, s.sw, s.dh, s.dw, s.pt, s.pl, layout.name);
  ++checks;
  if (kernel.run(&launch) != 0) {
    std::printf("FAILED %s: %s\n", where, nimforge::lastEmulatorFault().c_str());
    ++failures;
    return result;
  }
  for (int n = 0; n < s.N; ++n)
    for (int h = 0; h < OH; ++h)
      for (int w = 0; w < OW; ++w)
        for (int o = 0; o < s.Cout; ++o) {
          const int g = o / width;
          double sum = 0, size = 0;
          for (int i = 0; i < s.KH; ++i)
            for (int j = 0; j < s.KW; ++j) {
              int ih, iw;
              if (t) {
                const int y = h + s.pt - i * s.dh, z = w + s.pl - j * s.dw;
                if (y < 0 || z < 0 || y % s.sh || z % s.sw) continue;
                ih = y / s.sh, iw = z / s.sw;
              } else
                ih = h * s.sh + i * s.dh - s.pt, iw = w * s.sw + j * s.dw - s.pl;
              if (ih < 0 || ih >= s.H || iw < 0 || iw >= s.W) continue;
              for (int c = 0; c < channels; ++c) {
                const int channel = g * channels + c;
                const double a = E::used(x[n * xn + ih * xh + iw * xw + channel * xc]) * scale[channel];
                const double b = E::used(weights[g * wg + ((i * s.KW + j) * channels + c) * wk + (o - g * width) * wn]);
                sum += a * b, size += std::fabs(a * b);
              }
            }
          const NfInt at = n * on + h * oh + w * ow + o;
          sum += static_cast<double>(bias[o]) + static_cast<double>(residual[at]);
          sum = sum < 0 ? 0 : sum;
          const double tolerance = sizeof(T) == 1 ? 0 : (size + 2) * 1e-6;
          if (writes[at] != 1 || !(std::fabs(static_cast<double>(out[at]) - sum) <= tolerance)) {
            std::printf("FAILED %s: [%d %d %d %d] = %.9g, expected %.9g, writes %d\n", where, n, h, w, o, static_cast<double>(out[at]), sum, writes[at]);
            ++failures;
            return result;
          }
          result.push_back(out[at]);
        }
  return result;
}

template <class E, class Acc, std::size_t COUNT> void grid(const char* name, const KernelEntry (&kernels)[COUNT]) {
  std::vector<Acc> plain[std::size(cases)], transposed[std::size(cases)];
  for (const KernelEntry& kernel : kernels) {
    for (std::size_t i = 0; i < std::size(cases); ++i) {
      std::vector<Acc>& first = (kernel.transposed ? transposed : plain)[i];
      for (const Layout& layout : layouts) {
        const std::vector<Acc> result = run<E, Acc>(kernel, cases[i], layout);
        if (kernel.prologue) continue;
        if (first.empty()) first = result;
        ++checks;
        if (result.size() != first.size() || std::memcmp(result.data(), first.data(), result.size() * sizeof(Acc))) {
          std::printf("FAILED %s, case %zu: other bits than the first\n", kernel.name, i);
          ++failures;
        }
      }
    }
  }
  std::printf("%s: %zu kernels, %d checks, %d failures\n", name, COUNT, checks, failures);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1) {
    nimforge::EmulatorOptions options = nimforge::emulatorOptions();
    options.seed = std::strtoull(argv[1], nullptr, 10);
    nimforge::setEmulatorOptions(options);
  }
  grid<test::F16, float>("f16", f16_kernels);
  grid<test::F32, float>("f32", f32_kernels);
  grid<test::S8, int>("s8", s8_kernels);
#if NF_ARCH >= 800 && !defined(NF_FEW_KERNELS)
  grid<test::Tf32, float>("tf32", tf32_kernels);
  grid<test::BF16, float>("bf16", bf16_kernels);
#endif
  return failures != 0;
}
