/* GCC's built-in functions that NVRTC lacks. nvcc takes them from the host's compiler. */
#pragma once

#define __builtin_sqrtf(x) __fsqrt_rn(x)
#define __builtin_sqrt(x) __dsqrt_rn(x)
#define __builtin_fmaf(a, b, c) __fmaf_rn(a, b, c)
#define __builtin_fma(a, b, c) __fma_rn(a, b, c)
#define __builtin_nanf(text) __builtin_bit_cast(float, 0x7fc00000u)
#define __builtin_nan(text) __builtin_bit_cast(double, 0x7ff8000000000000ull)
#define __builtin_clzll(x) __clzll((long long)(x))
#define __builtin_fabsf(x) fabsf(x)
#define __builtin_fabs(x) fabs(x)
#define __builtin_inff() __builtin_bit_cast(float, 0x7f800000u)
#define __builtin_inf() __builtin_bit_cast(double, 0x7ff0000000000000ull)

template <class A, class B> constexpr bool nvrtc_is_same = false;
template <class A> constexpr bool nvrtc_is_same<A, A> = true;
#define __is_same(...) nvrtc_is_same<__VA_ARGS__>
