#include "reduce.cuh"
#include "samples.cuh"
#include "scan.cuh"
#include "topk.cuh"

#define REDUCE(name, threads, M, LIFT)                                                                              \
  SAMPLE(reduce_##name, threads, nf::reduce_bytes<nf::M>(threads), 2, 1) {                                          \
    const nf::Index n = (nf::Index)L->dims[0];                                                                      \
    const float* x = (const float*)L->buffers[0] + nf::block() * n;                                                 \
    const auto r = nf::block_reduce_over<nf::M>(n, 0, [&](nf::Index i) { return LIFT; });                           \
    if (nf::tid() == 0) ((nf::M::Value*)L->buffers[1])[nf::block()] = r;                                            \
  }
REDUCE(sum, 256, Sum<float>, x[i])
REDUCE(max, 256, Max<float>, x[i])
REDUCE(moments, 256, Moments, nf::Moments::of(x[i]))
REDUCE(softmax, 256, SoftmaxSum, nf::SoftmaxSum::of(x[i]))

#define TOPK(name, ...)                                                                                             \
  using Config_##name = nf::TopKConfig<__VA_ARGS__>;                                                                \
  SAMPLE(topk_##name, Config_##name::threads, Config_##name::shared_bytes, 3, 4) {                                  \
    using T = Config_##name::Storage;                                                                               \
    nf::topk<Config_##name>(L->dims, (const T*)L->buffers[0], (T*)L->buffers[1], (long long*)L->buffers[2]);        \
  }
TOPK(f32, nf::OrderFloat32, true, 256, 1024)
TOPK(f16, nf::OrderFloat16, true, 256, 1024)

template <class T> struct Elements {
  T* x;
  nf::Index size, inner;
  NF_DEVICE T at(nf::Index o, nf::Index k, nf::Index i) const { return x[(o * size + k) * inner + i]; }
  NF_DEVICE void put(T v, nf::Index o, nf::Index k, nf::Index i) const { x[(o * size + k) * inner + i] = v; }
};
#define SCAN(name, T)                                                                                               \
  SAMPLE(scan_##name, 256, (nf::scan_shared_bytes<T, 256>), 2, 2) {                                                 \
    const nf::Index size = (nf::Index)L->dims[0], inner = (nf::Index)L->dims[1];                                    \
    nf::scan_rows<nf::ScanSum<T>, false, false, 256, 4>(size, inner, Elements<T>{(T*)L->buffers[0], size, inner},   \
                                                        Elements<T>{(T*)L->buffers[1], size, inner});               \
  }
SCAN(f32, float)
SCAN(i64, long long)
