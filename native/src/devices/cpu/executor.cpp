#include "devices/cpu/executor.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "../emulator/emulator.h"

namespace nimforge {

CpuExecutor::CpuExecutor(const EngineFile& file, const Program& program, std::vector<CpuKernel> kernels, int threads)
    : file_(file),
      program_(program),
      kernels_(std::move(kernels)),
      emulated_(std::any_of(kernels_.begin(), kernels_.end(), [](const CpuKernel& kernel) { return kernel.emulated; })),
      pool_(threads),
      inputStorage_(program.buffers.size()),
      outputStorage_(program.buffers.size()) {}

void CpuExecutor::begin(std::shared_ptr<const Plan> plan, std::span<const InputView> inputs) {
  marks_.clear();
  extend(std::move(plan));
  for (std::size_t i = 0; i < inputs.size(); ++i)
    inputStorage_[program_.inputs[i].buffer] = inputs[i].bytes > 0 ? aligned(inputs[i], i) : nowhere();
}

// Kernels of a GPU rely on the alignment of its allocations; the caller's memory may have none.
const std::byte* CpuExecutor::aligned(const InputView& input, std::size_t index) {
  if (!emulated_ || reinterpret_cast<std::uintptr_t>(input.data) % kAlignment == 0) return input.data;
  alignedInputs_.resize(std::max(alignedInputs_.size(), index + 1));
  return static_cast<std::byte*>(std::memcpy(alignedInputs_[index].reserve(input.bytes, "inputs"), input.data, input.bytes));
}

void CpuExecutor::extend(std::shared_ptr<const Plan> plan) {
  plan_ = std::move(plan);
  arena_.reserve(plan_->memory.arena, "intermediate values", arena_.size());
  scratch_.reserve(alignUp(plan_->memory.scratch, kAlignment) * pool_.threads(), "scratch memory");
  for (std::size_t i = 0; i < program_.buffers.size(); ++i)
    if (program_.buffers[i].kind == BufferKind::output && program_.buffers[i].root == int(i) && plan_->bytes[i] >= 0)
      outputStorage_[i].reserve(plan_->bytes[i], "outputs");
}

std::byte* CpuExecutor::pointer(int buffer) const {
  const Buffer& b = program_.buffers[buffer];
  if (plan_->bytes[buffer] == 0) return nowhere();
  const Buffer& root = program_.buffers[b.root];
  const std::int64_t place = plan_->place[buffer];
  switch (root.kind) {
    case BufferKind::arena: return arena_.data() + place;
    case BufferKind::input: return const_cast<std::byte*>(inputStorage_[b.root]) + place;
    case BufferKind::output: return outputStorage_[b.root].data() + place;
    default: return const_cast<std::byte*>(file_.segment(root.segment).data()) + root.segmentOffset + place;
  }
}

namespace {

struct LaunchCall {
  const CpuKernel& kernel;
  NfLaunch arguments;
  std::byte* scratch;
  std::int64_t scratchStride;
  // Of the first part that failed.
  std::atomic<int> status{0};
  std::string& fault;
};

void runPart(void* context, std::int64_t begin, std::int64_t end, int thread) {
  auto& call = *static_cast<LaunchCall*>(context);
  NfLaunch part = call.arguments;
  part.begin = begin;
  part.end = end;
  part.thread = thread;
  part.scratch = call.scratch + call.scratchStride * thread;
  const int status = call.kernel.entry(&part);
  if (status == 0) return;
  int none = 0;
  if (call.status.compare_exchange_strong(none, status) && call.kernel.emulated) call.fault = lastEmulatorFault();
}

Error kernelError(const Step& step, const CpuKernel& kernel, int status, const std::string& fault) {
  const std::string where = "the kernel of step \"" + step.name + "\"";
  if (kernel.emulated) return Error("internal", "emulator-fault", "internal: " + where + " was stopped by the GPU emulator: " + fault).at(originText(step));
  return Error("internal", "kernel-failed", "internal: " + where + " returned " + std::to_string(status)).at(originText(step));
}

}  // namespace

void CpuExecutor::launch(int index) {
  const Step& step = program_.steps[index];
  const BoundLaunch& bound = plan_->launches[index];
  if (bound.items == 0) return;
  arguments_.clear();
  for (int buffer : step.launch->buffers) arguments_.push_back(pointer(buffer));
  const CpuKernel& kernel = kernels_[bound.kernel];
  NfError error{};
  NfEmulator emulated;
  LaunchCall call{kernel, {}, scratch_.data(), alignUp(bound.scratch, kAlignment), {}, fault_};
  call.arguments.buffers = arguments_.data();
  call.arguments.dims = bound.dims.data();
  call.arguments.threads = pool_.threads();
  call.arguments.error = &error;
  call.arguments.scratchBytes = bound.scratch;
  if (kernel.emulated) emulated = emulatorFor(bound.items), call.arguments.emulator = &emulated;
  pool_.run(bound.items, bound.grain, runPart, &call);
  if (error.code != 0) throw faultError(step, error);
  if (const int status = call.status.load()) throw kernelError(step, kernel, status, fault_);
}

std::vector<HostBlock> CpuExecutor::finish() {
  // Copies (views, constants, a buffer that is two outputs) first: handing storage over ends its use.
  std::vector<HostBlock> out(program_.outputs.size());
  std::vector<bool> handed(program_.buffers.size());
  std::vector<std::size_t> own;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const int buffer = program_.outputs[i].buffer;
    const bool storage = program_.buffers[buffer].kind == BufferKind::output && program_.buffers[buffer].root == buffer;
    if (storage && !handed[buffer]) {
      handed[buffer] = true;
      own.push_back(i);
      continue;
    }
    const std::int64_t bytes = plan_->bytes[buffer];
    std::memcpy(out[i].reserve(bytes, "outputs"), pointer(buffer), bytes);
  }
  for (std::size_t i : own) out[i] = std::move(outputStorage_[program_.outputs[i].buffer]);
  return out;
}

std::vector<std::int64_t> CpuExecutor::times() {
  std::vector<std::int64_t> out;
  for (std::size_t i = 1; i < marks_.size(); ++i) out.push_back((marks_[i] - marks_[i - 1]) / std::chrono::nanoseconds(1));
  return out;
}

}  // namespace nimforge
