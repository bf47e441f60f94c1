#include "devices/cuda/device.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include "devices/cuda/engine.h"

namespace nimforge::cuda {
namespace {

int attribute(DeviceHandle device, Attribute which) {
  int value = 0;
  return driver().deviceGetAttribute(&value, which, device) == kSuccess ? value : 0;
}

int number(const Capability& c) { return 10 * c.major + c.minor; }

// Systems on a chip: no binary code is shared between them, or with other GPUs (CUDA programming guide, binary compatibility).
bool isTegra(const Capability& c) { return number(c) == 72 || number(c) == 87 || number(c) == 110; }

}  // namespace

std::string Capability::target() const {
  return "sm_" + std::to_string(number(*this)) + (suffix ? std::string(1, suffix) : "");
}

std::optional<Capability> capabilityOf(const std::string& target) {
  if (!target.starts_with("sm_")) return {};
  int value = 0;
  const char *first = target.data() + 3, *last = target.data() + target.size();
  const auto [end, error] = std::from_chars(first, last, value);
  if (error != std::errc() || value < 10 || value > 999) return {};
  if (end != last && (end + 1 != last || (*end != 'a' && *end != 'f'))) return {};
  return Capability{value / 10, value % 10, end == last ? char(0) : *end};
}

bool isCudaTarget(const std::string& target) { return capabilityOf(target).has_value(); }

std::optional<Capability> ptxCapability(std::span<const std::byte> ptx) {
  const std::string_view text(reinterpret_cast<const char*>(ptx.data()), std::min<std::size_t>(ptx.size(), 4096));
  constexpr std::string_view word = ".target";
  auto at = text.find(word);
  if (at == text.npos) return {};
  at = text.find_first_not_of(" \t", at + word.size());
  if (at == text.npos) return {};
  const auto end = text.find_first_of(", \t\r\n", at);
  return capabilityOf(std::string(text.substr(at, end == text.npos ? end : end - at)));
}

// Exact code before that of a lower minor capability before PTX; then the newer device.
int binaryScore(const Capability& code, const Capability& device) {
  const int newer = 10 * number(device);
  if (number(code) == number(device)) return 30'000 + newer + (code.suffix == 'a' ? 2 : code.suffix == 'f' ? 1 : 0);
  if (code.suffix == 'a' || code.major != device.major || code.minor > device.minor || isTegra(code) || isTegra(device)) return 0;
  return 20'000 + newer + code.minor;
}

int ptxScore(const Capability& ptx, const Capability& device) {
  if (ptx.suffix && number(ptx) != number(device)) return 0;
  return number(ptx) <= number(device) ? 10'000 + number(ptx) : 0;
}

CudaDevice::CudaDevice(int ordinal) : name_("cuda:" + std::to_string(ordinal)) {
  const Driver& d = driver();
  check(d.deviceGet(&handle_, ordinal), "the CUDA driver does not give its device");
  char text[256] = {};
  if (d.deviceGetName(text, sizeof text, handle_) == kSuccess) facts_.name = text;
  char bus[64] = {};
  if (d.deviceGetPCIBusId(bus, sizeof bus, handle_) == kSuccess) facts_.pciBusId = bus;
  std::size_t bytes = 0;
  if (d.deviceTotalMem(&bytes, handle_) == kSuccess) facts_.memoryBytes = std::int64_t(bytes);
  facts_.ordinal = ordinal;
  facts_.capability = {attribute(handle_, kCapabilityMajor), attribute(handle_, kCapabilityMinor), 0};
  facts_.multiprocessors = attribute(handle_, kMultiprocessors);
  facts_.sharedBytes = std::max(attribute(handle_, kSharedMemoryPerBlockOptin), attribute(handle_, kSharedMemoryPerBlock));
  facts_.l2Bytes = attribute(handle_, kL2CacheSize);
  facts_.clockHz = 1000ll * attribute(handle_, kClockRate);
  // Two transfers for each clock of the memory.
  facts_.memoryBytesPerSecond = 2000ll * attribute(handle_, kMemoryClockRate) * (attribute(handle_, kMemoryBusWidth) / 8);
}

std::string CudaDevice::description() const { return name_ + ": " + facts_.name + ", " + target(); }

std::string CudaDevice::target() const { return facts_.capability.target(); }

Fit CudaDevice::fit(const EngineFile& file, const Program& program) const {
  const EngineInfo& info = file.info();
  int score = 40'000;
  std::string held;
  for (const Step& step : program.steps) {
    if (!step.launch) continue;
    for (const Variant& v : step.launch->variants) {
      const Image& image = info.images[info.kernels[v.kernel].image];
      if (auto refusal = abiRefusal(image)) return {0, std::move(refusal)};
      const ImageChoice choice = chooseImage(file, image, facts_.capability);
      if (choice.score < score) score = choice.score, held = choice.held;
    }
  }
  if (score > 0) return {score, {}};
  return {0, incompatible("wrong-target", "the engine is for " + held + "; " + name_ + " is " + facts_.name + " of compute capability " +
                                              std::to_string(facts_.capability.major) + "." + std::to_string(facts_.capability.minor))
                 .want(held)
                 .have(description())
                 .advise("build an engine for this device: nim-build <model> --target " + target())};
}

std::unique_ptr<LoadedEngine> CudaDevice::load(const EngineFile& file) { return std::make_unique<CudaEngine>(*this, file); }

Context CudaDevice::context() {
  std::lock_guard lock(mutex_);
  if (context_) return context_;
  const Driver& d = driver();
  Context context = nullptr;
  if (const Result result = d.primaryCtxRetain(&context, handle_)) throw failure(result, "no context on " + description());
  if (attribute(handle_, kMemoryPoolsSupported)) {
    MemoryPool pool = nullptr;
    // Freed memory stays with the process: sessions of changing sizes would pay for it again each time.
    std::uint64_t keep = UINT64_MAX;
    if (d.deviceGetDefaultMemPool(&pool, handle_) == kSuccess && d.memPoolSetAttribute(pool, kPoolReleaseThreshold, &keep) == kSuccess)
      pool_ = pool;
  }
  return context_ = context;
}

CudaDevice::Current::Current(CudaDevice& device) {
  check(driver().ctxPushCurrent(device.context()), "the CUDA context cannot be used");
}

CudaDevice::Current::~Current() {
  Context popped;
  driver().ctxPopCurrent(&popped);
}

Result CudaDevice::tryAllocate(DevicePointer* memory, std::int64_t bytes, Stream stream) {
  return pool_ ? driver().memAllocAsync(memory, std::size_t(bytes), stream) : driver().memAlloc(memory, std::size_t(bytes));
}

DevicePointer CudaDevice::allocate(std::int64_t bytes, const char* what, Stream stream) {
  DevicePointer memory = 0;
  Result result = tryAllocate(&memory, bytes, stream);
  if (result == kOutOfMemory && pool_) {  // what the pool keeps may be in pieces
    driver().streamSynchronize(stream);
    driver().memPoolTrimTo(pool_, 0);
    result = tryAllocate(&memory, bytes, stream);
  }
  if (result == kSuccess) return memory;
  if (result != kOutOfMemory) throw failure(result, "no memory on " + name_ + " for " + what);
  std::size_t free = 0, total = 0;
  driver().memGetInfo(&free, &total);
  throw limit("out-of-memory", "out of memory on " + name_ + " (" + facts_.name + ") for " + what)
      .want(std::to_string(bytes) + " bytes")
      .have(std::to_string(free) + " bytes free of " + std::to_string(total) + " in all")
      .advise("use smaller inputs or fewer sessions, or free the device's memory: nvidia-smi shows who holds it");
}

void CudaDevice::free(DevicePointer memory, Stream stream) noexcept {
  if (!memory) return;
  pool_ ? driver().memFreeAsync(memory, stream) : driver().memFree(memory);
}

std::vector<std::shared_ptr<nimforge::Device>> devices() {
  static std::mutex mutex;
  static std::vector<std::shared_ptr<nimforge::Device>>* known = nullptr;  // never destroyed, as the driver
  const Driver& d = driver();
  std::lock_guard lock(mutex);
  if (known) return *known;
  int count = 0;
  check(d.deviceGetCount(&count), "the CUDA driver does not count its devices");
  if (count == 0)
    throw incompatible("no-cuda-device", "there is no CUDA device: the driver for CUDA " + versionText(d.version) + " finds none")
        .want("an NVIDIA GPU")
        .have("a driver without a device")
        .advise("check nvidia-smi and CUDA_VISIBLE_DEVICES, or build for the CPU: nim-build <model> --target cpu");
  std::vector<std::shared_ptr<nimforge::Device>> found;
  for (int i = 0; i < count; ++i) found.push_back(std::make_shared<CudaDevice>(i));
  known = new auto(std::move(found));
  return *known;
}

}  // namespace nimforge::cuda
