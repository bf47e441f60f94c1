// Between JavaScript values and the native code's.
#pragma once
#include <napi.h>

#include <functional>
#include <string>
#include <vector>

#include "error.h"
#include "session.h"

namespace nimforge {

// A JavaScript Error with the fields kind, code, expected, found, fix, node.
Napi::Error toJs(Napi::Env env, const Error& error);

// Runs `body`; what it throws becomes a JavaScript exception.
template <typename Body>
auto guarded(Napi::Env env, Body body) -> decltype(body()) {
  try {
    return body();
  } catch (const Error& error) {
    throw toJs(env, error);
  } catch (const std::bad_alloc&) {
    throw toJs(env, limit("out-of-memory", "out of memory"));
  }
}

// [{ dtype, shape, data }]; the views point into the arrays' memory.
std::vector<InputView> inputViews(const Napi::Array& inputs);
// [{ dtype, shape, data: ArrayBuffer }]
Napi::Array toJs(Napi::Env env, std::vector<OutputTensor> outputs);
Napi::Value toJs(Napi::Env env, const MemoryFigures& memory);
Napi::Value strings(Napi::Env env, const std::vector<std::string>& values);
// A field that may be absent or undefined.
bool optionalBool(const Napi::Object& options, const char* name);

}  // namespace nimforge
