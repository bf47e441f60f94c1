// One run of a program: its plan so far, the checks of its inputs, and how a step is executed.
#pragma once
#include <memory>
#include <span>
#include <vector>

#include "session.h"

namespace nimforge {

// What a session lends to a run.
struct RunResources {
  const Program& program;
  const std::vector<HostOp>& hostOps;
  Executor& executor;
  Planner& planner;
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

  RunResources use_;
  std::span<const InputView> inputs_;
  std::shared_ptr<const Plan> plan_;
};

}  // namespace nimforge
