#include "memory.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>
#ifdef __linux__
#include <sys/mman.h>
#endif
#ifndef _WIN32
#include <unistd.h>
#endif

#include "error.h"

namespace nimforge {
namespace {

constexpr std::int64_t kHugePage = 2 << 20;

// More than the machine has would be promised by the kernel and kill the process later.
std::int64_t physicalBytes() {
#ifdef _SC_PHYS_PAGES
  static const std::int64_t bytes = std::int64_t(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
  return bytes;
#else
  return INT64_MAX;
#endif
}

void* allocateAligned(std::int64_t bytes) {
#ifdef _WIN32
  return _aligned_malloc(bytes, kAlignment);
#else
  const std::int64_t unit = bytes >= kHugePage ? kHugePage : kAlignment;
  void* data = std::aligned_alloc(unit, alignUp(bytes, unit));
#ifdef __linux__
  if (data && unit == kHugePage) madvise(data, alignUp(bytes, unit), MADV_HUGEPAGE);
#endif
  return data;
#endif
}

}  // namespace

void freeAligned(void* data) {
#ifdef _WIN32
  _aligned_free(data);
#else
  std::free(data);
#endif
}

HostBlock::~HostBlock() { freeAligned(data_); }

std::byte* HostBlock::reserve(std::int64_t bytes, const char* what, std::int64_t keep) {
  bytes = std::max(bytes, kAlignment);
  if (bytes <= size_) return data_;
  const std::int64_t have = physicalBytes();
  void* data = bytes > have ? nullptr : allocateAligned(bytes);
  if (!data)
    throw limit("out-of-memory", std::string("out of memory for ") + what)
        .want(std::to_string(bytes) + " bytes")
        .have("this machine has " + std::to_string(have) + " bytes in all");
  if (keep > 0) std::memcpy(data, data_, std::min(keep, size_));
  freeAligned(data_);
  data_ = static_cast<std::byte*>(data);
  size_ = bytes;
  return data_;
}

std::byte* HostBlock::release() {
  std::byte* data = data_;
  data_ = nullptr, size_ = 0;
  return data;
}

}  // namespace nimforge
