// wgmma in the emulator: the addresses that a descriptor gives against a second source, the products of the tiles of
// gemm_sm90a.cuh and gemm_tma.cuh against fma chains with k ascending (equal bits), and the faults of misuse. `wgmma_test SEED` draws other thread orders.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <string>
#include <vector>

#include "../emulator.h"
#include "../kernel_tests/gemm_memory.h"
#include "conv.cuh"
#include "gemm_tma.cuh"

namespace {

int failures = 0, checks = 0;

void expect(bool ok, const std::string& what) {
  ++checks;
  if (ok) return;
  if (++failures <= 20) std::printf("FAILED: %s\n", what.c_str());
}

/* ---- descriptors: CUTLASS's canonical layouts of make_gmma_desc (cute/atom/mma_traits_sm90_gmma.hpp), Swizzle<3,4,3> of
 *   along k:    ((8, rows / 8), (T, 2)) : ((8 T, SBO), (1, T))
 *   along rows: ((T, 8, rows / 64), (8, 2)) : ((1, T, LBO), (8 T, SBO))       in elements, T = 8 of them in 16 bytes */

struct Mode {
  int size, stride;
};
int offset(std::initializer_list<Mode> modes, int index) {
  int sum = 0;
  for (Mode mode : modes) sum += index % mode.size * mode.stride, index /= mode.size;
  return sum;
}
// XOR of the B bits above place M + S into those above place M.
template <int B, int M, int S> unsigned swizzle(unsigned x) { return x ^ (x >> S & ((1u << B) - 1) << M); }

void check_descriptors() {
  const unsigned address = 3 * 1024 + 5 * 8192;
  for (bool along_rows : {false, true})
    for (int step = 0; step < 4; ++step)
      for (int row = 0; row < 256; ++row)
        for (int k = 0; k < 16; ++k) {
          const int sbo = nf::wgmma_pattern / 2, lbo = nf::wgmma_block / 2;
          const int at = along_rows ? offset({{8, 1}, {8, 8}, {4, lbo}}, row) + offset({{8, 64}, {2, sbo}}, k)
                                    : offset({{8, 64}, {32, sbo}}, row) + offset({{8, 1}, {2, 8}}, k);
          const unsigned start = address + step * (along_rows ? 2 * sbo : 16) * 2;
          const unsigned theirs = swizzle<3, 4, 3>(start + at * 2);
          const unsigned ours = nf::wgmma_element(nf::wgmma_descriptor(address, step, along_rows), along_rows, row, k);
          expect(ours == theirs, "descriptor: row " + std::to_string(row) + ", k " + std::to_string(k));
        }
}

/* ---- products */

struct TestEpilogue {
  float* out;
  const float* bias;
  nf::Index cm, plane;
  typedef float* Row;
  Row row(nf::Index batch, nf::Index m) const { return out + batch * plane + m * cm; }
  template <int V> void store(const float (&acc)[V], Row r, nf::Index n) const {
    for (int v = 0; v < V; ++v) r[n + v] = acc[v] + (bias ? bias[n + v] : 0);
  }
};
TestEpilogue epilogue(const NfLaunch* L) {
  return {(float*)L->buffers[2], (const float*)L->buffers[3], (nf::Index)L->dims[11], (nf::Index)L->dims[24]};
}
// A[m, k] = 2 x[m, k], read from A's memory.
struct Doubled {
  const unsigned short* a;
  nf::Index am, ak, plane;
  typedef const unsigned short* Row;
  Row row(nf::Index batch, nf::Index m) const { return a + batch * plane + m * am; }
  template <int V> void load(float (&out)[V], Row r, nf::Index k) const {
    for (int v = 0; v < V; ++v) out[v] = 2 * nf::Float16::decode(r[(k + v) * ak]);
  }
};

#define GEMM(CONFIG, A, B)                                                                                                   \
  NF_KERNEL(CONFIG##_##A##_##B, nf::CONFIG::threads, 1, 4, 25) {                                                             \
    nf::gemm<nf::CONFIG, nf::Major::A, nf::Major::B>(nf::gemm_args(L->dims, L->buffers[0], L->buffers[1]), nf::NoPro{}, epilogue(L)); \
  }
GEMM(wgmma_f16_64x64, K, K)
GEMM(wgmma_f16_64x64, MN, MN)
GEMM(wgmma_f16_64x128, K, MN)
GEMM(wgmma_f16_128x128, K, MN)
GEMM(wgmma_f16_128x128, MN, K)
GEMM(wgmma_f16_128x256, K, MN)
GEMM(wgmma_bf16_64x64, K, MN)
GEMM(wgmma_bf16_128x128, K, K)
NF_KERNEL(prologue_f16_128x128, nf::wgmma_f16_128x128::threads, 1, 4, 25) {
  const NfInt* d = L->dims;
  const Doubled doubled{(const unsigned short*)L->buffers[0], (nf::Index)d[7], (nf::Index)d[8], (nf::Index)d[16]};
  nf::gemm<nf::wgmma_f16_128x128, nf::Major::K, nf::Major::MN>(nf::gemm_args(d, nullptr, L->buffers[1]), doubled, epilogue(L));
}

#define TMA(CONFIG, A, B)                                                                                                                        \
  NF_KERNEL(CONFIG##_##A##_##B, nf::CONFIG::threads, 1, 6, 25) {                                                                                 \
    nf::gemm_tma<nf::CONFIG, nf::Major::A, nf::Major::B>(nf::gemm_args(L->dims, nullptr, nullptr), L->buffers[4], L->buffers[5], epilogue(L)); \
  }
TMA(tma_f16_64x128, K, MN)
TMA(tma_f16_64x128, MN, K)
TMA(tma_f16_128x256, K, MN)
TMA(tma_bf16_128x128, K, K)

struct Kernel {
  const char* name;
  int (*run)(const NfLaunch*);
  int rows, columns, shared;
  bool a_along_k, b_along_k, prologue, tma;
};
#define ENTRY(CONFIG, A, B, ...)                                                                                                 \
  Kernel{#CONFIG " " #A " " #B, CONFIG##_##A##_##B,          nf::CONFIG::rows, nf::CONFIG::columns, nf::CONFIG::shared_bytes, \
         nf::Major::A == nf::Major::K, nf::Major::B == nf::Major::K, false, __VA_ARGS__}

struct Shape {
  int M, N, K;
};

// `pad`: lines begin at multiples of so many elements; `shift` elements lie in front of the operand.
template <class E> std::vector<float> run(const Kernel& kernel, const Shape& s, int pad, int shift, int batches) {
  const auto [M, N, K] = s;
  const auto up = [&](int x) { return (x + pad - 1) / pad * pad; };
  const int a_line = up(kernel.a_along_k ? K : M), b_line = up(kernel.b_along_k ? K : N), cm = N + 1;
  const int a_plane = a_line * (kernel.a_along_k ? M : K), b_plane = b_line * (kernel.b_along_k ? N : K), plane = cm * M;
  test::Guarded<unsigned short> a(a_plane * batches + shift), b(b_plane + shift);
  test::Guarded<float> out(plane * batches), bias(N);
  test::Random random_a(M * 7919 + K), random_b(N * 31 + K);
  // What lies between the lines must not be used.
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = E::poison();
  for (std::size_t i = 0; i < b.size(); ++i) b[i] = E::poison();
  const int am = kernel.a_along_k ? a_line : 1, ak = kernel.a_along_k ? 1 : a_line, bn = kernel.b_along_k ? b_line : 1, bk = kernel.b_along_k ? 1 : b_line;
  for (int i = 0; i < batches; ++i)
    for (int m = 0; m < M; ++m)
      for (int k = 0; k < K; ++k) a[shift + i * a_plane + m * am + k * ak] = E::make(random_a.uniform());
  for (int n = 0; n < N; ++n)
    for (int k = 0; k < K; ++k) b[shift + n * bn + k * bk] = E::make(random_b.uniform());
  for (int n = 0; n < N; ++n) bias[n] = (float)n / 8;
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = -99;
  const NfInt dims[25] = {1, 1, 1, batches, M, N, K, am, ak, bk, bn, cm, 1, 0, 0, 0, a_plane, 0, 0, 0, 0, 0, 0, 0, plane};
  const auto map = [&](const unsigned short* base, bool along_k, int rows, int line, int plane, int count, int box) {
    return nf::EmulatedTensorMap{base, {along_k ? K : rows, along_k ? rows : K, count}, {line * 2, plane * 2}, along_k ? box : 64, {}};
  };
  alignas(64) nf::EmulatedTensorMap a_map = map(a.data() + shift, kernel.a_along_k, M, a_line, a_plane, batches, kernel.rows);
  alignas(64) nf::EmulatedTensorMap b_map = map(b.data() + shift, kernel.b_along_k, N, b_line, b_plane, 1, kernel.columns);
  void* const buffers[6] = {a.data() + shift, b.data() + shift, out.data(), bias.data(), &a_map, &b_map};
  NfError error{};
  NfLaunch launch{buffers, dims, 0, 0, 0, 1, nullptr, &error, kernel.shared, nullptr};
  launch.end = (NfInt)batches * ((M + kernel.rows - 1) / kernel.rows) * ((N + kernel.columns - 1) / kernel.columns);
  const NfEmulator table = nimforge::emulatorFor(launch.end);
  launch.emulator = &table;
  char where[200];
  std::snprintf(where, sizeof where, "%s, M %d N %d K %d, lines of %d, shift %d, %d batches", kernel.name, M, N, K, pad, shift, batches);
  if (kernel.run(&launch) != 0) {
    expect(false, std::string(where) + ": " + nimforge::lastEmulatorFault());
    return {};
  }
  std::vector<float> result;
  const float scale = kernel.prologue ? 2 : 1;
  for (int i = 0; i < batches; ++i)
    for (int m = 0; m < M; ++m)
      for (int n = 0; n < N; ++n) {
        float sum = 0;
        for (int k = 0; k < K; ++k)
          sum = std::fmaf((float)E::used(a[shift + i * a_plane + m * am + k * ak]) * scale, (float)E::used(b[shift + n * bn + k * bk]), sum);
        sum += bias[n];
        const float found = out[i * plane + m * cm + n];
        result.push_back(found);
        if (found == sum) continue;
        expect(false, std::string(where) + ": [" + std::to_string(i) + " " + std::to_string(m) + " " + std::to_string(n) + "] = " + std::to_string(found) +
                          ", not " + std::to_string(sum));
        return {};
      }
  for (int i = 0; i < plane * batches; ++i)
    if (i % cm == N) expect(out[i] == -99, std::string(where) + ": writes outside of the result");
  expect(true, where);
  return result;
}

template <class E> void grid(const Kernel& kernel) {
  const Shape shapes[] = {{1, 1, 1}, {7, 31, 33}, {65, 129, 31}, {127, 257, 127}, {130, 64, 193}, {64, 72, 520}, {3, 5, 0}};
  int turn = 0;
  for (const Shape& s : shapes) {
    run<E>(kernel, s, 8, 0, 1);
    if (!kernel.tma) run<E>(kernel, s, turn % 2 ? 2 : 1, turn % 2 ? 2 : 1, 1);
    ++turn;
  }
  run<E>(kernel, {66, 70, 136}, 8, 8, 3);
  // More stages than the ring has, so that each is used again.
  run<E>(kernel, {16, 24, 64 * 13 + 8}, 8, 0, 1);
}

/* ---- convolutions: the bits of conv.cuh's other tiles, which are tested against sums of their own */

struct ConvEpilogue {
  float* y;
  nf::Index n, h, w;
  typedef float* Row;
  Row row(nf::Index image, nf::Index oh, nf::Index ow) const { return y + image * n + oh * h + ow * w; }
  template <int V> void store(const float (&acc)[V], Row r, nf::Index c) const {
    for (int v = 0; v < V; ++v) r[c + v] = acc[v];
  }
};
#define CONV(CONFIG)                                                                                                                \
  NF_KERNEL(conv_##CONFIG, nf::CONFIG::threads, 1, 3, 27) {                                                                         \
    const NfInt* d = L->dims;                                                                                                       \
    nf::conv<nf::CONFIG, nf::Major::MN>(nf::conv_args(d, L->buffers[0], L->buffers[1]), nf::NoPro{},                                \
                                        ConvEpilogue{(float*)L->buffers[2], (nf::Index)d[20], (nf::Index)d[21], (nf::Index)d[22]}); \
  }
CONV(f16_64x64)
CONV(wgmma_f16_64x64)
CONV(wgmma_f16_128x128)

template <class C> std::vector<float> convolve(int (*kernel)(const NfLaunch*), int channels, int outputs, int stride) {
  const int N = 2, H = 13, W = 9, KH = 3, KW = 3, OH = (H - 1) / stride + 1, OW = (W - 1) / stride + 1, wk = (outputs + 7) / 8 * 8;
  test::Guarded<unsigned short> x(N * H * W * channels), w(KH * KW * channels * wk);
  std::vector<float> y(N * OH * OW * outputs, -99.0f);
  test::Random random(channels * 31 + outputs);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = test::F16::make(random.uniform());
  for (std::size_t i = 0; i < w.size(); ++i) w[i] = test::F16::make(random.uniform());
  const NfInt dims[27] = {N, H, W, channels, OH, OW, outputs, 1, KH, KW, stride, stride, 1, 1, 1, 1, H * W * channels, W * channels, channels, 1,
                          OH * OW * outputs, OW * outputs, outputs, 1, wk, 1, KH * KW * channels * wk};
  void* const buffers[3] = {x.data(), w.data(), y.data()};
  NfError error{};
  NfLaunch launch{buffers, dims, 0, 0, 0, 1, nullptr, &error, C::shared_bytes, nullptr};
  launch.end = (NfInt)((N * OH * OW + C::rows - 1) / C::rows) * ((outputs + C::columns - 1) / C::columns);
  const NfEmulator table = nimforge::emulatorFor(launch.end);
  launch.emulator = &table;
  expect(kernel(&launch) == 0, "convolution: " + nimforge::lastEmulatorFault());
  return y;
}
void check_convolutions() {
  const struct { int channels, outputs, stride; } cases[] = {{8, 16, 1}, {24, 72, 2}, {3, 130, 1}};
  for (const auto& c : cases) {
    const std::vector<float> y = convolve<nf::f16_64x64>(conv_f16_64x64, c.channels, c.outputs, c.stride);
    const std::string name = "convolution of " + std::to_string(c.channels) + " channels: other bits";
    expect(convolve<nf::wgmma_f16_64x64>(conv_wgmma_f16_64x64, c.channels, c.outputs, c.stride) == y, name);
    expect(convolve<nf::wgmma_f16_128x128>(conv_wgmma_f16_128x128, c.channels, c.outputs, c.stride) == y, name);
  }
}

/* ---- misuse: one warpgroup, one wgmma of 64 x 64; dims[0] says what is left out */

enum Misuse { none, no_fence, no_wait, changed, overwritten, outside, divergent };

NF_KERNEL(misuse, 128, 1, 1, 1) {
  const Misuse what = (Misuse)L->dims[0];
  unsigned short* tile = nf::shared<unsigned short>();
  for (int i = nf::tid(); i < 8192; i += 128) tile[i] = 0x3c00;
  nf::fence_async();
  nf::sync();
  typedef nf::WgmmaOp<64, false, false, false> Op;
  nf::WgmmaTile<Op> sums;
  if (what != no_fence) sums.fence();
  if (what == changed) sums.acc[1] = 2;
  const unsigned a = nf::wgmma_address(tile) + (what == outside ? 16384 - 4096 : 0), b = nf::wgmma_address(tile) + 8192;
  if (what != divergent || nf::tid() != 40) sums.multiply(nf::wgmma_descriptor(a, 0, false), nf::wgmma_descriptor(b, 0, false), false);
  sums.commit();
  if (what == overwritten) tile[4096 + 64 * (nf::tid() % 64)] = 0;
  if (what != no_wait) sums.wait<0>();
  for (int i = 0; i < 32; ++i) ((float*)L->buffers[0])[nf::tid() * 32 + i] = sums.acc[i];
}

void check_misuse(Misuse what, const char* text) {
  std::vector<float> out(4096);
  void* const buffers[1] = {out.data()};
  const NfInt dims[1] = {what};
  NfError error{};
  NfLaunch launch{buffers, dims, 0, 1, 0, 1, nullptr, &error, 16384, nimforge::emulator()};
  const int result = misuse(&launch);
  const std::string fault = result ? nimforge::lastEmulatorFault() : "";
  bool right = result != 0 && fault.find(text) != std::string::npos;
  if (what == none || what == no_wait) {
    right = result == 0;
    for (float x : out) right = right && (what == none ? x == 16 : x != x);
  }
  expect(right, "misuse " + std::to_string(what) + ": \"" + fault + "\", expected \"" + text + "\"");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1) {
    nimforge::EmulatorOptions options = nimforge::emulatorOptions();
    options.seed = std::strtoull(argv[1], nullptr, 10);
    nimforge::setEmulatorOptions(options);
  }
  check_descriptors();
  const Kernel f16[] = {ENTRY(wgmma_f16_64x64, K, K, false),    ENTRY(wgmma_f16_64x64, MN, MN, false),  ENTRY(wgmma_f16_64x128, K, MN, false),
                        ENTRY(wgmma_f16_128x128, K, MN, false), ENTRY(wgmma_f16_128x128, MN, K, false), ENTRY(wgmma_f16_128x256, K, MN, false),
                        {"prologue_f16_128x128", prologue_f16_128x128, 128, 128, nf::wgmma_f16_128x128::shared_bytes, true, false, true, false}};
  const Kernel tma[] = {ENTRY(tma_f16_64x128, K, MN, true), ENTRY(tma_f16_64x128, MN, K, true), ENTRY(tma_f16_128x256, K, MN, true)};
  const Kernel bf16[] = {ENTRY(wgmma_bf16_64x64, K, MN, false), ENTRY(wgmma_bf16_128x128, K, K, false), ENTRY(tma_bf16_128x128, K, K, true)};
  for (const Kernel& kernel : f16) grid<test::F16>(kernel);
  for (const Kernel& kernel : tma) grid<test::F16>(kernel);
  for (const Kernel& kernel : bf16) grid<test::BF16>(kernel);
  // A row's bits depend neither on the tile nor on the other rows.
  const std::vector<float> few = run<test::F16>(f16[0], {2, 40, 200}, 8, 0, 1);
  for (int i : {2, 3, 5}) expect(run<test::F16>(f16[i], {2, 40, 200}, 8, 0, 1) == few, std::string(f16[i].name) + ": other bits than " + f16[0].name);
  expect(run<test::F16>(tma[2], {2, 40, 200}, 8, 0, 1) == few, std::string(tma[2].name) + ": other bits than " + f16[0].name);
  check_convolutions();
  check_misuse(none, "");
  check_misuse(no_wait, "");
  check_misuse(no_fence, "wgmma without wgmma.fence");
  check_misuse(changed, "accumulators of wgmma changed without wgmma.fence");
  check_misuse(overwritten, "shared memory was written while wgmma could read it");
  check_misuse(outside, "wgmma reads outside of shared memory");
  check_misuse(divergent, "wait for it in a collective");
  std::printf("%d checks, %d failures\n", checks, failures);
  return failures != 0;
}
