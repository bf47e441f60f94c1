#include "devices/cuda/engine.h"

#include <algorithm>

#include "devices/cuda/executor.h"

namespace nimforge::cuda {
namespace {

// What a kernel may use without being asked for more.
constexpr int kPlainSharedBytes = 48 << 10;

// The driver's words about PTX that it does not take; its log ends with a zero.
std::string firstLines(const std::string& log) {
  const std::string text = log.substr(0, log.find('\0'));
  return text.size() > 400 ? text.substr(0, 400) + "…" : text;
}

}  // namespace

ImageChoice chooseImage(const EngineFile& file, const Image& image, const Capability& device) {
  ImageChoice choice{0, -1, false, image.target};
  if (const auto code = capabilityOf(image.target)) choice.score = binaryScore(*code, device), choice.segment = image.segment;
  if (image.ptx < 0) return choice;
  const auto ptx = ptxCapability(file.segment(image.ptx));
  if (!ptx) return choice;
  choice.held += " and PTX of " + ptx->target();
  if (const int score = ptxScore(*ptx, device); score > choice.score) choice = {score, image.ptx, true, choice.held};
  return choice;
}

CudaEngine::CudaEngine(CudaDevice& device, const EngineFile& file)
    : device_(device), file_(file), modules_(file.info().images.size()) {}

CudaEngine::~CudaEngine() {
  try {
    CudaDevice::Current current(device_);
    for (const auto& [segment, memory] : constants_) device_.free(memory, nullptr);
    for (Module module : modules_)
      if (module) driver().moduleUnload(module);
  } catch (const Error&) {  // the process ends and the driver with it
  }
}

std::unique_ptr<Executor> CudaEngine::executor(const Program& program, int) {
  CudaDevice::Current current(device_);
  return std::make_unique<CudaExecutor>(*this, program);
}

Module CudaEngine::module(int index) {
  Module& module = modules_[index];
  if (module) return module;
  const Image& image = file_.info().images[index];
  const ImageChoice choice = chooseImage(file_, image, device_.facts().capability);
  const auto bytes = file_.segment(choice.segment);
  // PTX is a text with a zero at its end.
  const std::string text = choice.ptx ? std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()) : "";
  std::string log(8192, '\0');
  int keys[] = {kJitErrorLog, kJitErrorLogBytes};
  void* values[] = {log.data(), reinterpret_cast<void*>(log.size())};
  const Result result = driver().moduleLoadDataEx(&module, choice.ptx ? static_cast<const void*>(text.c_str()) : bytes.data(), 2, keys, values);
  if (result == kSuccess) return module;
  module = nullptr;
  const std::string what = "the driver refuses the engine's code for " + image.target + (choice.ptx ? " (compiled from PTX)" : "");
  if (result == kOutOfMemory) throw failure(result, what);
  const bool newer = result == kUnsupportedPtxVersion || result == kInvalidImage || result == kNoBinaryForGpu;
  const std::string said = firstLines(log);
  throw incompatible("image-refused", what + ": " + driver().text(result) + (said.empty() ? "" : "; " + said))
      .want(choice.held)
      .have(device_.description() + ", a driver for CUDA " + versionText(driver().version))
      .advise((newer ? "update the NVIDIA driver (it must not be older than the toolkit that built the engine), or build again: nim-build <model> --target "
                     : "build the engine again: nim-build <model> --target ") +
              device_.target());
}

CudaKernel& CudaEngine::kernel(int index) {
  std::lock_guard lock(mutex_);
  if (const auto known = kernels_.find(index); known != kernels_.end()) return known->second;
  const Kernel& kernel = file_.info().kernels[index];
  if (kernel.threads < 1) throw malformed("kernel-threads", "kernel \"" + kernel.name + "\" does not say how many threads its blocks have");
  CudaKernel loaded{nullptr, kernel.threads, kPlainSharedBytes};
  if (const Result result = driver().moduleGetFunction(&loaded.function, module(kernel.image), kernel.name.c_str()))
    throw malformed("image-kernel", "the engine's code image has no kernel \"" + kernel.name + "\"").have(driver().text(result));
  return kernels_[index] = loaded;
}

DevicePointer CudaEngine::constants(int segment) {
  std::lock_guard lock(mutex_);
  if (const auto known = constants_.find(segment); known != constants_.end()) return known->second;
  const auto bytes = file_.segment(segment);
  const DevicePointer memory = device_.allocate(std::int64_t(bytes.size()), "the weights", nullptr);
  Result result = driver().memcpyHtoD(memory, bytes.data(), bytes.size());
  // Every session has a stream of its own, which does not wait for this one.
  if (result == kSuccess) result = driver().streamSynchronize(nullptr);
  if (result != kSuccess) {
    device_.free(memory, nullptr);
    throw failure(result, "the weights cannot be copied to " + device_.name());
  }
  return constants_[segment] = memory;
}

void CudaEngine::allowShared(CudaKernel& kernel, std::int64_t bytes) {
  std::lock_guard lock(mutex_);
  if (bytes <= kernel.sharedBytes) return;
  check(driver().funcSetAttribute(kernel.function, kMaxDynamicSharedBytes, int(bytes)), "a kernel does not get its shared memory");
  kernel.sharedBytes = int(bytes);
}

}  // namespace nimforge::cuda
