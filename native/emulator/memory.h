// Memory with inaccessible pages around it: the stacks of fibers, and a block's shared memory at its exact size.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "../../packages/engine/schema/emulator.h"

namespace nimforge {

// A reserved range of addresses, all of it inaccessible at first.
class Pages {
 public:
  Pages(std::size_t bytes, std::size_t alignment);
  ~Pages();
  Pages(Pages&& other) noexcept;
  Pages& operator=(Pages&&) = delete;

  unsigned char* begin() const { return begin_; }
  std::size_t size() const { return size_; }
  void open(std::size_t offset, std::size_t bytes);
  void close(std::size_t offset, std::size_t bytes);

  static std::size_t pageBytes();

 private:
  unsigned char* mapping_;
  std::size_t mapped_;
  unsigned char* begin_;
  std::size_t size_;
};

// Stacks of NF_STACK_BYTES, aligned to that, made as they are needed. The lowest quarter of each is inaccessible, the rest kBytes.
class Stacks {
 public:
  static constexpr std::size_t kGuard = NF_STACK_BYTES / 4, kBytes = NF_STACK_BYTES - kGuard;

  void reserve(int count);
  int count() const { return int(stacks_.size()); }
  unsigned char* bottom(int i) const { return stacks_[i] + kGuard; }
  // Whether the address is in a stack's guard.
  bool guards(const void* address) const;

 private:
  std::vector<Pages> chunks_;
  std::vector<unsigned char*> stacks_;
};

// A block's dynamic shared memory: ends at an inaccessible page, except for what its alignment leaves (less than 128 bytes; 1024
// for a multiple of 1024, where nothing is left); what is left, and the bytes before it, must stay as they were.
class SharedMemory {
 public:
  static constexpr std::size_t kMost = 256 << 10;

  SharedMemory();
  // Of this size, and poisoned.
  void prepare(std::size_t bytes);
  std::span<unsigned char> bytes() const { return bytes_; }
  // The first address around it that was written, or null.
  const unsigned char* written() const;
  // Whether the address is in the inaccessible memory around it.
  bool guards(const void* address) const;

 private:
  void layOut(std::size_t bytes);

  Pages pages_;
  std::span<unsigned char> bytes_, before_, behind_;
};

}  // namespace nimforge
