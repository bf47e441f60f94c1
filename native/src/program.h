// The engine's table as checked C++ objects. Reading is also the semantic check: a Program that exists has every index in
// range, operands before their users, storage for every buffer, and sizes that are known before they are needed.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "exprs.h"
#include "generated/engine_generated.h"

namespace nimforge {

using engine::BufferKind;
using engine::DType;

struct Symbol {
  std::string name;
  std::int64_t min, max;
  int input, axis, step;  // -1: not from there
};

struct TensorInfo {
  std::string name;
  DType dtype;
  std::vector<int> shape;  // expressions
  int buffer;
};

struct Buffer {
  std::string name;
  BufferKind kind;
  DType dtype;
  int bytes;                    // expression
  int first, last;              // steps, both included
  int segment;                  // constant; -1: it has no bytes
  std::uint64_t segmentOffset;
  int alias, offset;            // -1: storage of its own; -1: offset 0
  int root;                     // the buffer whose storage this is: itself or through aliases
  int phase;                    // first phase that knows its size and place
};

struct Variant {
  int guard, kernel, items, grain, scratch;  // expressions but for kernel; -1: default
};

struct Launch {
  std::vector<Variant> variants;
  std::vector<int> buffers, dims;
  std::vector<std::string> faults;
};

struct HostCall {
  std::string op, attributes;
  std::vector<int> inputs, outputs, defines;
  std::vector<std::vector<int>> shapes;
};

struct Step {
  std::string name;
  std::vector<std::string> origin;
  std::optional<Launch> launch;
  std::optional<HostCall> host;
};

struct Assertion {
  int expr;
  std::string message;
};

// Phase 0 knows the inputs' shapes; phase s + 1 also the symbols that the steps up to s define.
struct Program {
  std::string name, target;
  std::vector<Symbol> symbols;
  std::vector<Expr> exprs;
  std::vector<int> exprPhase;
  std::vector<TensorInfo> inputs, outputs;
  std::vector<Buffer> buffers;
  std::vector<Step> steps;
  std::vector<Assertion> assertions;

  std::vector<std::string> symbolNames() const;
  std::string text(int expr) const { return exprText(exprs, expr, symbolNames()); }
};

struct Kernel {
  std::string name;
  int image;
  int threads;  // of a block; 0: the target has no blocks
};

struct Image {
  std::string target;
  unsigned abi;
  std::vector<std::string> features;
  int segment;
  int ptx;  // segment; -1: none
};

struct EngineInfo {
  std::string name;
  std::vector<std::string> targets;
  std::vector<Kernel> kernels;
  std::vector<Image> images;
  std::vector<Program> programs;
};

// `table` has passed the FlatBuffers verifier. Throws a malformed error that names the place.
EngineInfo readEngine(const engine::Engine& table, const std::vector<std::uint64_t>& segmentLengths);

// Bytes of an element while a program runs; 0 for a dtype that has none (string).
std::int64_t elementBytes(DType dtype);
const char* dtypeName(DType dtype);
// `none` for a name that is no dtype.
DType dtypeFromName(const std::string& name);

}  // namespace nimforge
