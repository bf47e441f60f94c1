// mma.sync and ldmatrix in the emulator: every type and shape against products in double precision, fragments loaded by hand and by
// ldmatrix; every form of ldmatrix element by element; and the faults. Built for NF_ARCH 800 and, for the older shapes, 750.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "../emulator.h"
#include "mma.cuh"

namespace {

using nf::Cell;

int failures = 0;

void expect(bool ok, const std::string& what) {
  if (ok) return;
  ++failures;
  std::printf("FAILED: %s\n", what.c_str());
}

/* ---- kernels: buffers are A [16][K], B [K][8], D [16][8] */

// Registers of an operand, element by element.
template <class S, class T, int ELEMENTS, int REGISTERS, class At> void gather(unsigned (&r)[REGISTERS], const At& at) {
  std::memset(r, 0, sizeof r);
  for (int i = 0; i < ELEMENTS; ++i) {
    const T x = at(i);
    std::memcpy((char*)r + i * sizeof(T), &x, sizeof x);
  }
}
template <class S, class T, class Sum, class Mma> void product(const NfLaunch* L, const Mma& mma) {
  const T *a = (const T*)L->buffers[0], *b = (const T*)L->buffers[1];
  Sum* d = (Sum*)L->buffers[2];
  const int l = nf::lane();
  unsigned ra[S::a_registers], rb[S::b_registers];
  Sum sums[4];
  gather<S, T, S::a_elements>(ra, [&](int i) { return a[S::a(l, i).row * S::k + S::a(l, i).column]; });
  gather<S, T, S::b_elements>(rb, [&](int i) { return b[S::b(l, i).row * 8 + S::b(l, i).column]; });
  for (int i = 0; i < 4; ++i) sums[i] = d[S::c(l, i).row * 8 + S::c(l, i).column];
  mma(sums, ra, rb);
  for (int i = 0; i < 4; ++i) d[S::c(l, i).row * 8 + S::c(l, i).column] = sums[i];
}
#define PRODUCT(NAME, S, T, SUM, MMA) \
  NF_KERNEL(NAME, 32, 1, 3, 0) { product<nf::S, T, SUM>(L, [](auto& d, const auto& a, const auto& b) { nf::MMA(d, a, b); }); }
PRODUCT(product_f16, MmaHalf, std::uint16_t, float, mma_f16)
#if NF_ARCH >= 800
PRODUCT(product_bf16, MmaHalf, std::uint16_t, float, mma_bf16)
PRODUCT(product_tf32, MmaTf32, std::uint32_t, float, mma_tf32)
#endif
PRODUCT(product_s8, MmaInt8, std::uint8_t, int, mma_s8)
PRODUCT(product_u8s8, MmaInt8, std::uint8_t, int, mma_u8s8)
PRODUCT(product_s8u8, MmaInt8, std::uint8_t, int, mma_s8u8)
PRODUCT(product_u8, MmaInt8, std::uint8_t, int, mma_u8)

// A float16 product through shared memory: A by ldmatrix from its rows, B by ldmatrix.trans from its rows (n contiguous).
NF_KERNEL(product_ldmatrix, 32, 1, 3, 0) {
  std::uint16_t *a = nf::shared<std::uint16_t>(), *b = nf::shared<std::uint16_t>(16 * 24 * 2);  // rows of A are 24 apart
  const int l = nf::lane();
  for (int i = l; i < 256; i += 32) a[i / 16 * 24 + i % 16] = ((const std::uint16_t*)L->buffers[0])[i];
  for (int i = l; i < 128; i += 32) b[i] = ((const std::uint16_t*)L->buffers[1])[i];
  nf::sync();
  unsigned ra[4], rb[2];
  nf::ldmatrix_x4(ra, a + l % 16 * 24 + l / 16 * 8);
  nf::ldmatrix_x2_trans(rb, b + l % 16 * 8);
  float sums[4] = {};
  nf::mma_f16(sums, ra, rb);
  for (int i = 0; i < 4; ++i) ((float*)L->buffers[2])[nf::MmaHalf::c(l, i).row * 8 + nf::MmaHalf::c(l, i).column] = sums[i];
}

// Registers of every lane after each form, from shared memory that holds 32 rows of 8 numbers, in the order that dims give.
NF_KERNEL(forms, 32, 1, 1, 32) {
  std::uint16_t* rows = nf::shared<std::uint16_t>();
  for (int i = nf::lane(); i < 256; i += 32) rows[i] = (std::uint16_t)i;
  nf::sync();
  const std::uint16_t* row = rows + L->dims[nf::lane()] * 8;
  unsigned x1[1], x2[2], x4[4], t1[1], t2[2], t4[4];
  nf::ldmatrix_x1(x1, row), nf::ldmatrix_x2(x2, row), nf::ldmatrix_x4(x4, row);
  nf::ldmatrix_x1_trans(t1, row), nf::ldmatrix_x2_trans(t2, row), nf::ldmatrix_x4_trans(t4, row);
  unsigned* out = (unsigned*)L->buffers[0] + nf::lane() * 14;
  const unsigned all[14] = {x1[0], x2[0], x2[1], x4[0], x4[1], x4[2], x4[3], t1[0], t2[0], t2[1], t4[0], t4[1], t4[2], t4[3]};
  std::memcpy(out, all, sizeof all);
}

NF_KERNEL(misaligned, 32, 1, 1, 0) {
  unsigned r[4];
  nf::ldmatrix_x4(r, nf::shared<char>() + nf::lane() * 16 + (nf::lane() == 3 ? 8 : 0));
  ((unsigned*)L->buffers[0])[nf::lane()] = r[0];
}
NF_KERNEL(outside, 32, 1, 1, 0) {
  unsigned r[4];
  nf::ldmatrix_x4(r, nf::shared<char>() + nf::lane() * 16 + 16);
  ((unsigned*)L->buffers[0])[nf::lane()] = r[0];
}
NF_KERNEL(divergent, 32, 1, 1, 0) {
  unsigned a[4] = {}, b[2] = {};
  float d[4] = {};
  if (nf::lane() != 7) nf::mma_f16(d, a, b);
  ((float*)L->buffers[0])[nf::lane()] = d[0];
}

/* ---- the host's side */

int launch(int (*kernel)(const NfLaunch*), std::vector<void*> buffers, std::vector<NfInt> dims, int shared) {
  NfError error{};
  NfLaunch L{buffers.data(), dims.data(), 0, 1, 0, 1, nullptr, &error, shared, nimforge::emulator()};
  return kernel(&L);
}

std::uint32_t state = 12345;
std::uint32_t random_bits() {
  state ^= state << 13, state ^= state >> 17, state ^= state << 5;
  return state;
}

template <class T, class Sum, class A, class B>
void check_product(const char* name, int (*kernel)(const NfLaunch*), int K, std::uint32_t mask, const A& decode_a, const B& decode_b, int shared = 0,
                   bool from_zero = false) {
  std::vector<T> a(16 * K), b(K * 8);
  std::vector<Sum> d(128);
  for (T& x : a) x = (T)(random_bits() & mask);
  for (T& x : b) x = (T)(random_bits() & mask);
  for (Sum& x : d) x = from_zero ? 0 : (Sum)(int)(random_bits() >> 24);
  std::vector<double> expected(128), size(128);
  for (int i = 0; i < 128; ++i) {
    expected[i] = d[i];
    for (int k = 0; k < K; ++k) {
      const double p = decode_a(a[i / 8 * K + k]) * decode_b(b[k * 8 + i % 8]);
      expected[i] += p, size[i] += std::fabs(p);
    }
  }
  expect(launch(kernel, {a.data(), b.data(), d.data()}, {0}, shared) == 0, std::string(name) + ": " + nimforge::lastEmulatorFault());
  for (int i = 0; i < 128; ++i)
    expect(std::fabs(d[i] - expected[i]) <= 1e-6 * (size[i] + 256), std::string(name) + ", element " + std::to_string(i) + ": " +
                                                                          std::to_string(d[i]) + ", not " + std::to_string(expected[i]));
}

double half(std::uint16_t x) { return (double)nf::bits<_Float16>(x); }
[[maybe_unused]] double brain(std::uint16_t x) { return nf::bits<float>((std::uint32_t)x << 16); }
[[maybe_unused]] double tf32(std::uint32_t x) { return nf::bits<float>(x & 0xffffe000u); }
double signed_byte(std::uint8_t x) { return (std::int8_t)x; }
double unsigned_byte(std::uint8_t x) { return x; }

void check_forms() {
  std::vector<NfInt> order(32);
  for (int i = 0; i < 32; ++i) order[i] = (i * 13 + 5) % 32;
  std::vector<unsigned> out(32 * 14);
  expect(launch(forms, {out.data()}, order, 512) == 0, "ldmatrix: " + nimforge::lastEmulatorFault());
  const int matrices[6] = {1, 2, 4, 1, 2, 4};
  for (int l = 0; l < 32; ++l)
    for (int form = 0, at = 0; form < 6; at += matrices[form++])
      for (int i = 0; i < matrices[form]; ++i)
        for (int e = 0; e < 2; ++e) {
          const bool trans = form >= 3;
          const int row = trans ? l % 4 * 2 + e : l / 4, column = trans ? l / 4 : l % 4 * 2 + e;
          const unsigned expected = (unsigned)(order[8 * i + row] * 8 + column), found = out[l * 14 + at + i] >> 16 * e & 0xffff;
          expect(found == expected, "ldmatrix form " + std::to_string(form) + ", lane " + std::to_string(l) + ": " + std::to_string(found) + ", not " +
                                        std::to_string(expected));
        }
}

void check_fault(const char* name, int (*kernel)(const NfLaunch*), const char* text) {
  std::vector<float> out(64);
  const int result = launch(kernel, {out.data()}, {0}, 512);
  const std::string fault = nimforge::lastEmulatorFault();
  expect(result != 0 && fault.find(text) != std::string::npos, std::string(name) + ": \"" + fault + "\"");
}

}  // namespace

