#include <cstring>

#include "error.h"
#include "host/ops.h"

namespace nimforge::host {

void copy(HostContext& context) {
  const HostTensor &in = context.inputs().at(0), &out = context.outputs().at(0);
  if (!in.data || in.bytes != out.bytes) throw malformed("host-op", "copy@1: input and output differ in size");
  if (in.bytes > 0) std::memmove(out.data, in.data, in.bytes);
}

}  // namespace nimforge::host
