// Runs launches on a pool of threads. Inputs are read where the caller has them, constants where the file is mapped, and
// outputs are handed over: nothing is copied.
#pragma once
#include <chrono>
#include <vector>

#include "devices/cpu/thread_pool.h"
#include "devices/device.h"

namespace nimforge {

// A kernel of a loaded image, and whether it is to run on the GPU emulator.
struct CpuKernel {
  NfKernel entry = nullptr;
  bool emulated = false;
};

class CpuExecutor : public Executor {
 public:
  // `kernels`: by their index in the engine, those that the program uses.
  CpuExecutor(const EngineFile& file, const Program& program, std::vector<CpuKernel> kernels, int threads);

  void begin(std::shared_ptr<const Plan> plan, std::span<const InputView> inputs) override;
  void extend(std::shared_ptr<const Plan> plan) override;
  void launch(int step) override;
  std::byte* hostRead(int buffer) override { return pointer(buffer); }
  std::byte* hostWrite(int buffer) override { return pointer(buffer); }
  std::vector<HostBlock> finish() override;
  void mark() override { marks_.push_back(std::chrono::steady_clock::now()); }
  std::vector<std::int64_t> times() override;
  int threads() const override { return pool_.threads(); }

 private:
  std::byte* pointer(int buffer) const;
  const std::byte* aligned(const InputView& input, std::size_t index);

  const EngineFile& file_;
  const Program& program_;
  const std::vector<CpuKernel> kernels_;
  const bool emulated_;
  ThreadPool pool_;
  std::shared_ptr<const Plan> plan_;
  HostBlock arena_, scratch_;
  std::vector<const std::byte*> inputStorage_;  // of each buffer
  std::vector<HostBlock> outputStorage_;        // of each buffer
  std::vector<HostBlock> alignedInputs_;        // of each input that had to be copied
  std::vector<void*> arguments_;
  std::string fault_;  // what the emulator said of the launch that failed
  std::vector<std::chrono::steady_clock::time_point> marks_;
};

}  // namespace nimforge
