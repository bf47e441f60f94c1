#include "program.h"

#include <algorithm>

#include "error.h"

namespace nimforge {
namespace {

std::string text(const flatbuffers::String* s) { return s ? s->str() : std::string(); }

template <typename T>
std::vector<int> ints(const T* vector) {
  return vector ? std::vector<int>(vector->begin(), vector->end()) : std::vector<int>();
}

std::vector<std::string> texts(const flatbuffers::Vector<flatbuffers::Offset<flatbuffers::String>>* vector) {
  std::vector<std::string> out;
  for (unsigned i = 0; vector && i < vector->size(); ++i) out.push_back(vector->Get(i)->str());
  return out;
}

[[noreturn]] void bad(const std::string& what) { throw malformed("engine-semantics", "the engine's table is wrong: " + what); }

void require(bool condition, const char* what) {
  if (!condition) bad(what);
}

template <typename T>
void requireIndex(int index, const std::vector<T>& of, const char* what) {
  require(index >= 0 && std::size_t(index) < of.size(), what);
}

bool validDType(DType dtype) { return dtype > DType::none && dtype <= DType::MAX; }

// Reads one program; the members are called in the order that each needs the ones before.
class ProgramReader {
 public:
  ProgramReader(const engine::Program& table, const EngineInfo& engine, const std::vector<std::uint64_t>& segmentLengths)
      : table_(table), engine_(engine), segmentLengths_(segmentLengths) {}

  Program read() {
    p_.name = text(table_.name());
    p_.target = text(table_.target());
    stepCount_ = table_.steps() ? int(table_.steps()->size()) : 0;
    readSymbols();
    readExprs();
    p_.inputs = readTensors(table_.inputs());
    p_.outputs = readTensors(table_.outputs());
    readBuffers();
    readSteps();
    readAssertions();
    checkSymbols();
    checkTensors();
    for (int s = 0; s < stepCount_; ++s) checkStep(s);
    return std::move(p_);
  }

 private:
  void readSymbols() {
    for (unsigned i = 0; table_.symbols() && i < table_.symbols()->size(); ++i) {
      const auto& s = *table_.symbols()->Get(i);
      p_.symbols.push_back({text(s.name()), s.min(), s.max(), s.input(), s.axis(), s.step()});
      require(s.step() < stepCount_, "a symbol's step");
      require((s.input() >= 0) != (s.step() >= 0), "a symbol has either an input or a step");
    }
  }

  void readExprs() {
    for (unsigned i = 0; table_.exprs() && i < table_.exprs()->size(); ++i) {
      const auto& e = *table_.exprs()->Get(i);
      require(e.op() <= ExprOp::MAX, "an expression's operation");
      int phase = 0;
      const auto operand = [&](int index) {
        require(index >= 0 && index < int(i), "an expression's operand is not earlier");
        phase = std::max(phase, p_.exprPhase[index]);
      };
      if (e.op() == ExprOp::symbol) {
        requireIndex(e.a(), p_.symbols, "an expression's symbol");
        phase = p_.symbols[e.a()].step + 1;
      } else if (e.op() != ExprOp::constant) {
        operand(e.a());
        if (e.op() != ExprOp::not_) operand(e.b());
        if (e.op() == ExprOp::select) operand(e.c());
      }
      p_.exprs.push_back({e.op(), e.a(), e.b(), e.c(), e.value()});
      p_.exprPhase.push_back(phase);
    }
  }

  // The phase that knows the expression; `latest`: the last one that is early enough.
  int requireExpr(int index, const char* what, int latest = INT32_MAX) const {
    requireIndex(index, p_.exprs, what);
    require(p_.exprPhase[index] <= latest, "a size is needed before it is known");
    return p_.exprPhase[index];
  }

  std::vector<TensorInfo> readTensors(const flatbuffers::Vector<flatbuffers::Offset<engine::TensorInfo>>* list) const {
    std::vector<TensorInfo> out;
    for (unsigned i = 0; list && i < list->size(); ++i) {
      const auto& t = *list->Get(i);
      out.push_back({text(t.name()), t.dtype(), ints(t.shape()), t.buffer()});
      require(validDType(t.dtype()), "a tensor's dtype");
      for (int size : out.back().shape) requireExpr(size, "a tensor's shape");
      for (std::size_t k = 0; k + 1 < out.size(); ++k) require(out[k].name != out.back().name, "two tensors of one name");
    }
    return out;
  }

