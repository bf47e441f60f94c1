#include "addon/devices.h"

#include "addon/convert.h"
#include "devices/cuda/device.h"
#include "devices/cuda/nvml.h"

namespace nimforge {
namespace {

Napi::Value known(Napi::Env env, std::int64_t value) { return value < 0 ? env.Undefined() : Napi::Number::New(env, double(value)); }

Napi::Value metricsOf(Napi::Env env, const cuda::Facts& facts) {
  const auto metrics = cuda::metrics(facts.pciBusId);
  if (!metrics) return env.Undefined();
  Napi::Object out = Napi::Object::New(env);
  out.Set("memoryUsedBytes", known(env, metrics->memoryUsedBytes));
  out.Set("memoryFreeBytes", known(env, metrics->memoryFreeBytes));
  out.Set("utilizationPercent", known(env, metrics->utilizationPercent));
  out.Set("temperatureCelsius", known(env, metrics->temperatureCelsius));
  out.Set("powerMilliwatts", known(env, metrics->powerMilliwatts));
  out.Set("clockHz", known(env, metrics->clockHz));
  return out;
}

Napi::Object toJs(Napi::Env env, const cuda::CudaDevice& device) {
  const cuda::Facts& facts = device.facts();
  Napi::Object out = Napi::Object::New(env);
  out.Set("name", device.name());
  out.Set("product", facts.name);
  out.Set("target", device.target());
  out.Set("memoryBytes", double(facts.memoryBytes));
  out.Set("multiprocessors", facts.multiprocessors);
  out.Set("sharedBytesPerBlock", double(facts.sharedBytes));
  out.Set("l2Bytes", double(facts.l2Bytes));
  out.Set("clockHz", double(facts.clockHz));
  out.Set("memoryBytesPerSecond", double(facts.memoryBytesPerSecond));
  out.Set("pciBusId", facts.pciBusId);
  out.Set("metrics", metricsOf(env, facts));
  return out;
}

}  // namespace

Napi::Value cudaDevices(Napi::Env env) {
  Napi::Object out = Napi::Object::New(env);
  Napi::Array list = Napi::Array::New(env);
  try {
    for (const auto& device : cuda::devices()) list[list.Length()] = toJs(env, static_cast<const cuda::CudaDevice&>(*device));
    out.Set("driver", cuda::versionText(cuda::driver().version));
  } catch (const Error& error) {
    out.Set("refusal", toJs(env, error).Value());
  }
  out.Set("devices", list);
  return out;
}

}  // namespace nimforge
