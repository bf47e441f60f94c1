// Runs one program of an engine on a device: binds sizes from the inputs, plans, and walks the steps. One run at a time;
// callers on other threads wait.
#pragma once
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "devices/device.h"
#include "engine_file.h"
#include "host/registry.h"
#include "memory.h"
#include "plan.h"

namespace nimforge {

// A verified file and, for each device that a session has run it on, its code and constants there.
class Engine {
 public:
  explicit Engine(std::shared_ptr<EngineFile> file) : file_(std::move(file)) {}
  const EngineFile& file() const { return *file_; }
  // Loads on first use; throws incompatible when the device cannot run it.
  LoadedEngine& on(const std::shared_ptr<Device>& device);

 private:
  std::shared_ptr<EngineFile> file_;
  std::mutex mutex_;
  std::map<std::shared_ptr<Device>, std::unique_ptr<LoadedEngine>> loaded_;
};

struct OutputTensor {
  DType dtype;
  std::vector<std::int64_t> shape;
  std::int64_t bytes;
  HostBlock storage;
};

struct StepTime {
  int step;
  std::int64_t nanoseconds;
};

class Session {
 public:
  // threads <= 0: one for each usable core.
  Session(std::shared_ptr<Engine> engine, int program, std::shared_ptr<Device> device, int threads);

  const Program& program() const { return program_; }
  const Device& device() const { return *device_; }
  int threads() const { return executor_->threads(); }
  // Inputs in the program's order. Checked before each step: `cancel` ends the run with an interrupted error.
  std::vector<OutputTensor> run(std::span<const InputView> inputs, const std::atomic<bool>& cancel, bool profile);
  // Of the last run that got so far.
  MemoryFigures memory();
  std::vector<StepTime> profile();

 private:
  std::shared_ptr<Engine> engine_;
  std::shared_ptr<Device> device_;
  const Program& program_;
  std::unique_ptr<Executor> executor_;
  std::vector<HostOp> hostOps_;  // of each step
  std::mutex running_, figures_;
  Planner planner_;
  MemoryFigures memory_;
  std::vector<StepTime> profile_;
};

}  // namespace nimforge
