#include "addon/convert.h"

#include <cmath>
#include <cstring>

namespace nimforge {
namespace {

// Below this a copy costs less than a finalizer.
constexpr std::int64_t kCopyBytes = 4096;

Napi::ArrayBuffer toArrayBuffer(Napi::Env env, OutputTensor& output) {
  const auto size = std::size_t(output.bytes);
  if (output.bytes >= kCopyBytes) {
    std::byte* data = output.storage.release();
    try {
      return Napi::ArrayBuffer::New(env, data, size, [](Napi::Env, void* memory) { freeAligned(memory); });
    } catch (const Napi::Error&) {  // runtimes that own all array memory
      Napi::ArrayBuffer copy = Napi::ArrayBuffer::New(env, size);
      std::memcpy(copy.Data(), data, size);
      freeAligned(data);
      return copy;
    }
  }
  Napi::ArrayBuffer copy = Napi::ArrayBuffer::New(env, size);
  if (size > 0) std::memcpy(copy.Data(), output.storage.data(), size);
  return copy;
}

Napi::Array shapeArray(Napi::Env env, const std::vector<std::int64_t>& shape) {
  Napi::Array out = Napi::Array::New(env, shape.size());
  for (std::size_t i = 0; i < shape.size(); ++i) out[i] = Napi::Number::New(env, double(shape[i]));
  return out;
}

}  // namespace

Napi::Error toJs(Napi::Env env, const Error& error) {
  Napi::Error out = Napi::Error::New(env, error.message);
  const std::pair<const char*, const std::string&> fields[] = {
      {"kind", error.kind}, {"code", error.code},   {"expected", error.expected},
      {"found", error.found}, {"fix", error.fix}, {"node", error.node},
  };
  for (const auto& [name, text] : fields)
    if (!text.empty()) out.Set(name, text);
  return out;
}

std::vector<InputView> inputViews(const Napi::Array& inputs) {
  std::vector<InputView> views;
  views.reserve(inputs.Length());
  for (std::uint32_t i = 0; i < inputs.Length(); ++i) {
    const auto tensor = inputs.Get(i).As<Napi::Object>();
    const Napi::Value data = tensor.Get("data"), sizes = tensor.Get("shape");
    InputView view{dtypeFromName(tensor.Get("dtype").ToString()), {}, nullptr, 0};
    if (!data.IsTypedArray() || !sizes.IsArray()) throw usage("input-type", "input " + std::to_string(i) + " is not a tensor of numbers");
    const auto array = data.As<Napi::TypedArray>();
    view.bytes = std::int64_t(array.ByteLength());
    view.data = static_cast<const std::byte*>(array.ArrayBuffer().Data()) + array.ByteOffset();
    const auto shape = sizes.As<Napi::Array>();
    for (std::uint32_t k = 0; k < shape.Length(); ++k) {
      const double size = shape.Get(k).ToNumber().DoubleValue();
      if (!(size >= 0) || size > 9007199254740991.0 || size != std::floor(size))
        throw usage("input-shape", "input " + std::to_string(i) + ": a size is not a whole number");
      view.shape.push_back(std::int64_t(size));
    }
    views.push_back(std::move(view));
  }
  return views;
}

Napi::Array toJs(Napi::Env env, std::vector<OutputTensor> outputs) {
  Napi::Array out = Napi::Array::New(env, outputs.size());
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    Napi::Object tensor = Napi::Object::New(env);
    tensor.Set("dtype", dtypeName(outputs[i].dtype));
    tensor.Set("shape", shapeArray(env, outputs[i].shape));
    tensor.Set("data", toArrayBuffer(env, outputs[i]));
    out[i] = tensor;
  }
  return out;
}

Napi::Value toJs(Napi::Env env, const MemoryFigures& memory) {
  Napi::Object out = Napi::Object::New(env);
  out.Set("arena", double(memory.arena));
  out.Set("arenaLowerBound", double(memory.arenaLowerBound));
  out.Set("lowerBound", double(memory.lowerBound));
  out.Set("inputs", double(memory.inputs));
  out.Set("outputs", double(memory.outputs));
  out.Set("scratch", double(memory.scratch));
  return out;
}

Napi::Value strings(Napi::Env env, const std::vector<std::string>& values) {
  Napi::Array out = Napi::Array::New(env, values.size());
  for (std::size_t i = 0; i < values.size(); ++i) out[i] = Napi::String::New(env, values[i]);
  return out;
}

bool optionalBool(const Napi::Object& options, const char* name) {
  const Napi::Value value = options.Get(name);
  return value.IsBoolean() && value.ToBoolean();
}

}  // namespace nimforge
