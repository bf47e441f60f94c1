/* Everything that printed bodies call for one element: the CPU's headers with one lane.
 *
 * The elementary functions, conversions and integer operations are the same text for both targets, so a float32 result is
 * the same bits on the CPU, emulated and on a device: nvcc compiles without contraction, with IEEE division and square
 * root, and with denormals. Templates of (V, Launch) resolve by themselves: V is float or double, and `L` whatever the
 * kernel's L points to; faults go to its error word.
 */
#pragma once
#include "device.cuh"

#define NF_LANES 1
#define NF_INLINE [[maybe_unused]] static NF_DEVICE
#if defined(NF_EMULATE)
#define NF_NOINLINE [[maybe_unused]] static __attribute__((noinline))
#else
#define NF_NOINLINE [[maybe_unused]] static __device__ __noinline__
#endif

namespace nf {

template <class Launch> NF_INLINE void nf_fault(const Launch* L, int code, int operand, NfInt value) { fault(L, code, operand, value); }

/* Half precision by the conversion instructions: as the integer arithmetic of nf.hpp, except that a NaN has other bits. */
#if !defined(NF_EMULATE)
#define NF_HALF_INSTRUCTIONS
NF_INLINE float f16_to_f32(unsigned short h) {
  float r;
  asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(h));
  return r;
}
NF_INLINE unsigned short f32_to_f16(float x) {
  unsigned short r;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(r) : "f"(x));
  return r;
}
NF_INLINE unsigned short f32_to_bf16(float x) {
#if NF_ARCH >= 800
  unsigned short r;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(r) : "f"(x));
  return r;
#else
  const unsigned u = bits<unsigned>(x);
  return (unsigned short)((u & 0x7fffffffu) > 0x7f800000u ? 0x7fffu : (u + 0x7fffu + (u >> 16 & 1)) >> 16);
#endif
}
#endif

}  // namespace nf

#include "../../cpu/kernels/nf.hpp"
#include "../../cpu/kernels/scalars.hpp"
#include "../../cpu/kernels/vmath.hpp"
#include "../../cpu/kernels/vmath_wide.hpp"
