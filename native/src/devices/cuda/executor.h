// Runs launches on a stream of its own. Inputs and outputs pass through pinned memory and stay at fixed places on the
// device, so that for shapes that come again the launches between two host steps are replayed as one CUDA graph.
#pragma once
#include <map>
#include <optional>
#include <vector>

#include "devices/cuda/engine.h"
#include "devices/cuda/memory.h"

namespace nimforge::cuda {

class CudaExecutor : public Executor {
 public:
  // The context is current.
  CudaExecutor(CudaEngine& engine, const Program& program);
  ~CudaExecutor() override;

  void enter() override;
  void leave() override;
  void begin(std::shared_ptr<const Plan> plan, std::span<const InputView> inputs) override;
  void extend(std::shared_ptr<const Plan> plan) override;
  void launch(int step) override;
  std::byte* hostRead(int buffer) override;
  std::byte* hostWrite(int buffer) override;
  void hostDone() override;
  std::vector<HostBlock> finish() override;
  void mark() override;
  std::vector<std::int64_t> times() override;
  int threads() const override { return 1; }

 private:
  struct StreamOwner {
    ~StreamOwner();
    Stream stream = nullptr;
  };
  // The launches from one step up to the next host step, for one plan.
  struct Segment {
    std::shared_ptr<const Plan> plan;
    int runs = 0;
    std::int64_t generation = -1;  // of the addresses that the graph holds
    std::int64_t lastUse = 0;
    GraphExec graph = nullptr;
  };
  struct HostView {
    std::byte* memory;
    bool written;
  };

  void placeTensors();
  DevicePointer pointer(int buffer) const;
  const std::byte* hostMemory(int buffer) const;
  HostView& view(int buffer);
  void launchNow(int step);
  bool replay(int step);
  void beginCapture(Segment& segment);
  void endCapture();
  void dropCapture();
  Segment& segment(int step);
  void wait();
  void checkFaults();

  std::optional<CudaDevice::Current> current_;  // first: the others are given back in the context
  CudaEngine& engine_;
  CudaDevice& device_;
  const Driver& d_;
  const Program& program_;
  const bool waitAlways_;
  StreamOwner owner_;
  const Stream stream_;

  std::map<int, CudaKernel*> kernels_;       // by index in the engine
  std::map<int, DevicePointer> constants_;   // by segment
  std::vector<int> segmentEnd_;              // of each launch: the step after the launches that follow it
  std::vector<int> outputOrder_;             // output buffers as they lie in outputs_
  std::shared_ptr<const Plan> plan_;
  std::span<const InputView> inputViews_;
  std::vector<int> inputOf_;                 // of each buffer: the program's input; -1
  std::vector<std::int64_t> tensorPlace_;    // of each input or output buffer: its place in inputs_ or outputs_
  DeviceBlock arena_, inputs_, outputs_, faults_, nowhere_;
  PinnedBlock inputStaging_, outputStaging_, faultStaging_;
  std::vector<PinnedBlock> hostStaging_;
  std::map<int, HostView> views_;            // of the host step in progress
  std::vector<std::byte> arguments_;
  std::int64_t generation_ = 0, uses_ = 0;
  bool pending_ = false;                     // the stream may still use the staging memory
  int firstUnchecked_ = 0, lastLaunched_ = -1;

  std::map<std::pair<const Plan*, int>, Segment> segments_;
  Segment* captured_ = nullptr;              // being captured
  int replayedUntil_ = -1;                   // steps before it ran in a graph
  std::vector<Event> events_;
  std::size_t marks_ = 0;
};

}  // namespace nimforge::cuda
