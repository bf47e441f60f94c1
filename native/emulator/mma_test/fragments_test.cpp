/* The fragment formulas against a second source: the thread-value layouts of CUTLASS's mma and copy traits
 * (cute/atom/mma_traits_sm75.hpp, mma_traits_sm80.hpp, mma_traits_sm90_gmma.hpp, copy_traits_sm75.hpp), written here as the
 * same (shape : stride) pairs. Such a layout maps (thread, value) to a column-major position in (M, K), (N, K) or (M, N).
 * Prints the number of elements compared; exits 1 at a difference.
 */
#include <cstdio>
#include <initializer_list>

#include "fragments.cuh"

namespace {

struct Mode {
  int size, stride;
};

int offset(std::initializer_list<Mode> modes, int index) {
  int sum = 0;
  for (Mode mode : modes) {
    sum += index % mode.size * mode.stride;
    index /= mode.size;
  }
  if (index) std::printf("a layout is too small by %d\n", index);
  return sum;
}

int compared = 0, wrong = 0;

/* `cell(thread, value)` against the layout; columns of the layout have `rows` elements. */
template <class F>
void compare(const char* what, int threads, int values, int rows, std::initializer_list<Mode> thread_modes,
             std::initializer_list<Mode> value_modes, F cell) {
  for (int t = 0; t < threads; ++t)
    for (int v = 0; v < values; ++v) {
      int position = offset(thread_modes, t) + offset(value_modes, v);
      nf::Cell ours = cell(t, v);
      ++compared;
      if (ours.row == position % rows && ours.column == position / rows) continue;
      ++wrong;
      std::printf("%s, thread %d, element %d: (%d, %d) here, (%d, %d) in CUTLASS\n", what, t, v, ours.row, ours.column,
                  position % rows, position / rows);
    }
}

template <class S>
void compare_mma(const char* name, std::initializer_list<Mode> at, std::initializer_list<Mode> av,
                 std::initializer_list<Mode> bt, std::initializer_list<Mode> bv, std::initializer_list<Mode> ct,
                 std::initializer_list<Mode> cv) {
  const auto& table = nf::fragments<S>;
  std::printf("%s\n", name);
  compare("A", 32, S::a_elements, S::m, at, av, [&](int t, int v) { return table.a[t][v]; });
  compare("B", 32, S::b_elements, S::n, bt, bv, [&](int t, int v) {
    return nf::Cell{table.b[t][v].column, table.b[t][v].row}; /* (N, K) there */
  });
  compare("C", 32, S::c_elements, S::m, ct, cv, [&](int t, int v) { return table.c[t][v]; });
  for (int r = 0; r < S::m; ++r)
    for (int k = 0; k < S::k; ++k) {
      nf::Cell back = table.a[table.a_at[r][k] / S::a_elements][table.a_at[r][k] % S::a_elements];
      wrong += back.row != r || back.column != k;
    }
  for (int n = 0; n < S::n; ++n)
    for (int k = 0; k < S::k; ++k) {
      nf::Cell back = table.b[table.b_at[n][k] / S::b_elements][table.b_at[n][k] % S::b_elements];
      wrong += back.row != k || back.column != n;
    }
}

template <int N> void compare_wgmma() {
  std::printf("wgmma m64n%d\n", N);
  compare("C", 128, N / 2, 64, {{4, 128}, {8, 1}, {4, 16}}, {{2, 64}, {2, 8}, {N / 8, 512}},
          [](int t, int v) { return nf::WgmmaShape<N>::c(t, v); });
}

}  // namespace

int main() {
  compare_mma<nf::MmaHalf>("m16n8k16, 16 bits", {{4, 32}, {8, 1}}, {{2, 16}, {2, 8}, {2, 128}}, {{4, 16}, {8, 1}},
                           {{2, 8}, {2, 64}}, {{4, 32}, {8, 1}}, {{2, 16}, {2, 8}});
  compare_mma<nf::MmaHalfK8>("m16n8k8, 16 bits", {{4, 32}, {8, 1}}, {{2, 16}, {2, 8}}, {{4, 16}, {8, 1}}, {{2, 8}},
                             {{4, 32}, {8, 1}}, {{2, 16}, {2, 8}});
  compare_mma<nf::MmaTf32>("m16n8k8, tf32", {{4, 16}, {8, 1}}, {{2, 8}, {2, 64}}, {{4, 8}, {8, 1}}, {{2, 32}},
                           {{4, 32}, {8, 1}}, {{2, 16}, {2, 8}});
  compare_mma<nf::MmaInt8>("m16n8k32, 8 bits", {{4, 64}, {8, 1}}, {{4, 16}, {2, 8}, {2, 256}}, {{4, 32}, {8, 1}},
                           {{4, 8}, {2, 128}}, {{4, 32}, {8, 1}}, {{2, 16}, {2, 8}});
  compare_mma<nf::MmaInt8Small>("m8n8k16, 8 bits", {{4, 32}, {8, 1}}, {{4, 8}}, {{4, 32}, {8, 1}}, {{4, 8}},
                                {{4, 16}, {8, 1}}, {{2, 8}});
  /* ldmatrix: positions in units of 16 bits, a matrix's rows one after the other: "columns" of 8 are its rows. */
  std::printf("ldmatrix\n");
  compare("plain", 32, 2, 8, {{32, 2}}, {{2, 1}}, [](int t, int v) {
    nf::Cell cell = nf::LdmatrixShape::plain(t, v);
    return nf::Cell{cell.column, cell.row};
  });
  compare("transposed", 32, 2, 8, {{4, 16}, {8, 1}}, {{2, 8}}, [](int t, int v) {
    nf::Cell cell = nf::LdmatrixShape::transposed(t, v);
    return nf::Cell{cell.column, cell.row};
  });
  compare_wgmma<64>();
  compare_wgmma<128>();
  compare_wgmma<256>();
  std::printf("%d elements, %d differ\n", compared, wrong);
  return wrong != 0;
}
