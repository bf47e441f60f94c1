/* Running totals, emulated: integers exactly, floats against sums in double, equal bits whatever the seed of the emulator. */
#include <cmath>
#include <cstdio>
#include <cstring>
#include <type_traits>
#include <vector>

#include "../emulator.h"
#include "gemm_memory.h"
#include "scan.cuh"

namespace {

using nf::Index;

template <class T> struct In {
  const T* x;
  Index size, inner;
  T at(Index o, Index k, Index i) const { return x[(o * size + k) * inner + i]; }
};
template <class T> struct Out {
  T* y;
  Index size, inner;
  void put(T v, Index o, Index k, Index i) const { y[(o * size + k) * inner + i] = v; }
};

}  // namespace

#define SCAN(NAME, TYPE, MONOID, EXCLUSIVE, REVERSE, THREADS, ITEMS)                                                       \
  NF_KERNEL(NAME, THREADS, 1, 2, 3) {                                                                                      \
    const Index size = (Index)L->dims[1], inner = (Index)L->dims[2];                                                       \
    nf::scan_rows<nf::MONOID<TYPE>, EXCLUSIVE, REVERSE, THREADS, ITEMS>(                                                   \
        size, inner, In<TYPE>{(const TYPE*)L->buffers[0], size, inner}, Out<TYPE>{(TYPE*)L->buffers[1], size, inner});     \
  }                                                                                                                        \
  NF_KERNEL(NAME##_columns, THREADS, 1, 2, 3) {                                                                            \
    const Index size = (Index)L->dims[1], inner = (Index)L->dims[2];                                                       \
    nf::scan_columns<nf::MONOID<TYPE>, EXCLUSIVE, REVERSE, THREADS>(                                                       \
        (Index)L->dims[0], size, inner, In<TYPE>{(const TYPE*)L->buffers[0], size, inner},                                 \
        Out<TYPE>{(TYPE*)L->buffers[1], size, inner});                                                                     \
  }
SCAN(sum, float, ScanSum, false, false, 128, 4)
SCAN(sum_exclusive, float, ScanSum, true, false, 64, 4)
SCAN(sum_reverse, float, ScanSum, false, true, 32, 2)
SCAN(sum_double, double, ScanSum, true, true, 64, 3)
SCAN(product, float, ScanProduct, false, false, 64, 4)
SCAN(product_exclusive, float, ScanProduct, true, true, 64, 4)
SCAN(sum_int, int, ScanSum, false, false, 96, 1)
SCAN(sum_long, long long, ScanSum, true, true, 64, 4)

namespace {

int failures = 0, cases = 0;
unsigned long long state = 88172645463325252ull;
double noise() { /* xorshift64, in [-1, 1) */
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return (int)(state >> 32) * 0x1p-31;
}

/* Memory of 0xFF bytes that ends where it ends. */
template <class T> test::Guarded<T> buffer(size_t count) {
  test::Guarded<T> memory(count);
  std::memset(memory.data(), 0xff, count * sizeof(T));
  return memory;
}

template <class T>
void launch(const char* name, NfKernel kernel, Index outer, Index size, Index inner, NfInt items, int shared, test::Guarded<T>& x, test::Guarded<T>& y) {
  void* buffers[] = {x.data(), y.data()};
  const NfInt dims[] = {outer, size, inner};
  NfError error{};
  const NfEmulator table = nimforge::emulatorFor(items);
  NfLaunch launch{buffers, dims, 0, items, 0, 1, nullptr, &error, shared, &table};
  if (kernel(&launch) == 0) return;
  ++failures;
  std::printf("%s [%d, %d, %d]: %s\n", name, outer, size, inner, nimforge::lastEmulatorFault().c_str());
}

template <class T>
void check(const char* name, NfKernel rows, NfKernel columns, int threads, bool product, bool exclusive, bool reverse, Index outer, Index size,
           Index inner) {
  ++cases;
  auto x = buffer<T>(outer * size * inner), y = buffer<T>(x.size()), z = buffer<T>(x.size()), again = buffer<T>(x.size());
  for (size_t i = 0; i < x.size(); ++i) x[i] = std::is_integral_v<T> ? (T)(1e6 * noise()) : product ? (T)(1 + 0.1 * noise()) : (T)noise();
  launch(name, rows, outer, size, inner, outer * inner, threads / 32 * (int)sizeof(T), x, y);
  launch(name, columns, outer, size, inner, (outer * inner + threads - 1) / threads, 0, x, z);
  nimforge::setEmulatorOptions({state, 5});
  launch(name, rows, outer, size, inner, outer * inner, threads / 32 * (int)sizeof(T), x, again);
  bool good = std::memcmp(y.data(), again.data(), y.size() * sizeof(T)) == 0;
  for (Index o = 0; o < outer; ++o)
    for (Index i = 0; i < inner; ++i) {
      double total = product, terms = 1;
      for (Index n = 0; n < size; ++n) {
        const Index k = reverse ? size - 1 - n : n;
        const size_t at = (o * size + k) * inner + i;
        const double before = total;
        total = product ? total * (double)x[at] : total + (double)x[at];
        terms += product ? std::fabs(total) : std::fabs((double)x[at]);
        const double expected = exclusive ? before : total;
        const double tolerance = std::is_integral_v<T> ? 0 : terms * (sizeof(T) == 4 ? 4e-7 : 1e-14);
        good = good && std::fabs((double)y[at] - expected) <= tolerance && std::fabs((double)z[at] - expected) <= tolerance;
      }
    }
  if (good) return;
  ++failures;
  std::printf("%s [%d, %d, %d] is wrong\n", name, outer, size, inner);
}

}  // namespace

int main() {
  for (Index size : {1, 7, 31, 33, 127, 129, 512, 513, 1500})
    for (Index inner : {1, 3, 40}) {
      const Index outer = inner == 40 ? 1 : 3;
#define CHECK(NAME, TYPE, THREADS, PRODUCT, EXCLUSIVE, REVERSE) \
  check<TYPE>(#NAME, NAME, NAME##_columns, THREADS, PRODUCT, EXCLUSIVE, REVERSE, outer, size, inner)
      CHECK(sum, float, 128, false, false, false);
      CHECK(sum_exclusive, float, 64, false, true, false);
      CHECK(sum_reverse, float, 32, false, false, true);
      CHECK(sum_double, double, 64, false, true, true);
      CHECK(product, float, 64, true, false, false);
      CHECK(product_exclusive, float, 64, true, true, true);
      CHECK(sum_int, int, 96, false, false, false);
      CHECK(sum_long, long long, 64, false, true, true);
    }
  std::printf("%d cases, %d failures\n", cases, failures);
  return failures != 0;
}
