/* For sm_90a. */
#include "conv.cuh"
#include "gemm_sm90a.cuh"
#include "gemm_samples.cuh"

GEMM(wgmma_f16_128x256, K, MN)
GEMM(wgmma_f16_128x128, K, MN)
GEMM(wgmma_f16_64x128, K, MN)
GEMM(wgmma_f16_64x64, K, MN)
GEMM(wgmma_bf16_128x256, K, MN)
GEMM(wgmma_bf16_64x64, K, MN)
SAMPLE(conv_wgmma_f16_128x128, nf::wgmma_f16_128x128::threads, nf::wgmma_f16_128x128::shared_bytes, 4, 27) {
  nf::conv<nf::wgmma_f16_128x128, nf::Major::MN>(nf::conv_args(L->dims, L->buffers[0], L->buffers[1]), nf::NoPro{}, OUTPUT(nf::Float16, float));
}
