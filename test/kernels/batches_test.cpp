// The number of a batch in an operand's tensor map (gemm_tma.cuh), for batches of several dimensions: which of them the operand has, in
// which order its memory has them, and which it repeats.
#include <cstdio>

#include "gemm_tma.cuh"

namespace {

int failures = 0;

// `unit` is the smallest stride: batch (i, j, k, l) is the sum of its strides in units.
void check(const nf::Index (&batch)[4], const nf::Index (&strides)[4], nf::Index unit) {
  nf::Index number = 0;
  for (nf::Index i = 0; i < batch[0]; ++i)
    for (nf::Index j = 0; j < batch[1]; ++j)
      for (nf::Index k = 0; k < batch[2]; ++k)
        for (nf::Index l = 0; l < batch[3]; ++l, ++number) {
          const nf::Index expected = unit ? (i * strides[0] + j * strides[1] + k * strides[2] + l * strides[3]) / unit : 0;
          const nf::Index got = nf::tma_batch(batch, strides, number);
          if (got != expected) ++failures, std::printf("batch %d of strides %d %d %d %d is %d, expected %d\n", number, strides[0], strides[1], strides[2], strides[3], got, expected);
        }
}

}  // namespace

int main() {
  check({2, 3, 4, 5}, {60 * 64, 20 * 64, 5 * 64, 64}, 64);  // one after the other
  check({2, 3, 4, 5}, {64, 2 * 64, 6 * 64, 24 * 64}, 64);   // the other way round
  check({2, 3, 4, 5}, {0, 5 * 64, 0, 64}, 64);              // repeated along two
  check({2, 3, 4, 5}, {128, 0, 256, 0}, 128);
  check({1, 1, 3, 2}, {0, 0, 0, 0}, 0);
  std::printf("%d failures\n", failures);
  return failures != 0;
}
