#include "conv.cuh"
#include "depthwise.cuh"
#include "samples.cuh"

#define CONV(config, B)                                                                                  \
  SAMPLE(conv_##config, nf::config::threads, nf::config::shared_bytes, 4, 27) {                          \
    nf::conv<nf::config, nf::Major::B>(nf::conv_args(L->dims, L->buffers[0], L->buffers[1]), nf::NoPro{}, \
                                       OUTPUT(nf::config::Element, nf::config::Acc));                    \
  }
#define TRANSPOSED(config)                                                                               \
  SAMPLE(conv_transpose_##config, nf::config::threads, nf::config::shared_bytes, 4, 27) {                \
    nf::conv_transpose<nf::config>(nf::conv_args(L->dims, L->buffers[0], L->buffers[1]), nf::NoPro{},    \
                                   OUTPUT(nf::config::Element, nf::config::Acc));                        \
  }
#define DEPTHWISE(name, E, ...)                                                                          \
  SAMPLE(depthwise_##name, 128, 0, 4, 18) {                                                              \
    nf::depthwise<nf::E, __VA_ARGS__>(nf::depthwise_args(L->dims, L->buffers[0], L->buffers[1]), nf::NoPro{}, OUTPUT(nf::E, float)); \
  }
CONV(f16_128x128, MN)
CONV(f16_128x64, MN)
CONV(f16_64x64, MN)
CONV(f16_32x64, MN)
CONV(f16_16x64, MN)
CONV(f32_128x64, MN)
CONV(f32_64x64, MN)
CONV(f32_16x64, MN)
CONV(s8_64x64, K)
TRANSPOSED(f16_64x64)
TRANSPOSED(f32_64x64)
DEPTHWISE(f16_3x3, Float16, 8, 4, 3, 1, 1)
DEPTHWISE(f16_3x3_stride_2, Float16, 8, 2, 3, 2, 1)
DEPTHWISE(f16_5x5, Float16, 8, 4, 5, 1, 1)
DEPTHWISE(f16_any, Float16, 8, 4, 0, 0, 0)
DEPTHWISE(f32_3x3, Float32, 4, 4, 3, 1, 1)
DEPTHWISE(f32_any, Float32, 1, 4, 0, 0, 0)
