#include "devices/cuda/driver.h"

#include <dlfcn.h>

#include <cstdlib>
#include <memory>
#include <mutex>

namespace nimforge::cuda {
namespace {

// cuGraphInstantiateWithFlags is the newest function that is used.
constexpr int kOldestVersion = 11040;

const char* libraryName() {
  const char* name = std::getenv("NIMFORGE_LIBCUDA");
  return name && *name ? name : "libcuda.so.1";
}

Error tooOld(int version, const std::string& detail) {
  return incompatible("driver-too-old", "the NVIDIA driver is too old: it supports CUDA " + versionText(version) + detail)
      .want("a driver for CUDA " + versionText(kOldestVersion) + " or newer")
      .have("CUDA " + versionText(version))
      .advise("update the NVIDIA driver, or build for this machine's CPU: nim-build <model> --target cpu");
}

Driver* open() {
  const std::string name = libraryName();
  void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char* reason = dlerror();
    throw incompatible("no-cuda-driver", "there is no CUDA driver: " + std::string(reason ? reason : name + " does not load"))
        .want(name + ", which the NVIDIA driver brings")
        .have("no such library")
        .advise("install the NVIDIA driver (in a container: run it with the NVIDIA container toolkit), or build for the CPU: "
                "nim-build <model> --target cpu");
  }
  auto d = std::make_unique<Driver>();
  std::string missing;
#define NIMFORGE_LOAD(member, symbol, parameters)                                \
  d->member = reinterpret_cast<decltype(d->member)>(dlsym(library, #symbol));    \
  if (!d->member && missing.empty()) missing = #symbol;
  NIMFORGE_CUDA_DRIVER(NIMFORGE_LOAD)
#undef NIMFORGE_LOAD
  try {
    if (d->driverGetVersion) d->driverGetVersion(&d->version);
    if (d->version < kOldestVersion) throw tooOld(d->version, "");
    if (!missing.empty()) throw tooOld(d->version, " and has no " + missing);
    const Result result = d->init(0);
    if (result == kNoDevice)
      throw incompatible("no-cuda-device", "there is no CUDA device: the driver for CUDA " + versionText(d->version) + " finds none")
          .want("an NVIDIA GPU")
          .have("a driver without a device")
          .advise("check nvidia-smi and CUDA_VISIBLE_DEVICES, or build for the CPU: nim-build <model> --target cpu");
    if (result != kSuccess)
      throw incompatible("cuda-init", "the CUDA driver does not start: " + d->text(result))
          .have("a driver for CUDA " + versionText(d->version))
          .advise("check nvidia-smi: the kernel module and libcuda must be of one driver version");
  } catch (...) {
    dlclose(library);
    throw;
  }
  return d.release();
}

}  // namespace

std::string versionText(int version) { return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10); }

std::string Driver::text(Result result) const {
  const char *name = nullptr, *words = nullptr;
  if (getErrorName(result, &name) != kSuccess || !name) return "CUDA error " + std::to_string(result);
  return std::string(name) + (getErrorString(result, &words) == kSuccess && words ? std::string(": ") + words : "");
}

// Never closed: what it started must outlive every session, to the end of the process.
const Driver& driver() {
  static std::mutex mutex;
  static Driver* opened = nullptr;
  std::lock_guard lock(mutex);
  if (!opened) opened = open();
  return *opened;
}

Error failure(Result result, const std::string& what) {
  const std::string message = what + ": " + driver().text(result);
  if (result == kOutOfMemory) return limit("out-of-memory", message);
  return Error("internal", "cuda-failed", message).have("a driver for CUDA " + versionText(driver().version));
}

}  // namespace nimforge::cuda
