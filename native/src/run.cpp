#include "run.h"

#include <algorithm>
#include <cstring>

#include "error.h"

namespace nimforge {
namespace {

// Where a value of no bytes lies.
alignas(64) std::byte nowhere[64];

std::string shapeText(const std::vector<std::int64_t>& shape) {
  std::string out = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) out += (i ? ", " : "") + std::to_string(shape[i]);
  return out + "]";
}

std::string shapeText(const Program& program, const TensorInfo& info) {
  std::string out = "[";
  for (std::size_t i = 0; i < info.shape.size(); ++i) out += (i ? ", " : "") + program.text(info.shape[i]);
  return out + "]";
}

std::string typeText(const Program& program, const TensorInfo& info) {
  return std::string(dtypeName(info.dtype)) + shapeText(program, info);
}

// Elements times bytes of each; -1 when it does not fit or a size is negative.
std::int64_t tensorBytes(DType dtype, const std::vector<std::int64_t>& shape) {
  std::int64_t bytes = elementBytes(dtype);
  bool bad = false;
  for (std::int64_t size : shape) bad |= size < 0 || __builtin_mul_overflow(bytes, size, &bytes);
  return bad && std::find(shape.begin(), shape.end(), 0) == shape.end() ? -1 : bad ? 0 : bytes;
}

std::string originText(const Step& step) {
  std::string out;
  for (const auto& node : step.origin) out += (out.empty() ? "" : ", ") + node;
  return out;
}

Error faultError(const Step& step, const NfError& error) {
  const auto& faults = step.launch->faults;
  const bool named = error.operand >= 0 && std::size_t(error.operand) < faults.size();
  const std::string where = named ? faults[error.operand] : "step \"" + step.name + "\": value";
  const std::string value = std::to_string(error.value);
  switch (error.code) {
    case 1: return malformed("index-out-of-range", where + " " + value + " is out of range").have(value).at(originText(step));
    case 2: return malformed("division-by-zero", where + ": division by zero").at(originText(step));
    default: return malformed("kernel-fault", where + " " + value + " is not allowed").have(value).at(originText(step));
  }
}

}  // namespace

Run::Run(RunResources resources, std::span<const InputView> inputs) : use_(resources), inputs_(inputs) {
  inputStorage_.resize(use_.program.buffers.size());
  outputStorage_.resize(use_.program.buffers.size());
  auto plan = use_.planner.begin(bind());
  plan_ = plan;
  checkInputSizes();
  adopt(std::move(plan));
  for (std::size_t i = 0; i < inputs_.size(); ++i)
    inputStorage_[use_.program.inputs[i].buffer] = inputs_[i].bytes > 0 ? inputs_[i].data : nowhere;
}

// Symbols from the inputs' axes, after the checks that need no sizes.
std::vector<Value> Run::bind() const {
  const Program& p = use_.program;
  if (inputs_.size() != p.inputs.size())
    throw usage("input-count", "wrong number of inputs").want(std::to_string(p.inputs.size())).have(std::to_string(inputs_.size()));
  std::vector<Value> symbols(p.symbols.size());
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    const TensorInfo& info = p.inputs[i];
    const InputView& input = inputs_[i];
    if (input.dtype != info.dtype)
      throw usage("input-dtype", "input \"" + info.name + "\" has the wrong dtype").want(dtypeName(info.dtype)).have(dtypeName(input.dtype));
    if (input.shape.size() != info.shape.size())
      throw usage("input-rank", "input \"" + info.name + "\" has the wrong number of axes")
          .want(typeText(p, info))
          .have(std::string(dtypeName(input.dtype)) + shapeText(input.shape));
    const std::int64_t bytes = tensorBytes(input.dtype, input.shape);
    if (bytes != input.bytes)
      throw usage("input-length", "input \"" + info.name + "\": the data do not fit the shape " + shapeText(input.shape))
          .want(bytes < 0 ? "sizes that are not negative" : std::to_string(bytes) + " bytes")
          .have(std::to_string(input.bytes) + " bytes");
  }
  for (std::size_t s = 0; s < p.symbols.size(); ++s)
    if (p.symbols[s].input >= 0) symbols[s] = {inputs_[p.symbols[s].input].shape[p.symbols[s].axis], Fault::none};
  return symbols;
}

