/** Tensors in JavaScript memory: row-major, dense. */
import { type DType, dtypeInfo, elementBytes, isBig } from "./dtype.js";
import { NimforgeError } from "./errors.js";
import { floatTable, floatToBits } from "./float.js";

export type NumericArray =
  | Float32Array
  | Float64Array
  | Int8Array
  | Int16Array
  | Int32Array
  | BigInt64Array
  | Uint8Array
  | Uint16Array
  | Uint32Array
  | BigUint64Array;

/**
 * Element storage. float16 and bfloat16 are raw bits in a Uint16Array, float8 in a Uint8Array; bool and the 4- and 2-bit types
 * take one byte an element; complex numbers are interleaved (re, im), so they have twice as many array elements.
 */
export type TensorData = NumericArray | string[];

export interface Tensor {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly data: TensorData;
}

type ArrayConstructor = {
  new (length: number): NumericArray;
  new (buffer: ArrayBuffer, offset: number, length: number): NumericArray;
};

const constructors: Partial<Record<DType, unknown>> = {
  float32: Float32Array,
  float64: Float64Array,
  float16: Uint16Array,
  bfloat16: Uint16Array,
  int8: Int8Array,
  int16: Int16Array,
  int32: Int32Array,
  int64: BigInt64Array,
  uint8: Uint8Array,
  uint16: Uint16Array,
  uint32: Uint32Array,
  uint64: BigUint64Array,
  int4: Int8Array,
  int2: Int8Array,
  complex64: Float32Array,
  complex128: Float64Array,
};

/** The typed array class that stores a dtype (not for strings). */
export function arrayConstructor(dtype: DType): ArrayConstructor {
  return (constructors[dtype] ?? Uint8Array) as ArrayConstructor;
}

/** Product of the sizes; 1 for a scalar. */
export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** Array elements that `count` tensor elements take. */
function arrayLength(dtype: DType, count: number): number {
  return dtypeInfo(dtype).kind === "complex" ? 2 * count : count;
}

export function allocate(dtype: DType, count: number): TensorData {
  return dtype === "string"
    ? new Array<string>(count).fill("")
    : new (arrayConstructor(dtype))(arrayLength(dtype, count));
}

/**
 * A tensor. `data` may be omitted (zeros), the dtype's typed array (kept, not copied), or numbers, BigInts, booleans
 * or strings, which are converted (float16 and its like are rounded).
 * @throws NimforgeError usage when the shape is not of non-negative integers or the length does not fit it.
 */
export function tensor(
  dtype: DType,
  shape: readonly number[],
  data?: TensorData | readonly (number | bigint | boolean | string)[],
): Tensor {
  if (shape.some((size) => !Number.isSafeInteger(size) || size < 0))
    throw new NimforgeError("usage", "bad-shape", `tensor: sizes must be non-negative integers`, {
      found: `[${shape.join(", ")}]`,
    });
  const count = sizeOf(shape);
  if (data === undefined) return { dtype, shape: [...shape], data: allocate(dtype, count) };
  const expected = arrayLength(dtype, count);
  if (data.length !== expected)
    throw new NimforgeError("usage", "bad-length", `tensor: data does not fit shape [${shape.join(", ")}]`, {
      expected: `${expected} elements`,
      found: `${data.length}`,
    });
  if (dtype === "string") return { dtype, shape: [...shape], data: [...data].map(String) };
  const Constructor = arrayConstructor(dtype);
  if (ArrayBuffer.isView(data) && (data as object).constructor === Constructor)
    return { dtype, shape: [...shape], data };
  return { dtype, shape: [...shape], data: convertElements(dtype, data as ArrayLike<number | bigint | boolean>) };
}

function convertElements(dtype: DType, values: ArrayLike<number | bigint | boolean>): NumericArray {
  const out = new (arrayConstructor(dtype))(values.length) as { [index: number]: number | bigint };
  const big = isBig(dtype);
  const small = isSmallFloat(dtype);
  for (let i = 0; i < values.length; i++) {
    const value = values[i] as number | bigint | boolean;
    out[i] = big ? BigInt(value) : small ? floatToBits(dtype, Number(value)) : Number(value);
  }
  return out as NumericArray;
}

/** Formats kept as raw bits. */
export function isSmallFloat(dtype: DType): boolean {
  return dtypeInfo(dtype).kind === "float" && dtypeInfo(dtype).bits < 32;
}

/** Elements as numbers (small floats decoded, BigInts rounded to the nearest double, bool as 0 or 1). */
export function toNumbers(source: Tensor): Float64Array {
  const { dtype, data } = source;
  if (dtype === "string") throw new NimforgeError("usage", "not-numeric", "a string tensor has no numbers");
  const out = new Float64Array(data.length);
  if (isSmallFloat(dtype)) {
    const table = floatTable(dtype);
    for (let i = 0; i < out.length; i++) out[i] = table[data[i] as number] as number;
  } else for (let i = 0; i < out.length; i++) out[i] = Number(data[i]);
  return out;
}

/** The tensor's bytes, without a copy. */
export function bytesOf(source: Tensor): Uint8Array {
  const { data } = source;
  if (Array.isArray(data)) throw new NimforgeError("usage", "not-numeric", "a string tensor has no bytes");
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

/** A tensor over bytes in memory layout (sub-byte types already one byte each); copies only when misaligned. */
export function tensorFromBytes(dtype: DType, shape: readonly number[], bytes: Uint8Array): Tensor {
  const Constructor = arrayConstructor(dtype);
  const length = arrayLength(dtype, sizeOf(shape));
  const width = new Constructor(0).BYTES_PER_ELEMENT;
  if (bytes.byteLength !== length * width)
    throw new NimforgeError("malformed", "bad-length", `${dtype}[${shape.join(", ")}] has the wrong number of bytes`, {
      expected: `${length * width}`,
      found: `${bytes.byteLength}`,
    });
  const aligned = bytes.byteOffset % width === 0 ? bytes : new Uint8Array(bytes); // not slice(): a Buffer's is a view
  return { dtype, shape: [...shape], data: new Constructor(aligned.buffer as ArrayBuffer, aligned.byteOffset, length) };
}

/** Bytes that a tensor of this type and shape takes in memory. */
export function byteSize(dtype: DType, shape: readonly number[]): number {
  return elementBytes(dtype) * sizeOf(shape);
}
