#include "devices/cpu/device.h"

#include <algorithm>
#include <mutex>

#include "cpu_features.h"
#include "devices/cpu/executor.h"
#include "devices/cpu/image_loader.h"

namespace nimforge {
namespace {

// Images are loaded when the first session needs them.
class CpuEngine : public LoadedEngine {
 public:
  explicit CpuEngine(const EngineFile& file) : file_(file), images_(file.info().images.size()) {}

  std::unique_ptr<Executor> executor(const Program& program, int threads) override {
    std::vector<CpuKernel> kernels(file_.info().kernels.size());
    for (const Step& step : program.steps) {
      if (!step.launch) continue;
      for (const Variant& v : step.launch->variants)
        if (!kernels[v.kernel].entry) kernels[v.kernel] = kernel(v.kernel);
    }
    return std::make_unique<CpuExecutor>(file_, program, std::move(kernels), threads > 0 ? threads : usableCores());
  }

 private:
  CpuKernel kernel(int index) {
    const Kernel& kernel = file_.info().kernels[index];
    const Image& image = file_.info().images[kernel.image];
    std::lock_guard lock(mutex_);
    auto& loaded = images_[kernel.image];
    if (!loaded) {
      requireRunnable(image);
      loaded = std::make_unique<LoadedImage>(file_.segment(image.segment));
    }
    return {loaded->kernel(kernel.name), isEmulated(image.target)};
  }

  const EngineFile& file_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<LoadedImage>> images_;
};

class CpuDevice : public Device {
 public:
  const std::string& name() const override { return name_; }
  std::string description() const override { return "cpu: " + (target().empty() ? "no known level" : target()); }

  std::string target() const override {
    std::string best;
    for (const CpuLevel& level : cpuLevels())
      if (level.runs) best = level.name;
    return best;
  }

  bool knows(const std::string& target) const override {
    return target.empty() || target.starts_with("cpu-") || isEmulated(target);
  }

  Fit fit(const EngineFile& file, const Program& program) const override {
    const EngineInfo& info = file.info();
    const std::string target = targetOf(info, program);
    try {
      for (const Step& step : program.steps)
        if (step.launch)
          for (const Variant& v : step.launch->variants) requireRunnable(info.images[info.kernels[v.kernel].image]);
    } catch (const Error& error) {
      return {0, error};
    }
    if (isEmulated(target)) return {1, {}};
    const auto levels = cpuLevels();
    const auto level = std::find_if(levels.begin(), levels.end(), [&](const CpuLevel& l) { return l.name == target; });
    return {int(10 + (level - levels.begin())), {}};
  }

  std::unique_ptr<LoadedEngine> load(const EngineFile& file) override { return std::make_unique<CpuEngine>(file); }

 private:
  const std::string name_ = "cpu";
};

}  // namespace

std::shared_ptr<Device> cpuDevice() {
  static const auto device = std::make_shared<CpuDevice>();
  return device;
}

}  // namespace nimforge
