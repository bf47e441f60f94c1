#include "memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <new>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#endif

#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif

namespace nimforge {
namespace {

constexpr std::size_t kGuard = 64 << 10;
constexpr int kPoison = 0xFF;
constexpr int kStacksInChunk = 32;
constexpr std::size_t kWatched = 256;

std::size_t up(std::size_t n, std::size_t to) { return (n + to - 1) / to * to; }

}  // namespace

std::size_t Pages::pageBytes() {
  static const std::size_t bytes = std::size_t(sysconf(_SC_PAGESIZE));
  return bytes;
}

Pages::Pages(std::size_t bytes, std::size_t alignment) : mapped_(bytes + alignment), size_(bytes) {
  void* p = mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  mapping_ = static_cast<unsigned char*>(p);
  begin_ = reinterpret_cast<unsigned char*>(up(reinterpret_cast<std::uintptr_t>(p), alignment));
}

Pages::~Pages() {
  if (mapping_) munmap(mapping_, mapped_);
}

Pages::Pages(Pages&& other) noexcept
    : mapping_(other.mapping_), mapped_(other.mapped_), begin_(other.begin_), size_(other.size_) {
  other.mapping_ = nullptr;
}

void Pages::open(std::size_t offset, std::size_t bytes) {
  if (bytes > 0 && mprotect(begin_ + offset, bytes, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
}

void Pages::close(std::size_t offset, std::size_t bytes) {
  if (bytes > 0 && mprotect(begin_ + offset, bytes, PROT_NONE) != 0) throw std::bad_alloc();
}

void Stacks::reserve(int count) {
  while (int(stacks_.size()) < count) {
    Pages& chunk = chunks_.emplace_back(std::size_t(kStacksInChunk) * NF_STACK_BYTES, std::size_t(NF_STACK_BYTES));
    for (int i = 0; i < kStacksInChunk; ++i) {
      chunk.open(std::size_t(i) * NF_STACK_BYTES + kGuard, kBytes);
      stacks_.push_back(chunk.begin() + std::size_t(i) * NF_STACK_BYTES);
    }
  }
}

bool Stacks::guards(const void* address) const {
  const auto* p = static_cast<const unsigned char*>(address);
  return std::any_of(stacks_.begin(), stacks_.end(), [p](const unsigned char* s) { return p >= s && p < s + kGuard; });
}

SharedMemory::SharedMemory() : pages_(kMost + 2 * kGuard, Pages::pageBytes()) { layOut(0); }

void SharedMemory::layOut(std::size_t bytes) {
  const std::size_t alignment = bytes % 1024 == 0 ? 1024 : 128, page = Pages::pageBytes();
  const std::size_t end = kGuard + kMost, start = (end - bytes) / alignment * alignment, opened = start / page * page;
  pages_.close(kGuard, opened - kGuard);
  pages_.open(opened, end - opened);
  unsigned char* const base = pages_.begin();
  bytes_ = {base + start, bytes};
  before_ = {base + std::max(opened, start - std::min(start, kWatched)), base + start};
  behind_ = {base + start + bytes, base + end};
}

void SharedMemory::prepare(std::size_t bytes) {
  if (bytes != bytes_.size()) layOut(bytes);
  unsigned char* const from = before_.data();
  const std::size_t all = before_.size() + bytes_.size() + behind_.size();
  ASAN_UNPOISON_MEMORY_REGION(from, all);
  std::memset(from, kPoison, all);
  ASAN_POISON_MEMORY_REGION(before_.data(), before_.size());
  ASAN_POISON_MEMORY_REGION(behind_.data(), behind_.size());
}

const unsigned char* SharedMemory::written() const {
  ASAN_UNPOISON_MEMORY_REGION(before_.data(), before_.size());
  ASAN_UNPOISON_MEMORY_REGION(behind_.data(), behind_.size());
  for (const auto around : {before_, behind_})
    for (const unsigned char& byte : around)
      if (byte != kPoison) return &byte;
  return nullptr;
}

bool SharedMemory::guards(const void* address) const {
  const auto* p = static_cast<const unsigned char*>(address);
  return p >= pages_.begin() && p < pages_.begin() + pages_.size() && !(p >= bytes_.data() && p < bytes_.data() + bytes_.size());
}

}  // namespace nimforge
