#include "devices/cuda/executor.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace nimforge::cuda {
namespace {

constexpr std::int64_t kTensorAlignment = 256;
constexpr std::size_t kKeptGraphs = 64;
constexpr int kShortestGraph = 2;  // launches; a single one is as fast by itself

bool environmentSays(const char* name) {
  const char* value = std::getenv(name);
  return value && *value && std::strcmp(value, "0") != 0;
}

template <typename T>
void append(std::vector<std::byte>& bytes, const T& value) {
  const auto* first = reinterpret_cast<const std::byte*>(&value);
  bytes.insert(bytes.end(), first, first + sizeof value);
}

}  // namespace

CudaExecutor::StreamOwner::~StreamOwner() {
  if (stream) driver().streamDestroy(stream);
}

CudaExecutor::CudaExecutor(CudaEngine& engine, const Program& program)
    : engine_(engine),
      device_(engine.device()),
      d_(driver()),
      program_(program),
      waitAlways_(environmentSays("NIMFORGE_CUDA_SYNC")),
      stream_((check(d_.streamCreate(&owner_.stream, kStreamNonBlocking), "no CUDA stream"), owner_.stream)),
      segmentEnd_(program.steps.size()),
      inputOf_(program.buffers.size(), -1),
      tensorPlace_(program.buffers.size(), -1),
      arena_(device_, stream_),
      inputs_(device_, stream_),
      outputs_(device_, stream_),
      faults_(device_, stream_),
      nowhere_(device_, stream_) {
  const int steps = int(program_.steps.size());
  for (int s = steps - 1, end = steps; s >= 0; --s) {
    if (program_.steps[s].host) end = s;
    segmentEnd_[s] = end;
  }
  for (const Step& step : program_.steps) {
    if (!step.launch) continue;
    for (const Variant& v : step.launch->variants) kernels_[v.kernel] = &engine_.kernel(v.kernel);
    for (int buffer : step.launch->buffers) {
      const Buffer& root = program_.buffers[program_.buffers[buffer].root];
      if (root.kind == BufferKind::constant && root.segment >= 0) constants_[root.segment] = engine_.constants(root.segment);
    }
  }
  for (std::size_t i = 0; i < program_.inputs.size(); ++i) inputOf_[program_.inputs[i].buffer] = int(i);
  for (std::size_t i = 0; i < program_.buffers.size(); ++i)
    if (program_.buffers[i].kind == BufferKind::output && program_.buffers[i].root == int(i)) outputOrder_.push_back(int(i));
  // What is sized later lies later: its size moves nothing.
  std::stable_sort(outputOrder_.begin(), outputOrder_.end(),
                   [&](int a, int b) { return program_.buffers[a].phase < program_.buffers[b].phase; });
  faults_.reserve(std::int64_t(program_.steps.size() * sizeof(NfError)), "error words");
  faultStaging_.reserve(faults_.size(), "error words");
  nowhere_.reserve(kTensorAlignment, "empty values");
}

CudaExecutor::~CudaExecutor() {
  try {
    if (!current_) current_.emplace(device_);
  } catch (const Error&) {  // the process ends and the driver with it
  }
  dropCapture();
  d_.streamSynchronize(stream_);
  for (auto& [key, segment] : segments_)
    if (segment.graph) d_.graphExecDestroy(segment.graph);
  for (Event event : events_) d_.eventDestroy(event);
}

void CudaExecutor::enter() { current_.emplace(device_); }

void CudaExecutor::leave() {
  dropCapture();
  current_.reset();
}

void CudaExecutor::begin(std::shared_ptr<const Plan> plan, std::span<const InputView> inputs) {
  if (pending_) wait();  // an earlier run ended before its end
  views_.clear();
  marks_ = 0;
  replayedUntil_ = -1;
  firstUnchecked_ = 0, lastLaunched_ = -1;
  inputViews_ = inputs;
  extend(std::move(plan));
  pending_ = true;
  check(d_.memsetD8Async(faults_.data(), 0, std::size_t(faults_.size()), stream_), "the error words cannot be cleared");
  std::int64_t bytes = 0;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const std::int64_t place = tensorPlace_[program_.inputs[i].buffer];
    if (inputs[i].bytes > 0) std::memcpy(inputStaging_.data() + place, inputs[i].data, std::size_t(inputs[i].bytes));
    bytes = std::max(bytes, place + inputs[i].bytes);
  }
  if (bytes > 0) check(d_.memcpyHtoDAsync(inputs_.data(), inputStaging_.data(), std::size_t(bytes), stream_), "the inputs cannot be copied to the device");
}

