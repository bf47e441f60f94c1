#include "sha256.h"

#include <cstring>

#include "cpu_features.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace nimforge {
namespace {

alignas(16) constexpr std::uint32_t kRound[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

using State = std::uint32_t[8];

std::uint32_t rotr(std::uint32_t x, int n) { return x >> n | x << (32 - n); }

// One round; the roles of the eight words rotate from call to call, so nothing is moved.
#define ROUND(a, b, c, d, e, f, g, h, i)                                                                \
  h += (rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25)) + ((e & f) ^ (~e & g)) + kRound[i] + w[(i) % 16];      \
  d += h;                                                                                               \
  h += (rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))

void compressPortable(State& s, const std::uint8_t* p, std::size_t blocks) {
  for (; blocks > 0; --blocks, p += 64) {
    std::uint32_t w[16];  // the last 16 words of the schedule
    for (int i = 0; i < 16; ++i)
      w[i] = std::uint32_t(p[4 * i]) << 24 | p[4 * i + 1] << 16 | p[4 * i + 2] << 8 | p[4 * i + 3];
    std::uint32_t a = s[0], b = s[1], c = s[2], d = s[3], e = s[4], f = s[5], g = s[6], h = s[7];
    for (int i = 0; i < 64; i += 16) {
      if (i > 0)
        for (int k = 0; k < 16; ++k) {
          const std::uint32_t w1 = w[(k + 1) % 16], w14 = w[(k + 14) % 16];
          w[k] += (rotr(w1, 7) ^ rotr(w1, 18) ^ w1 >> 3) + w[(k + 9) % 16] + (rotr(w14, 17) ^ rotr(w14, 19) ^ w14 >> 10);
        }
      for (int k = i; k < i + 16; k += 8) {
        ROUND(a, b, c, d, e, f, g, h, k);
        ROUND(h, a, b, c, d, e, f, g, k + 1);
        ROUND(g, h, a, b, c, d, e, f, k + 2);
        ROUND(f, g, h, a, b, c, d, e, k + 3);
        ROUND(e, f, g, h, a, b, c, d, k + 4);
        ROUND(d, e, f, g, h, a, b, c, k + 5);
        ROUND(c, d, e, f, g, h, a, b, k + 6);
        ROUND(b, c, d, e, f, g, h, a, k + 7);
      }
    }
    s[0] += a, s[1] += b, s[2] += c, s[3] += d, s[4] += e, s[5] += f, s[6] += g, s[7] += h;
  }
}
#undef ROUND

#if defined(__x86_64__)
// The instructions keep the state as (ABEF, CDGH) and do two rounds each.
__attribute__((target("sha,sse4.1"))) void compressSha(State& s, const std::uint8_t* p, std::size_t blocks) {
  const __m128i bigEndian = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
  __m128i cdab = _mm_shuffle_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(s)), 0xb1);
  __m128i efgh = _mm_shuffle_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(s + 4)), 0x1b);
  __m128i abef = _mm_alignr_epi8(cdab, efgh, 8);
  __m128i cdgh = _mm_blend_epi16(efgh, cdab, 0xf0);
  for (; blocks > 0; --blocks, p += 64) {
    const __m128i abef0 = abef, cdgh0 = cdgh;
    __m128i w[4];
    for (int i = 0; i < 16; ++i) {
      __m128i& now = w[i % 4];
      if (i < 4) {
        now = _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p) + i), bigEndian);
      } else {
        const __m128i w1 = w[(i + 1) % 4], w2 = w[(i + 2) % 4], w3 = w[(i + 3) % 4];
        now = _mm_sha256msg2_epu32(
            _mm_add_epi32(_mm_sha256msg1_epu32(now, w1), _mm_alignr_epi8(w3, w2, 4)), w3);
      }
      const __m128i k = _mm_add_epi32(now, _mm_load_si128(reinterpret_cast<const __m128i*>(kRound) + i));
      cdgh = _mm_sha256rnds2_epu32(cdgh, abef, k);
      abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(k, 0x0e));
    }
    abef = _mm_add_epi32(abef, abef0);
    cdgh = _mm_add_epi32(cdgh, cdgh0);
  }
  const __m128i feba = _mm_shuffle_epi32(abef, 0x1b), dchg = _mm_shuffle_epi32(cdgh, 0xb1);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(s), _mm_blend_epi16(feba, dchg, 0xf0));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(s + 4), _mm_alignr_epi8(dchg, feba, 8));
}
#endif

void compress(State& s, const std::uint8_t* p, std::size_t blocks, ShaCode code) {
#if defined(__x86_64__)
  static const bool fast = hasCpuFeature("sha_ni") && hasCpuFeature("sse4_1");
  if (fast && code == ShaCode::best) return compressSha(s, p, blocks);
#endif
  compressPortable(s, p, blocks);
}

}  // namespace

Digest sha256(const void* data, std::size_t size, ShaCode code) {
  State state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  const auto* bytes = static_cast<const std::uint8_t*>(data);
  compress(state, bytes, size / 64, code);
  std::uint8_t tail[128] = {};
  const std::size_t rest = size % 64, tailBlocks = rest < 56 ? 1 : 2;
  if (rest > 0) std::memcpy(tail, bytes + size - rest, rest);
  tail[rest] = 0x80;
  const std::uint64_t bits = std::uint64_t(size) * 8;
  for (int i = 0; i < 8; ++i) tail[64 * tailBlocks - 1 - i] = std::uint8_t(bits >> (8 * i));
  compress(state, tail, tailBlocks, code);
  Digest digest;
  for (int i = 0; i < 32; ++i) digest[i] = std::uint8_t(state[i / 4] >> (24 - 8 * (i % 4)));
  return digest;
}

}  // namespace nimforge
