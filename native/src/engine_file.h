// An engine file in memory, verified: frame, table and code are what their hashes say, and every index in the table is in
// range. Nothing in the file has run yet.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "program.h"

namespace nimforge {

constexpr std::uint16_t kFormatMajor = 1, kFormatMinor = 0;

struct OpenOptions {
  // Also the hashes of weights and assets; off, they are read only when they are used.
  bool verifyWeights = false;
};

class EngineFile {
 public:
  static std::shared_ptr<EngineFile> open(const std::string& path, OpenOptions options);
  // Copies the bytes.
  static std::shared_ptr<EngineFile> fromBytes(std::span<const std::byte> bytes, OpenOptions options);
  ~EngineFile();
  EngineFile(const EngineFile&) = delete;
  EngineFile& operator=(const EngineFile&) = delete;

  std::span<const std::byte> table() const { return table_; }
  std::span<const std::byte> segment(int index) const { return segments_[index].bytes; }
  int segmentCount() const { return int(segments_.size()); }
  const EngineInfo& info() const { return info_; }
  // Every segment's hash; throws at the first that differs.
  void verifySegments() const;

 private:
  struct Segment {
    std::span<const std::byte> bytes;
    std::span<const std::byte> hashes;
  };
  EngineFile() = default;
  void verify(OpenOptions options);
  void verifyHeader();
  void placeSegments(const engine::Engine& table);
  void verifySegment(int index) const;

  void* base_ = nullptr;
  std::size_t size_ = 0;
  std::span<const std::byte> table_;
  std::vector<Segment> segments_;
  EngineInfo info_;
};

}  // namespace nimforge
