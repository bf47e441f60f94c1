#include "devices/cuda/memory.h"

#include <algorithm>

namespace nimforge::cuda {

bool DeviceBlock::reserve(std::int64_t bytes, const char* what, std::int64_t keep) {
  if (data_ && bytes <= size_) return false;
  bytes = std::max(bytes, kAlignment);
  const DevicePointer data = device_.allocate(bytes, what, stream_);
  keep = std::min(keep, size_);
  const Result copied = keep > 0 ? driver().memcpyDtoDAsync(data, data_, std::size_t(keep), stream_) : kSuccess;
  device_.free(copied == kSuccess ? data_ : data, stream_);
  check(copied, "a copy on the device failed");
  data_ = data;
  size_ = bytes;
  return true;
}

PinnedBlock::~PinnedBlock() {
  if (data_) driver().memFreeHost(data_);
}

std::byte* PinnedBlock::reserve(std::int64_t bytes, const char* what) {
  if (data_ && bytes <= size_) return data_;
  bytes = std::max(bytes, kAlignment);
  if (data_) driver().memFreeHost(data_);
  data_ = nullptr, size_ = 0;
  void* data = nullptr;
  if (const Result result = driver().memHostAlloc(&data, std::size_t(bytes), 0))
    throw failure(result, std::string("no pinned memory of the host for ") + what).want(std::to_string(bytes) + " bytes");
  data_ = static_cast<std::byte*>(data);
  size_ = bytes;
  return data_;
}

}  // namespace nimforge::cuda
