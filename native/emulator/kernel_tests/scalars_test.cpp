/* Scalar functions of kernels against the C library in higher precision, conversions against every value, integers against wide ones. */
#include "scalars.cuh"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <vector>

namespace {

int failures = 0;
#define CHECK(condition)                                                          \
  do {                                                                            \
    if (!(condition)) ++failures, std::printf("%s:%d: %s\n", __FILE__, __LINE__, #condition); \
  } while (0)

unsigned long long state = 88172645463325252ull;
unsigned long long noise() { /* xorshift64 */
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return state;
}

/* Distance in units of the last place of V at `exact`. */
template <class V> double ulps(V got, long double exact) {
  if (std::isnan(exact)) return std::isnan(got) ? 0 : 1e9;
  const V rounded = (V)exact;
  if (got == rounded) return 0;
  if (std::isinf(rounded) || std::isinf(got)) return std::isinf(rounded) && std::fabs((double)got) > (double)std::numeric_limits<V>::max() * 0.999999 ? 1 : 1e9;
  const V a = std::fabs(rounded);
  const long double unit = (long double)std::nextafter(a, std::numeric_limits<V>::infinity()) - (long double)a;
  return (double)(std::fabs((long double)got - exact) / unit);
}

/* Values of every kind: special ones, all exponents, and plain ones in [-bound, bound]. */
template <class V> std::vector<V> samples(double bound) {
  const V inf = std::numeric_limits<V>::infinity(), tiny = std::numeric_limits<V>::denorm_min(), least = std::numeric_limits<V>::min();
  std::vector<V> x = {0, -V(0), 1, -1, 2, V(0.5), V(-0.5), inf, -inf, std::numeric_limits<V>::quiet_NaN(), tiny, -tiny, least, -least,
                      std::numeric_limits<V>::max(), -std::numeric_limits<V>::max()};
  for (int i = 0; i < 20000; ++i) {
    const unsigned long long r = noise();
    typedef typename nf::Of<V>::Uns U;
    V any;
    const U bits = (U)r;
    std::memcpy(&any, &bits, sizeof any);
    x.push_back(any);
    x.push_back((V)(((double)(r >> 11) * 0x1p-52 - 1) * bound));
  }
  return x;
}

template <class V, class F, class G> void compare(const char* name, double bound, double most, F f, G exact) {
  double worst = 0;
  V at = 0;
  for (const V x : samples<V>(bound)) {
    const double e = ulps<V>(f(x), exact((long double)x));
    if (e > worst) worst = e, at = x;
  }
  if (worst <= most) return;
  ++failures;
  std::printf("%s: %.3g ulp at %.17g\n", name, worst, (double)at);
}

template <class V> void elementary() {
  typedef long double Wide;
#define SAME(NAME, BOUND) \
  compare<V>(#NAME, BOUND, 4, [](V x) { return nf::NAME<V>(x); }, [](Wide x) { return std::NAME(x); })
  SAME(exp, 100), SAME(exp2, 100), SAME(expm1, 10), SAME(log, 10), SAME(log2, 10), SAME(log1p, 2), SAME(tanh, 5), SAME(erf, 4);
  SAME(atan, 10), SAME(asin, 1), SAME(acos, 1), SAME(sinh, 10), SAME(cosh, 10), SAME(asinh, 100), SAME(acosh, 100), SAME(atanh, 1);
  SAME(floor, 100), SAME(ceil, 100), SAME(trunc, 100);
  SAME(sin, 100), SAME(cos, 100), SAME(tan, 100);
  compare<V>("sqrt", 100, 0.5, [](V x) { return nf::sqrt(x); }, [](Wide x) { return std::sqrt(x); });
  compare<V>("round_even", 100, 0, [](V x) { return nf::round_even<V>(x); }, [](Wide x) { return std::nearbyint(x); });
  compare<V>("sigmoid", 80, 4, [](V x) { return nf::sigmoid<V>(x); }, [](Wide x) { return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x)); });
  compare<V>("abs", 1, 0, [](V x) { return nf::abs<V>(x); }, [](Wide x) { return std::fabs(x); });
  for (const V y : {V(0), V(1), V(-1), V(2), V(0.5), V(-3), V(7.25), std::numeric_limits<V>::infinity(), -std::numeric_limits<V>::infinity()}) {
    compare<V>("pow", 20, 4, [y](V x) { return nf::pow<V>(x, y); }, [y](Wide x) { return std::pow(x, (Wide)y); });
    compare<V>("fmod", 20, 0, [y](V x) { return std::fabs(x) < 1e6 ? nf::fmod<V>(x, y) : V(0); }, [y](Wide x) { return std::fabs(x) < 1e6 ? std::fmod(x, (Wide)y) : 0; });
  }
  const V nan = std::numeric_limits<V>::quiet_NaN();
  CHECK(std::isnan(nf::min<V>(nan, 1)) && std::isnan(nf::min<V>(1, nan)) && std::isnan(nf::max<V>(nan, 1)) && std::isnan(nf::max<V>(1, nan)));
  CHECK(nf::min<V>(2, 1) == 1 && nf::max<V>(2, 1) == 2 && nf::sign<V>(-3) == -1 && nf::sign<V>(0) == 0);
  CHECK(nf::mod<V>(-7, 3) == 2 && nf::mod<V>(7, -3) == -2 && std::signbit(nf::mod<V>(6, -3)));
}

/* Every value there and back, and the nearest even one from between. */
void half() {
  for (unsigned b = 0; b < 65536; ++b) {
    _Float16 h;
    const unsigned short s = (unsigned short)b;
    std::memcpy(&h, &s, 2);
    const float x = nf::decode_float16(s);
    CHECK(std::isnan((float)h) ? std::isnan(x) : x == (float)h);
    CHECK(std::isnan(x) ? std::isnan(nf::decode_float16(nf::encode_float16(x))) : nf::encode_float16(x) == s);
    CHECK(std::isnan(nf::decode_bfloat16(s)) || nf::encode_bfloat16(nf::decode_bfloat16(s)) == s);
  }
  for (int i = 0; i < 300000; ++i) {
    const unsigned u = (unsigned)noise();
    float x;
    std::memcpy(&x, &u, 4);
    if (i & 1) x = (float)(int)u * 0x1p-24f;
    if (std::isnan(x)) continue;
    const _Float16 h = (_Float16)x;
    unsigned short s;
    std::memcpy(&s, &h, 2);
    CHECK(nf::encode_float16(x) == s);
    unsigned v;
    std::memcpy(&v, &x, 4);
    const unsigned below = v >> 16, cut = v & 0xffff;
    CHECK(nf::encode_bfloat16(x) == (unsigned short)(below + (cut > 0x8000 || (cut == 0x8000 && (below & 1)))));
  }
}

template <class Decode, class Encode> void small(int count, Decode decode, Encode encode) {
  for (int b = 0; b < count; ++b) {
    const float x = decode((unsigned char)b);
    CHECK(std::isnan(x) ? std::isnan(decode(encode(x))) : encode(x) == b);
  }
}

template <class T> void integers() {
  NfError error{};
  NfLaunch launch{};
  launch.error = &error;
  const NfLaunch* L = &launch;
  typedef __int128 Wide;
  const Wide low = (Wide)std::numeric_limits<T>::min(), high = (Wide)std::numeric_limits<T>::max(), range = high - low + 1;
  const auto wrap = [=](Wide x) { x = (x - low) % range; return (T)((x < 0 ? x + range : x) + low); };
  std::vector<T> values = {0, 1, 2, 3, 7, T(-1), T(-7), std::numeric_limits<T>::min(), std::numeric_limits<T>::max()};
  for (int i = 0; i < 20; ++i) values.push_back((T)noise());
  for (const T a : values)
    for (const T b : values) {
      if (b != 0) {
        const Wide q = (Wide)a / b, r = (Wide)a % b;
        CHECK(nf::int_div<T>(L, 1, a, b) == wrap(q) && nf::int_fmod<T>(L, 1, a, b) == wrap(r));
        CHECK(nf::int_mod<T>(L, 1, a, b) == wrap(r != 0 && (r < 0) != (b < 0) ? r + b : r));
      }
      CHECK(nf::int_min<T>(a, b) == (a < b ? a : b) && nf::int_max<T>(a, b) == (a < b ? b : a));
      CHECK(nf::int_shl<T>(a, b) == ((Wide)b < 0 || (Wide)b >= 8 * (int)sizeof(T) ? T(0) : wrap((Wide)a * ((Wide)1 << (int)b))));
      Wide power = 1;
      if (b >= 0 && b < 8) {
        for (int i = 0; i < (int)b; ++i) power = (Wide)wrap(power * a);
        CHECK(nf::int_pow<T>(a, b) == wrap(power));
      }
    }
  CHECK(error.code == 0);
  CHECK(nf::int_div<T>(L, 5, 3, 0) == 0 && error.code == 2 && error.operand == 5);
  CHECK(nf::int_mod<T>(L, 6, 3, 0) == 0 && error.operand == 5); /* the first wins */

  for (const double x : {0.0, -0.9, 0.9, 1.5, -1.5, 100.7, 200.2, 300.9, -300.9, 70000.5, -70000.5, 3e9, -3e9, 5e9, 1e12}) {
    if (sizeof(T) < 8) CHECK(nf::float_to_int<T>((float)x) == wrap((Wide)(float)x) && nf::float_to_int<T>(x) == wrap((Wide)x));
    else if (low < 0 || x >= 0) CHECK(nf::float_to_int<T>(x) == (T)x);
  }
  CHECK(nf::float_to_int<T>(std::nanf("")) == 0 && nf::float_to_int<T>(INFINITY) == std::numeric_limits<T>::max());
}

void indices() {
  NfError error{};
  NfLaunch launch{};
  launch.error = &error;
  const NfLaunch* L = &launch;
  CHECK(nf::data_index(L, 3, 4, (nf::Index)5) == 4 && nf::data_index(L, 3, -5, (nf::Index)5) == 0 && error.code == 0);
  CHECK(nf::data_index(L, 3, 1ll << 40, (nf::Index)5) == 0 && error.code == 1 && error.operand == 3 && error.value == 1ll << 40);
  for (int a = -9; a <= 9; ++a)
    for (int b : {-4, -1, 1, 2, 3}) {
      const int q = (int)std::floor((double)a / b);
      CHECK(nf::floor_div(a, b) == q && nf::floor_mod(a, b) == a - q * b && nf::floor_div((NfInt)a, b) == q);
      if (b > 0) CHECK(nf::ceil_div(a, b) == (int)std::ceil((double)a / b));
    }
  CHECK(nf::to_small(7.9f, -8, 7) == 7 && nf::to_small(8.0f, -8, 7) == -8 && nf::to_small(-INFINITY, -8, 7) == -8 && nf::to_small(17.5f, 0, 15) == 1);
  CHECK(nf::wrap_small<signed char>(9, 4, true) == -7 && nf::wrap_small<unsigned char>(-1, 2, false) == 3);
}

}  // namespace

int main() {
  elementary<float>();
  elementary<double>();
  half();
#define SMALL(NAME, COUNT) small(COUNT, [](unsigned char b) { return nf::decode_##NAME(b); }, [](float x) { return nf::encode_##NAME(x); })
  SMALL(float8e4m3fn, 256), SMALL(float8e4m3fnuz, 256), SMALL(float8e5m2, 256), SMALL(float8e5m2fnuz, 256), SMALL(float8e8m0, 256), SMALL(float4e2m1, 16);
  integers<signed char>(), integers<unsigned char>(), integers<short>(), integers<unsigned short>(), integers<int>(), integers<unsigned>();
  integers<long long>(), integers<unsigned long long>();
  indices();
  std::printf("%d failures\n", failures);
  return failures != 0;
}
