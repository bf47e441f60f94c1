// The matrix product of gemm.cuh in the emulator: every math and both orders of each operand over a grid of shapes and strides,
// against products in double precision; and the same bits from every tile.
#define NF_EMULATE
#ifndef NF_ARCH
#define NF_ARCH 800
#endif
#include "../../../packages/codegen/src/targets/cuda/kernels/gemm.cuh"
#include "../emulator.h"
#include "gemm_memory.h"

namespace {

// The table in tile.cuh, whose numbers the code generator repeats.
template <class C> constexpr bool is(int threads, int shared, int shared_of_two_stages) {
  return C::threads == threads && C::shared_bytes == (NF_ARCH < 800 ? shared_of_two_stages : shared);
}
static_assert(is<nf::f16_128x256>(256, 98304, 49152) && is<nf::bf16_128x256>(256, 98304, 49152));
static_assert(is<nf::f16_128x128>(256, 49152, 32768) && is<nf::bf16_128x128>(256, 49152, 32768));
static_assert(is<nf::f16_128x64>(128, 49152, 24576) && is<nf::bf16_128x64>(128, 49152, 24576));
static_assert(is<nf::f16_64x64>(128, 49152, 32768) && is<nf::bf16_64x64>(128, 49152, 32768));
static_assert(is<nf::f16_32x64>(128, 49152, 24576) && is<nf::bf16_32x64>(128, 49152, 24576));
static_assert(is<nf::f16_16x64>(128, 40960, 20480) && is<nf::bf16_16x64>(128, 40960, 20480));
static_assert(is<nf::f16_16x32>(64, 49152, 24576) && is<nf::bf16_16x32>(64, 49152, 24576));
static_assert(is<nf::tf32_128x128>(256, 49152, 32768) && is<nf::tf32_128x64>(128, 49152, 24576));
static_assert(is<nf::tf32_64x64>(128, 49152, 32768) && is<nf::tf32_16x64>(128, 40960, 20480));
static_assert(is<nf::s8_128x128>(256, 49152, 32768) && is<nf::s8_64x64>(128, 49152, 32768) && is<nf::s8_16x64>(128, 40960, 20480));
static_assert(is<nf::f32_128x128>(256, 49152, 36864) && is<nf::f32_128x64>(128, 36864, 24576));
static_assert(is<nf::f32_64x64>(128, 24576, 16384) && is<nf::f32_16x64>(64, 40960, 20480));
static_assert(is<nf::simt_f16_64x64>(128, 24576, 16384) && is<nf::simt_f16_16x64>(64, 20480, 10240));
static_assert(is<nf::simt_bf16_64x64>(128, 24576, 16384) && is<nf::simt_bf16_16x64>(64, 20480, 10240));

// out[batch, m, n] = relu(acc + bias[n] + residual[batch, m, n]) where those are given; counts the writes of every element.
template <class Acc> struct TestEpilogue {
  Acc* out;
  const Acc* bias;
  const Acc* residual;
  unsigned char* writes;
  nf::Index cm, cn, stride[4], batch[4];
  struct Row {
    nf::Index at;
  };
  Row row(nf::Index b, nf::Index m) const {
    nf::Index at = m * cm;
    for (int i = 3; i >= 0; --i) at += b % batch[i] * stride[i], b /= batch[i];
    return {at};
  }
  template <int V> void store(const Acc (&acc)[V], const Row& r, nf::Index n) const {
    for (int v = 0; v < V; ++v) {
      const nf::Index at = r.at + (n + v) * cn;
      Acc x = acc[v];
      if (bias) x += bias[n + v];
      if (residual) {
        x += residual[at];
        x = x < 0 ? 0 : x;
      }
      out[at] = x;
      ++writes[at];
    }
  }
};
template <class Acc> TestEpilogue<Acc> epilogue(const NfLaunch* L) {
  const NfInt* d = L->dims;
  TestEpilogue<Acc> e{(Acc*)L->buffers[2], (const Acc*)L->buffers[3], (const Acc*)L->buffers[4], (unsigned char*)L->buffers[5], (int)d[11], (int)d[12], {}, {}};
  for (int i = 0; i < 4; ++i) e.stride[i] = (int)d[21 + i], e.batch[i] = (int)d[i];
  return e;
}

// A[m, k] = 2 x[m, k], read from A's memory: a power of two, so that sums are exactly doubled.
template <class E> struct Doubled {
  const typename E::Storage* a;
  const NfInt* d;
  struct Row {
    nf::Index at;
  };
  Row row(nf::Index b, nf::Index m) const {
    nf::Index at = m * (nf::Index)d[7];
    for (int i = 3; i >= 0; --i) at += b % (nf::Index)d[i] * (nf::Index)d[13 + i], b /= (nf::Index)d[i];
    return {at};
  }
  template <int V> void load(float (&out)[V], const Row& r, nf::Index k) const {
    for (int v = 0; v < V; ++v) out[v] = 2 * E::decode(a[r.at + (k + v) * (nf::Index)d[8]]);
  }
};

enum class Order { K, MN };
struct KernelEntry {
  const char* name;
  int (*run)(const NfLaunch*);
  int rows, columns, shared;
  Order a, b;
  bool prologue;
};

#define GEMM(config, A, B)                                                                                                         \
  NF_KERNEL(gemm_##config##_##A##_##B, nf::config::threads, 1, 6, 25) {                                                            \
    nf::gemm<nf::config, nf::Major::A, nf::Major::B>(nf::gemm_args(L->dims, L->buffers[0], L->buffers[1]), nf::NoPro{}, epilogue<nf::config::Acc>(L)); \
  }
#define PROLOGUE(config, B)                                                                                                        \
  NF_KERNEL(pro_##config##_##B, nf::config::threads, 1, 6, 25) {                                                                   \
    using E = nf::config::Element;                                                                                                 \
    nf::gemm<nf::config, nf::Major::K, nf::Major::B>(nf::gemm_args(L->dims, nullptr, L->buffers[1]),                               \
                                                     Doubled<E>{(const E::Storage*)L->buffers[0], L->dims}, epilogue<nf::config::Acc>(L)); \
  }
#define ENTRY(config, A, B) \
  { #config " " #A " " #B, gemm_##config##_##A##_##B, nf::config::rows, nf::config::columns, nf::config::shared_bytes, Order::A, Order::B, false }
#define PROLOGUE_ENTRY(config, B) \
  { #config " prologue " #B, pro_##config##_##B, nf::config::rows, nf::config::columns, nf::config::shared_bytes, Order::K, Order::B, true }
#define ALL_ORDERS(X, config) X(config, K, K) X(config, K, MN) X(config, MN, K) X(config, MN, MN)

#define ENTRY_ITEM(config, A, B) ENTRY(config, A, B),

#ifdef NF_FEW_KERNELS  // one of each kind: compiles in a few seconds
ALL_ORDERS(GEMM, f16_64x64) GEMM(f16_16x64, K, MN) PROLOGUE(f16_64x64, MN)
GEMM(s8_16x64, K, MN) GEMM(f32_64x64, K, MN) GEMM(f32_16x64, MN, K)
const KernelEntry f16_kernels[] = {ALL_ORDERS(ENTRY_ITEM, f16_64x64) ENTRY(f16_16x64, K, MN), PROLOGUE_ENTRY(f16_64x64, MN)};
const KernelEntry s8_kernels[] = {ENTRY(s8_16x64, K, MN)};
const KernelEntry f32_kernels[] = {ENTRY(f32_64x64, K, MN), ENTRY(f32_16x64, MN, K)};
#else
ALL_ORDERS(GEMM, f16_128x128)
ALL_ORDERS(GEMM, f16_64x64)
ALL_ORDERS(GEMM, f16_16x64)
GEMM(f16_128x256, K, MN) GEMM(f16_128x64, K, MN) GEMM(f16_32x64, K, MN) GEMM(f16_16x32, K, MN)
PROLOGUE(f16_64x64, MN) PROLOGUE(f16_16x64, MN)
ALL_ORDERS(GEMM, s8_64x64)
GEMM(s8_128x128, K, K) GEMM(s8_16x64, K, K)
ALL_ORDERS(GEMM, f32_64x64)
ALL_ORDERS(GEMM, f32_16x64)
GEMM(f32_128x128, K, MN) GEMM(f32_128x64, MN, K)
PROLOGUE(f32_64x64, MN)
GEMM(simt_f16_64x64, K, MN) GEMM(simt_f16_16x64, MN, K) GEMM(simt_bf16_64x64, MN, MN) GEMM(simt_bf16_16x64, K, K)
#if NF_ARCH >= 800
ALL_ORDERS(GEMM, tf32_64x64)
ALL_ORDERS(GEMM, tf32_16x64)
GEMM(tf32_128x128, K, MN) GEMM(tf32_128x64, K, K)
GEMM(bf16_64x64, K, MN) GEMM(bf16_16x64, K, K) GEMM(bf16_128x128, MN, MN)
#endif

const KernelEntry f16_kernels[] = {
    ALL_ORDERS(ENTRY_ITEM, f16_128x128) ALL_ORDERS(ENTRY_ITEM, f16_64x64) ALL_ORDERS(ENTRY_ITEM, f16_16x64)
    ENTRY(f16_128x256, K, MN), ENTRY(f16_128x64, K, MN), ENTRY(f16_32x64, K, MN), ENTRY(f16_16x32, K, MN),
    PROLOGUE_ENTRY(f16_64x64, MN), PROLOGUE_ENTRY(f16_16x64, MN)};
const KernelEntry s8_kernels[] = {ALL_ORDERS(ENTRY_ITEM, s8_64x64) ENTRY(s8_128x128, K, K), ENTRY(s8_16x64, K, K)};
const KernelEntry f32_kernels[] = {
    ALL_ORDERS(ENTRY_ITEM, f32_64x64) ALL_ORDERS(ENTRY_ITEM, f32_16x64) ENTRY(f32_128x128, K, MN), ENTRY(f32_128x64, MN, K),
    PROLOGUE_ENTRY(f32_64x64, MN)};
const KernelEntry simt_f16_kernels[] = {ENTRY(simt_f16_64x64, K, MN), ENTRY(simt_f16_16x64, MN, K)};
const KernelEntry simt_bf16_kernels[] = {ENTRY(simt_bf16_64x64, MN, MN), ENTRY(simt_bf16_16x64, K, K)};
#if NF_ARCH >= 800
const KernelEntry tf32_kernels[] = {
    ALL_ORDERS(ENTRY_ITEM, tf32_64x64) ALL_ORDERS(ENTRY_ITEM, tf32_16x64) ENTRY(tf32_128x128, K, MN), ENTRY(tf32_128x64, K, K)};
const KernelEntry bf16_kernels[] = {ENTRY(bf16_64x64, K, MN), ENTRY(bf16_16x64, K, K), ENTRY(bf16_128x128, MN, MN)};
#endif
#endif

// How an operand lies in memory: unit stride along its order's axis, and lines padded to a multiple of `pad` elements; or `spread`,
// with no unit stride. `shift` elements lie in front of it.
struct Placement {
  const char* name;
  int pad, shift, spread;
};
const Placement placements[] = {{"tight", 1, 0, 1}, {"16-byte", 16, 0, 1}, {"4-byte", 2, 2, 1}, {"odd", 1, 1, 1}, {"spread", 1, 0, 2}};

struct Shape {
  int M, N, K;
};

int failures = 0, checks = 0;

template <class T> struct Operand {
  test::Guarded<T> memory;
  T* data;
  NfInt row, k, batch;
};

// A [batch][rows][K] or, for Order::MN, [batch][K][rows].
template <class E> Operand<typename E::T> operand(int batch, int rows, int K, Order order, const Placement& p, test::Random& random) {
  const int length = order == Order::K ? K : rows, lines = order == Order::K ? rows : K;
  const NfInt pitch = (length * p.spread + p.pad - 1) / p.pad * p.pad, plane = pitch * lines;
  Operand<typename E::T> o{test::Guarded<typename E::T>(plane * batch + p.shift), nullptr, 0, 0, plane};
  o.data = o.memory.data() + p.shift;
  (order == Order::K ? o.row : o.k) = pitch;
  (order == Order::K ? o.k : o.row) = p.spread;
  for (NfInt i = -p.shift; i < plane * batch; ++i) o.data[i] = E::poison();  // what lies between the elements must not be used
  for (int b = 0; b < batch; ++b)
    for (int r = 0; r < rows; ++r)
      for (int k = 0; k < K; ++k) o.data[b * plane + r * o.row + k * o.k] = E::make(random.uniform());
  return o;
}

// Runs a kernel on [2, 3] batches where A does not depend on the first and B not on the second one.
template <class E, class Acc> std::vector<Acc> run(const KernelEntry& kernel, const Shape& s, const Placement& p, bool batched, bool fused, bool exact) {
  const auto [M, N, K] = s;
  const int b0 = batched ? 2 : 1, b1 = batched ? 3 : 1;
  test::Random random(M * 1000003 + N * 1009 + K), random_b(N * 31 + K), random_c(M + N);
  auto a = operand<E>(b1, M, K, kernel.a, p, random);
  auto b = operand<E>(b0, N, K, kernel.b, p, random_b);
  const NfInt cm = N + 3, plane = cm * M;
  const NfInt count = plane * b0 * b1 - (M && N ? 3 : 0);
  test::Guarded<Acc> out(count), bias(N), residual(count);
  test::Guarded<unsigned char> writes(count);
  std::memset(writes.data(), 0, count);
  for (NfInt i = 0; i < count; ++i) out[i] = -99, residual[i] = static_cast<Acc>(random_c.uniform() * (sizeof(typename E::T) == 1 ? 99 : 1));
  for (int n = 0; n < N; ++n) bias[n] = static_cast<Acc>(random_c.uniform() * (sizeof(typename E::T) == 1 ? 99 : 1));
  const NfInt dims[25] = {1, 1, b0, b1, M, N, K, a.row, a.k, b.k, b.row, cm, 1, 0, 0, 0, a.batch, 0, 0, b.batch, 0, 0, 0, plane * b1, plane};
  void* const buffers[6] = {a.data, b.data, out.data(), fused ? bias.data() : nullptr, fused ? residual.data() : nullptr, writes.data()};
  NfError error{};
  NfLaunch launch{};
  launch.buffers = buffers, launch.dims = dims, launch.error = &error, launch.threads = 1;
  launch.end = static_cast<NfInt>(b0) * b1 * ((M + kernel.rows - 1) / kernel.rows) * ((N + kernel.columns - 1) / kernel.columns);
  launch.scratchBytes = kernel.shared;
  const NfEmulator table = nimforge::emulatorFor(launch.end);
  launch.emulator = &table;
  char where[200];
  std::snprintf(where, sizeof where, "%s, M %d N %d K %d, %s%s%s", kernel.name, M, N, K, p.name, batched ? ", batched" : "", fused ? ", fused" : "");
  ++checks;
  std::vector<Acc> result;
  if (kernel.run(&launch) != 0) {
    std::printf("FAILED %s: %s\n", where, nimforge::lastEmulatorFault().c_str());
    ++failures;
    return result;
  }
  const double scale = kernel.prologue ? 2 : 1;
  for (int i = 0; i < b0; ++i)
    for (int j = 0; j < b1; ++j)
      for (int m = 0; m < M; ++m)
        for (int n = 0; n < N; ++n) {
          double sum = 0, size = 0;
          float single = 0;
          for (int k = 0; k < K; ++k) {
            const double x = E::used(a.data[j * a.batch + m * a.row + k * a.k]) * scale, y = E::used(b.data[i * b.batch + n * b.row + k * b.k]);
            sum += x * y, size += std::fabs(x * y);
            single = std::fmaf(static_cast<float>(x), static_cast<float>(y), single);
          }
          const NfInt at = plane * (i * b1 + j) + m * cm + n;
          if (fused) {
            sum += static_cast<double>(bias[n]) + static_cast<double>(residual[at]), size += 2;
            sum = sum < 0 ? 0 : sum;
            const float biased = single + static_cast<float>(bias[n]);
            single = biased + static_cast<float>(residual[at]);
            single = single < 0 ? 0 : single;
          }
          const double got = static_cast<double>(out[at]), tolerance = sizeof(typename E::T) == 1 ? 0 : size * 1e-6 + 1e-6;
          if (writes[at] != 1 || !(std::fabs(got - sum) <= tolerance) || (exact && static_cast<float>(got) != single)) {
            std::printf("FAILED %s: [%d %d %d %d] = %.9g, expected %.9g (exact %.9g), writes %d\n", where, i, j, m, n, got, sum, single, writes[at]);
            ++failures;
            return result;
          }
          result.push_back(out[at]);
        }
  for (NfInt i = 0; i < count; ++i)
    if (out[i] == static_cast<Acc>(-99) && writes[i]) ++failures;
  return result;
}

const Shape shapes[] = {{1, 1, 1}, {7, 31, 33}, {31, 7, 129}, {33, 129, 31}, {127, 33, 127}, {129, 127, 7}, {64, 64, 64}, {1, 129, 257}, {130, 136, 160}};

template <class E, class Acc, std::size_t COUNT> void grid(const char* name, const KernelEntry (&kernels)[COUNT], bool exact) {
  for (const KernelEntry& kernel : kernels) {
    int turn = 0;
    for (const Shape& s : shapes) {
      const int p = turn++;
      run<E, Acc>(kernel, s, placements[p % 5], false, p % 2, exact);
      run<E, Acc>(kernel, s, placements[(p + 1) % 5], false, p % 3 == 0, exact);
    }
    for (const Placement& p : placements) run<E, Acc>(kernel, {19, 40, 72}, p, true, true, exact);
    run<E, Acc>(kernel, {5, 6, 0}, placements[0], false, false, exact);
  }
  // A row's bits depend neither on the tile nor on the other rows.
  for (int K : {40, 200}) {
    const int N = 50;
    std::vector<Acc> first;
    for (const KernelEntry& kernel : kernels) {
      if (kernel.prologue) continue;
      const std::vector<Acc> few = run<E, Acc>(kernel, {3, N, K}, placements[1], false, false, exact);
      if (first.empty()) first = few;
      ++checks;
      if (few.size() != first.size() || std::memcmp(few.data(), first.data(), few.size() * sizeof(Acc))) {
        std::printf("FAILED %s: other bits than %s\n", kernel.name, kernels[0].name);
        ++failures;
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
  grid<test::F16, float>("f16", f16_kernels, true);
  grid<test::S8, int>("s8", s8_kernels, false);
  grid<test::F32, float>("f32", f32_kernels, true);
#ifndef NF_FEW_KERNELS
  grid<test::F16, float>("simt_f16", simt_f16_kernels, true);
  grid<test::BF16, float>("simt_bf16", simt_bf16_kernels, true);
#if NF_ARCH >= 800
  grid<test::Tf32, float>("tf32", tf32_kernels, true);
  grid<test::BF16, float>("bf16", bf16_kernels, true);
#endif
#endif
  return failures != 0;
}
