// Memory of a device, and of the host where the device copies from and to it without the processor's help.
#pragma once
#include "devices/cuda/device.h"

namespace nimforge::cuda {

// A block of device memory that only grows, in the order of a stream.
class DeviceBlock {
 public:
  DeviceBlock(CudaDevice& device, Stream stream) : device_(device), stream_(stream) {}
  ~DeviceBlock() { device_.free(data_, stream_); }
  DeviceBlock(const DeviceBlock&) = delete;
  DeviceBlock& operator=(const DeviceBlock&) = delete;

  // Whether it moved. Contents are kept up to `keep` bytes.
  bool reserve(std::int64_t bytes, const char* what, std::int64_t keep = 0);
  DevicePointer data() const { return data_; }
  std::int64_t size() const { return size_; }

 private:
  CudaDevice& device_;
  Stream stream_;
  DevicePointer data_ = 0;
  std::int64_t size_ = 0;
};

// Pinned memory that only grows; contents are not kept. Nothing may be copying when it grows.
class PinnedBlock {
 public:
  PinnedBlock() = default;
  ~PinnedBlock();
  PinnedBlock(PinnedBlock&& other) noexcept : data_(other.data_), size_(other.size_) { other.data_ = nullptr, other.size_ = 0; }
  PinnedBlock& operator=(PinnedBlock&&) = delete;

  std::byte* reserve(std::int64_t bytes, const char* what);
  std::byte* data() const { return data_; }

 private:
  std::byte* data_ = nullptr;
  std::int64_t size_ = 0;
};

}  // namespace nimforge::cuda
