/* Tensor core instructions of a warp: ldmatrix and mma.sync. Inline PTX, as in device.cuh, wgmma.cuh and tma.cuh;
 * the emulated build computes the same from the fragment tables of fragments.cuh.
 *
 *   ldmatrix_x1, _x2, _x4 [_trans](r, shared)   8 x 8 matrices of 16-bit elements (or 8 rows of 16 bytes); lane 8 i + j gives
 *                                               the address of row j of matrix i, 16-byte aligned
 *   mma_f16, mma_bf16    d += a b, m16n8k16      mma_tf32   m16n8k8, operands from to_tf32
 *   mma_s8, mma_u8s8, mma_s8u8, mma_u8           m16n8k32, int32 accumulators, wrapping; names say the types of A, then B
 *
 * Registers hold A as rows (row-major, k contiguous) and B as columns (k contiguous); see MmaHalf, MmaTf32, MmaInt8. All lanes
 * of the warp take part. On sm_75 the two shapes it has stand in (in the same order of k), and bfloat16 and tf32 do not exist.
 * Emulated sums are single-precision fma with k ascending; tensor cores round differently inside a step, so results agree to a
 * tolerance only.
 */
#pragma once
#include "device.cuh"
#include "fragments.cuh"

namespace nf {

#if !defined(NF_EMULATE)

NF_DEVICE unsigned shared_address(const void* p) { return (unsigned)__cvta_generic_to_shared(p); }

#define NF_LDMATRIX(NAME, TRANS)                                                                                     \
  NF_DEVICE void ldmatrix_x1##NAME(unsigned (&r)[1], const void* p) {                                                \
    asm volatile("ldmatrix.sync.aligned.m8n8.x1" TRANS ".shared.b16 {%0}, [%1];"                                     \
                 : "=r"(r[0]) : "r"(shared_address(p)) : "memory");                                                  \
  }                                                                                                                  \
  NF_DEVICE void ldmatrix_x2##NAME(unsigned (&r)[2], const void* p) {                                                \
    asm volatile("ldmatrix.sync.aligned.m8n8.x2" TRANS ".shared.b16 {%0, %1}, [%2];"                                 \
                 : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(p)) : "memory");                                      \
  }                                                                                                                  \
  NF_DEVICE void ldmatrix_x4##NAME(unsigned (&r)[4], const void* p) {                                                \
    asm volatile("ldmatrix.sync.aligned.m8n8.x4" TRANS ".shared.b16 {%0, %1, %2, %3}, [%4];"                         \
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(p)) : "memory");              \
  }
NF_LDMATRIX(, "")
NF_LDMATRIX(_trans, ".trans")
#undef NF_LDMATRIX

/* The low 13 bits are dropped by rounding to nearest, ties away from zero. */
#if NF_ARCH >= 800
NF_DEVICE unsigned to_tf32(float x) {
  unsigned r;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(x));
  return r;
}

#define NF_MMA_FLOAT(NAME, SHAPE, TYPE)                                                                              \
  NF_DEVICE void NAME(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {                               \
    asm volatile("mma.sync.aligned." SHAPE ".row.col.f32." TYPE "." TYPE ".f32 "                                     \
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"                                   \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                                    \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));                                \
  }
NF_MMA_FLOAT(mma_f16, "m16n8k16", "f16")
NF_MMA_FLOAT(mma_bf16, "m16n8k16", "bf16")
NF_MMA_FLOAT(mma_tf32, "m16n8k8", "tf32")
#undef NF_MMA_FLOAT

#define NF_MMA_INT(NAME, A, B)                                                                                       \
  NF_DEVICE void NAME(int (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {                                 \
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32." A "." B ".s32 "                                            \
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"                                   \
                 : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])                                                    \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));                                \
  }
#else
NF_DEVICE void mma_f16_k8(float (&d)[4], unsigned a0, unsigned a1, unsigned b) {
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a0), "r"(a1), "r"(b));
}
NF_DEVICE void mma_f16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  mma_f16_k8(d, a[0], a[1], b[0]);
  mma_f16_k8(d, a[2], a[3], b[1]);
}

