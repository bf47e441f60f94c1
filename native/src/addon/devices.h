// What the machine's GPUs are, for JavaScript.
#pragma once
#include <napi.h>

namespace nimforge {

// { driver?, refusal?: the error, devices: [facts, metrics?] }
Napi::Value cudaDevices(Napi::Env env);

}  // namespace nimforge
