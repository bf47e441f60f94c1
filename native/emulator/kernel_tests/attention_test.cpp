/* Attention kernels, emulated, against sums in double: shapes at the edges of tiles, every option, and equal bits where the same rows
 * are computed by another variant, in another batch or one query at a time. */
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "../emulator.h"
#include "gemm_memory.h"
#include "attention_simt.cuh"

namespace {

using nf::Index;

/* ---- kernels: options are run-time values here, so that one kernel serves many cases */

enum Mask { none, boolean, float16, float32 };

template <class Storage, class Encode> struct Out {
  Storage* y;
  Index b, h, i;
  typedef Storage* Row;
  Row row(Index batch, Index head, Index query) const { return y + batch * b + head * h + query * i; }
  template <int V> void store(const float (&acc)[V], Row r, int c) const {
    for (int e = 0; e < V; ++e) r[c + e] = Encode::encode(acc[e]);
  }
};
struct EncodeFloat32 {
  static float encode(float x) { return x; }
};

nf::AttentionOptions options(const NfLaunch* L) {
  const NfInt* d = L->dims;
  nf::AttentionOptions o;
  o.scale = nf::bits<float>((int)d[32]), o.softcap = nf::bits<float>((int)d[33]);
  o.causal = d[23] != 0, o.left = (int)d[24], o.right = (int)d[25];
  o.lengths = (const long long*)L->buffers[5], o.lengths_step = (int)d[31];
  return o;
}
/* MaskOperand of a type that is known at run time. */
struct AnyMask {
  static constexpr bool active = true;
  typedef NfInt Row;
  const NfLaunch* L;
  template <class Decode> nf::MaskOperand<Decode> as() const {
    const NfInt* d = L->dims;
    return {(const typename Decode::Storage*)L->buffers[4], {(Index)d[26], (Index)d[27], (Index)d[28], (Index)d[29]}, (Index)d[30]};
  }
  Row row(Index b, Index h, Index i) const {
    const auto distance = [&](auto m) { return m.row(b, h, i) - m.mask; };
    return L->dims[34] == boolean ? distance(as<nf::MaskBool>())
           : L->dims[34] == float16 ? distance(as<nf::MaskFloat16>()) : distance(as<nf::MaskFloat32>());
  }
  float at(Row row, Index j) const {
    const auto value = [&](auto m) { return m.at(m.mask + row, j); };
    return L->dims[34] == boolean ? value(as<nf::MaskBool>())
           : L->dims[34] == float16 ? value(as<nf::MaskFloat16>()) : value(as<nf::MaskFloat32>());
  }
};
template <class F> void with_mask(const NfLaunch* L, F f) {
  if (L->dims[34] == none) f(nf::NoMask{});
  else f(AnyMask{L});
}

#define HALF(NAME, ELEMENT, ...)                                                                                         \
  typedef nf::AttentionConfig<nf::ELEMENT, __VA_ARGS__> Config_##NAME;                                                   \
  NF_KERNEL(NAME, Config_##NAME::threads, 1, 6, 35) {                                                                    \
    const NfInt* d = L->dims;                                                                                            \
    const Out<unsigned short, nf::ELEMENT> out{(unsigned short*)L->buffers[3], (Index)d[20], (Index)d[21], (Index)d[22]}; \
    with_mask(L, [&](const auto& mask) {                                                                                 \
      nf::attention<Config_##NAME>(nf::attention_args(d), options(L), L->buffers[0], L->buffers[1], L->buffers[2], mask, out); \
    });                                                                                                                  \
  }
#define SINGLE(NAME, ...)                                                                                                \
  typedef nf::AttentionSimtConfig<__VA_ARGS__> Config_##NAME;                                                            \
  NF_KERNEL(NAME, Config_##NAME::threads, 1, 6, 35) {                                                                    \
    const NfInt* d = L->dims;                                                                                            \
    const Out<float, EncodeFloat32> out{(float*)L->buffers[3], (Index)d[20], (Index)d[21], (Index)d[22]};                \
    with_mask(L, [&](const auto& mask) {                                                                                 \
      nf::attention_simt<Config_##NAME>(nf::attention_args(d), options(L), (const float*)L->buffers[0],                  \
                                        (const float*)L->buffers[1], (const float*)L->buffers[2], mask, out);            \
    });                                                                                                                  \
  }

}  // namespace

