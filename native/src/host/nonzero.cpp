#include "error.h"
#include "host/ops.h"

namespace nimforge::host {
namespace {

// Whether element i counts: anything but zero; of floats -0 is zero and NaN is not.
template <typename T>
bool isSet(const HostTensor& t, std::int64_t i) {
  return t.as<T>()[i] != T(0);
}
// Float formats kept as bits: all but the sign must be zero.
template <typename T, T mask>
bool isSetBits(const HostTensor& t, std::int64_t i) {
  return (t.as<T>()[i] & mask) != 0;
}

using IsSet = bool (*)(const HostTensor&, std::int64_t);

IsSet predicate(DType dtype) {
  switch (dtype) {
    case DType::float32: return isSet<float>;
    case DType::float64: return isSet<double>;
    case DType::float16:
    case DType::bfloat16: return isSetBits<std::uint16_t, 0x7fff>;
    case DType::float8e4m3fn:
    case DType::float8e5m2: return isSetBits<std::uint8_t, 0x7f>;
    case DType::float8e4m3fnuz:
    case DType::float8e5m2fnuz: return isSetBits<std::uint8_t, 0xff>;  // 0x80 is NaN
    case DType::float4e2m1: return isSetBits<std::uint8_t, 0x07>;
    case DType::int16:
    case DType::uint16: return isSet<std::uint16_t>;
    case DType::int32:
    case DType::uint32: return isSet<std::uint32_t>;
    case DType::int64:
    case DType::uint64: return isSet<std::uint64_t>;
    case DType::int8:
    case DType::uint8:
    case DType::int4:
    case DType::uint4:
    case DType::int2:
    case DType::uint2:
    case DType::bool_: return isSet<std::uint8_t>;
    default: throw malformed("host-op", std::string("NonZero@1: no dtype ") + dtypeName(dtype));
  }
}

}  // namespace

void nonZero(HostContext& context) {
  const HostTensor& in = context.inputs().at(0);
  if (!in.data) throw malformed("host-op", "NonZero@1: no input");
  const IsSet set = predicate(in.dtype);
  const std::int64_t total = in.elements();
  std::int64_t count = 0;
  for (std::int64_t i = 0; i < total; ++i) count += set(in, i);
  context.define({&count, 1});
  const HostTensor& out = context.outputs().at(0);
  const std::int64_t rank = std::int64_t(in.shape.size());
  if (out.dtype != DType::int64 || out.bytes != rank * count * 8)
    throw malformed("host-op", "NonZero@1: the output is not int64 [rank, count]");
  std::int64_t column = 0;
  for (std::int64_t i = 0; i < total; ++i) {
    if (!set(in, i)) continue;
    std::int64_t rest = i;
    for (std::int64_t axis = rank - 1; axis >= 0; --axis) {
      out.as<std::int64_t>()[axis * count + column] = rest % in.shape[axis];
      rest /= in.shape[axis];
    }
    ++column;
  }
}

}  // namespace nimforge::host