#define NF_MMA_INT(NAME, A, B)                                                                                       \
  NF_DEVICE void NAME(int (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {                                 \
    NF_UNROLL                                                                                                        \
    for (int k = 0; k < 2; ++k)                                                                                      \
      NF_UNROLL                                                                                                      \
      for (int r = 0; r < 2; ++r)                                                                                    \
        asm volatile("mma.sync.aligned.m8n8k16.row.col.s32." A "." B ".s32 {%0, %1}, {%2}, {%3}, {%0, %1};"          \
                     : "+r"(d[2 * r]), "+r"(d[2 * r + 1]) : "r"(a[2 * k + r]), "r"(b[k]));                           \
  }
#endif
NF_MMA_INT(mma_s8, "s8", "s8")
NF_MMA_INT(mma_u8s8, "u8", "s8")
NF_MMA_INT(mma_s8u8, "s8", "u8")
NF_MMA_INT(mma_u8, "u8", "u8")
#undef NF_MMA_INT

#else /* emulated */

/* Row j of matrix i starts where lane 8 i + j points. */
template <int MATRICES, bool TRANS> struct EmulatedLdmatrix {
  const void* row;
  unsigned r[MATRICES];

  static void combine(void* const* lanes, unsigned) {
    for (int l = 0; l < 32; ++l)
      for (int i = 0; i < MATRICES; ++i) {
        unsigned packed = 0;
        for (int e = 0; e < 2; ++e) {
          const Cell cell = TRANS ? LdmatrixShape::transposed(l, e) : LdmatrixShape::plain(l, e);
          const void* row = ((const EmulatedLdmatrix*)lanes[8 * i + cell.row])->row;
          packed |= (unsigned)((const unsigned short*)row)[cell.column] << 16 * e;
        }
        ((EmulatedLdmatrix*)lanes[l])->r[i] = packed;
      }
  }
};
template <int MATRICES, bool TRANS>
NF_DEVICE void emulated_ldmatrix(unsigned (&r)[MATRICES], const void* p, NF_SITE) {
  if (lane() < 8 * MATRICES) {
    const NfInt offset = (const unsigned char*)p - self()->shared;
    if ((unsigned long long)p % 16) trap("ldmatrix: a row is not 16-byte aligned", p, 0, NF_HERE);
    if (offset < 0 || offset + 16 > self()->sharedBytes) trap("ldmatrix: a row outside of shared memory", p, 0, NF_HERE);
  }
  EmulatedLdmatrix<MATRICES, TRANS> mine{p, {}};
  collective(mine, EmulatedLdmatrix<MATRICES, TRANS>::combine, ~0u, NF_HERE);
  for (int i = 0; i < MATRICES; ++i) r[i] = mine.r[i];
}
NF_DEVICE void ldmatrix_x1(unsigned (&r)[1], const void* p, NF_SITE) { emulated_ldmatrix<1, false>(r, p, NF_HERE); }
NF_DEVICE void ldmatrix_x2(unsigned (&r)[2], const void* p, NF_SITE) { emulated_ldmatrix<2, false>(r, p, NF_HERE); }
NF_DEVICE void ldmatrix_x4(unsigned (&r)[4], const void* p, NF_SITE) { emulated_ldmatrix<4, false>(r, p, NF_HERE); }
NF_DEVICE void ldmatrix_x1_trans(unsigned (&r)[1], const void* p, NF_SITE) { emulated_ldmatrix<1, true>(r, p, NF_HERE); }
NF_DEVICE void ldmatrix_x2_trans(unsigned (&r)[2], const void* p, NF_SITE) { emulated_ldmatrix<2, true>(r, p, NF_HERE); }
NF_DEVICE void ldmatrix_x4_trans(unsigned (&r)[4], const void* p, NF_SITE) { emulated_ldmatrix<4, true>(r, p, NF_HERE); }

/* What a 32-bit register of an operand holds, as numbers, and how a product enters the sum. Products of the small floats are
 * exact in single precision. */
struct HalfElements {
  typedef float Value;
  static constexpr int elements = 2;
  static float at(unsigned r, int i) { return (float)bits<_Float16>((unsigned short)(r >> 16 * i)); }
  static float add(float sum, float x, float y) { return __builtin_fmaf(x, y, sum); }
};
struct BrainElements : HalfElements {
  static float at(unsigned r, int i) { return bits<float>(i ? r & 0xffff0000u : r << 16); }
};
struct Tf32Elements : HalfElements {
  static constexpr int elements = 1;
  static float at(unsigned r, int) { return bits<float>(r & 0xffffe000u); }
};
template <bool SIGNED> struct ByteElements {
  typedef int Value;
  static constexpr int elements = 4;
  static int at(unsigned r, int i) { return SIGNED ? (int)(r << (24 - 8 * i)) >> 24 : (int)(r >> 8 * i & 0xff); }
  static int add(int sum, int x, int y) { return (int)((unsigned)sum + (unsigned)(x * y)); }
};

template <class S, class A, class B> struct EmulatedMma {
  typedef typename A::Value Value;
  unsigned a[S::a_registers], b[S::b_registers];
  Value d[S::c_elements];

  static void combine(void* const* lanes, unsigned) {
    constexpr const FragmentTable<S>& table = fragments<S>;
    Value a[S::m][S::k], b[S::k][S::n], d[S::m][S::n];
    for (int l = 0; l < 32; ++l) {
      const EmulatedMma& mine = *(const EmulatedMma*)lanes[l];
      for (int i = 0; i < S::a_elements; ++i)
        a[table.a[l][i].row][table.a[l][i].column] = A::at(mine.a[i / A::elements], i % A::elements);
      for (int i = 0; i < S::b_elements; ++i)
        b[table.b[l][i].row][table.b[l][i].column] = B::at(mine.b[i / B::elements], i % B::elements);
      for (int i = 0; i < S::c_elements; ++i) d[table.c[l][i].row][table.c[l][i].column] = mine.d[i];
    }
    for (int m = 0; m < S::m; ++m)
      for (int k = 0; k < S::k; ++k)
        for (int n = 0; n < S::n; ++n) d[m][n] = A::add(d[m][n], a[m][k], b[k][n]);
    for (int l = 0; l < 32; ++l)
      for (int i = 0; i < S::c_elements; ++i)
        ((EmulatedMma*)lanes[l])->d[i] = d[table.c[l][i].row][table.c[l][i].column];
  }
};
template <class S, class A, class B, class Value>
NF_DEVICE void emulated_mma(Value* d, const unsigned* a, const unsigned* b, NF_SITE) {
  EmulatedMma<S, A, B> mine;
  for (int i = 0; i < S::a_registers; ++i) mine.a[i] = a[i];
  for (int i = 0; i < S::b_registers; ++i) mine.b[i] = b[i];
  for (int i = 0; i < S::c_elements; ++i) mine.d[i] = d[i];
  collective(mine, EmulatedMma<S, A, B>::combine, ~0u, NF_HERE);
  for (int i = 0; i < S::c_elements; ++i) d[i] = mine.d[i];
}

#define NF_MMA_FLOAT(NAME, SHAPE, ELEMENTS)                                                                          \
  NF_DEVICE void NAME(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], NF_SITE) {                      \
    emulated_mma<SHAPE, ELEMENTS, ELEMENTS>(d, a, b, NF_HERE);                                                      \
  }
#if NF_ARCH >= 800
NF_DEVICE unsigned to_tf32(float x) {
  const unsigned u = bits<unsigned>(x);
  return (u & 0x7f800000u) == 0x7f800000u ? u : (u + 0x1000u) & 0xffffe000u;
}
NF_MMA_FLOAT(mma_f16, MmaHalf, HalfElements)
NF_MMA_FLOAT(mma_bf16, MmaHalf, BrainElements)
NF_MMA_FLOAT(mma_tf32, MmaTf32, Tf32Elements)
#define NF_MMA_INT(NAME, A, B)                                                                                       \
  NF_DEVICE void NAME(int (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], NF_SITE) {                        \
    emulated_mma<MmaInt8, ByteElements<A>, ByteElements<B>>(d, a, b, NF_HERE);                                      \
  }
#else
NF_DEVICE void mma_f16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], NF_SITE) {
  for (int k = 0; k < 2; ++k) emulated_mma<MmaHalfK8, HalfElements, HalfElements>(d, a + 2 * k, b + k, NF_HERE);
}
#define NF_MMA_INT(NAME, A, B)                                                                                       \
  NF_DEVICE void NAME(int (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], NF_SITE) {                        \
    for (int k = 0; k < 2; ++k)                                                                                      \
      for (int r = 0; r < 2; ++r)                                                                                    \
        emulated_mma<MmaInt8Small, ByteElements<A>, ByteElements<B>>(d + 2 * r, a + 2 * k + r, b + k, NF_HERE);     \
  }
#endif
NF_MMA_INT(mma_s8, true, true)
NF_MMA_INT(mma_u8s8, false, true)
NF_MMA_INT(mma_s8u8, true, false)
NF_MMA_INT(mma_u8, false, false)
#undef NF_MMA_FLOAT
#undef NF_MMA_INT

#endif

}  // namespace nf
