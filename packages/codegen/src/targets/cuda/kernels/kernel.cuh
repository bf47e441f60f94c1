/* What every generated kernel begins with: its sizes as indices, and runs of neighbouring elements in as few accesses as alignment allows. */
#pragma once
#include "device.cuh"

namespace nf {

/* The launch's integer arguments as indices. */
template <class Launch> struct Dims {
  Launch launch;
  NF_DEVICE Index operator[](int k) const { return (Index)launch->dims[k]; }
};
template <class Launch> NF_DEVICE Dims<Launch> dims(Launch launch) { return {launch}; }

/* Elements of one access: what 16 bytes hold, no more than are asked for or than the address is a multiple of. */
template <class T, int N, int ALIGNED> NF_DEVICE constexpr int access_elements() {
  int n = 16 / (int)sizeof(T);
  if (n > N) n = N;
  if (n > ALIGNED) n = ALIGNED;
  return n;
}

/* Neighbouring elements, as many as a thread takes; alignment is their accesses' affair. */
template <class T, int N> struct Run {
  T v[N];
};

/* N elements from an address that is a multiple of ALIGNED elements. */
template <int N, int ALIGNED, class T> NF_DEVICE Run<T, N> load_run(const T* from) {
  constexpr int n = access_elements<T, N, ALIGNED>();
  Run<T, N> run;
  NF_UNROLL
  for (int k = 0; k < N; k += n) {
    const Vec<T, n> part = ld<T, n>(from + k);
    NF_UNROLL
    for (int e = 0; e < n; ++e) run.v[k + e] = part.v[e];
  }
  return run;
}

template <int ALIGNED, class T, int N> NF_DEVICE void store_run(T* to, const Run<T, N>& run) {
  constexpr int n = access_elements<T, N, ALIGNED>();
  NF_UNROLL
  for (int k = 0; k < N; k += n) {
    Vec<T, n> part;
    NF_UNROLL
    for (int e = 0; e < n; ++e) part.v[e] = run.v[k + e];
    st<T, n>(to + k, part);
  }
}

}  // namespace nf