HALF(wide_32, AttentionFloat16, 32, 32, 4, 1, 2, 8)
HALF(any_32, AttentionFloat16, 32, 32, 4, 1, 2, 1)
HALF(wide_64, AttentionFloat16, 64, 64, 4, 1, 2, 8)
HALF(narrow_64, AttentionFloat16, 64, 64, 1, 4, 4, 8)
HALF(wide_96_64, AttentionFloat16, 96, 64, 2, 1, 3, 8)
HALF(wide_128, AttentionFloat16, 128, 128, 4, 1, 2, 8)
HALF(narrow_128, AttentionFloat16, 128, 128, 1, 4, 4, 8)
HALF(wide_256, AttentionFloat16, 256, 256, 2, 2, 2, 8)
HALF(narrow_256, AttentionFloat16, 256, 256, 1, 4, 4, 8)
#if NF_ARCH >= 800
HALF(wide_64_bf16, AttentionBFloat16, 64, 64, 4, 1, 2, 8)
HALF(narrow_64_bf16, AttentionBFloat16, 64, 64, 1, 4, 3, 8)
#endif
SINGLE(single_64, 64, 64, 4, 4)
SINGLE(single_64_few, 64, 64, 1, 4)
SINGLE(single_64_any, 64, 64, 2, 1)
SINGLE(single_128_64, 128, 64, 4, 4)
SINGLE(single_256, 256, 256, 2, 4)
SINGLE(single_256_few, 256, 256, 1, 4)