void CudaExecutor::extend(std::shared_ptr<const Plan> plan) {
  plan_ = std::move(plan);
  placeTensors();
  if (arena_.reserve(plan_->memory.arena, "intermediate values", arena_.size())) ++generation_;
}

void CudaExecutor::placeTensors() {
  std::int64_t inputs = 0, outputs = 0;
  for (const TensorInfo& info : program_.inputs) {
    tensorPlace_[info.buffer] = inputs;
    inputs += alignUp(plan_->bytes[info.buffer], kTensorAlignment);
  }
  for (int buffer : outputOrder_) {
    if (plan_->bytes[buffer] < 0) continue;
    tensorPlace_[buffer] = outputs;
    outputs += alignUp(plan_->bytes[buffer], kTensorAlignment);
  }
  inputStaging_.reserve(inputs, "inputs");
  if (inputs_.reserve(inputs, "inputs", inputs_.size())) ++generation_;
  if (outputs_.reserve(outputs, "outputs", outputs_.size())) ++generation_;
}

DevicePointer CudaExecutor::pointer(int buffer) const {
  const Buffer& b = program_.buffers[buffer];
  if (plan_->bytes[buffer] == 0) return nowhere_.data();
  const Buffer& root = program_.buffers[b.root];
  const auto place = DevicePointer(plan_->place[buffer]);
  switch (root.kind) {
    case BufferKind::arena: return arena_.data() + place;
    case BufferKind::input: return inputs_.data() + DevicePointer(tensorPlace_[b.root]) + place;
    case BufferKind::output: return outputs_.data() + DevicePointer(tensorPlace_[b.root]) + place;
    default: return constants_.at(root.segment) + root.segmentOffset + place;
  }
}

// Where the host has the buffer's bytes already; nullptr: only the device has them.
const std::byte* CudaExecutor::hostMemory(int buffer) const {
  const Buffer& b = program_.buffers[buffer];
  if (plan_->bytes[buffer] == 0) return nimforge::nowhere();
  const Buffer& root = program_.buffers[b.root];
  const std::int64_t place = plan_->place[buffer];
  if (root.kind == BufferKind::input) return inputViews_[inputOf_[b.root]].data + place;
  if (root.kind == BufferKind::constant) return engine_.file().segment(root.segment).data() + root.segmentOffset + place;
  return nullptr;
}

void CudaExecutor::launch(int step) {
  pending_ = true;
  if (step < replayedUntil_ || replay(step)) return;
  const bool last = step + 1 == segmentEnd_[step];
  launchNow(step);
  if (captured_ && last) endCapture();
}

// Whether the launches from this step on ran as a graph. Starts to capture them when this is their second run.
bool CudaExecutor::replay(int step) {
  if (captured_ || waitAlways_ || marks_ > 0) return false;
  if (step > 0 && program_.steps[step - 1].launch) return false;
  if (segmentEnd_[step] - step < kShortestGraph) return false;
  Segment& known = segment(step);
  if (known.graph && known.generation == generation_) {
    lastLaunched_ = segmentEnd_[step] - 1;
    if (const Result result = d_.graphLaunch(known.graph, stream_))
      throw failure(result, "the launches from step \"" + program_.steps[step].name + "\" on failed").at(originText(program_.steps[step]));
    replayedUntil_ = segmentEnd_[step];
    return true;
  }
  if (++known.runs >= 2) beginCapture(known);
  return false;
}

CudaExecutor::Segment& CudaExecutor::segment(int step) {
  Segment& found = segments_[{plan_.get(), step}];
  if (!found.plan) {
    found.plan = plan_;  // keeps the address its own
    if (segments_.size() > kKeptGraphs) {
      auto oldest = segments_.end();
      for (auto at = segments_.begin(); at != segments_.end(); ++at)
        if (&at->second != &found && (oldest == segments_.end() || at->second.lastUse < oldest->second.lastUse)) oldest = at;
      if (oldest->second.graph) d_.graphExecDestroy(oldest->second.graph);
      segments_.erase(oldest);
    }
  }
  found.lastUse = ++uses_;
  return found;
}

