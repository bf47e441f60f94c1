// Memory at multiples of 64 bytes; running out is a `limit` error, never a crash.
#pragma once
#include <cstddef>
#include <cstdint>
#include <utility>

namespace nimforge {

constexpr std::int64_t kAlignment = 64;

inline std::int64_t alignUp(std::int64_t value, std::int64_t unit) { return (value + unit - 1) / unit * unit; }

// A block that only grows. Its contents are kept up to `keep` bytes when it moves.
class HostBlock {
 public:
  HostBlock() = default;
  HostBlock(const HostBlock&) = delete;
  HostBlock& operator=(const HostBlock&) = delete;
  HostBlock(HostBlock&& other) noexcept : data_(other.data_), size_(other.size_) { other.data_ = nullptr, other.size_ = 0; }
  HostBlock& operator=(HostBlock&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~HostBlock();

  // At least `bytes` (one line of 64 when 0). `what` names the memory in the error.
  std::byte* reserve(std::int64_t bytes, const char* what, std::int64_t keep = 0);
  std::byte* data() const { return data_; }
  std::int64_t size() const { return size_; }
  // Hands the memory over; free it with freeAligned.
  std::byte* release();

 private:
  std::byte* data_ = nullptr;
  std::int64_t size_ = 0;
};

void freeAligned(void* data);

}  // namespace nimforge
