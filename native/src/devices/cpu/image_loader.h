// Native code of an engine, loaded by the dynamic linker from memory. The image must have passed checkElf.
#pragma once
#include <span>
#include <string>

#include "abi.h"
#include "program.h"

namespace nimforge {

// Throws an incompatible error when this CPU or this version's ABI cannot run the image.
void requireRunnable(const Image& image);

class LoadedImage {
 public:
  enum class From { memory, file };
  // `From::file` is the way for systems that refuse to execute anonymous memory; memory falls back to it by itself.
  explicit LoadedImage(std::span<const std::byte> bytes, From from = From::memory);
  ~LoadedImage();
  LoadedImage(const LoadedImage&) = delete;
  LoadedImage& operator=(const LoadedImage&) = delete;

  // Throws a malformed error when the image does not export it.
  NfKernel kernel(const std::string& name) const;

 private:
  bool loadFromMemory(std::span<const std::byte> bytes);
  void loadFromFile(std::span<const std::byte> bytes);

  void* handle_ = nullptr;
  int fd_ = -1;
};

}  // namespace nimforge
