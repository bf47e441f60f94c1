/* What a GPU does, without the compiler's own kernels: which element of mma.sync's operands each register holds, and how fast
 * memory is copied.
 *
 * fragments_*: block a puts a one into A's element a (lane * elements + element) and, one after the other, into every STRIDEth
 * element of B; the product is one where both lie on the same k, and the register that it comes out of tells the rest.
 *   buffers: observed[a][b] (int: lane * 4 + register of the result, -1: none), wrong[a] (pairs that the tables foretold otherwise)
 *   dims:    STRIDE
 */
#include "mma.cuh"

namespace {

/* One in each operand type, as its bits. */
template <class S, class Acc, class Mma> NF_DEVICE void observe(int* observed, int* wrong, int stride, unsigned one, Mma mma) {
  constexpr int bits = 32 / S::per_register;
  const int at = (int)nf::block(), lane = nf::lane();
  const nf::Cell a_cell = S::a(at / S::a_elements, at % S::a_elements);
  int faults = 0;
  for (int b_at = 0; b_at < 32 * S::b_elements; b_at += stride) {
    unsigned a[4] = {}, b[2] = {};
    Acc d[4] = {};
    for (int r = 0; r < S::a_registers; ++r)
      if (lane == at / S::a_elements && r == at % S::a_elements / S::per_register)
        a[r] = one << at % S::per_register * bits % 32;
    for (int r = 0; r < S::b_registers; ++r)
      if (lane == b_at / S::b_elements && r == b_at % S::b_elements / S::per_register)
        b[r] = one << b_at % S::per_register * bits % 32;
    mma(d, a, b);
    int found = -1;
    for (int i = 0; i < S::c_elements; ++i)
      if (d[i] != Acc(0)) found = lane * 4 + i;
    for (int distance = 16; distance > 0; distance /= 2) {
      const int other = nf::shfl_xor(found, distance);
      if (other > found) found = other;
    }
    const nf::Cell b_cell = S::b(b_at / S::b_elements, b_at % S::b_elements);
    const bool meets = a_cell.column == b_cell.row;
    if ((found >= 0) != meets) ++faults;
    else if (meets) {
      const nf::Cell c_cell = S::c(found / 4, found % 4);
      if (c_cell.row != a_cell.row || c_cell.column != b_cell.column) ++faults;
    }
    if (lane == 0) observed[at * 32 * S::b_elements + b_at] = found;
  }
  if (lane == 0) wrong[at] = faults;
}

}  // namespace

#define FRAGMENTS(NAME, SHAPE, ACC, ONE)                                                                       \
  NF_KERNEL(fragments_##NAME, 32, 1, 2, 1) {                                                                   \
    observe<nf::SHAPE, ACC>((int*)L->buffers[0], (int*)L->buffers[1], (int)L->dims[0], ONE,                    \
                            [](ACC(&d)[4], const unsigned(&a)[4], const unsigned(&b)[2]) { nf::mma_##NAME(d, a, b); }); \
  }
FRAGMENTS(f16, MmaHalf, float, 0x3c00u)
FRAGMENTS(s8, MmaInt8, int, 1u)
#if NF_ARCH >= 800
FRAGMENTS(bf16, MmaHalf, float, 0x3f80u)
FRAGMENTS(tf32, MmaTf32, float, 0x3f800000u)
#endif

/* Element 8 i + j of an 8 x 8 matrix is that number: what lane and element ldmatrix puts it into, plain and transposed. */
NF_KERNEL(fragments_ldmatrix, 32, 1, 2, 0) {
  int* observed = (int*)L->buffers[0];
  unsigned short* matrix = nf::shared<unsigned short>();
  const int lane = nf::lane();
  matrix[lane] = (unsigned short)lane;
  matrix[lane + 32] = (unsigned short)(lane + 32);
  nf::sync();
  unsigned plain[1], transposed[1];
  nf::ldmatrix_x1(plain, matrix + lane % 8 * 8);
  nf::ldmatrix_x1_trans(transposed, matrix + lane % 8 * 8);
  int faults = 0;
  for (int i = 0; i < 2; ++i) {
    const int p = (int)(plain[0] >> 16 * i & 0xffff), t = (int)(transposed[0] >> 16 * i & 0xffff);
    const nf::Cell pc = nf::LdmatrixShape::plain(lane, i), tc = nf::LdmatrixShape::transposed(lane, i);
    faults += (p != pc.row * 8 + pc.column) + (t != tc.row * 8 + tc.column);
    observed[lane * 2 + i] = p;
    observed[64 + lane * 2 + i] = t;
  }
  ((int*)L->buffers[1])[lane] = faults;
}

/* buffers: from, to; dims: 16-byte pieces. */
NF_KERNEL(copy, 256, 1, 2, 1) {
  typedef nf::Vec<unsigned, 4> Piece;
  const unsigned* from = (const unsigned*)L->buffers[0];
  unsigned* to = (unsigned*)L->buffers[1];
  const long long n = L->dims[0], step = (long long)nf::blocks() * 256;
  for (long long i = nf::block() * 256 + nf::tid(); i < n; i += step) nf::st(to + 4 * i, Piece(nf::ld<unsigned, 4>(from + 4 * i)));
}
