// One run of a program: its storage, its plan so far, and how a step is executed.
#pragma once
#include <memory>
#include <span>
#include <vector>

#include "session.h"

namespace nimforge {

// What a session lends to a run.
struct RunResources {
  const Engine& engine;
  const Program& program;
  const std::vector<NfKernel>& kernels;
  const std::vector<HostOp>& hostOps;
  ThreadPool& pool;
  Planner& planner;
  Block &arena, &scratch;
};

class Run {
 public:
  // Checks the inputs and plans up to the first data-dependent size.
  Run(RunResources resources, std::span<const InputView> inputs);
  void step(int index);
  std::vector<OutputTensor> outputs();
  const MemoryFigures& memory() const { return plan_->memory; }

 private:
  class StepContext;
  std::vector<Value> bind() const;
  void checkInputSizes() const;
  void adopt(std::shared_ptr<const Plan> plan);
  std::byte* pointer(int buffer) const;
  void launch(int index);

  RunResources use_;
  std::span<const InputView> inputs_;
  std::shared_ptr<const Plan> plan_;
  std::vector<const std::byte*> inputStorage_;  // of each buffer
  std::vector<Block> outputStorage_;            // of each buffer
  std::vector<void*> arguments_;
};

}  // namespace nimforge
