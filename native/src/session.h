// Runs one program of an engine: binds sizes from the inputs, plans, and walks the steps. One run at a time; callers on
// other threads wait.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "devices/cpu/image_loader.h"
#include "devices/cpu/thread_pool.h"
#include "engine_file.h"
#include "host/registry.h"
#include "memory.h"
#include "plan.h"

namespace nimforge {

// A verified file and the images of it that are loaded.
class Engine {
 public:
  explicit Engine(std::shared_ptr<EngineFile> file) : file_(std::move(file)), images_(file_->info().images.size()) {}
  const EngineFile& file() const { return *file_; }
  // Loads the image on first use; throws incompatible when this machine cannot run it.
  NfKernel kernel(int index);

 private:
  std::shared_ptr<EngineFile> file_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<LoadedImage>> images_;
};

struct InputView {
  DType dtype;
  std::vector<std::int64_t> shape;
  const std::byte* data;
  std::int64_t bytes;
};

struct OutputTensor {
  DType dtype;
  std::vector<std::int64_t> shape;
  std::int64_t bytes;
  Block storage;
};

struct StepTime {
  int step;
  std::int64_t nanoseconds;
};

class Session {
 public:
  // threads <= 0: one for each usable core.
  Session(std::shared_ptr<Engine> engine, int program, int threads);

  const Program& program() const { return program_; }
  int threads() const { return pool_.threads(); }
  // Inputs in the program's order. Checked before each step: `cancel` ends the run with an interrupted error.
  std::vector<OutputTensor> run(std::span<const InputView> inputs, const std::atomic<bool>& cancel, bool profile);
  // Of the last run that got so far.
  MemoryFigures memory();
  std::vector<StepTime> profile();

 private:
  std::shared_ptr<Engine> engine_;
  const Program& program_;
  ThreadPool pool_;
  std::vector<NfKernel> kernels_;   // of each kernel that the program uses
  std::vector<HostOp> hostOps_;     // of each step
  std::mutex running_, figures_;
  Planner planner_;
  Block arena_, scratch_;
  MemoryFigures memory_;
  std::vector<StepTime> profile_;
};

}  // namespace nimforge
