/* Depthwise convolution, emulated: shapes at the edges of strips, vectors and the image, every element bit by bit. */
#include "depthwise.cuh"

#include "../emulator.h"
#include "gemm_memory.h"

namespace {

using nf::Index;

/* Twice the sum plus the channel: one store for each element, vectors as wide as they come. */
template <class E> struct Out {
  typedef typename E::Storage T;
  T* o;
  const NfInt* d;
  T* row(Index n, Index oh, Index ow) const { return o + n * d[18] + oh * d[19] + ow * d[20]; }
  template <int V> void store(const float (&acc)[V], T* to, Index c) const {
    nf::Vec<T, V> y;
    for (int v = 0; v < V; ++v) y[v] = E::encode(nf::fma(acc[v], 2, (float)(c + v)));
    nf::st<T, V>(to + c, y);
  }
};
struct Nothing {};
/* x + 1 inside the image. */
template <class E> struct PlusOne {
  typedef typename E::Storage T;
  const T* x;
  const NfInt* d;
  const T* row(Index n, Index h, Index w) const {
    if (h < 0 || h >= d[1] || w < 0 || w >= d[2]) __builtin_trap();
    return x + n * d[14] + h * d[15] + w * d[16];
  }
  template <int V> void load(float (&out)[V], const T* from, Index c) const {
    const auto v = nf::ld<T, V>(from + c);
    for (int e = 0; e < V; ++e) out[e] = E::decode(v[e]) + 1;
  }
};

}  // namespace

#define DEPTHWISE(NAME, E, V, PIXELS, KW, SW, DW)                                                               \
  NF_KERNEL(NAME, 128, 1, 3, 21) {                                                                              \
    const NfInt* d = L->dims;                                                                                   \
    nf::depthwise<nf::E, V, PIXELS, KW, SW, DW>(nf::depthwise_args(d, L->buffers[0], L->buffers[1]), Nothing{}, \
                                                Out<nf::E>{(nf::E::Storage*)L->buffers[2], d});                 \
  }                                                                                                             \
  NF_KERNEL(NAME##_prologue, 64, 1, 3, 21) {                                                                    \
    const NfInt* d = L->dims;                                                                                   \
    nf::depthwise<nf::E, V, PIXELS, KW, SW, DW, 64>(nf::depthwise_args(d, nullptr, L->buffers[1]),              \
                                                    PlusOne<nf::E>{(const nf::E::Storage*)L->buffers[0], d},    \
                                                    Out<nf::E>{(nf::E::Storage*)L->buffers[2], d});             \
  }
DEPTHWISE(f16_3, Float16, 8, 4, 3, 1, 1)
DEPTHWISE(f16_3s2, Float16, 8, 2, 3, 2, 1)
DEPTHWISE(f16_3d2, Float16, 4, 4, 3, 1, 2)
DEPTHWISE(f16_5, Float16, 2, 4, 5, 1, 1)
DEPTHWISE(f16_7, Float16, 1, 2, 7, 1, 1)
DEPTHWISE(f16_1, Float16, 8, 3, 1, 1, 1)
DEPTHWISE(f16_wide, Float16, 8, 4, 0, 1, 1)
DEPTHWISE(f16_any, Float16, 4, 4, 0, 0, 0)
DEPTHWISE(bf16_3, Bfloat16, 8, 4, 3, 1, 1)
DEPTHWISE(f32_3, Float32, 4, 4, 3, 1, 1)
DEPTHWISE(f32_5s2, Float32, 4, 2, 5, 2, 1)
DEPTHWISE(f32_3s3d2, Float32, 2, 3, 3, 3, 2)
DEPTHWISE(f32_wide, Float32, 1, 4, 0, 2, 1)
DEPTHWISE(f32_any, Float32, 1, 4, 0, 0, 0)