void CudaExecutor::beginCapture(Segment& segment) {
  check(d_.streamBeginCapture(stream_, kCaptureThreadLocal), "a CUDA graph cannot be captured");
  captured_ = &segment;
}

void CudaExecutor::endCapture() {
  Segment& segment = *captured_;
  captured_ = nullptr;
  Graph graph = nullptr;
  check(d_.streamEndCapture(stream_, &graph), "a CUDA graph cannot be captured");
  if (segment.graph) d_.graphExecDestroy(segment.graph);
  segment.graph = nullptr;
  const Result made = d_.graphInstantiate(&segment.graph, graph, 0);
  d_.graphDestroy(graph);
  if (made != kSuccess) segment.graph = nullptr;
  check(made, "a CUDA graph cannot be made");
  segment.generation = generation_;
  check(d_.graphLaunch(segment.graph, stream_), "a CUDA graph cannot be launched");
}

// A capture that a failed or cancelled run has left open.
void CudaExecutor::dropCapture() {
  if (!captured_) return;
  captured_ = nullptr;
  Graph graph = nullptr;
  if (d_.streamEndCapture(stream_, &graph) == kSuccess && graph) d_.graphDestroy(graph);
}

void CudaExecutor::launchNow(int index) {
  const Step& step = program_.steps[index];
  const BoundLaunch& bound = plan_->launches[index];
  if (bound.items == 0) return;
  const auto fail = [&](Error error) { return error.at(originText(step)); };
  if (bound.items > INT32_MAX)
    throw fail(limit("grid", "step \"" + step.name + "\" has more blocks than a launch can have")
                   .want("at most " + std::to_string(INT32_MAX))
                   .have(std::to_string(bound.items)));
  if (bound.scratch > device_.facts().sharedBytes)
    throw fail(limit("shared-memory", "step \"" + step.name + "\" needs more shared memory than a block of " + device_.name() + " has")
                   .want(std::to_string(bound.scratch) + " bytes")
                   .have(std::to_string(device_.facts().sharedBytes) + " bytes on " + device_.description())
                   .advise("build an engine for this device: nim-build <model> --target " + device_.target()));
  CudaKernel& kernel = *kernels_.at(bound.kernel);
  engine_.allowShared(kernel, bound.scratch);

  // nf::Args of the kernels' device.cuh: buffers, dims (one at least), error.
  arguments_.clear();
  for (int buffer : step.launch->buffers) append(arguments_, pointer(buffer));
  for (NfInt dim : bound.dims) append(arguments_, dim);
  if (bound.dims.empty()) append(arguments_, NfInt(0));
  append(arguments_, faults_.data() + DevicePointer(index) * sizeof(NfError));
  std::size_t size = arguments_.size();
  void* extra[] = {kLaunchBuffer, arguments_.data(), kLaunchBufferSize, &size, kLaunchEnd};
  Result result = d_.launchKernel(kernel.function, unsigned(bound.items), 1, 1, unsigned(kernel.threads), 1, 1, unsigned(bound.scratch),
                                  stream_, nullptr, extra);
  if (result == kSuccess && waitAlways_) result = d_.streamSynchronize(stream_);
  lastLaunched_ = index;
  if (result != kSuccess)
    throw fail(failure(result, "step \"" + step.name + "\" failed on " + device_.description() + " (" + std::to_string(bound.items) + " blocks of " +
                                   std::to_string(kernel.threads) + " threads, " + std::to_string(bound.scratch) + " bytes of shared memory)"));
}

// After a failure the context is lost, for every session of the process.
void CudaExecutor::wait() {
  const Result result = d_.streamSynchronize(stream_);
  pending_ = false;
  if (result == kSuccess) return;
  const auto& steps = program_.steps;
  std::string which = "a copy";
  if (lastLaunched_ >= 0) {
    const std::string &first = steps[firstUnchecked_].name, &last = steps[lastLaunched_].name;
    which = firstUnchecked_ == lastLaunched_ ? "step \"" + first + "\"" : "one of the steps from \"" + first + "\" to \"" + last + "\"";
  }
  throw failure(result, which + " failed on " + device_.description())
      .advise("run again, in a new process, with NIMFORGE_CUDA_SYNC=1 in the environment: it names the step");
}

