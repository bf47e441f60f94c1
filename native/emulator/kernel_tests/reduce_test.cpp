/* Reductions over warps and blocks, emulated: every monoid and size, the result in every thread, many in a row, equal bits whatever
 * the seed of the emulator. */
#include "reduce.cuh"

#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>
#include <type_traits>
#include <vector>

#include "../emulator.h"

namespace {

using nf::Index;

template <class M, class T> struct Lift {
  static typename M::Value of(T x, Index) { return x; }
};
template <class T, bool MAX, bool LAST> struct Lift<nf::Arg<T, MAX, LAST>, T> {
  static nf::Candidate<T> of(T x, Index i) { return {x, i}; }
};
template <> struct Lift<nf::Moments, float> {
  static nf::Moments::Value of(float x, Index) { return nf::Moments::of(x); }
};
template <> struct Lift<nf::SoftmaxSum, float> {
  static nf::SoftmaxSum::Value of(float x, Index) { return nf::SoftmaxSum::of(x); }
};

/* Rows of n elements, one after the other by the same block: out[row][thread]. */
template <class M, class T> NF_DEVICE void reduce_rows(const NfLaunch* L) {
  const T* x = (const T*)L->buffers[0];
  typename M::Value* out = (typename M::Value*)L->buffers[1];
  const Index n = (Index)L->dims[0], rows = (Index)L->dims[1];
  for (Index row = 0; row < rows; ++row)
    out[row * nf::threads() + nf::tid()] = nf::block_reduce_over<M>(n, (int)L->dims[2], [&](Index i) { return Lift<M, T>::of(x[row * n + i], i); });
}
template <class M, class T> NF_DEVICE void reduce_warps(const NfLaunch* L) {
  const T* x = (const T*)L->buffers[0];
  typename M::Value* out = (typename M::Value*)L->buffers[1];
  const Index n = (Index)L->dims[0], rows = (Index)L->dims[1];
  for (Index row = nf::warp(); row < rows; row += nf::threads() / 32)
    out[row * 32 + nf::lane()] = nf::warp_reduce_over<M>(n, [&](Index i) { return Lift<M, T>::of(x[row * n + i], i); });
}

}  // namespace