  void readBuffers() {
    for (unsigned i = 0; table_.buffers() && i < table_.buffers()->size(); ++i) {
      const auto& b = *table_.buffers()->Get(i);
      require(b.kind() <= BufferKind::MAX && validDType(b.dtype()), "a buffer's kind or dtype");
      Buffer buffer{text(b.name()), b.kind(),    b.dtype(), b.bytes(), b.first(), b.last(), b.segment(), b.segment_offset(),
                    b.alias(),      b.offset(), int(i),    0};
      buffer.phase = requireExpr(b.bytes(), "a buffer's size");
      if (b.alias() >= 0 && b.offset() >= 0) buffer.phase = std::max(buffer.phase, requireExpr(b.offset(), "a view's offset"));
      p_.buffers.push_back(buffer);
    }
    for (Buffer& b : p_.buffers) {
      std::size_t hops = 0;
      for (int at = b.alias; at >= 0; at = p_.buffers[at].alias) {
        requireIndex(at, p_.buffers, "a view's buffer");
        require(++hops <= 64, "views of views go too deep");
        b.root = at;
        b.phase = std::max(b.phase, p_.buffers[at].phase);
      }
      if (b.alias >= 0) continue;
      if (b.kind == BufferKind::arena)
        require(b.first >= 0 && b.first <= b.last && b.last < stepCount_, "a buffer's lifetime");
      if (b.kind == BufferKind::constant) checkConstant(b);
    }
  }

  void checkConstant(const Buffer& b) const {
    require(b.phase == 0, "a constant of unknown size");
    const Value bytes = evaluate(p_.exprs, std::vector<Value>(p_.symbols.size()))[b.bytes];
    require(bytes.fault == Fault::none && bytes.number >= 0, "a constant of unknown size");
    if (b.segment < 0) return require(bytes.number == 0, "a constant without a segment");
    requireIndex(b.segment, segmentLengths_, "a constant's segment");
    const std::uint64_t length = segmentLengths_[b.segment];
    require(b.segmentOffset % 64 == 0 && b.segmentOffset <= length && std::uint64_t(bytes.number) <= length - b.segmentOffset,
            "a constant is not inside its segment");
  }

  void readSteps() {
    for (int i = 0; i < stepCount_; ++i) {
      const auto& s = *table_.steps()->Get(i);
      require((s.launch() != nullptr) != (s.host() != nullptr), "a step has exactly one body");
      Step step{text(s.name()), texts(s.origin()), {}, {}};
      if (s.launch()) step.launch = readLaunch(*s.launch());
      if (s.host()) step.host = readHost(*s.host());
      p_.steps.push_back(std::move(step));
    }
  }

  static Launch readLaunch(const engine::Launch& l) {
    Launch launch{{}, ints(l.buffers()), ints(l.dims()), texts(l.faults())};
    for (unsigned k = 0; l.variants() && k < l.variants()->size(); ++k) {
      const auto& v = *l.variants()->Get(k);
      launch.variants.push_back({v.guard(), v.kernel(), v.items(), v.grain(), v.scratch()});
    }
    return launch;
  }

  static HostCall readHost(const engine::HostOp& h) {
    HostCall host{text(h.op()), text(h.attributes()), ints(h.inputs()), ints(h.outputs()), ints(h.defines()), {}};
    for (unsigned k = 0; h.shapes() && k < h.shapes()->size(); ++k) host.shapes.push_back(ints(h.shapes()->Get(k)->dims()));
    return host;
  }

  void readAssertions() {
    for (unsigned i = 0; table_.assertions() && i < table_.assertions()->size(); ++i) {
      const auto& a = *table_.assertions()->Get(i);
      requireExpr(a.expr(), "an assertion's expression");
      p_.assertions.push_back({a.expr(), text(a.message())});
    }
  }

  void checkSymbols() const {
    for (std::size_t i = 0; i < p_.symbols.size(); ++i) {
      const Symbol& s = p_.symbols[i];
      if (s.input >= 0) {
        requireIndex(s.input, p_.inputs, "a symbol's input");
        const auto& shape = p_.inputs[s.input].shape;
        requireIndex(s.axis, shape, "a symbol's axis");
        const Expr& axis = p_.exprs[shape[s.axis]];
        require(axis.op == ExprOp::symbol && axis.a == int(i), "a symbol's axis is not that symbol");
      } else {
        const auto& host = p_.steps[s.step].host;
        require(host && std::count(host->defines.begin(), host->defines.end(), int(i)) == 1, "a symbol that no step defines");
      }
    }
  }