namespace {

int failures = 0, cases = 0;

struct Shape {
  NfInt N, H, W, C, KH, KW, sh, sw, dh, dw, pt, pl, pb, pr;
};

template <class E, class T>
void check(const char* name, NfKernel kernel, int threads, int V, int pixels, bool prologue, const Shape& s, NfInt gap, bool channels_first) {
  ++cases;
  const NfInt OH = (s.H + s.pt + s.pb - (s.KH - 1) * s.dh - 1) / s.sh + 1, OW = (s.W + s.pl + s.pr - (s.KW - 1) * s.dw - 1) / s.sw + 1;
  if (s.H + s.pt + s.pb < (s.KH - 1) * s.dh + 1 || s.W + s.pl + s.pr < (s.KW - 1) * s.dw + 1) return;
  const NfInt pitch = (s.C + 7) & -8;
  NfInt xw = s.C + gap, xh = s.W * xw + gap, xn = s.H * xh + gap, xc = 1;
  if (channels_first) xw = 1, xh = s.W, xc = s.H * s.W, xn = s.C * xc;
  const NfInt ow = s.C + gap, oh = OW * ow, on = OH * oh;
  const NfInt d[21] = {s.N, s.H, s.W, s.C, OH, OW, s.KH, s.KW, s.sh, s.sw, s.dh, s.dw, s.pt, s.pl, xn, xh, xw, xc, on, oh, ow};
  test::Random random(cases);
  /* Ends exactly behind the last element that may be read; aligned for whole vectors because C and the gap are multiples of V. */
  test::Guarded<typename E::T> x((s.N - 1) * xn + (s.H - 1) * xh + (s.W - 1) * xw + (s.C - 1) * xc + 1), w(s.KH * s.KW * pitch),
      o((s.N - 1) * on + (OH - 1) * oh + (OW - 1) * ow + s.C);
  for (size_t i = 0; i < x.size(); ++i) x[i] = E::make(random.uniform());
  for (size_t i = 0; i < w.size(); ++i) w[i] = (NfInt)i % pitch < s.C ? E::make(random.uniform()) : E::poison();
  for (size_t i = 0; i < o.size(); ++i) o[i] = E::poison();

  const NfInt runs = s.N * OH * ((OW + pixels - 1) / pixels) * (s.C / V), items = (runs + threads - 1) / threads;
  void* buffers[] = {x.data(), w.data(), o.data()};
  NfError error{};
  const NfEmulator table = nimforge::emulatorFor(items);
  NfLaunch launch{buffers, d, 0, items, 0, 1, nullptr, &error, 0, &table};
  if (kernel(&launch) != 0) {
    ++failures;
    std::printf("%s: %s\n", name, nimforge::lastEmulatorFault().c_str());
    return;
  }
  NfInt wrong = 0;
  for (NfInt n = 0; n < s.N; ++n)
    for (NfInt i = 0; i < OH; ++i)
      for (NfInt j = 0; j < OW; ++j)
        for (NfInt c = 0; c < s.C; ++c) {
          float sum = 0;
          for (NfInt a = 0; a < s.KH; ++a)
            for (NfInt b = 0; b < s.KW; ++b) {
              const NfInt ih = i * s.sh + a * s.dh - s.pt, iw = j * s.sw + b * s.dw - s.pl;
              if (ih < 0 || ih >= s.H || iw < 0 || iw >= s.W) continue;
              const float value = (float)E::used(x[n * xn + ih * xh + iw * xw + c * xc]) + (prologue ? 1.0f : 0.0f);
              sum = std::fmaf(value, (float)E::used(w[(a * s.KW + b) * pitch + c]), sum);
            }
          const typename E::T bits = T::encode(std::fmaf(sum, 2, (float)c));
          wrong += std::memcmp(&bits, &o[n * on + i * oh + j * ow + c], sizeof bits) != 0;
        }
  if (!wrong) return;
  ++failures;
  std::printf("%s: %lld of %lld are wrong; C %lld, %lld x %lld, kernel %lld x %lld\n", name, (long long)wrong, (long long)(s.N * OH * OW * s.C),
              (long long)s.C, (long long)s.H, (long long)s.W, (long long)s.KH, (long long)s.KW);
}

/* Every width from below a strip to above several, with and without padding; KW, SW and DW are the kernel's own where they are not 0. */
template <class E, class T> void all(const char* name, NfKernel kernel, NfKernel with_prologue, int V, int pixels, int KW, int SW, int DW) {
  for (NfInt W : {1, 2, 3, 4, 5, 7, 8, 9, 17, 31, 33})
    for (int variant = 0; variant < 3; ++variant) {
      Shape s{};
      s.N = variant == 1 ? 3 : 1, s.H = variant == 0 ? 1 : 5, s.W = W, s.C = V * (variant == 0 ? 1 : variant == 1 ? 3 : 17);
      s.KH = variant == 0 ? 1 : 3, s.KW = KW ? KW : variant == 0 ? 1 : variant == 1 ? 6 : 11;
      s.sw = SW ? SW : 1 + variant, s.sh = variant == 2 ? 2 : 1, s.dw = DW ? DW : 1 + variant % 2, s.dh = 1 + variant % 2;
      const NfInt reach = (s.KW - 1) * s.dw;
      s.pt = s.pb = s.KH / 2 * s.dh;
      s.pl = variant == 2 ? reach : reach / 2, s.pr = variant == 2 ? reach + 1 : reach - reach / 2;
      if (variant == 0 && W > reach) s.pl = s.pr = 0;
      check<E, T>(name, kernel, 128, V, pixels, false, s, variant == 1 ? 2 * V : 0, false);
      check<E, T>(name, with_prologue, 64, V, pixels, true, s, 0, false);
      if (V == 1) check<E, T>(name, kernel, 128, V, pixels, false, s, 0, true);
    }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1) nimforge::setEmulatorOptions({std::strtoull(argv[1], nullptr, 10), 5});
#define ALL(NAME, E, T, V, PIXELS, KW, SW, DW) all<test::E, nf::T>(#NAME, NAME, NAME##_prologue, V, PIXELS, KW, SW, DW)
  ALL(f16_3, F16, Float16, 8, 4, 3, 1, 1);
  ALL(f16_3s2, F16, Float16, 8, 2, 3, 2, 1);
  ALL(f16_3d2, F16, Float16, 4, 4, 3, 1, 2);
  ALL(f16_5, F16, Float16, 2, 4, 5, 1, 1);
  ALL(f16_7, F16, Float16, 1, 2, 7, 1, 1);
  ALL(f16_1, F16, Float16, 8, 3, 1, 1, 1);
  ALL(f16_wide, F16, Float16, 8, 4, 0, 1, 1);
  ALL(f16_any, F16, Float16, 4, 4, 0, 0, 0);
  ALL(bf16_3, BF16, Bfloat16, 8, 4, 3, 1, 1);
  ALL(f32_3, F32, Float32, 4, 4, 3, 1, 1);
  ALL(f32_5s2, F32, Float32, 4, 2, 5, 2, 1);
  ALL(f32_3s3d2, F32, Float32, 2, 3, 3, 3, 2);
  ALL(f32_wide, F32, Float32, 1, 4, 0, 2, 1);
  ALL(f32_any, F32, Float32, 1, 4, 0, 0, 0);
  std::printf("%d cases, %d failures\n", cases, failures);
  return failures != 0;
}
