// What programs run on. A Device says what it runs and how well; an engine loaded on it (code and constants) is shared by
// sessions; each session has an Executor: memory and launches, in the order of the calls.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine_file.h"
#include "error.h"
#include "memory.h"
#include "plan.h"

namespace nimforge {

struct InputView {
  DType dtype;
  std::vector<std::int64_t> shape;
  const std::byte* data;
  std::int64_t bytes;
};

// The methods are called on one thread at a time, between `enter` and `leave`.
class Executor {
 public:
  virtual ~Executor() = default;
  virtual void enter() {}
  virtual void leave() {}

  // A run begins. The inputs' memory is the caller's and stays as it is until the run's end.
  virtual void begin(std::shared_ptr<const Plan> plan, std::span<const InputView> inputs) = 0;
  // The plan of the run's next phase: memory for what it places; what is live keeps its contents.
  virtual void extend(std::shared_ptr<const Plan> plan) = 0;
  virtual void launch(int step) = 0;
  // Host memory with a buffer's bytes as they are now, or to be written. Good until `hostDone`; after `extend`, ask again.
  virtual std::byte* hostRead(int buffer) = 0;
  virtual std::byte* hostWrite(int buffer) = 0;
  virtual void hostDone() {}
  // The end of a run: waits for it; one block for each output of the program, of at least its bytes.
  virtual std::vector<HostBlock> finish() = 0;

  // A point in time of the run; `times`, after `finish`: nanoseconds between one mark and the next.
  virtual void mark() = 0;
  virtual std::vector<std::int64_t> times() = 0;
  // Workers that a launch is split among.
  virtual int threads() const = 0;
};

// An engine's code and constants on a device. The file outlives it.
class LoadedEngine {
 public:
  virtual ~LoadedEngine() = default;
  // threads <= 0: one for each usable core, where launches run on cores. `program` outlives the executor.
  virtual std::unique_ptr<Executor> executor(const Program& program, int threads) = 0;
};

// How well a device runs a program: the higher score wins; 0: not at all, and why.
struct Fit {
  int score = 0;
  std::optional<Error> refusal;
};

class Device {
 public:
  virtual ~Device() = default;
  // What `device` options say: "cpu", "cuda:0".
  virtual const std::string& name() const = 0;
  // For errors: its name, kind and best target.
  virtual std::string description() const = 0;
  // The best target that `nim-build --target` can build for it; empty when there is none.
  virtual std::string target() const = 0;
  // Whether it is of the family that runs the target, well or not.
  virtual bool knows(const std::string& target) const = 0;
  virtual Fit fit(const EngineFile& file, const Program& program) const = 0;
  // Throws incompatible, limit.
  virtual std::unique_ptr<LoadedEngine> load(const EngineFile& file) = 0;
};

// The program's own target or, in engines that do not say, that of its kernels; empty: it has no launches.
std::string targetOf(const EngineInfo& info, const Program& program);
bool isEmulated(const std::string& target);
// Why this version cannot call the image's kernels, if so.
std::optional<Error> abiRefusal(const Image& image);

// Where a value of no bytes lies on the host.
std::byte* nowhere();

// The error that a launch's error word says.
Error faultError(const Step& step, const NfError& error);
std::string originText(const Step& step);

}  // namespace nimforge
