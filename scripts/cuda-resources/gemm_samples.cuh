#pragma once
#include "gemm.cuh"
#include "samples.cuh"

#define GEMM(config, A, B)                                                                            \
  SAMPLE(gemm_##config##_##A##_##B, nf::config::threads, nf::config::shared_bytes, 4, 25) {           \
    nf::gemm<nf::config, nf::Major::A, nf::Major::B>(nf::gemm_args(L->dims, L->buffers[0], L->buffers[1]), nf::NoPro{}, \
                                                     OUTPUT(nf::config::Element, nf::config::Acc));   \
  }
