// Operators that run on the host, by name `op@version`: for what has a size that only data give, or is not worth a kernel.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "program.h"

namespace nimforge {

struct HostTensor {
  std::byte* data;  // nullptr: an operand that is absent
  DType dtype;
  std::vector<std::int64_t> shape;
  std::int64_t bytes;

  template <typename T>
  T* as() const {
    return reinterpret_cast<T*>(data);
  }
  std::int64_t elements() const { return bytes / elementBytes(dtype); }
};

// What an operator sees of its step.
class HostContext {
 public:
  virtual ~HostContext() = default;
  virtual const std::string& attributes() const = 0;  // JSON
  virtual const std::vector<HostTensor>& inputs() const = 0;
  // The values of the step's symbols, in the order of `defines`. Once, and before `outputs` when the step has symbols.
  virtual void define(std::span<const std::int64_t> values) = 0;
  virtual const std::vector<HostTensor>& outputs() = 0;
};

using HostOp = void (*)(HostContext&);

// nullptr for a name that is not registered.
HostOp findHostOp(std::string_view name);
std::vector<std::string> hostOpNames();

}  // namespace nimforge
