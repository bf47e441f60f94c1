#include "run.h"

#include <algorithm>

#include "error.h"

namespace nimforge {
namespace {

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

}  // namespace

Run::Run(RunResources resources, std::span<const InputView> inputs) : use_(resources), inputs_(inputs) {
  plan_ = use_.planner.begin(bind());
  checkInputSizes();
  use_.executor.begin(plan_, inputs_);
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

// A host operator's view of its step.
class Run::StepContext : public HostContext {
 public:
  StepContext(Run& run, int index) : run_(run), index_(index), call_(*run.use_.program.steps[index].host) {
    for (std::size_t i = 0; i < call_.inputs.size(); ++i) inputs_.push_back(view(call_.inputs[i], call_.shapes[i], &Executor::hostRead));
  }

  const std::string& attributes() const override { return call_.attributes; }
  const std::vector<HostTensor>& inputs() const override { return inputs_; }

  void define(std::span<const std::int64_t> values) override {
    if (std::any_of(values.begin(), values.end(), [](std::int64_t v) { return v < 0; }))
      throw Error("internal", "negative-size", "internal: host operator " + call_.op + " defines a negative size");
    run_.plan_ = run_.use_.planner.extend(*run_.plan_, index_, values);
    run_.use_.executor.extend(run_.plan_);
    defined_ = true;
    // Growing the arena may have moved what is in it.
    for (std::size_t i = 0; i < inputs_.size(); ++i)
      if (inputs_[i].data) inputs_[i].data = run_.use_.executor.hostRead(call_.inputs[i]);
  }

  const std::vector<HostTensor>& outputs() override {
    if (!defined_ && !call_.defines.empty())
      throw Error("internal", "host-op", "internal: host operator " + call_.op + " asks for outputs before it defines their sizes");
    if (outputs_.empty())
      for (std::size_t i = 0; i < call_.outputs.size(); ++i)
        outputs_.push_back(view(call_.outputs[i], call_.shapes[call_.inputs.size() + i], &Executor::hostWrite));
    return outputs_;
  }

  bool complete() const { return defined_ || call_.defines.empty(); }

 private:
  HostTensor view(int buffer, const std::vector<int>& shape, std::byte* (Executor::*memory)(int)) const {
    if (buffer < 0) return {nullptr, DType::none, {}, 0};
    const Program& p = run_.use_.program;
    HostTensor tensor{nullptr, p.buffers[buffer].dtype, run_.plan_->shape(p, shape), run_.plan_->bytes[buffer]};
    if (tensorBytes(tensor.dtype, tensor.shape) != tensor.bytes)
      throw malformed("engine-size", "buffer \"" + p.buffers[buffer].name + "\" has another size than its shape says");
    tensor.data = (run_.use_.executor.*memory)(buffer);
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
  if (step.launch) return use_.executor.launch(index);
  StepContext context(*this, index);
  use_.hostOps[index](context);
  use_.executor.hostDone();
  if (!context.complete())
    throw malformed("host-op", "step \"" + step.name + "\": operator " + step.host->op + " defines no symbols");
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
  auto blocks = use_.executor.finish();
  for (std::size_t i = 0; i < out.size(); ++i) out[i].storage = std::move(blocks[i]);
  return out;
}

}  // namespace nimforge
