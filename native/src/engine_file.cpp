#include "engine_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "devices/cpu/elf.h"
#include "error.h"
#include "memory.h"
#include "sha256.h"

namespace nimforge {
namespace {

constexpr std::size_t kHeader = 128, kPage = 4096, kHashChunk = 4 << 20;
constexpr unsigned char kMagic[8] = {0x89, 'N', 'F', 'E', '\r', '\n', 0x1a, '\n'};

// Little endian, as every machine that the addon builds for.
template <typename T>
T load(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

bool digestIs(const void* data, std::size_t size, const std::byte* digest) {
  return std::memcmp(sha256(data, size).data(), digest, sizeof(Digest)) == 0;
}

void requireZeros(std::span<const std::byte> bytes) {
  if (std::any_of(bytes.begin(), bytes.end(), [](std::byte b) { return b != std::byte{0}; }))
    throw malformed("engine-padding", "the engine file has data where only zeros may be");
}

Error ioError(const char* what) {
  return Error("io", "read-failed", std::string(what) + ": " + std::strerror(errno));
}

}  // namespace

std::shared_ptr<EngineFile> EngineFile::open(const std::string& path, OpenOptions options) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    if (errno == ENOENT) throw usage("not-found", "there is no such engine file");
    throw ioError("cannot open the engine");
  }
  struct stat status;
  const bool ok = fstat(fd, &status) == 0;
  if (!ok || !S_ISREG(status.st_mode)) {
    ::close(fd);
    throw usage("not-a-file", "an engine must be a regular file");
  }
  std::shared_ptr<EngineFile> file(new EngineFile);
  void* base = status.st_size == 0 ? nullptr : mmap(nullptr, status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
  ::close(fd);
  if (base == MAP_FAILED) throw ioError("cannot map the engine");
  file->base_ = base;
  file->size_ = status.st_size;
  file->verify(options);
  return file;
}

std::shared_ptr<EngineFile> EngineFile::fromBytes(std::span<const std::byte> bytes, OpenOptions options) {
  std::shared_ptr<EngineFile> file(new EngineFile);
  if (!bytes.empty()) {
    void* base = mmap(nullptr, bytes.size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) throw limit("out-of-memory", "out of memory for the engine");
    file->base_ = base;
    file->size_ = bytes.size();
    std::memcpy(base, bytes.data(), bytes.size());
    mprotect(base, bytes.size(), PROT_READ);
  }
  file->verify(options);
  return file;
}

EngineFile::~EngineFile() {
  if (base_) munmap(base_, size_);
}

void EngineFile::verify(OpenOptions options) {
  verifyHeader();
  flatbuffers::Verifier::Options limits;
  limits.max_depth = 16;
  limits.max_tables = 50'000'000;
  flatbuffers::Verifier verifier(reinterpret_cast<const std::uint8_t*>(table_.data()), table_.size(), limits);
  if (!engine::VerifyEngineBuffer(verifier)) throw malformed("engine-table", "the engine's table is not well-formed");
  const engine::Engine& table = *engine::GetEngine(table_.data());
  placeSegments(table);
  std::vector<std::uint64_t> lengths;
  for (const Segment& segment : segments_) lengths.push_back(segment.bytes.size());
  info_ = readEngine(table, lengths);
  for (const Image& image : info_.images) {
    verifySegment(image.segment);
    if (image.ptx >= 0) verifySegment(image.ptx);
    if (image.target.starts_with("cpu-") || image.target.starts_with("emulated-")) checkElf(segment(image.segment), image.target);
  }
  if (options.verifyWeights) verifySegments();
}

void EngineFile::verifyHeader() {
  const auto* p = static_cast<const std::byte*>(base_);
  if (size_ < sizeof kMagic || std::memcmp(p, kMagic, sizeof kMagic) != 0)
    throw malformed("not-an-engine", "this is not an engine file");
  if (size_ < kHeader) throw malformed("engine-truncated", "the engine file ends inside its header");
  if (!digestIs(p, 96, p + 96)) throw malformed("engine-header", "the engine file's header is damaged");
  const int major = load<std::uint16_t>(p + 8), minor = load<std::uint16_t>(p + 10);
  if (major != kFormatMajor || minor > kFormatMinor) {
    throw incompatible("engine-format", "the engine file has a format that this version does not read")
        .want("format " + std::to_string(kFormatMajor) + ".0 to " + std::to_string(kFormatMajor) + "." +
              std::to_string(kFormatMinor))
        .have("format " + std::to_string(major) + "." + std::to_string(minor))
        .advise("build the engine again with this version: nim-build <model>");
  }
  const auto offset = load<std::uint64_t>(p + 16), length = load<std::uint64_t>(p + 24);
  const auto fileLength = load<std::uint64_t>(p + 32);
  if (load<std::uint32_t>(p + 12) != kHeader || offset != kHeader)
    throw malformed("engine-header", "the engine file's header is not as long as its format says");
  if (fileLength != size_)
    throw malformed("engine-truncated", "the engine file is not as long as its header says")
        .want(std::to_string(fileLength) + " bytes")
        .have(std::to_string(size_) + " bytes");
  if (length > size_ - kHeader) throw malformed("engine-truncated", "the engine file ends inside its table");
  requireZeros({p + 72, 24});
  table_ = {p + kHeader, std::size_t(length)};
  if (!digestIs(table_.data(), table_.size(), p + 40)) throw malformed("engine-hash", "the engine's table is damaged");
}

// Segments follow the table in their order; so no two overlap and no byte of the file belongs to nothing.
void EngineFile::placeSegments(const engine::Engine& table) {
  const auto* p = static_cast<const std::byte*>(base_);
  std::uint64_t end = kHeader + table_.size();
  const auto* list = table.segments();
  for (unsigned i = 0; list && i < list->size(); ++i) {
    const engine::Segment& s = *list->Get(i);
    const std::uint64_t offset = s.offset(), length = s.length();
    if (offset != (end + kPage - 1) / kPage * kPage || offset > size_ || length == 0 || length > size_ - offset)
      throw malformed("engine-segment", "segment " + std::to_string(i) + " of the engine is not where it may be");
    requireZeros({p + end, std::size_t(offset - end)});
    const std::size_t chunks = (length + kHashChunk - 1) / kHashChunk;
    if (!s.sha256() || s.sha256()->size() != chunks * sizeof(Digest))
      throw malformed("engine-segment", "segment " + std::to_string(i) + " of the engine has no complete hash");
    segments_.push_back({{p + offset, std::size_t(length)},
                         {reinterpret_cast<const std::byte*>(s.sha256()->data()), s.sha256()->size()}});
    end = offset + length;
  }
  if (end != size_) throw malformed("engine-truncated", "the engine file does not end with its last segment");
}

void EngineFile::verifySegment(int index) const {
  const Segment& segment = segments_[index];
  for (std::size_t at = 0, chunk = 0; at < segment.bytes.size(); at += kHashChunk, ++chunk) {
    const std::size_t size = std::min(kHashChunk, segment.bytes.size() - at);
    if (!digestIs(segment.bytes.data() + at, size, segment.hashes.data() + chunk * sizeof(Digest)))
      throw malformed("engine-hash", "segment " + std::to_string(index) + " of the engine is damaged (its SHA-256 differs)");
  }
}

void EngineFile::verifySegments() const {
  for (int i = 0; i < segmentCount(); ++i) verifySegment(i);
}

}  // namespace nimforge
