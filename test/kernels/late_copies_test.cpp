// No copy is under way any more when a matrix product hands its rows to the epilogue, whose slabs lie where the copies went. The
// emulator copies only where a thread waits, so this epilogue waits: what is still to come then lands in the slabs.
#include <cstdio>

#include "../../native/emulator/emulator.h"
#include "gemm.cuh"
#include "gemm_memory.h"
#if NF_ARCH >= 900
#include "gemm_sm90a.cuh"
typedef nf::wgmma_f16_64x64 Config;
#else
typedef nf::f16_64x64 Config;
#endif

namespace {

struct Out {
  float* out;
  NfInt pitch;
  float* row(nf::Index, nf::Index m) const {
    nf::cp_async_wait<0>();
    return out + m * pitch;
  }
  template <int V> void store(const float (&acc)[V], float* row, nf::Index c) const {
    for (int v = 0; v < V; ++v) row[c + v] = acc[v];
  }
};

NF_KERNEL(product, Config::threads, 1, 3, 25) {
  nf::gemm<Config, nf::Major::K, nf::Major::MN>(nf::gemm_args(L->dims, L->buffers[0], L->buffers[1]), nf::NoPro{}, Out{(float*)L->buffers[2], L->dims[5]});
}

}  // namespace

int main() {
  int failures = 0;
  const int M = Config::rows, N = Config::columns;
  for (int steps = 1; steps <= 2 * Config::stages; ++steps) {
    const int K = steps * Config::depth;
    test::Guarded<unsigned short> a(M * K), b(K * N);
    test::Guarded<float> out(M * N);
    for (int i = 0; i < M * K; ++i) a[i] = test::F16::make(static_cast<float>(i / K % 3 + 1));
    for (int i = 0; i < K * N; ++i) b[i] = test::F16::make(static_cast<float>(i % N % 5 + 1));
    for (int i = 0; i < M * N; ++i) out[i] = -1;
    const NfInt dims[25] = {1, 1, 1, 1, M, N, K, K, 1, N, 1, N, 1};
    void* const buffers[3] = {a.data(), b.data(), out.data()};
    NfError error{};
    NfLaunch launch{};
    launch.buffers = buffers, launch.dims = dims, launch.error = &error, launch.threads = 1;
    launch.end = 1, launch.scratchBytes = Config::shared_bytes;
    const NfEmulator table = nimforge::emulatorFor(launch.end);
    launch.emulator = &table;
    if (product(&launch) != 0) std::printf("FAILED, K %d: %s\n", K, nimforge::lastEmulatorFault().c_str()), ++failures;
    for (int i = 0; i < M * N; ++i) {
      const float expected = static_cast<float>(K * (i / N % 3 + 1) * (i % N % 5 + 1));
      if (out[i] == expected) continue;
      std::printf("FAILED, K %d: element %d is %g, expected %g\n", K, i, static_cast<double>(out[i]), static_cast<double>(expected)), ++failures;
      break;
    }
  }
  std::printf("%d failures\n", failures);
  return failures != 0;
}
