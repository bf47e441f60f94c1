#include "devices/cpu/image_loader.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "cpu_features.h"
#include "devices/device.h"
#include "error.h"

namespace nimforge {
namespace {

bool writeAll(int fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    bytes = bytes.subspan(n);
  }
  return true;
}

std::string cacheFolder() {
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value && value[0] == '/' ? value : "");
  };
  if (const auto cache = variable("XDG_CACHE_HOME"); !cache.empty()) return cache;
  if (const auto home = variable("HOME"); !home.empty()) return home + "/.cache";
  return "/tmp";
}

std::string join(const std::vector<std::string>& words) {
  std::string out;
  for (const auto& word : words) out += (out.empty() ? "" : " ") + word;
  return out;
}

std::string highestLevel() {
  std::string name = "none";
  for (const CpuLevel& level : cpuLevels())
    if (level.runs) name = level.name;
  return name;
}

}  // namespace

void requireRunnable(const Image& image) {
  if (auto refusal = abiRefusal(image)) throw std::move(*refusal);
  const std::string best = highestLevel();
  const std::string fix = "build an engine for this machine: nim-build <model> --target " + (best == "none" ? "native" : best);
  // The emulator is this machine's code; emulated kernels are compiled for one level.
  const std::string name = isEmulated(image.target) ? "cpu-x86-64-v3" : image.target;
  const auto levels = cpuLevels();
  const auto level = std::find_if(levels.begin(), levels.end(), [&](const CpuLevel& l) { return l.name == name; });
  if (level == levels.end())
    throw incompatible("wrong-target", "the engine is for " + image.target + ", which is no target of this machine")
        .want(image.target)
        .have(best)
        .advise(fix);
  std::vector<std::string> needed = level->features, missing;
  needed.insert(needed.end(), image.features.begin(), image.features.end());
  for (const auto& feature : needed)
    if (!hasCpuFeature(feature)) missing.push_back(feature);
  if (!missing.empty())
    throw incompatible("cpu-features", "the engine is for " + image.target + "; this CPU lacks " + join(missing))
        .want(image.target + (image.features.empty() ? "" : " with " + join(image.features)))
        .have(best + " (" + join(cpuFeatures()) + ")")
        .advise(fix);
}

LoadedImage::LoadedImage(std::span<const std::byte> bytes, From from) {
  if (from == From::file || !loadFromMemory(bytes)) loadFromFile(bytes);
}

// The descriptor stays open as long as the image: the dynamic linker knows libraries by path, and a closed number would
// come back as the path of another image.
bool LoadedImage::loadFromMemory(std::span<const std::byte> bytes) {
#ifdef __linux__
  fd_ = memfd_create("nimforge-image", MFD_CLOEXEC);
  if (fd_ < 0) return false;
  if (writeAll(fd_, bytes)) handle_ = dlopen(("/proc/self/fd/" + std::to_string(fd_)).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle_) return true;
  ::close(fd_);
  fd_ = -1;
#endif
  return false;
}

// A private folder that is gone again once the code is mapped.
void LoadedImage::loadFromFile(std::span<const std::byte> bytes) {
  const std::string cache = cacheFolder();
  mkdir(cache.c_str(), 0700);
  std::string folder = cache + "/nimforge-image-XXXXXX", reason;
  if (!mkdtemp(folder.data())) {
    reason = std::strerror(errno);
  } else {
    const std::string path = folder + "/image.so";
    const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
    const bool written = fd >= 0 && writeAll(fd, bytes);
    if (!written) reason = std::strerror(errno);
    if (fd >= 0) ::close(fd);
    if (written) {
      handle_ = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
      if (!handle_) reason = dlerror();
    }
    unlink(path.c_str());
    rmdir(folder.c_str());
  }
  if (!handle_)
    throw Error("io", "image-load", "the engine's code cannot be loaded: " + reason)
        .advise("set XDG_CACHE_HOME to a writable folder on a file system mounted without noexec");
}

LoadedImage::~LoadedImage() {
  if (handle_) dlclose(handle_);
  if (fd_ >= 0) ::close(fd_);
}

NfKernel LoadedImage::kernel(const std::string& name) const {
  void* symbol = dlsym(handle_, name.c_str());
  if (!symbol) throw malformed("image-kernel", "the engine's code image has no kernel \"" + name + "\"");
  return reinterpret_cast<NfKernel>(symbol);
}

}  // namespace nimforge