namespace {

struct Kernel {
  const char* name;
  NfKernel run;
  int rows, shared_bytes, dk, dv;
  int bytes;  /* of an element */
  bool brain; /* bfloat16 */
};
#define ENTRY(NAME, BYTES, BRAIN) \
  Kernel { #NAME, NAME, Config_##NAME::rows, Config_##NAME::shared_bytes, Config_##NAME::dk, Config_##NAME::dv, BYTES, BRAIN }
const Kernel k_wide_32 = ENTRY(wide_32, 2, false), k_any_32 = ENTRY(any_32, 2, false), k_wide_64 = ENTRY(wide_64, 2, false),
             k_narrow_64 = ENTRY(narrow_64, 2, false), k_wide_96_64 = ENTRY(wide_96_64, 2, false),
             k_wide_128 = ENTRY(wide_128, 2, false), k_narrow_128 = ENTRY(narrow_128, 2, false), k_wide_256 = ENTRY(wide_256, 2, false),
             k_narrow_256 = ENTRY(narrow_256, 2, false), k_single_64 = ENTRY(single_64, 4, false),
             k_single_64_few = ENTRY(single_64_few, 4, false), k_single_64_any = ENTRY(single_64_any, 4, false),
             k_single_128_64 = ENTRY(single_128_64, 4, false), k_single_256 = ENTRY(single_256, 4, false),
             k_single_256_few = ENTRY(single_256_few, 4, false);

#if NF_ARCH >= 800
const Kernel k_wide_64_bf16 = ENTRY(wide_64_bf16, 2, true), k_narrow_64_bf16 = ENTRY(narrow_64_bf16, 2, true);
#endif

/* ---- problems */

struct Problem {
  int batch = 1, heads = 1, group = 1, queries = 1, keys = 1, size = 64, value_size = 64, past = 0;
  bool causal = false;
  int left = -1, right = -1;
  float softcap = 0, scale = 0.125f;
  Mask mask = none;
  int own = -1;             /* keys that have a mask; -1: all */
  bool per_head = false;    /* mask [B, H, Sq, own], else [Sq, own] */
  std::vector<long long> lengths = {};
  bool packed = false;      /* [B, S, H, D] in memory, else [B, H, S, D] */
};

unsigned long long state = 88172645463325252ull;
float noise() { /* xorshift64, in [-1, 1) */
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return (float)(int)(state >> 32) * 0x1p-31f;
}

struct Tensor {
  std::vector<double> values; /* rounded to the element type */
  std::vector<unsigned char> bytes;
};

unsigned short to_half(float x, bool brain) { return brain ? nf::encode_bfloat16(x) : nf::encode_float16(x); }
float from_half(unsigned short x, bool brain) { return brain ? nf::decode_bfloat16(x) : nf::decode_float16(x); }

void put(Tensor& t, size_t i, float x, int bytes, bool brain) {
  if (bytes == 4) std::memcpy(&t.bytes[4 * i], &x, 4), t.values[i] = x;
  else {
    const unsigned short h = to_half(x, brain);
    std::memcpy(&t.bytes[2 * i], &h, 2), t.values[i] = from_half(h, brain);
  }
}
Tensor random_tensor(size_t count, int bytes, bool brain, float range) {
  Tensor t{std::vector<double>(count), std::vector<unsigned char>(count * bytes)};
  for (size_t i = 0; i < count; ++i) put(t, i, range * noise(), bytes, brain);
  return t;
}

/* A copy whose end is the end of accessible memory. */
test::Guarded<unsigned char> guarded(const std::vector<unsigned char>& from) {
  test::Guarded<unsigned char> memory(from.size());
  if (!from.empty()) std::memcpy(memory.data(), from.data(), from.size());
  return memory;
}

struct Inputs {
  Problem p;
  Tensor q, k, v, mask;
  NfInt qs[3], ks[3], vs[3], ys[3], ms[4]; /* strides of batch, head, position */
  int own;
  size_t outputs;
};

void strides(NfInt (&s)[3], const Problem& p, int heads, int length, int size) {
  const NfInt h = p.packed ? size : (NfInt)length * size, i = p.packed ? (NfInt)heads * size : size;
  s[0] = (NfInt)heads * length * size, s[1] = h, s[2] = i;
}

Inputs inputs(const Problem& p, int bytes, bool brain) {
  Inputs x{p, {}, {}, {}, {}, {}, {}, {}, {}, {}, p.own < 0 ? p.keys : p.own, 0};
  const int query_heads = p.heads * p.group;
  strides(x.qs, p, query_heads, p.queries, p.size);
  strides(x.ks, p, p.heads, p.keys, p.size);
  strides(x.vs, p, p.heads, p.keys, p.value_size);
  strides(x.ys, p, query_heads, p.queries, p.value_size);
  x.q = random_tensor((size_t)p.batch * query_heads * p.queries * p.size, bytes, brain, 2);
  x.k = random_tensor((size_t)p.batch * p.heads * p.keys * p.size, bytes, brain, 2);
  x.v = random_tensor((size_t)p.batch * p.heads * p.keys * p.value_size, bytes, brain, 1);
  x.outputs = (size_t)p.batch * query_heads * p.queries * p.value_size;
  if (p.mask != none) {
    const NfInt rows = p.per_head ? (NfInt)p.batch * query_heads * p.queries : p.queries;
    const int element = p.mask == boolean ? 1 : p.mask == float16 ? 2 : 4;
    x.mask = Tensor{std::vector<double>(rows * x.own), std::vector<unsigned char>(rows * x.own * element)};
    for (NfInt r = 0; r < rows; ++r)
      for (int j = 0; j < x.own; ++j) {
        const size_t at = r * x.own + j;
        const bool hidden = noise() > 0.5f || r % 5 == 3; /* some rows see nothing */
        if (p.mask == boolean) x.mask.bytes[at] = !hidden, x.mask.values[at] = hidden ? -INFINITY : 0;
        else put(x.mask, at, hidden ? -INFINITY : 3 * noise(), element, false);
      }
    x.ms[3] = 1, x.ms[2] = x.own, x.ms[1] = p.per_head ? (NfInt)p.queries * x.own : 0, x.ms[0] = x.ms[1] * query_heads;
  }
  /* Keys beyond a batch's length are garbage that nobody may look at. */
  for (size_t b = 0; b < p.lengths.size(); ++b)
    for (int h = 0; h < p.heads; ++h)
      for (int j = (int)p.lengths[b]; j < p.keys; ++j) {
        for (int d = 0; d < p.size; ++d) put(x.k, b * x.ks[0] + h * x.ks[1] + j * x.ks[2] + d, NAN, bytes, brain);
        for (int d = 0; d < p.value_size; ++d) put(x.v, b * x.vs[0] + h * x.vs[1] + j * x.vs[2] + d, NAN, bytes, brain);
      }
  return x;
}

std::vector<double> reference(const Inputs& x) {
  const Problem& p = x.p;
  std::vector<double> y(x.outputs), s(p.keys);
  for (int b = 0; b < p.batch; ++b)
    for (int h = 0; h < p.heads * p.group; ++h)
      for (int i = 0; i < p.queries; ++i) {
        const long long length = p.lengths.empty() ? p.keys : p.lengths[b];
        const long long position = i + (p.lengths.empty() ? p.past : length - p.queries);
        bool seen = false;
        double top = -INFINITY, sum = 0;
        for (int j = 0; j < p.keys; ++j) {
          s[j] = -INFINITY;
          const long long ahead = j - position;
          if (j >= length || (p.causal && ahead > 0) || (p.right >= 0 && ahead > p.right) || (p.left >= 0 && ahead < -p.left)) continue;
          double dot = 0;
          for (int d = 0; d < p.size; ++d)
            dot += x.q.values[b * x.qs[0] + h * x.qs[1] + i * x.qs[2] + d] *
                   x.k.values[b * x.ks[0] + h / p.group * x.ks[1] + j * x.ks[2] + d];
          dot *= p.scale;
          if (p.softcap != 0) dot = p.softcap * std::tanh(dot / p.softcap);
          double bias = 0;
          if (p.mask != none) bias = j < x.own ? x.mask.values[b * x.ms[0] + h * x.ms[1] + i * x.ms[2] + j] : -INFINITY;
          seen = seen || bias > -INFINITY;
          s[j] = dot + bias;
          top = std::max(top, s[j]);
        }
        for (int j = 0; j < p.keys; ++j) sum += s[j] = seen ? std::exp(s[j] - top) : 0;
        for (int c = 0; c < p.value_size; ++c) {
          double total = 0;
          for (int j = 0; j < p.keys; ++j)
            if (s[j] != 0) total += s[j] / sum * x.v.values[b * x.vs[0] + h / p.group * x.vs[1] + j * x.vs[2] + c];
          y[b * x.ys[0] + h * x.ys[1] + i * x.ys[2] + c] = total;
        }
      }
  return y;
}

int failures = 0, cases = 0;

std::string text(const Problem& p) {
  char s[300];
  std::snprintf(s, sizeof s, "b%d h%d g%d q%d k%d d%d v%d past %d causal %d window %d %d cap %g mask %d own %d lengths %d packed %d", p.batch,
                p.heads, p.group, p.queries, p.keys, p.size, p.value_size, p.past, p.causal, p.left, p.right, p.softcap, p.mask, p.own,
                (int)p.lengths.size(), p.packed);
  return s;
}

/* The output's bytes; before the launch they are 0xFF, so that what is not written shows as NaN. */
std::vector<unsigned char> run(const Kernel& kernel, const Inputs& x) {
  const Problem& p = x.p;
  auto q = guarded(x.q.bytes), k = guarded(x.k.bytes), v = guarded(x.v.bytes), m = guarded(x.mask.bytes);
  test::Guarded<unsigned char> y(x.outputs * kernel.bytes);
  test::Guarded<long long> lengths(p.lengths.size());
  std::memset(y.data(), 0xff, y.size());
  for (size_t b = 0; b < p.lengths.size(); ++b) lengths[b] = p.lengths[b];
  void* buffers[] = {q.data(), k.data(), v.data(), y.data(), m.data(), p.lengths.empty() ? nullptr : lengths.data()};
  const NfInt dims[] = {p.batch, p.heads, p.group, p.queries, p.keys, p.size, p.value_size, p.past,
                        x.qs[0], x.qs[1], x.qs[2], 1, x.ks[0], x.ks[1], x.ks[2], 1, x.vs[0], x.vs[1], x.vs[2], 1,
                        x.ys[0], x.ys[1], x.ys[2], p.causal, p.left, p.right, x.ms[0], x.ms[1], x.ms[2], x.ms[3], x.own,
                        p.lengths.size() > 1, nf::bits<int>(p.scale), nf::bits<int>(p.softcap), p.mask};
  const NfInt items = (NfInt)p.batch * p.heads * ((p.group * p.queries + kernel.rows - 1) / kernel.rows);
  NfError error{};
  const NfEmulator table = nimforge::emulatorFor(items);
  NfLaunch launch{buffers, dims, 0, items, 0, 1, nullptr, &error, kernel.shared_bytes, &table};
  if (kernel.run(&launch) != 0) {
    ++failures;
    std::printf("%s, %s: %s\n", kernel.name, text(p).c_str(), nimforge::lastEmulatorFault().c_str());
  }
  return {y.data(), y.data() + y.size()};
}

double element(const std::vector<unsigned char>& y, size_t i, const Kernel& kernel) {
  if (kernel.bytes == 4) return *(const float*)&y[4 * i];
  return from_half(*(const unsigned short*)&y[2 * i], kernel.brain);
}

/* Inputs in 16 bits give weights and results rounded to 16 bits. */
double tolerance(const Kernel& kernel) { return kernel.bytes == 4 ? 3e-6 : kernel.brain ? 1.2e-2 : 1.5e-3; }

void check(const Kernel& kernel, const Problem& p) {
  ++cases;
  const Inputs x = inputs(p, kernel.bytes, kernel.brain);
  const std::vector<unsigned char> y = run(kernel, x);
  const std::vector<double> expected = reference(x);
  size_t wrong = 0;
  double worst = 0; /* of numbers */
  for (size_t i = 0; i < x.outputs; ++i) {
    const double e = std::fabs(element(y, i, kernel) - expected[i]);
    if (!(e <= tolerance(kernel))) ++wrong;
    if (e > worst) worst = e;
  }
  if (wrong == 0) return;
  ++failures;
  std::printf("%s, %s: %zu of %zu off, by up to %g\n", kernel.name, text(p).c_str(), wrong, x.outputs, worst);
}

/* Two variants on the same inputs: the same bytes. */
void check_same(const Kernel& a, const Kernel& b, const Problem& p) {
  ++cases;
  const Inputs x = inputs(p, a.bytes, a.brain);
  if (run(a, x) == run(b, x)) return;
  ++failures;
  std::printf("%s and %s, %s: bits differ\n", a.name, b.name, text(p).c_str());
}

/* Every query alone, with only the keys that precede it, in a batch of its own: the bytes of the whole launch. */
void check_decode(const Kernel& whole, const Kernel& step, Problem p) {
  ++cases;
  p.causal = true, p.packed = false;
  const Inputs x = inputs(p, whole.bytes, whole.brain);
  const std::vector<unsigned char> y = run(whole, x);
  const int n = whole.bytes, heads = p.heads * p.group;
  for (int b = 0; b < p.batch; ++b)
    for (int i = 0; i < p.queries; ++i) {
      Problem one = p;
      one.batch = one.queries = 1, one.past = p.past + i, one.keys = std::min(p.keys, one.past + 1);
      Inputs z{one, {}, {}, {}, {}, {}, {}, {}, {}, {}, one.keys, (size_t)heads * p.value_size};
      const auto part = [&](const Tensor& t, const NfInt (&s)[3], int count, int first, int length, int size) {
        Tensor r;
        for (int h = 0; h < count; ++h) {
          const unsigned char* from = &t.bytes[(b * s[0] + h * s[1] + first * s[2]) * n];
          r.bytes.insert(r.bytes.end(), from, from + (size_t)length * size * n);
        }
        return r;
      };
      z.q = part(x.q, x.qs, heads, i, 1, p.size);
      z.k = part(x.k, x.ks, p.heads, 0, one.keys, p.size);
      z.v = part(x.v, x.vs, p.heads, 0, one.keys, p.value_size);
      strides(z.qs, one, heads, 1, p.size), strides(z.ks, one, p.heads, one.keys, p.size);
      strides(z.vs, one, p.heads, one.keys, p.value_size), strides(z.ys, one, heads, 1, p.value_size);
      if (run(step, z) == part(Tensor{{}, y}, x.ys, heads, i, 1, p.value_size).bytes) continue;
      ++failures;
      std::printf("%s and %s, query %d of batch %d, %s: bits differ\n", whole.name, step.name, i, b, text(p).c_str());
      return;
    }
}

Problem shaped(int queries, int keys, int size, int value_size) {
  Problem p;
  p.queries = queries, p.keys = keys, p.size = size, p.value_size = value_size;
  return p;
}

/* A mask, a cap, groups of heads and a past at once. */
Problem everything(int queries) {
  Problem p = shaped(queries, 150, 64, 64);
  p.batch = 2, p.group = 3, p.mask = float16, p.softcap = 4, p.causal = true, p.past = 117;
  return p;
}

void edges_of(const Kernel& kernel) {
  check(kernel, shaped(129, 127, kernel.dk, kernel.dv));
  check(kernel, shaped(7, 200, kernel.dk - 8, kernel.dv - 8));
  check(kernel, shaped(1, 33, kernel.dk, kernel.dv));
}

void options_of(const Kernel& kernel, int size, int value_size) {
  Problem p = shaped(33, 129, size, value_size);
  p.batch = 2, p.heads = 2, p.group = 3;
  check(kernel, p);
  p.packed = true;
  check(kernel, p);
  p.causal = true, p.past = 96;
  check(kernel, p);
  p.past = 0;
  check(kernel, p);
  p.left = 20, p.past = 96;
  check(kernel, p);
  p.causal = false, p.right = 5;
  check(kernel, p);
  p.left = -1, p.softcap = 2;
  check(kernel, p);
  p = shaped(31, 100, size, value_size), p.batch = 2, p.group = 2, p.mask = boolean;
  check(kernel, p);
  p.mask = kernel.bytes == 2 ? float16 : float32, p.per_head = true, p.own = 77, p.softcap = 3;
  check(kernel, p);
  p.causal = true, p.past = 40;
  check(kernel, p);
  p = shaped(5, 140, size, value_size), p.batch = 3, p.heads = 2, p.lengths = {170, 3, 66}; /* 30 more than there are */
  check(kernel, p);
  p.causal = true; /* batch 1 has fewer keys than queries: its first rows see nothing */
  check(kernel, p);
  p.left = 33, p.mask = boolean, p.group = 4;
  check(kernel, p);
}

void shapes_of(const Kernel& kernel, std::initializer_list<int> sizes) {
  for (int queries : {1, 7, 31, 33, 127, 129})
    for (int keys : {1, 7, 31, 33, 127, 129}) {
      Problem p = shaped(queries, keys, kernel.dk, kernel.dv);
      p.causal = queries <= keys && (queries + keys) % 3 == 0, p.past = p.causal ? keys - queries : 0;
      check(kernel, p);
    }
  for (int size : sizes) check(kernel, shaped(33, 65, size, std::min(size, kernel.dv)));
}

}  // namespace

int main() {
  shapes_of(k_wide_32, {8, 16, 24});
  shapes_of(k_any_32, {1, 5, 13, 31});
  shapes_of(k_wide_64, {40, 48, 56});
  shapes_of(k_narrow_64, {40, 56});
  shapes_of(k_single_64, {4, 20, 36, 60});
  shapes_of(k_single_64_any, {1, 3, 33, 63});
  shapes_of(k_single_64_few, {60});
  for (const Kernel* kernel : {&k_wide_96_64, &k_wide_128, &k_narrow_128, &k_wide_256, &k_narrow_256, &k_single_128_64, &k_single_256})
    edges_of(*kernel);
#if NF_ARCH >= 800
  edges_of(k_wide_64_bf16);
  edges_of(k_narrow_64_bf16);
  options_of(k_narrow_64_bf16, 64, 64);
  for (int queries : {5, 33}) check_same(k_wide_64_bf16, k_narrow_64_bf16, everything(queries));
#endif
  options_of(k_wide_64, 64, 48);
  options_of(k_any_32, 30, 17);
  options_of(k_narrow_64, 64, 64);
  options_of(k_wide_256, 160, 256);
  options_of(k_single_64, 64, 60);
  options_of(k_single_64_any, 21, 50);
  options_of(k_single_256_few, 200, 132);

  for (int queries : {5, 33}) {
    Problem p = everything(queries);
    check_same(k_wide_64, k_narrow_64, p);
    p.mask = float32;
    check_same(k_single_64, k_single_64_few, p);
    check_same(k_single_64, k_single_64_any, p);
    p.mask = none, p.size = p.value_size = 128;
    check_same(k_wide_128, k_narrow_128, p);
    p.size = p.value_size = 256, p.left = 50;
    check_same(k_wide_256, k_narrow_256, p);
    check_same(k_single_256, k_single_256_few, p);
  }
  Problem p = shaped(21, 140, 64, 64);
  p.batch = 2, p.group = 2, p.past = 119;
  check_decode(k_wide_64, k_narrow_64, p);
  check_decode(k_narrow_64, k_wide_64, p);
  check_decode(k_single_64, k_single_64_few, p);
  p = shaped(70, 70, 128, 128);
  check_decode(k_wide_128, k_narrow_128, p);

  std::printf("%d cases, %d failures\n", cases, failures);
  return failures != 0;
}