void Run::checkInputSizes() const {
  const Program& p = use_.program;
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    const TensorInfo& info = p.inputs[i];
    for (std::size_t axis = 0; axis < info.shape.size(); ++axis) {
      const std::int64_t expected = plan_->size(p, info.shape[axis]), found = inputs_[i].shape[axis];
      if (expected == found) continue;
      const std::string written = p.text(info.shape[axis]), number = std::to_string(expected);
      throw usage("input-shape", "input \"" + info.name + "\", axis " + std::to_string(axis) + " has the wrong size")
          .want((written == number ? number : written + " = " + number) + " of " + typeText(p, info))
          .have(std::to_string(found) + " of " + shapeText(inputs_[i].shape));
    }
    if (plan_->bytes[info.buffer] != inputs_[i].bytes)
      throw malformed("engine-size", "input \"" + info.name + "\" has another size in the engine than its shape says");
  }
}

// Memory for what the plan has placed; what is live keeps its contents.
void Run::adopt(std::shared_ptr<const Plan> plan) {
  const Program& p = use_.program;
  plan_ = std::move(plan);
  use_.arena.reserve(plan_->memory.arena, "intermediate values", use_.arena.size());
  use_.scratch.reserve(alignUp(plan_->memory.scratch, kAlignment) * use_.pool.threads(), "scratch memory");
  for (std::size_t i = 0; i < p.buffers.size(); ++i)
    if (p.buffers[i].kind == BufferKind::output && p.buffers[i].root == int(i) && plan_->bytes[i] >= 0)
      outputStorage_[i].reserve(plan_->bytes[i], "outputs");
}

std::byte* Run::pointer(int buffer) const {
  const Buffer& b = use_.program.buffers[buffer];
  if (plan_->bytes[buffer] == 0) return nowhere;
  const Buffer& root = use_.program.buffers[b.root];
  const std::int64_t place = plan_->place[buffer];
  switch (root.kind) {
    case BufferKind::arena: return use_.arena.data() + place;
    case BufferKind::input: return const_cast<std::byte*>(inputStorage_[b.root]) + place;
    case BufferKind::output: return outputStorage_[b.root].data() + place;
    default: return const_cast<std::byte*>(use_.engine.file().segment(root.segment).data()) + root.segmentOffset + place;
  }
}

// A host operator's view of its step.
class Run::StepContext : public HostContext {
 public:
  StepContext(Run& run, int index) : run_(run), index_(index), call_(*run.use_.program.steps[index].host) {
    for (std::size_t i = 0; i < call_.inputs.size(); ++i) inputs_.push_back(view(call_.inputs[i], call_.shapes[i]));
  }

  const std::string& attributes() const override { return call_.attributes; }
  const std::vector<HostTensor>& inputs() const override { return inputs_; }

  void define(std::span<const std::int64_t> values) override {
    if (std::any_of(values.begin(), values.end(), [](std::int64_t v) { return v < 0; }))
      throw Error("internal", "negative-size", "internal: host operator " + call_.op + " defines a negative size");
    run_.adopt(run_.use_.planner.extend(*run_.plan_, index_, values));
    defined_ = true;
    // Growing the arena may have moved what is in it.
    for (std::size_t i = 0; i < inputs_.size(); ++i)
      if (inputs_[i].data) inputs_[i].data = run_.pointer(call_.inputs[i]);
  }

  const std::vector<HostTensor>& outputs() override {
    if (!defined_ && !call_.defines.empty())
      throw Error("internal", "host-op", "internal: host operator " + call_.op + " asks for outputs before it defines their sizes");
    if (outputs_.empty())
      for (std::size_t i = 0; i < call_.outputs.size(); ++i)
        outputs_.push_back(view(call_.outputs[i], call_.shapes[call_.inputs.size() + i]));
    return outputs_;
  }