// Steps that faulted, once their error words are on the host.
void CudaExecutor::checkFaults() {
  const auto* words = reinterpret_cast<const NfError*>(faultStaging_.data());
  for (int s = firstUnchecked_; s <= lastLaunched_; ++s)
    if (program_.steps[s].launch && words[s].code != 0) throw faultError(program_.steps[s], words[s]);
  firstUnchecked_ = lastLaunched_ + 1;
}

CudaExecutor::HostView& CudaExecutor::view(int buffer) {
  const std::size_t index = views_.size();
  const auto [at, isNew] = views_.try_emplace(buffer, HostView{nullptr, false});
  if (isNew) {
    if (hostStaging_.size() <= index) hostStaging_.emplace_back();
    at->second.memory = hostStaging_[index].reserve(plan_->bytes[buffer], "values of host operators");
  }
  return at->second;
}

std::byte* CudaExecutor::hostRead(int buffer) {
  // Nobody writes through this: the operator's inputs.
  if (const std::byte* memory = hostMemory(buffer)) return const_cast<std::byte*>(memory);
  if (const auto known = views_.find(buffer); known != views_.end()) return known->second.memory;
  std::byte* memory = view(buffer).memory;
  check(d_.memcpyDtoHAsync(memory, pointer(buffer), std::size_t(plan_->bytes[buffer]), stream_), "a value cannot be copied to the host");
  check(d_.memcpyDtoHAsync(faultStaging_.data(), faults_.data(), std::size_t(faults_.size()), stream_), "the error words cannot be copied");
  wait();
  checkFaults();
  return memory;
}

std::byte* CudaExecutor::hostWrite(int buffer) {
  if (plan_->bytes[buffer] == 0) return nimforge::nowhere();
  HostView& known = view(buffer);
  known.written = true;
  return known.memory;
}

// Waits, too: the next host step uses the same memory.
void CudaExecutor::hostDone() {
  bool any = false;
  for (const auto& [buffer, known] : views_) {
    if (!known.written) continue;
    any = true;
    check(d_.memcpyHtoDAsync(pointer(buffer), known.memory, std::size_t(plan_->bytes[buffer]), stream_), "a value cannot be copied to the device");
  }
  views_.clear();
  pending_ |= any;
  if (any) wait();
}

std::vector<HostBlock> CudaExecutor::finish() {
  std::vector<HostBlock> out(program_.outputs.size());
  std::vector<std::int64_t> staged(out.size(), -1);
  std::int64_t total = 0;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const int buffer = program_.outputs[i].buffer;
    if (hostMemory(buffer)) continue;
    staged[i] = total;
    total += alignUp(plan_->bytes[buffer], kTensorAlignment);
  }
  outputStaging_.reserve(total, "outputs");
  pending_ = true;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const int buffer = program_.outputs[i].buffer;
    if (staged[i] >= 0)
      check(d_.memcpyDtoHAsync(outputStaging_.data() + staged[i], pointer(buffer), std::size_t(plan_->bytes[buffer]), stream_),
            "an output cannot be copied to the host");
  }
  check(d_.memcpyDtoHAsync(faultStaging_.data(), faults_.data(), std::size_t(faults_.size()), stream_), "the error words cannot be copied");
  wait();
  checkFaults();
  for (std::size_t i = 0; i < out.size(); ++i) {
    const int buffer = program_.outputs[i].buffer;
    const std::byte* from = staged[i] >= 0 ? outputStaging_.data() + staged[i] : hostMemory(buffer);
    std::memcpy(out[i].reserve(plan_->bytes[buffer], "outputs"), from, std::size_t(plan_->bytes[buffer]));
  }
  return out;
}

void CudaExecutor::mark() {
  if (marks_ == events_.size()) {
    Event event = nullptr;
    check(d_.eventCreate(&event, 0), "no CUDA event");
    events_.push_back(event);
  }
  check(d_.eventRecord(events_[marks_++], stream_), "a CUDA event cannot be recorded");
}

std::vector<std::int64_t> CudaExecutor::times() {
  std::vector<std::int64_t> out;
  for (std::size_t i = 1; i < marks_; ++i) {
    float milliseconds = 0;
    check(d_.eventElapsedTime(&milliseconds, events_[i - 1], events_[i]), "a CUDA event has no time");
    out.push_back(std::int64_t(double(milliseconds) * 1e6));
  }
  return out;
}

}  // namespace nimforge::cuda
