// A transposed convolution whose output is narrower than its stride: most phases have no pixel at all (conv.cuh).
#include <cstdio>

#include "../../native/emulator/emulator.h"
#include "conv.cuh"
#include "gemm_memory.h"

namespace {

constexpr int channels = 16, columns = 8;

struct Out {
  float* out;
  float* row(nf::Index, nf::Index, nf::Index) const { return out; }
  template <int V> void store(const float (&acc)[V], float* row, nf::Index c) const {
    for (int v = 0; v < V; ++v) row[c + v] += acc[v];
  }
};

NF_KERNEL(narrow, nf::f16_64x64::threads, 1, 3, 27) {
  nf::conv_transpose<nf::f16_64x64>(nf::conv_args(L->dims, L->buffers[0], L->buffers[1]), nf::NoPro{}, Out{(float*)L->buffers[2]});
}

}  // namespace

int main() {
  test::Guarded<unsigned short> x(channels), weights(channels * columns);
  test::Guarded<float> out(columns);
  for (int c = 0; c < channels; ++c) x[c] = test::F16::make(static_cast<float>(c));
  for (int k = 0; k < channels; ++k)
    for (int n = 0; n < columns; ++n) weights[k * columns + n] = test::F16::make(static_cast<float>(n + 1));
  for (int n = 0; n < columns; ++n) out[n] = 0;
  // One pixel, a kernel of 1 x 1, strides 3 x 2: one of six phases has a pixel.
  const NfInt dims[27] = {1, 1, 1, channels, 1, 1, columns, 1, 1, 1, 3, 2, 1, 1, 0, 0, channels, channels, channels, 1, columns, columns, columns, 1, columns, 1, channels * columns};
  void* const buffers[3] = {x.data(), weights.data(), out.data()};
  NfError error{};
  NfLaunch launch{};
  launch.buffers = buffers, launch.dims = dims, launch.error = &error, launch.threads = 1;
  launch.end = 3 * 2, launch.scratchBytes = nf::f16_64x64::shared_bytes;
  const NfEmulator table = nimforge::emulatorFor(launch.end);
  launch.emulator = &table;
  int failures = 0;
  if (narrow(&launch) != 0) ++failures, std::printf("FAILED: %s\n", nimforge::lastEmulatorFault().c_str());
  for (int n = 0; n < columns; ++n) {
    const float expected = static_cast<float>(channels * (channels - 1) / 2 * (n + 1));
    if (out[n] != expected) ++failures, std::printf("FAILED: column %d is %g, expected %g\n", n, static_cast<double>(out[n]), static_cast<double>(expected));
  }
  std::printf("%d failures\n", failures);
  return failures != 0;
}
