#include "session.h"

#include <chrono>

#include "cpu_features.h"
#include "error.h"
#include "run.h"

namespace nimforge {

NfKernel Engine::kernel(int index) {
  const Kernel& kernel = file_->info().kernels[index];
  const Image& image = file_->info().images[kernel.image];
  std::lock_guard lock(mutex_);
  auto& loaded = images_[kernel.image];
  if (!loaded) {
    requireRunnable(image);
    loaded = std::make_unique<LoadedImage>(file_->segment(image.segment));
  }
  return loaded->kernel(kernel.name);
}

Session::Session(std::shared_ptr<Engine> engine, int program, int threads)
    : engine_(std::move(engine)),
      program_(engine_->file().info().programs.at(program)),
      pool_(threads > 0 ? threads : usableCores()),
      kernels_(engine_->file().info().kernels.size()),
      planner_(program_) {
  for (const Step& step : program_.steps) {
    hostOps_.push_back(nullptr);
    if (step.launch) {
      for (const Variant& v : step.launch->variants)
        if (!kernels_[v.kernel]) kernels_[v.kernel] = engine_->kernel(v.kernel);
    } else if (!(hostOps_.back() = findHostOp(step.host->op))) {
      throw incompatible("host-op", "step \"" + step.name + "\" needs the host operator " + step.host->op + ", which this version lacks")
          .want(step.host->op)
          .advise("build the engine again with this version: nim-build <model>");
    }
  }
}

std::vector<OutputTensor> Session::run(std::span<const InputView> inputs, const std::atomic<bool>& cancel, bool profile) {
  std::lock_guard lock(running_);
  Run run({*engine_, program_, kernels_, hostOps_, pool_, planner_, arena_, scratch_}, inputs);
  std::vector<StepTime> times;
  for (std::size_t s = 0; s < program_.steps.size(); ++s) {
    if (cancel.load(std::memory_order_relaxed)) throw Error("interrupted", "aborted", "the run was aborted");
    const auto start = profile ? std::chrono::steady_clock::now() : std::chrono::steady_clock::time_point();
    run.step(int(s));
    if (profile) times.push_back({int(s), (std::chrono::steady_clock::now() - start) / std::chrono::nanoseconds(1)});
  }
  auto outputs = run.outputs();
  std::lock_guard figures(figures_);
  memory_ = run.memory();
  if (profile) profile_ = std::move(times);
  return outputs;
}

MemoryFigures Session::memory() {
  std::lock_guard lock(figures_);
  return memory_;
}

std::vector<StepTime> Session::profile() {
  std::lock_guard lock(figures_);
  return profile_;
}

}  // namespace nimforge
