/* What the samples share: an epilogue as the code generator prints it (bias, clamp at 0, whole accesses where they fit), and the macro that
 * leaves a kernel's block size and dynamic shared memory in the PTX, where cuda-resources.mjs reads them. */
#pragma once
#include "kernel.cuh"
#include "tile.cuh"

template <class E, class Acc = float> struct BiasRelu {
  using T = typename E::Storage;
  T* out;
  const float* bias;
  const NfInt* d;
  struct Row {
    T* to;
  };
  NF_DEVICE Row row(nf::Index batch, nf::Index m) const { return {out + batch * (nf::Index)d[0] + m * (nf::Index)d[11]}; }
  NF_DEVICE Row row(nf::Index n, nf::Index h, nf::Index w) const { return {out + n * (nf::Index)d[0] + h * (nf::Index)d[1] + w * (nf::Index)d[2]}; }
  template <int V> NF_DEVICE void store(const Acc (&acc)[V], const Row& r, nf::Index c) const {
    nf::Run<T, V> y;
    NF_UNROLL for (int v = 0; v < V; ++v) {
      const float x = (float)acc[v] + bias[c + v];
      y.v[v] = E::encode(x < 0 ? 0 : x);
    }
    nf::store_run<V>(r.to + c, y);
  }
};

#define SAMPLE(name, threads, shared, buffers, dims)                               \
  extern "C" __device__ __attribute__((used)) int threads_of_##name = threads;     \
  extern "C" __device__ __attribute__((used)) int shared_of_##name = shared;       \
  NF_KERNEL(name, threads, 1, buffers, dims)

#define OUTPUT(E, Acc) (BiasRelu<E, Acc>{(E::Storage*)L->buffers[2], (const float*)L->buffers[3], L->dims})
