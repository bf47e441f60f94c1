#include "gemm_samples.cuh"

GEMM(f32_128x128, K, MN)
GEMM(f32_128x64, K, MN)
GEMM(f32_64x64, K, MN)
GEMM(f32_16x64, K, MN)
GEMM(s8_128x128, K, K)
GEMM(s8_64x64, K, K)
GEMM(s8_16x64, K, K)
#if NF_ARCH >= 800
GEMM(bf16_128x256, K, MN)
GEMM(bf16_128x128, K, MN)
GEMM(bf16_64x64, K, MN)
GEMM(bf16_16x64, K, MN)
GEMM(tf32_128x128, K, MN)
GEMM(tf32_128x64, K, MN)
GEMM(tf32_64x64, K, MN)
GEMM(tf32_16x64, K, MN)
#else
GEMM(simt_bf16_64x64, K, MN)
GEMM(simt_bf16_16x64, K, MN)
#endif
