/* Softmax and norms over rows: a warp or a block takes a row, reads it once and keeps it in registers, in float32.
 *
 *   nf::softmax_rows<Config>(rows, columns, prologue, epilogue)               e^(x - max) / sum
 *   nf::log_softmax_rows<Config>(rows, columns, prologue, epilogue)           x - max - log sum
 *   nf::layer_norm_rows<Config>(rows, columns, epsilon, prologue, epilogue)   (x - mean) / sqrt(variance + epsilon)
 *   nf::rms_norm_rows<Config>(rows, columns, epsilon, prologue, epilogue)     x / sqrt(mean of x^2 + epsilon)
 *
 *   Config   RowConfig<GROUP, V, RUNS>: GROUP threads for a row (32: a warp; else the block), each with RUNS runs of V neighbours.
 *            columns <= GROUP * V * RUNS and a multiple of V. RUNS = 0: columns of any number, and every pass reads the row again
 *   items    = ceil(rows / Config::rows)
 *   threads  = Config::threads,  scratch = Config::shared_bytes
 *
 * Prologue: `auto row(Index r) const` and `template <int V> void load(float (&x)[V], const Row&, Index c) const`, columns c ... c + V - 1.
 * Epilogue: `auto row(Index r) const` and `template <int V> void store(const float (&y)[V], const Row&, Index c) const`.
 *
 * The mean is subtracted before squares are summed. The order of sums depends on Config and columns alone.
 */
#pragma once
#include "reduce.cuh"

namespace nf {

template <int GROUP_, int V_, int RUNS_> struct RowConfig {
  static constexpr int GROUP = GROUP_, V = V_, RUNS = RUNS_;
  static constexpr bool held = RUNS != 0, of_warp = GROUP == 32;
  static constexpr int threads = of_warp ? 128 : GROUP, rows = threads / GROUP, capacity = GROUP * V * RUNS;
  static constexpr int shared_bytes = of_warp ? 0 : reduce_bytes<Sum<float>>(GROUP);
  static_assert(GROUP % 32 == 0 && V * RUNS <= 64);
};

template <class C, class Pro> struct RowValues {
  const Pro& pro;
  decltype(pro.row(Index())) row;
  Index columns;
  int member = C::of_warp ? lane() : tid();
  float x[C::held ? C::RUNS : 1][C::V];

  /* Runs beyond the end load the last one again: all loads are under way at once, without a branch between them. */
  NF_DEVICE RowValues(const Pro& pro, Index r, Index columns) : pro(pro), row(pro.row(r)), columns(columns) {
    if constexpr (C::held) {
      NF_UNROLL
      for (int i = 0; i < C::RUNS; ++i) {
        const Index c = place(i);
        pro.template load<C::V>(x[i], row, c < columns ? c : columns - C::V);
      }
    }
  }
  NF_DEVICE Index place(int i) const { return (Index)(i * C::GROUP + member) * C::V; }

  /* f(values, first column) for the thread's runs; what f writes stays if the row is held. */
  template <class F> NF_DEVICE void each(F f) {
    if constexpr (C::held) {
      NF_UNROLL
      for (int i = 0; i < C::RUNS; ++i)
        if (place(i) < columns) f(x[i], place(i));
    } else {
      for (Index c = (Index)member * C::V; c < columns; c += C::GROUP * C::V) {
        pro.template load<C::V>(x[0], row, c);
        f(x[0], c);
      }
    }
  }

  /* Over the whole row, the same in every thread. */
  template <class M> NF_DEVICE float reduce(float v) const {
    if constexpr (C::of_warp) return warp_reduce<M>(v);
    else return block_reduce<M>(v);
  }
  /* The sum of f(x) over the row; f may replace x of a held row. */
  template <class F> NF_DEVICE float sum(F f) {
    float total = 0;
    each([&](float (&v)[C::V], Index) {
      NF_UNROLL
      for (int e = 0; e < C::V; ++e) total += f(v[e]);
    });
    return reduce<Sum<float>>(total);
  }
  NF_DEVICE float greatest() {
    float m = Max<float>::identity();
    each([&](float (&v)[C::V], Index) {
      NF_UNROLL
      for (int e = 0; e < C::V; ++e) m = max<float>(m, v[e]);
    });
    return reduce<Max<float>>(m);
  }
  /* Stores f(x). */
  template <class Epi, class F> NF_DEVICE void store(const Epi& epi, Index r, F f) {
    const auto to = epi.row(r);
    each([&](float (&v)[C::V], Index c) {
      float y[C::V];
      NF_UNROLL
      for (int e = 0; e < C::V; ++e) y[e] = f(v[e]);
      epi.template store<C::V>(y, to, c);
    });
  }
};

/* body(values, row number) for the row of this warp or block. */
template <class C, class Pro, class F> NF_DEVICE void with_row(Index rows, Index columns, const Pro& pro, F body) {
  const Index r = (Index)block() * C::rows + (C::of_warp ? warp() : 0);
  if (r >= rows || columns == 0) return;
  RowValues<C, Pro> values(pro, r, columns);
  body(values, r);
}

template <class C, class Pro, class Epi> NF_DEVICE void softmax_rows(Index rows, Index columns, const Pro& pro, const Epi& epi) {
  with_row<C>(rows, columns, pro, [&](auto& row, Index r) {
    const float top = row.greatest();
    const float sum = row.sum([&](float& x) {
      const float e = exp<float>(x - top);
      return C::held ? x = e : e;
    });
    const float inverse = 1 / sum;
    row.store(epi, r, [&](float x) { return (C::held ? x : exp<float>(x - top)) * inverse; });
  });
}

template <class C, class Pro, class Epi> NF_DEVICE void log_softmax_rows(Index rows, Index columns, const Pro& pro, const Epi& epi) {
  with_row<C>(rows, columns, pro, [&](auto& row, Index r) {
    const float top = row.greatest();
    const float log_sum = log<float>(row.sum([&](float x) { return exp<float>(x - top); }));
    row.store(epi, r, [&](float x) { return (x - top) - log_sum; });
  });
}

template <class C, class Pro, class Epi>
NF_DEVICE void layer_norm_rows(Index rows, Index columns, float epsilon, const Pro& pro, const Epi& epi) {
  with_row<C>(rows, columns, pro, [&](auto& row, Index r) {
    const float mean = row.sum([](float x) { return x; }) / (float)columns;
    const float variance = row.sum([&](float x) { return (x - mean) * (x - mean); }) / (float)columns;
    const float inverse = 1 / sqrt(variance + epsilon);
    row.store(epi, r, [&](float x) { return (x - mean) * inverse; });
  });
}

template <class C, class Pro, class Epi>
NF_DEVICE void rms_norm_rows(Index rows, Index columns, float epsilon, const Pro& pro, const Epi& epi) {
  with_row<C>(rows, columns, pro, [&](auto& row, Index r) {
    const float inverse = 1 / sqrt(row.sum([](float x) { return x * x; }) / (float)columns + epsilon);
    row.store(epi, r, [&](float x) { return x * inverse; });
  });
}

}  // namespace nf
