/* For sm_90a. */
#include "gemm_sm90a.cuh"
#include "samples.cuh"

#define GEMM(config)                                                                                                \
  SAMPLE(gemm_##config, nf::config::threads, nf::config::shared_bytes, 4, 25) {                                     \
    nf::gemm_wgmma<nf::config, nf::Major::K, nf::Major::MN>(nf::gemm_args(L->dims, L->buffers[0], L->buffers[1]), nf::NoPro{}, \
                                                            OUTPUT(nf::config::Element, float));                    \
  }
GEMM(wgmma_f16_128x256)
GEMM(wgmma_f16_128x128)
GEMM(wgmma_f16_64x128)
GEMM(wgmma_f16_64x64)
GEMM(wgmma_bf16_128x256)
GEMM(wgmma_bf16_64x64)
