/* Which element of a matrix each lane of a warp holds in each register of mma.sync, ldmatrix and wgmma.
 *
 * The formulas are those of the PTX ISA ("Matrix Fragments for mma", "ldmatrix", "Register Fragments for wgmma"). With
 * E elements in a 32-bit register, group = lane / 4 and quad = lane % 4, all shapes of mma.sync are one pattern: a register
 * holds E neighbours in k; registers alternate between rows group and group + 8, then step over 4 E in k.
 * An element is numbered register * E + its place in the register (least significant first).
 *
 * Kernels use the functions, to find the element that an accumulator holds; the emulated instructions use the tables made
 * from them. A test compares every element with a second source, the thread-value layouts of CUTLASS's mma traits.
 */
#pragma once

#if defined(__CUDACC__)
#define NF_CONSTEXPR __host__ __device__ constexpr
#else
#define NF_CONSTEXPR constexpr
#endif

namespace nf {

struct Cell {
  int row, column;
};

/* mma.sync.m{M}n{N}k{K}, A row-major and B column-major ("row.col"), operand elements of BITS bits, accumulators of 32. */
template <int M, int N, int K, int BITS> struct MmaShape {
  static constexpr int m = M, n = N, k = K, per_register = 32 / BITS;
  static constexpr int a_elements = M * K / 32, b_elements = K * N / 32, c_elements = M * N / 32;
  static constexpr int a_registers = a_elements / per_register, b_registers = b_elements / per_register;
  static constexpr int row_blocks = M / 8;

  static NF_CONSTEXPR Cell a(int lane, int element) {
    int reg = element / per_register, place = element % per_register;
    return {lane / 4 + reg % row_blocks * 8, (lane % 4 + reg / row_blocks * 4) * per_register + place};
  }
  static NF_CONSTEXPR Cell b(int lane, int element) {
    int reg = element / per_register, place = element % per_register;
    return {(lane % 4 + reg * 4) * per_register + place, lane / 4};
  }
  static NF_CONSTEXPR Cell c(int lane, int element) {
    return {lane / 4 + element / 2 * 8, lane % 4 * 2 + element % 2};
  }
};

using MmaHalf = MmaShape<16, 8, 16, 16>;    /* float16, bfloat16 */
using MmaHalfK8 = MmaShape<16, 8, 8, 16>;   /* float16 on sm_75 */
using MmaTf32 = MmaShape<16, 8, 8, 32>;
using MmaInt8 = MmaShape<16, 8, 32, 8>;     /* int8, uint8, fp8 */
using MmaInt8Small = MmaShape<8, 8, 16, 8>; /* int8, uint8 on sm_75 */

/* One 8 x 8 matrix of 16-bit elements as ldmatrix leaves it: element 0 or 1 of the matrix's register. `.trans` swaps. */
struct LdmatrixShape {
  static NF_CONSTEXPR Cell plain(int lane, int element) { return {lane / 4, lane % 4 * 2 + element}; }
  static NF_CONSTEXPR Cell transposed(int lane, int element) { return {lane % 4 * 2 + element, lane / 4}; }
};

/* The accumulators of wgmma.mma_async.m64n{N}k*: `thread` is the number within the warpgroup (0..127). */
template <int N> struct WgmmaShape {
  static constexpr int m = 64, n = N, c_elements = N / 2;
  static NF_CONSTEXPR Cell c(int thread, int element) {
    return {thread / 32 * 16 + thread % 32 / 4 + element / 2 % 2 * 8, element / 4 * 8 + thread % 4 * 2 + element % 2};
  }
};

#if !defined(__CUDACC__)

/* The tables: cells of every (lane, element), and back: lane * elements + element of every cell, k innermost for both
 * operands. */
template <class S> struct FragmentTable {
  Cell a[32][S::a_elements], b[32][S::b_elements], c[32][S::c_elements];
  short a_at[S::m][S::k], b_at[S::n][S::k];

  constexpr FragmentTable() : a(), b(), c(), a_at(), b_at() {
    for (int lane = 0; lane < 32; ++lane) {
      for (int i = 0; i < S::a_elements; ++i) {
        a[lane][i] = S::a(lane, i);
        a_at[a[lane][i].row][a[lane][i].column] = (short)(lane * S::a_elements + i);
      }
      for (int i = 0; i < S::b_elements; ++i) {
        b[lane][i] = S::b(lane, i);
        b_at[b[lane][i].column][b[lane][i].row] = (short)(lane * S::b_elements + i);
      }
      for (int i = 0; i < S::c_elements; ++i) c[lane][i] = S::c(lane, i);
    }
  }
};

template <class S> inline constexpr FragmentTable<S> fragments{};

#endif

}  // namespace nf