int main() {
  // Finite numbers of moderate size: exponents below the highest.
  check_product<std::uint16_t, float>("float16", product_f16, 16, 0xbbff, half, half);
  check_product<std::uint16_t, float>("float16 by ldmatrix", product_ldmatrix, 16, 0xbbff, half, half, 1024, true);
#if NF_ARCH >= 800
  check_product<std::uint16_t, float>("bfloat16", product_bf16, 16, 0xbfff, brain, brain);
  check_product<std::uint32_t, float>("tf32", product_tf32, 8, 0xbfffffff, tf32, tf32);
  expect(nf::to_tf32(1.0f + 0x1p-11f) == nf::bits<unsigned>(1.0f + 0x1p-10f) && nf::to_tf32(-3.0f) == nf::bits<unsigned>(-3.0f), "to_tf32");
#endif
  check_product<std::uint8_t, int>("s8", product_s8, 32, 0xff, signed_byte, signed_byte);
  check_product<std::uint8_t, int>("u8 s8", product_u8s8, 32, 0xff, unsigned_byte, signed_byte);
  check_product<std::uint8_t, int>("s8 u8", product_s8u8, 32, 0xff, signed_byte, unsigned_byte);
  check_product<std::uint8_t, int>("u8", product_u8, 32, 0xff, unsigned_byte, unsigned_byte);
  check_forms();
  check_fault("misaligned", misaligned, "ldmatrix: a row is not 16-byte aligned");
  check_fault("outside", outside, "ldmatrix: a row outside of shared memory");
  check_fault("divergent", divergent, "wait for it in a collective");
  std::printf("%d failures\n", failures);
  return failures != 0;
}
