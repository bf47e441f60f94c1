// The host operators, each in a file of its own family.
#pragma once
#include "host/registry.h"

namespace nimforge::host {

void copy(HostContext&);     // one input, one output, same bytes
void nonZero(HostContext&);  // ONNX NonZero: indices int64 [rank, count]; defines count

}  // namespace nimforge::host
