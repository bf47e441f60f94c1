#include "session.h"

#include "error.h"
#include "run.h"

namespace nimforge {

LoadedEngine& Engine::on(const std::shared_ptr<Device>& device) {
  std::lock_guard lock(mutex_);
  auto& loaded = loaded_[device];
  if (!loaded) loaded = device->load(*file_);
  return *loaded;
}

Session::Session(std::shared_ptr<Engine> engine, int program, std::shared_ptr<Device> device, int threads)
    : engine_(std::move(engine)),
      device_(std::move(device)),
      program_(engine_->file().info().programs.at(program)),
      executor_(engine_->on(device_).executor(program_, threads)),
      planner_(program_) {
  for (const Step& step : program_.steps) {
    hostOps_.push_back(step.host ? findHostOp(step.host->op) : nullptr);
    if (step.host && !hostOps_.back())
      throw incompatible("host-op", "step \"" + step.name + "\" needs the host operator " + step.host->op + ", which this version lacks")
          .want(step.host->op)
          .advise("build the engine again with this version: nim-build <model>");
  }
}

std::vector<OutputTensor> Session::run(std::span<const InputView> inputs, const std::atomic<bool>& cancel, bool profile) {
  std::lock_guard lock(running_);
  struct Inside {
    explicit Inside(Executor& executor) : executor(executor) { executor.enter(); }
    ~Inside() { executor.leave(); }
    Executor& executor;
  } inside(*executor_);
  Run run({program_, hostOps_, *executor_, planner_}, inputs);
  if (profile) executor_->mark();
  for (std::size_t s = 0; s < program_.steps.size(); ++s) {
    if (cancel.load(std::memory_order_relaxed)) throw Error("interrupted", "aborted", "the run was aborted");
    run.step(int(s));
    if (profile) executor_->mark();
  }
  auto outputs = run.outputs();
  std::lock_guard figures(figures_);
  memory_ = run.memory();
  if (profile) {
    profile_.clear();
    for (const std::int64_t time : executor_->times()) profile_.push_back({int(profile_.size()), time});
  }
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
