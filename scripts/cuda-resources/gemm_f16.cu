#include "gemm_samples.cuh"

GEMM(f16_128x256, K, MN)
GEMM(f16_128x128, K, MN)
GEMM(f16_128x64, K, MN)
GEMM(f16_64x64, K, MN)
GEMM(f16_64x64, MN, K)
GEMM(f16_32x64, K, MN)
GEMM(f16_16x64, K, MN)
GEMM(f16_16x32, K, MN)