#define REDUCE(NAME, TYPE, ...)                                                     \
  typedef __VA_ARGS__ Monoid_##NAME;                                                \
  NF_KERNEL(NAME##_32, 32, 1, 2, 3) { reduce_rows<Monoid_##NAME, TYPE>(L); }        \
  NF_KERNEL(NAME##_96, 96, 1, 2, 3) { reduce_rows<Monoid_##NAME, TYPE>(L); }        \
  NF_KERNEL(NAME##_256, 256, 1, 2, 3) { reduce_rows<Monoid_##NAME, TYPE>(L); }      \
  NF_KERNEL(NAME##_1024, 1024, 1, 2, 3) { reduce_rows<Monoid_##NAME, TYPE>(L); }    \
  NF_KERNEL(NAME##_warps, 128, 1, 2, 3) { reduce_warps<Monoid_##NAME, TYPE>(L); }
REDUCE(sum_f32, float, nf::Sum<float>)
REDUCE(sum_f64, double, nf::Sum<double>)
REDUCE(sum_i32, int, nf::Sum<int>)
REDUCE(sum_u8, unsigned char, nf::Sum<unsigned char>)
REDUCE(sum_i64, long long, nf::Sum<long long>)
REDUCE(prod_f32, float, nf::Prod<float>)
REDUCE(prod_u32, unsigned, nf::Prod<unsigned>)
REDUCE(max_f32, float, nf::Max<float>)
REDUCE(min_f64, double, nf::Min<double>)
REDUCE(max_i64, long long, nf::Max<long long>)
REDUCE(min_u64, unsigned long long, nf::Min<unsigned long long>)
REDUCE(max_i8, signed char, nf::Max<signed char>)
REDUCE(min_u16, unsigned short, nf::Min<unsigned short>)
REDUCE(max_bool, bool, nf::Max<bool>)
REDUCE(min_bool, bool, nf::Min<bool>)
REDUCE(and_bool, bool, nf::And<bool>)
REDUCE(or_bool, bool, nf::Or<bool>)
REDUCE(argmax_f32, float, nf::Argmax<float>)
REDUCE(argmax_last_f32, float, nf::ArgmaxLast<float>)
REDUCE(argmin_f64, double, nf::Argmin<double>)
REDUCE(argmin_last_i8, signed char, nf::ArgminLast<signed char>)
REDUCE(moments, float, nf::Moments)
REDUCE(softmax_sum, float, nf::SoftmaxSum)

/* Groups of 8 lanes. */
NF_KERNEL(groups_of_8, 64, 1, 1, 0) { ((int*)L->buffers[0])[nf::tid()] = nf::warp_reduce<nf::Sum<int>, 8>(nf::tid()); }
/* A run's moments, of its first n values. */
NF_KERNEL(moments_of_run, 64, 1, 2, 1) {
  const float* x = (const float*)L->buffers[0];
  const int n = (int)L->dims[0], left = n - nf::tid() * 4;
  float run[4];
  for (int i = 0; i < 4; ++i) run[i] = i < left ? x[nf::tid() * 4 + i] : 1e30f;
  ((nf::Moments::Value*)L->buffers[1])[nf::tid()] = nf::block_reduce<nf::Moments>(nf::Moments::of_run(run, left < 4 ? left : 4));
}

namespace {

int failures = 0, cases = 0;
unsigned long long state = 88172645463325252ull;
unsigned long long noise() { /* xorshift64 */
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return state;
}

bool launch(const char* name, NfKernel kernel, void* x, void* out, std::vector<NfInt> dims, int shared) {
  void* buffers[] = {x, out};
  NfError error{};
  const NfEmulator table = nimforge::emulatorFor(1);
  NfLaunch launch{buffers, dims.data(), 0, 1, 0, 1, nullptr, &error, shared, &table};
  if (kernel(&launch) == 0) return true;
  ++failures;
  std::printf("%s: %s\n", name, nimforge::lastEmulatorFault().c_str());
  return false;
}

bool close(double got, double exact, double tolerance) {
  if (std::isnan(exact)) return std::isnan(got);
  return got == exact || std::fabs(got - exact) <= tolerance;
}

/* What a reduction means: one element after the other, as the CPU's printed loops have it. */
template <class T, class M> struct Expected;
#define EXPECTED(MONOID, START, STEP)                                         \
  template <class T> struct Expected<T, nf::MONOID<T>> {                      \
    static bool right(T got, const T* x, Index n) {                           \
      typedef std::conditional_t<std::is_floating_point_v<T>, double, T> W;   \
      W total = START;                                                        \
      double scale = 1;                                                       \
      for (Index i = 0; i < n; ++i) {                                         \
        const W next = x[i];                                                  \
        total = (W)(STEP);                                                    \
        scale += std::fabs((double)total) + std::fabs((double)next);          \
      }                                                                       \
      return std::is_floating_point_v<T> ? close((double)got, (double)total, scale * std::numeric_limits<T>::epsilon()) : got == (T)total; \
    }                                                                         \
  };
template <class T> T least() { return std::is_floating_point_v<T> ? -std::numeric_limits<T>::infinity() : std::numeric_limits<T>::lowest(); }
template <class T> T most() { return std::is_floating_point_v<T> ? std::numeric_limits<T>::infinity() : std::numeric_limits<T>::max(); }
EXPECTED(Sum, 0, total + next)
EXPECTED(Prod, 1, total * next)
EXPECTED(Max, least<T>(), next > total || next != next ? next : total)
EXPECTED(Min, most<T>(), next < total || next != next ? next : total)
EXPECTED(And, true, total && next)
EXPECTED(Or, false, total || next)
template <class T, bool MAX, bool LAST> struct Expected<T, nf::Arg<T, MAX, LAST>> {
  static bool right(nf::Candidate<T> got, const T* x, Index n) {
    Index at = -1;
    T best{};
    for (Index i = 0; i < n; ++i) {
      const T v = x[i];
      const bool better = MAX ? (LAST ? v >= best : v > best) : (LAST ? v <= best : v < best);
      if (at < 0 || better || (v != v && best == best)) best = v, at = i;
    }
    return got.index == at && (at < 0 || got.value == best || best != best);
  }
};
bool right_moments(nf::Moments::Value got, const float* x, Index n) {
  double mean = 0, m2 = 0, magnitude = 0;
  for (Index i = 0; i < n; ++i) mean += x[i], magnitude += std::fabs(x[i]);
  if (n) mean /= n, magnitude /= n;
  for (Index i = 0; i < n; ++i) m2 += (x[i] - mean) * (x[i] - mean);
  return got.count == (float)n && close(got.mean, mean, 1e-6 * magnitude) && close(got.m2, m2, 1e-5 * m2 + 1e-9 * magnitude * magnitude * n);
}
template <> struct Expected<float, nf::Moments> {
  static bool right(nf::Moments::Value got, const float* x, Index n) {
    for (Index i = 0; i < n; ++i)
      if (x[i] - x[i] != 0) return std::isnan(got.mean) || std::isinf(got.mean);
    return right_moments(got, x, n);
  }
};
template <> struct Expected<float, nf::SoftmaxSum> {
  static bool right(nf::SoftmaxSum::Value got, const float* x, Index n) {
    double top = -INFINITY, sum = 0;
    for (Index i = 0; i < n; ++i) top = x[i] > top || x[i] != x[i] ? x[i] : top;
    if (std::isnan(top)) return std::isnan(got.max) && std::isnan(got.sum);
    if (top == INFINITY) return got.max == INFINITY && std::isnan(got.sum);
    for (Index i = 0; i < n; ++i) sum += x[i] == top ? 1 : std::exp(x[i] - top);
    return got.max == top && close(got.sum, sum, 1e-5 * sum);
  }
};

/* The same bits; NaN is NaN. */
template <class T> bool same(const T& a, const T& b) {
  if constexpr (std::is_floating_point_v<T>)
    if (a != a && b != b) return true;
  return !std::memcmp(&a, &b, sizeof(T));
}
template <class T> bool same(const nf::Candidate<T>& a, const nf::Candidate<T>& b) { return a.index == b.index; } /* not the padding */

/* An array of bool too. */
template <class T> struct Array {
  explicit Array(int count) : owner(new T[count]()) {}
  T* data() { return owner.get(); }
  T& operator[](int i) { return owner[i]; }
  std::unique_ptr<T[]> owner;
};

enum Kind { plain, equal, special };
template <class T> T element(Kind kind) {
  const unsigned long long r = noise();
  if constexpr (std::is_same_v<T, bool>) return kind == equal ? r % 2 : r % 50 != 0;
  if (kind == equal) return (T)(r % 3);
  if constexpr (std::is_floating_point_v<T>) {
    if (kind == special && r % 64 == 0) return std::numeric_limits<T>::quiet_NaN();
    if (kind == special && r % 64 == 1) return r & 64 ? std::numeric_limits<T>::infinity() : -std::numeric_limits<T>::infinity();
    return (T)((double)(r >> 11) * 0x1p-52 - 1);
  } else {
    return (T)r;
  }
}

template <class M, class T> void check(const char* name, const NfKernel (&kernels)[5], double scale) {
  typedef typename M::Value Value;
  const int threads[] = {32, 96, 256, 1024, 128};
  for (int k = 0; k < 5; ++k)
    for (Index n : {0, 1, 7, 31, 33, 127, 129, 1000, 2049})
      for (const Kind kind : {plain, equal, special}) {
        if ((threads[k] == 1024 && (n < 127 || n == 1000)) || (kind != plain && n > 1500)) continue;
        ++cases;
        const int rows = 5, each = k == 4 ? 32 : threads[k], offset = k == 4 ? 0 : 64;
        Array<T> x(rows * n + 1);
        for (Index i = 0; i < rows * n; ++i) {
          x[i] = element<T>(kind);
          if constexpr (std::is_floating_point_v<T>) x[i] = (T)(scale == 0 ? 1 + x[i] / 256 : x[i] * scale);
        }
        if (kind == special && n && !std::is_same_v<T, bool>)
          for (Index i = 0; i < n; ++i) x[i] = least<T>(); /* a row without anything else */
        Array<Value> out(rows * each), again(rows * each);
        const int shared = k == 4 ? 0 : offset + nf::reduce_bytes<M>(threads[k]);
        nimforge::setEmulatorOptions({noise(), 5});
        if (!launch(name, kernels[k], x.data(), out.data(), {n, rows, offset}, shared)) continue;
        nimforge::setEmulatorOptions({noise(), 5});
        launch(name, kernels[k], x.data(), again.data(), {n, rows, offset}, shared);
        bool good = true;
        for (int row = 0; row < rows; ++row) {
          good = good && Expected<T, M>::right(out[row * each], x.data() + row * n, n);
          for (int t = 0; t < each; ++t)
            good = good && same(out[row * each + t], out[row * each]) && same(again[row * each + t], out[row * each]);
        }
        if (good) continue;
        ++failures;
        std::printf("%s: %d threads, rows of %d, kind %d\n", name, threads[k], n, kind);
      }
}

}  // namespace

int main() {
#define CHECK_AS(NAME, TYPE, SCALE) \
  check<Monoid_##NAME, TYPE>(#NAME, {NAME##_32, NAME##_96, NAME##_256, NAME##_1024, NAME##_warps}, SCALE)
  CHECK_AS(sum_f32, float, 1);
  CHECK_AS(sum_f64, double, 1);
  CHECK_AS(sum_i32, int, 1);
  CHECK_AS(sum_u8, unsigned char, 1);
  CHECK_AS(sum_i64, long long, 1);
  CHECK_AS(prod_f32, float, 0);
  CHECK_AS(prod_u32, unsigned, 1);
  CHECK_AS(max_f32, float, 1);
  CHECK_AS(min_f64, double, 1);
  CHECK_AS(max_i64, long long, 1);
  CHECK_AS(min_u64, unsigned long long, 1);
  CHECK_AS(max_i8, signed char, 1);
  CHECK_AS(min_u16, unsigned short, 1);
  CHECK_AS(max_bool, bool, 1);
  CHECK_AS(min_bool, bool, 1);
  CHECK_AS(and_bool, bool, 1);
  CHECK_AS(or_bool, bool, 1);
  CHECK_AS(argmax_f32, float, 1);
  CHECK_AS(argmax_last_f32, float, 1);
  CHECK_AS(argmin_f64, double, 1);
  CHECK_AS(argmin_last_i8, signed char, 1);
  CHECK_AS(moments, float, 1);
  CHECK_AS(softmax_sum, float, 20);

  int groups[64];
  launch("groups_of_8", groups_of_8, groups, nullptr, {0}, 0);
  for (int t = 0; t < 64; ++t)
    if (groups[t] != 8 * (t & -8) + 28) ++failures, std::printf("groups_of_8: thread %d\n", t);

  for (int n : {1, 3, 4, 130, 255, 256}) {
    std::vector<float> x(n);
    for (float& v : x) v = 1000 + element<float>(plain);
    std::vector<nf::Moments::Value> out(64);
    launch("moments_of_run", moments_of_run, x.data(), out.data(), {n}, nf::reduce_bytes<nf::Moments>(64));
    if (!right_moments(out[0], x.data(), n)) ++failures, std::printf("moments_of_run: %d values\n", n);
  }
  std::printf("%d cases, %d failures\n", cases, failures);
  return failures != 0;
}
