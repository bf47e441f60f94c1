// The CPU: kernels are functions of a range of work items, values lie in the process's own memory.
#pragma once
#include "devices/device.h"

namespace nimforge {

std::shared_ptr<Device> cpuDevice();

}  // namespace nimforge
