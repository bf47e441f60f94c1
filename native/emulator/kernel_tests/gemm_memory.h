// Test data for the matrix kernels: numbers, storage conversions, and memory that ends where an inaccessible page begins.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace test {

// `count` elements whose end is the end of accessible memory; reading or writing behind it (or much before it) stops the launch.
template <class T> class Guarded {
 public:
  explicit Guarded(std::size_t count) : count_(count) {
    const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t pages = (count * sizeof(T) + page - 1) / page + 1;
    length_ = (pages + 1) * page;
    base_ = static_cast<char*>(mmap(nullptr, length_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(base_ + page, (pages - 1) * page, PROT_READ | PROT_WRITE);
    data_ = reinterpret_cast<T*>(base_ + pages * page) - count;
  }
  Guarded(Guarded&& other) noexcept : base_(other.base_), length_(other.length_), data_(other.data_), count_(other.count_) { other.base_ = nullptr; }
  Guarded(const Guarded&) = delete;
  ~Guarded() {
    if (base_) munmap(base_, length_);
  }
  T* data() { return data_; }
  std::size_t size() const { return count_; }
  T& operator[](std::size_t i) { return data_[i]; }
  const T& operator[](std::size_t i) const { return data_[i]; }

 private:
  char* base_;
  std::size_t length_;
  T* data_;
  std::size_t count_;
};

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15ull + 1) {}
  std::uint64_t next() {
    state_ ^= state_ << 13, state_ ^= state_ >> 7, state_ ^= state_ << 17;
    return state_;
  }
  float uniform() { return static_cast<float>(static_cast<double>(next() >> 11) / (1ull << 52) - 1); }  // [-1, 1)

 private:
  std::uint64_t state_;
};

// Element types as the tests store and read them; `used` is the value that a product is made of.
struct F32 {
  using T = float;
  static T make(float x) { return x; }
  static double used(T x) { return x; }
  static T poison() { return NAN; }
};
struct Tf32 : F32 {
  static double used(T x) {
    std::uint32_t u;
    std::memcpy(&u, &x, 4);
    u = (u + 0x1000) & 0xffffe000u;
    float r;
    std::memcpy(&r, &u, 4);
    return r;
  }
};
struct F16 {
  using T = unsigned short;
  static T make(float x) {
    const _Float16 h = static_cast<_Float16>(x);
    T bits;
    std::memcpy(&bits, &h, 2);
    return bits;
  }
  static double used(T x) {
    _Float16 h;
    std::memcpy(&h, &x, 2);
    return static_cast<double>(h);
  }
  static T poison() { return 0x7e00; }
};
struct BF16 {
  using T = unsigned short;
  static T make(float x) {
    std::uint32_t u;
    std::memcpy(&u, &x, 4);
    return static_cast<T>(u >> 16);
  }
  static double used(T x) {
    const std::uint32_t u = static_cast<std::uint32_t>(x) << 16;
    float r;
    std::memcpy(&r, &u, 4);
    return r;
  }
  static T poison() { return 0x7fc0; }
};
struct S8 {
  using T = signed char;
  static T make(float x) { return static_cast<T>(std::lrint(x * 127)); }
  static double used(T x) { return x; }
  static T poison() { return 85; }
};

}  // namespace test
