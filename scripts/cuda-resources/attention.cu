#include "attention_simt.cuh"
#include "samples.cuh"

#define HALF(name, E, ...)                                                                                          \
  using Config_##name = nf::AttentionConfig<nf::E, __VA_ARGS__>;                                                    \
  SAMPLE(attention_##name, Config_##name::threads, Config_##name::shared_bytes, 5, 23) {                            \
    nf::attention<Config_##name>(nf::attention_args(L->dims), nf::AttentionOptions{.scale = 0.125f, .causal = true}, L->buffers[0], \
                                 L->buffers[1], L->buffers[4], nf::NoMask{}, OUTPUT(nf::Float16, float));           \
  }
#define SINGLE(name, ...)                                                                                           \
  using Config_##name = nf::AttentionSimtConfig<__VA_ARGS__>;                                                       \
  SAMPLE(attention_##name, Config_##name::threads, Config_##name::shared_bytes, 5, 23) {                            \
    nf::attention_simt<Config_##name>(nf::attention_args(L->dims), nf::AttentionOptions{.scale = 0.125f, .causal = true}, \
                                      (const float*)L->buffers[0], (const float*)L->buffers[1], (const float*)L->buffers[4], nf::NoMask{}, \
                                      OUTPUT(nf::Float32, float));                                                  \
  }
HALF(f16_64, AttentionFloat16, 64, 64, 4, 1, 2, 8)
HALF(f16_64_decode, AttentionFloat16, 64, 64, 1, 4, 4, 8)
HALF(f16_128, AttentionFloat16, 128, 128, 4, 1, 2, 8)
HALF(f16_128_decode, AttentionFloat16, 128, 128, 1, 4, 4, 8)
HALF(f16_256, AttentionFloat16, 256, 256, 2, 2, 2, 8)
HALF(f16_256_decode, AttentionFloat16, 256, 256, 1, 4, 4, 8)
SINGLE(f32_64, 64, 64, 4, 4)
SINGLE(f32_64_decode, 64, 64, 1, 4)
SINGLE(f32_128, 128, 128, 4, 4)
SINGLE(f32_256, 256, 256, 2, 4)
