#include "program.h"

namespace nimforge {

std::int64_t elementBytes(DType dtype) {
  switch (dtype) {
    case DType::none:
    case DType::string: return 0;
    case DType::complex128: return 16;
    case DType::float64:
    case DType::int64:
    case DType::uint64:
    case DType::complex64: return 8;
    case DType::float32:
    case DType::int32:
    case DType::uint32: return 4;
    case DType::float16:
    case DType::bfloat16:
    case DType::int16:
    case DType::uint16: return 2;
    default: return 1;  // 4- and 2-bit types take a byte each
  }
}

// C++ keywords carry an underscore in the generated names.
const char* dtypeName(DType dtype) {
  return dtype == DType::bool_ ? "bool" : engine::EnumNameDType(dtype);
}

DType dtypeFromName(const std::string& name) {
  for (DType dtype : engine::EnumValuesDType())
    if (name == dtypeName(dtype)) return dtype;
  return DType::none;
}

}  // namespace nimforge
