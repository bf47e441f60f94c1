/* TopK, emulated, against a sort of pairs: every path (sorted whole, selected, sorted in the output), element type and order, with ties,
 * NaN, infinities and signed zeros. */
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

#include "../emulator.h"
#include "gemm_memory.h"
#include "topk.cuh"

namespace {

float decode_e4m3(unsigned char x) { return nf::decode_float8e4m3fn(x); }

typedef nf::OrderInteger<signed char, unsigned char> OrderInt8;
typedef nf::OrderInteger<short, unsigned short> OrderInt16;
typedef nf::OrderInteger<unsigned, unsigned> OrderUint32;
typedef nf::OrderInteger<long long, unsigned long long> OrderInt64;
typedef nf::OrderSmallFloat<decode_e4m3> OrderFloat8;

}  // namespace

#define TOPK(NAME, ...)                                                                                                  \
  typedef nf::TopKConfig<__VA_ARGS__> Config_##NAME;                                                                     \
  NF_KERNEL(NAME, Config_##NAME::threads, 1, 3, 4) {                                                                     \
    typedef Config_##NAME::Storage Storage;                                                                              \
    nf::topk<Config_##NAME>(L->dims, (const Storage*)L->buffers[0], (Storage*)L->buffers[1], (long long*)L->buffers[2]); \
  }
TOPK(f32_largest, nf::OrderFloat32, true, 128, 64)
TOPK(f32_smallest, nf::OrderFloat32, false, 256, 1024)
TOPK(f16_largest, nf::OrderFloat16, true, 64, 64)
TOPK(bf16_smallest, nf::OrderBFloat16, false, 64, 64)
TOPK(f64_largest, nf::OrderFloat64, true, 64, 32)
TOPK(f8_largest, OrderFloat8, true, 32, 32)
TOPK(i8_largest, OrderInt8, true, 64, 64)
TOPK(i16_smallest, OrderInt16, false, 64, 64)
TOPK(u32_largest, OrderUint32, true, 64, 64)
TOPK(i64_smallest, OrderInt64, false, 64, 32)

namespace {

using nf::Index;

int failures = 0, cases = 0;
unsigned long long state = 88172645463325252ull;
unsigned noise() { /* xorshift64 */
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return (unsigned)(state >> 32);
}

/* Memory of 0xFF bytes that ends where it ends. */
template <class T> test::Guarded<T> buffer(size_t count) {
  test::Guarded<T> memory(count);
  std::memset(memory.data(), 0xff, count * sizeof(T));
  return memory;
}

/* `value(x)` orders elements of type T as numbers: double, or long long for the integers. */
template <class C, class Value>
void check(const char* name, NfKernel kernel, bool largest, Index outer, Index size, Index inner, Index k, unsigned distinct, Value value) {
  typedef typename C::Storage T;
  ++cases;
  auto x = buffer<T>(outer * size * inner), y = buffer<T>(outer * k * inner);
  auto positions = buffer<long long>(outer * k * inner);
  for (size_t i = 0; i < x.size(); ++i) {
    /* Few different bit patterns give ties; all of them give NaN, infinities, both zeros and denormals. */
    const unsigned long long pattern = distinct ? noise() % distinct * 0x9e3779b97f4a7c15ull : (unsigned long long)noise() << 32 | noise();
    std::memcpy(&x[i], &pattern, sizeof(T));
    if (i % 11 == 3) std::memset(&x[i], 0, sizeof(T));
    if (i % 13 == 5) std::memset(&x[i], 0, sizeof(T)), ((unsigned char*)&x[i])[sizeof(T) - 1] = 0x80;
  }
  void* buffers[] = {x.data(), y.data(), positions.data()};
  const NfInt dims[] = {outer, size, inner, k};
  NfError error{};
  const NfEmulator table = nimforge::emulatorFor(outer * inner);
  NfLaunch launch{buffers, dims, 0, outer * inner, 0, 1, nullptr, &error, C::shared_bytes, &table};
  if (kernel(&launch) != 0) {
    ++failures;
    std::printf("%s [%d, %d, %d] k %d: %s\n", name, outer, size, inner, k, nimforge::lastEmulatorFault().c_str());
    return;
  }
  for (Index o = 0; o < outer; ++o)
    for (Index i = 0; i < inner; ++i) {
      std::vector<Index> order(size);
      for (Index n = 0; n < size; ++n) order[n] = n;
      const auto at = [&](Index n) { return value(x[(o * size + n) * inner + i]); };
      const auto before = [&](Index a, Index b) { /* as numpy sorts: NaN is the greatest */
        const auto p = at(a), q = at(b);
        const bool p_nan = p != p, q_nan = q != q;
        const int c = p_nan || q_nan ? (int)p_nan - (int)q_nan : p < q ? -1 : p > q ? 1 : 0;
        return c != 0 ? (largest ? c > 0 : c < 0) : a < b;
      };
      std::sort(order.begin(), order.end(), before);
      for (Index n = 0; n < k; ++n) {
        const size_t to = (o * k + n) * inner + i;
        const T* from = &x[(o * size + order[n]) * inner + i];
        if (positions[to] == order[n] && std::memcmp(&y[to], from, sizeof(T)) == 0) continue;
        ++failures;
        std::printf("%s [%d, %d, %d] k %d: rank %d of row %d, %d is position %lld, expected %d\n", name, outer, size, inner, k, n, o, i,
                    positions[to], order[n]);
        return;
      }
    }
}

template <class C, class Value> void all(const char* name, NfKernel kernel, bool largest, Value value) {
  const Index capacity = C::capacity;
  for (Index size : {1, 2, 7, 31, 32, 33, 127, 129, 300, 1025})
    for (Index k : {1, 5, 31, 64, 129, 1025})
      for (unsigned distinct : {0u, 3u}) check<C>(name, kernel, largest, 2, size, 1, std::min(k, size), distinct, value);
  check<C>(name, kernel, largest, 3, capacity, 1, capacity, 0, value);
  check<C>(name, kernel, largest, 3, capacity + 1, 1, capacity, 2, value);
  check<C>(name, kernel, largest, 3, capacity + 1, 1, capacity + 1, 2, value);
  check<C>(name, kernel, largest, 2, 50, 3, 7, 0, value);
  check<C>(name, kernel, largest, 2, 70 * capacity / 64, 5, 66 * capacity / 64, 5, value);
  check<C>(name, kernel, largest, 1, 9, 1, 0, 0, value);
  check<C>(name, kernel, largest, 1, 3000, 1, 1500, 1, value); /* all equal: positions alone decide */
}

}  // namespace

int main() {
#define ALL(NAME, LARGEST, VALUE) all<Config_##NAME>(#NAME, NAME, LARGEST, VALUE)
  const auto itself = [](auto x) { return x; };
  ALL(f32_largest, true, itself);
  ALL(f32_smallest, false, itself);
  ALL(f16_largest, true, [](unsigned short x) { return nf::decode_float16(x); });
  ALL(bf16_smallest, false, [](unsigned short x) { return nf::decode_bfloat16(x); });
  ALL(f64_largest, true, itself);
  ALL(f8_largest, true, [](unsigned char x) { return nf::decode_float8e4m3fn(x); });
  ALL(i8_largest, true, itself);
  ALL(i16_smallest, false, itself);
  ALL(u32_largest, true, itself);
  ALL(i64_smallest, false, itself);
  std::printf("%d cases, %d failures\n", cases, failures);
  return failures != 0;
}
