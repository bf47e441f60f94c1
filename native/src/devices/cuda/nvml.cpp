#include "devices/cuda/nvml.h"

#include <dlfcn.h>

#include <cstdlib>
#include <memory>
#include <mutex>

namespace nimforge::cuda {
namespace {

using Handle = struct nvmlDevice_st*;
struct Memory {
  unsigned long long total, free, used;
};
struct Utilization {
  unsigned gpu, memory;
};

constexpr int kTemperatureGpu = 0, kClockSm = 1;

struct Nvml {
  int (*init)() = nullptr;
  int (*handleByPciBusId)(const char*, Handle*) = nullptr;
  int (*memoryInfo)(Handle, Memory*) = nullptr;
  int (*utilizationRates)(Handle, Utilization*) = nullptr;
  int (*temperature)(Handle, int sensor, unsigned*) = nullptr;
  int (*powerUsage)(Handle, unsigned* milliwatts) = nullptr;
  int (*clockInfo)(Handle, int clock, unsigned* megahertz) = nullptr;
};

std::unique_ptr<Nvml> openNvml() {
  const char* name = std::getenv("NIMFORGE_LIBNVML");
  void* library = dlopen(name && *name ? name : "libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!library) return nullptr;
  auto n = std::make_unique<Nvml>();
  const auto find = [&](auto& function, const char* symbol) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, symbol));
    return function != nullptr;
  };
  const bool usable = find(n->init, "nvmlInit_v2") && find(n->handleByPciBusId, "nvmlDeviceGetHandleByPciBusId_v2") && n->init() == 0;
  find(n->memoryInfo, "nvmlDeviceGetMemoryInfo");
  find(n->utilizationRates, "nvmlDeviceGetUtilizationRates");
  find(n->temperature, "nvmlDeviceGetTemperature");
  find(n->powerUsage, "nvmlDeviceGetPowerUsage");
  find(n->clockInfo, "nvmlDeviceGetClockInfo");
  if (usable) return n;
  dlclose(library);
  return nullptr;
}

// Never closed, as the driver; a failure is tried again the next time.
const Nvml* nvml() {
  static std::mutex mutex;
  static const Nvml* opened = nullptr;
  std::lock_guard lock(mutex);
  if (!opened) opened = openNvml().release();
  return opened;
}

}  // namespace

std::optional<Metrics> metrics(const std::string& pciBusId) {
  const Nvml* n = nvml();
  Handle device = nullptr;
  if (!n || n->handleByPciBusId(pciBusId.c_str(), &device) != 0) return {};
  Metrics m;
  if (Memory memory{}; n->memoryInfo && n->memoryInfo(device, &memory) == 0)
    m.memoryUsedBytes = std::int64_t(memory.used), m.memoryFreeBytes = std::int64_t(memory.free);
  if (Utilization rates{}; n->utilizationRates && n->utilizationRates(device, &rates) == 0) m.utilizationPercent = int(rates.gpu);
  if (unsigned celsius = 0; n->temperature && n->temperature(device, kTemperatureGpu, &celsius) == 0) m.temperatureCelsius = int(celsius);
  if (unsigned milliwatts = 0; n->powerUsage && n->powerUsage(device, &milliwatts) == 0) m.powerMilliwatts = milliwatts;
  if (unsigned megahertz = 0; n->clockInfo && n->clockInfo(device, kClockSm, &megahertz) == 0) m.clockHz = 1'000'000ll * megahertz;
  return m;
}

}  // namespace nimforge::cuda