  bool complete() const { return defined_ || call_.defines.empty(); }

 private:
  HostTensor view(int buffer, const std::vector<int>& shape) const {
    if (buffer < 0) return {nullptr, DType::none, {}, 0};
    const Program& p = run_.use_.program;
    HostTensor tensor{run_.pointer(buffer), p.buffers[buffer].dtype, run_.plan_->shape(p, shape), run_.plan_->bytes[buffer]};
    if (tensorBytes(tensor.dtype, tensor.shape) != tensor.bytes)
      throw malformed("engine-size", "buffer \"" + p.buffers[buffer].name + "\" has another size than its shape says");
    return tensor;
  }

  Run& run_;
  const int index_;
  const HostCall& call_;
  std::vector<HostTensor> inputs_, outputs_;
  bool defined_ = false;
};

void Run::step(int index) {
  const Step& step = use_.program.steps[index];
  if (step.launch) return launch(index);
  StepContext context(*this, index);
  use_.hostOps[index](context);
  if (!context.complete())
    throw malformed("host-op", "step \"" + step.name + "\": operator " + step.host->op + " defines no symbols");
}

namespace {

struct LaunchCall {
  NfKernel kernel;
  NfLaunch arguments;
  std::byte* scratch;
  std::int64_t scratchStride;
  std::atomic<int> status{0};
};

void runPart(void* context, std::int64_t begin, std::int64_t end, int thread) {
  auto& call = *static_cast<LaunchCall*>(context);
  NfLaunch part = call.arguments;
  part.begin = begin;
  part.end = end;
  part.thread = thread;
  part.scratch = call.scratch + call.scratchStride * thread;
  if (const int status = call.kernel(&part)) call.status.store(status, std::memory_order_relaxed);
}

}  // namespace

void Run::launch(int index) {
  const Step& step = use_.program.steps[index];
  const BoundLaunch& bound = plan_->launches[index];
  if (bound.items == 0) return;
  arguments_.clear();
  for (int buffer : step.launch->buffers) arguments_.push_back(pointer(buffer));
  NfError error{};
  LaunchCall call{use_.kernels[bound.kernel], {}, use_.scratch.data(), alignUp(bound.scratch, kAlignment), {}};
  call.arguments.buffers = arguments_.data();
  call.arguments.dims = bound.dims.data();
  call.arguments.threads = use_.pool.threads();
  call.arguments.error = &error;
  use_.pool.run(bound.items, bound.grain, runPart, &call);
  if (error.code != 0) throw faultError(step, error);
  if (const int status = call.status.load())
    throw Error("internal", "kernel-failed", "internal: the kernel of step \"" + step.name + "\" returned " + std::to_string(status))
        .at(originText(step));
}

std::vector<OutputTensor> Run::outputs() {
  const Program& p = use_.program;
  std::vector<OutputTensor> out;
  for (const TensorInfo& info : p.outputs) {
    OutputTensor tensor{info.dtype, plan_->shape(p, info.shape), plan_->bytes[info.buffer], {}};
    if (tensorBytes(info.dtype, tensor.shape) != tensor.bytes)
      throw malformed("engine-size", "output \"" + info.name + "\" has another size in the engine than its shape says");
    out.push_back(std::move(tensor));
  }
  // Copies (views, constants, a buffer that is two outputs) first: handing storage over ends its use.
  std::vector<bool> handed(p.buffers.size());
  std::vector<std::size_t> own;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const int buffer = p.outputs[i].buffer;
    const bool storage = p.buffers[buffer].kind == BufferKind::output && p.buffers[buffer].root == buffer;
    if (storage && !handed[buffer]) {
      handed[buffer] = true;
      own.push_back(i);
      continue;
    }
    std::memcpy(out[i].storage.reserve(out[i].bytes, "outputs"), pointer(buffer), out[i].bytes);
  }
  for (std::size_t i : own) out[i].storage = std::move(outputStorage_[p.outputs[i].buffer]);
  return out;
}

}  // namespace nimforge
