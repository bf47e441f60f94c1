export {
  type DType,
  type DTypeInfo,
  dtypeFromOnnx,
  dtypeInfo,
  dtypeNames,
  dtypes,
  elementBytes,
  isBig,
  isFloat,
  isInteger,
  isNumeric,
} from "./dtype.js";
export { type ErrorDetails, type ErrorKind, exitCodes, internalError, NimforgeError } from "./errors.js";
export { bitsToFloat, floatTable, floatToBits, roundHalfEven } from "./float.js";
export { readNpy, writeNpy } from "./npy.js";
export {
  allocate,
  arrayConstructor,
  byteSize,
  bytesOf,
  isSmallFloat,
  type NumericArray,
  sizeOf,
  type Tensor,
  type TensorData,
  tensor,
  tensorFromBytes,
  toNumbers,
} from "./tensor.js";