  void checkTensors() const {
    for (const TensorInfo& t : p_.inputs) {
      requireIndex(t.buffer, p_.buffers, "an input's buffer");
      const Buffer& b = p_.buffers[t.buffer];
      require(b.kind == BufferKind::input && b.root == t.buffer && b.dtype == t.dtype && b.phase == 0, "an input's buffer");
      for (int size : t.shape) requireExpr(size, "an input's shape", 0);
      require(elementBytes(t.dtype) > 0, "an input of strings");
    }
    for (const TensorInfo& t : p_.outputs) {
      requireIndex(t.buffer, p_.buffers, "an output's buffer");
      const Buffer& b = p_.buffers[t.buffer];
      require(b.dtype == t.dtype, "an output's dtype");
      require(elementBytes(t.dtype) > 0, "an output of strings");
      const Buffer& root = p_.buffers[b.root];
      if (root.kind == BufferKind::arena) require(root.last == stepCount_ - 1, "an output is overwritten before the end");
    }
    // Storage comes with the tensor.
    for (std::size_t i = 0; i < p_.buffers.size(); ++i) {
      const Buffer& b = p_.buffers[i];
      if (b.root != int(i) || (b.kind != BufferKind::input && b.kind != BufferKind::output)) continue;
      const auto& list = b.kind == BufferKind::input ? p_.inputs : p_.outputs;
      const auto uses = std::count_if(list.begin(), list.end(), [&](const TensorInfo& t) { return t.buffer == int(i); });
      require(b.kind == BufferKind::input ? uses == 1 : uses >= 1, "an input or output buffer without its tensor");
    }
  }

  // `phase`: the latest that places the buffer before the step touches it.
  void checkOperand(int index, int step, int phase) const {
    requireIndex(index, p_.buffers, "a step's buffer");
    const Buffer& b = p_.buffers[index];
    const Buffer& root = p_.buffers[b.root];
    require(b.phase <= phase, "a buffer is used before its size is known");
    if (root.kind == BufferKind::arena)
      require(root.first <= step && step <= root.last, "a buffer is used outside its lifetime");
  }

  void checkStep(int s) const {
    const Step& step = p_.steps[s];
    if (step.launch) {
      require(!step.launch->variants.empty(), "a launch without variants");
      for (const Variant& v : step.launch->variants) {
        requireIndex(v.kernel, engine_.kernels, "a launch's kernel");
        for (int e : {v.guard, v.items, v.grain, v.scratch})
          if (e != -1) requireExpr(e, "a launch's expression", s);
      }
      for (int e : step.launch->dims) requireExpr(e, "a launch's argument", s);
      for (int b : step.launch->buffers) checkOperand(b, s, s);
      return;
    }
    const HostCall& host = *step.host;
    for (int b : host.inputs)
      if (b != -1) checkOperand(b, s, s);
    for (int b : host.outputs) checkOperand(b, s, s + 1);
    for (int symbol : host.defines) {
      requireIndex(symbol, p_.symbols, "a host operator's symbol");
      require(p_.symbols[symbol].step == s, "a host operator defines another step's symbol");
    }
    require(host.shapes.size() == host.inputs.size() + host.outputs.size(), "a host operator's shapes");
    for (std::size_t i = 0; i < host.shapes.size(); ++i)
      for (int e : host.shapes[i]) requireExpr(e, "a host operator's shape", i < host.inputs.size() ? s : s + 1);
  }

  const engine::Program& table_;
  const EngineInfo& engine_;
  const std::vector<std::uint64_t>& segmentLengths_;
  Program p_;
  int stepCount_ = 0;
};

}  // namespace

std::vector<std::string> Program::symbolNames() const {
  std::vector<std::string> names;
  for (const Symbol& s : symbols) names.push_back(s.name);
  return names;
}

EngineInfo readEngine(const engine::Engine& table, const std::vector<std::uint64_t>& segmentLengths) {
  EngineInfo info;
  info.name = text(table.name());
  info.targets = texts(table.targets());
  for (unsigned i = 0; table.images() && i < table.images()->size(); ++i) {
    const auto& image = *table.images()->Get(i);
    info.images.push_back({text(image.target()), image.abi(), texts(image.features()), image.segment(), image.ptx()});
    requireIndex(image.segment(), segmentLengths, "an image's segment");
    if (image.ptx() != -1) requireIndex(image.ptx(), segmentLengths, "an image's PTX");
  }
  for (unsigned i = 0; table.kernels() && i < table.kernels()->size(); ++i) {
    const auto& kernel = *table.kernels()->Get(i);
    info.kernels.push_back({text(kernel.name()), kernel.image(), kernel.threads()});
    requireIndex(kernel.image(), info.images, "a kernel's image");
    require(kernel.threads() >= 0 && kernel.threads() <= 1024, "a kernel's threads");
  }
  for (unsigned i = 0; table.assets() && i < table.assets()->size(); ++i)
    requireIndex(table.assets()->Get(i)->segment(), segmentLengths, "an asset's segment");
  for (unsigned i = 0; table.programs() && i < table.programs()->size(); ++i)
    info.programs.push_back(ProgramReader(*table.programs()->Get(i), info, segmentLengths).read());
  return info;
}

}  // namespace nimforge
