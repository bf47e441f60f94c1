/* Softmax and norms over rows, emulated, against sums in double: rows that end anywhere, held and read again, equal bits whatever the
 * seed of the emulator. */
#include "rows.cuh"

#include <algorithm>

#include "../emulator.h"
#include "gemm_memory.h"

namespace {

using nf::Index;

template <class T> float decode(T x) {
  if constexpr (sizeof(T) == 4) return x;
  else return nf::decode_float16(x);
}
template <class T> T encode(float x) {
  if constexpr (sizeof(T) == 4) return x;
  else return nf::encode_float16(x);
}
/* Rows that lie `pitch` apart; what is stored gets the column's number added. */
template <class T> struct Rows {
  T* p;
  Index pitch;
  T* row(Index r) const { return p + r * pitch; }
  template <int V> void load(float (&x)[V], const T* row, Index c) const {
    const auto v = nf::ld<T, V>(row + c);
    for (int e = 0; e < V; ++e) x[e] = decode(v[e]);
  }
  template <int V> void store(const float (&y)[V], T* row, Index c) const {
    nf::Vec<T, V> v;
    for (int e = 0; e < V; ++e) v[e] = encode<T>(y[e] + (float)((c + e) % 3));
    nf::st<T, V>(row + c, v);
  }
};

enum Op { softmax, log_softmax, layer_norm, rms_norm };

template <class C, class T> NF_DEVICE void run(const NfLaunch* L) {
  const Index rows = (Index)L->dims[0], columns = (Index)L->dims[1], pitch = (Index)L->dims[2];
  const Rows<T> x{(T*)L->buffers[0], pitch}, y{(T*)L->buffers[1], pitch};
  switch ((Op)L->dims[3]) {
    case softmax: return nf::softmax_rows<C>(rows, columns, x, y);
    case log_softmax: return nf::log_softmax_rows<C>(rows, columns, x, y);
    case layer_norm: return nf::layer_norm_rows<C>(rows, columns, 1e-5f, x, y);
    case rms_norm: return nf::rms_norm_rows<C>(rows, columns, 1e-5f, x, y);
  }
}

}  // namespace

#define ROWS(NAME, TYPE, ...)                                                \
  typedef nf::RowConfig<__VA_ARGS__> Config_##NAME;                          \
  NF_KERNEL(NAME, Config_##NAME::threads, 1, 2, 4) { run<Config_##NAME, TYPE>(L); }
ROWS(warp_f32, float, 32, 4, 2)
ROWS(warp_f32_any, float, 32, 1, 5)
ROWS(warp_f16, unsigned short, 32, 8, 4)
ROWS(warp_f16_long, unsigned short, 32, 2, 0)
ROWS(block_f32, float, 96, 2, 3)
ROWS(block_f32_any, float, 256, 1, 4)
ROWS(block_f16, unsigned short, 256, 8, 2)
ROWS(block_f16_long, unsigned short, 128, 4, 0)

namespace {

int failures = 0, cases = 0;

template <class C, class T> void check(const char* name, NfKernel kernel, Op op, Index rows, Index columns, bool extreme) {
  ++cases;
  const Index pitch = columns + C::V; /* V elements between rows must stay as they are */
  const size_t count = (size_t)(rows - 1) * pitch + columns;
  test::Guarded<T> x(count), y(count), again(count);
  test::Random random(cases);
  for (size_t i = 0; i < count; ++i) {
    float v = 8 * random.uniform() + 20;
    if (extreme && random.next() % 4 == 0) v = op == softmax || op == log_softmax ? -INFINITY : 300;
    x[i] = encode<T>(v), y[i] = again[i] = encode<T>(7);
  }
  const NfInt dims[] = {rows, columns, pitch, op}, items = (rows + C::rows - 1) / C::rows;
  for (test::Guarded<T>* out : {&y, &again}) {
    nimforge::setEmulatorOptions({random.next(), 5});
    void* buffers[] = {x.data(), out->data()};
    NfError error{};
    const NfEmulator table = nimforge::emulatorFor(items);
    NfLaunch launch{buffers, dims, 0, items, 0, 1, nullptr, &error, C::shared_bytes, &table};
    if (kernel(&launch) == 0) continue;
    ++failures;
    std::printf("%s, %d columns: %s\n", name, columns, nimforge::lastEmulatorFault().c_str());
    return;
  }
  bool good = std::memcmp(y.data(), again.data(), count * sizeof(T)) == 0;
  for (Index r = 0; r < rows; ++r) {
    double top = -INFINITY, sum = 0, squares = 0, exps = 0, m2 = 0;
    const auto at = [&](Index c) { return (double)decode(x[(size_t)r * pitch + c]); };
    for (Index c = 0; c < columns; ++c) top = std::max(top, at(c)), sum += at(c), squares += at(c) * at(c);
    const double mean = sum / columns;
    for (Index c = 0; c < columns; ++c) exps += std::exp(at(c) - top), m2 += (at(c) - mean) * (at(c) - mean);
    for (Index c = 0; c < columns; ++c) {
      double v = 0;
      switch (op) {
        case softmax: v = std::exp(at(c) - top) / exps; break;
        case log_softmax: v = at(c) - top - std::log(exps); break;
        case layer_norm: v = (at(c) - mean) / std::sqrt(m2 / columns + 1e-5); break;
        case rms_norm: v = at(c) / std::sqrt(squares / columns + 1e-5); break;
      }
      v += c % 3;
      const double got = decode(y[(size_t)r * pitch + c]), tolerance = (sizeof(T) == 2 ? 1e-3 : 1e-5) * (1 + std::fabs(v));
      good = good && (std::isnan(v) ? std::isnan(got) : v == got || std::fabs(v - got) <= tolerance);
    }
    for (Index c = columns; c < pitch && r + 1 < rows; ++c) good = good && decode(y[(size_t)r * pitch + c]) == 7;
  }
  if (good) return;
  ++failures;
  std::printf("%s: operation %d, %d rows of %d\n", name, op, rows, columns);
}

template <class C, class T> void all(const char* name, NfKernel kernel) {
  { /* rows without columns: nothing may be touched */
    void* buffers[] = {nullptr, nullptr};
    const NfInt dims[] = {1, 0, 0, softmax};
    NfError error{};
    const NfEmulator table = nimforge::emulatorFor(1);
    NfLaunch launch{buffers, dims, 0, 1, 0, 1, nullptr, &error, C::shared_bytes, &table};
    if (kernel(&launch) != 0) ++failures, std::printf("%s, no columns: %s\n", name, nimforge::lastEmulatorFault().c_str());
  }
  for (const Op op : {softmax, log_softmax, layer_norm, rms_norm})
    for (Index columns : {1, 7, 31, 33, 127, 129, 300, 575, 1000, 2500}) {
      columns = (columns + C::V - 1) / C::V * C::V;
      if (C::held && columns > C::capacity) columns = C::capacity;
      for (Index rows : {1, 5, 8}) check<C, T>(name, kernel, op, rows, columns, rows == 5);
    }
}

}  // namespace

int main() {
#define ALL(NAME, TYPE) all<Config_##NAME, TYPE>(#NAME, NAME)
  ALL(warp_f32, float);
  ALL(warp_f32_any, float);
  ALL(warp_f16, unsigned short);
  ALL(warp_f16_long, unsigned short);
  ALL(block_f32, float);
  ALL(block_f32_any, float);
  ALL(block_f16, unsigned short);
  ALL(block_f16_long, unsigned short);
  std::printf("%d cases, %d failures\n", cases, failures);
  return failures != 0;
}
